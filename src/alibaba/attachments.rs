//! Typed calls that move and amend a disk: attach, detach, names, tags.
//!
//! None of them takes a ClientToken: the caller reads the disk first, and reads it again when an answer is lost.

use super::ecs::refuse;
use super::error::Error;
use super::gateway::Cloud;
use super::request::{Parameters, Service, check_id, parameters, put_tags};

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

impl Cloud {
    /// Begins to attach a disk, which must be `Available`, to an instance of its zone.
    pub async fn attach_disk(
        &self,
        region: &str,
        disk_id: &str,
        instance_id: &str,
        delete_with_instance: bool,
    ) -> Result<(), Error> {
        let mut parameters = pair("AttachDisk", region, disk_id, instance_id)?;
        parameters.insert("DeleteWithInstance".to_owned(), delete_with_instance.to_string());
        self.call(Service::Ecs, region, "AttachDisk", parameters).await.map(drop)
    }

    /// Begins to detach a disk from exactly this instance.
    pub async fn detach_disk(&self, region: &str, disk_id: &str, instance_id: &str) -> Result<(), Error> {
        let parameters = pair("DetachDisk", region, disk_id, instance_id)?;
        self.call(Service::Ecs, region, "DetachDisk", parameters).await.map(drop)
    }

    /// Changes what can be changed of a disk without touching its content.
    pub async fn amend_disk(
        &self,
        region: &str,
        disk_id: &str,
        amendment: &DiskAmendment,
    ) -> Result<(), Error> {
        const ACTION: &str = "ModifyDiskAttribute";
        check_id(Service::Ecs, ACTION, "DiskId", disk_id)?;
        let mut parameters = parameters([("RegionId", region), ("DiskId", disk_id)]);
        let flag = amendment.delete_with_instance.map(|flag| flag.to_string());
        let wishes = [
            ("DiskName", amendment.name.clone()),
            ("Description", amendment.description.clone()),
            ("DeleteWithInstance", flag),
        ];
        for (name, value) in wishes {
            parameters.extend(value.map(|value| (name.to_owned(), value)));
        }
        self.call(Service::Ecs, region, ACTION, parameters).await.map(drop)
    }

    /// Sets these tags on a disk; its other tags stay.
    pub async fn tag_disk(&self, region: &str, disk_id: &str, tags: &[(&str, &str)]) -> Result<(), Error> {
        const ACTION: &str = "TagResources";
        /// Tags per call; the limit of TagResources.
        const TAGS_MAX: usize = 20;
        check_id(Service::Ecs, ACTION, "ResourceId", disk_id)?;
        if tags.is_empty() || tags.len() > TAGS_MAX {
            return Err(refuse(ACTION, "1 to 20 tags can be set at once"));
        }
        let mut parameters =
            parameters([("RegionId", region), ("ResourceType", "disk"), ("ResourceId.1", disk_id)]);
        put_tags(&mut parameters, tags);
        self.call(Service::Ecs, region, ACTION, parameters).await.map(drop)
    }
}

fn pair(action: &'static str, region: &str, disk_id: &str, instance_id: &str) -> Result<Parameters, Error> {
    check_id(Service::Ecs, action, "DiskId", disk_id)?;
    check_id(Service::Ecs, action, "InstanceId", instance_id)?;
    // Neither action declares RegionId, but hosts that serve several regions route by it.
    Ok(parameters([("RegionId", region), ("DiskId", disk_id), ("InstanceId", instance_id)]))
}
