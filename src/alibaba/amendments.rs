//! Typed calls that amend what exists: names, descriptions and tags.
//!
//! None of them takes a ClientToken, and none needs one: sent twice, they set the same values.

use super::ecs::refuse;
use super::error::Error;
use super::gateway::Cloud;
use super::request::{Service, check_id, parameters, put_tags};

/// What ModifyDiskAttribute should change; what is none stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct DiskAmendment {
    /// The name in the console.
    pub name: Option<String>,
    /// The description in the console.
    pub description: Option<String>,
    /// Whether the disk goes with its instance.
    pub delete_with_instance: Option<bool>,
}

/// What ModifyImageAttribute should change; what is none stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ImageAmendment {
    /// The name, unique in the region.
    pub name: Option<String>,
    /// The description in the console.
    pub description: Option<String>,
}

/// What can be tagged, in the words of TagResources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ResourceType {
    /// A disk.
    Disk,
    /// An image.
    Image,
    /// An instance.
    Instance,
}

impl ResourceType {
    fn word(self) -> &'static str {
        match self {
            ResourceType::Disk => "disk",
            ResourceType::Image => "image",
            ResourceType::Instance => "instance",
        }
    }
}

impl Cloud {
    /// Changes what can be changed of a disk without touching its content.
    pub async fn amend_disk(
        &self,
        region: &str,
        disk_id: &str,
        amendment: &DiskAmendment,
    ) -> Result<(), Error> {
        let flag = amendment.delete_with_instance.map(|flag| flag.to_string());
        let wishes = [
            ("DiskName", amendment.name.clone()),
            ("Description", amendment.description.clone()),
            ("DeleteWithInstance", flag),
        ];
        self.amend(region, "ModifyDiskAttribute", ("DiskId", disk_id), wishes).await
    }

    /// Changes the name or the description of an image. A name that another image has is refused.
    pub async fn amend_image(
        &self,
        region: &str,
        image_id: &str,
        amendment: &ImageAmendment,
    ) -> Result<(), Error> {
        let wishes = [("ImageName", amendment.name.clone()), ("Description", amendment.description.clone())];
        self.amend(region, "ModifyImageAttribute", ("ImageId", image_id), wishes).await
    }

    /// Sets these tags on a resource; its other tags stay.
    pub async fn tag_resource(
        &self,
        region: &str,
        resource: ResourceType,
        id: &str,
        tags: &[(String, String)],
    ) -> Result<(), Error> {
        const ACTION: &str = "TagResources";
        /// Tags per call; the limit of TagResources.
        const TAGS_MAX: usize = 20;
        check_id(Service::Ecs, ACTION, "ResourceId", id)?;
        if tags.is_empty() || tags.len() > TAGS_MAX {
            return Err(refuse(ACTION, "1 to 20 tags can be set at once"));
        }
        let mut parameters =
            parameters([("RegionId", region), ("ResourceType", resource.word()), ("ResourceId.1", id)]);
        let tags: Vec<_> = tags.iter().map(|(key, value)| (&**key, &**value)).collect();
        put_tags(&mut parameters, &tags);
        self.call(Service::Ecs, region, ACTION, parameters).await.map(drop)
    }

    async fn amend<const WISHES: usize>(
        &self,
        region: &str,
        action: &'static str,
        (id_parameter, id): (&str, &str),
        wishes: [(&str, Option<String>); WISHES],
    ) -> Result<(), Error> {
        check_id(Service::Ecs, action, id_parameter, id)?;
        if wishes.iter().all(|(_, value)| value.is_none()) {
            return Err(refuse(action, "nothing is to be changed"));
        }
        let mut parameters = parameters([("RegionId", region), (id_parameter, id)]);
        for (name, value) in wishes {
            parameters.extend(value.map(|value| (name.to_owned(), value)));
        }
        self.call(Service::Ecs, region, action, parameters).await.map(drop)
    }
}
