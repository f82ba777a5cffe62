//! EncryptedInstance: an instance all of whose disks are encrypted from birth under chosen keys.
//!
//! Wires the files of the kind together. What a revocation does to an instance is decided elsewhere; its wish is only kept here.

use std::collections::{BTreeMap, BTreeSet};

use kube::core::DeserializeGuard;
use kube::{Api, Client};

use crate::decision::Decision;
use crate::decision::report::Report;
use crate::kind::{Call, Dependency, Fault, Invalid, Kind, KindStatus, Owner, World};
use crate::resource::{
    AccountReference, DeletionPolicy, KeyReference, ManagementPolicy, SharedStatus, check,
};

pub mod act;
pub mod api;
pub mod decide;
pub mod foresee;
pub mod observe;
pub mod promise;
pub mod report;
pub mod request;
mod user_data;

pub use api::{EncryptedInstance, EncryptedInstanceSpec, EncryptedInstanceStatus};
use api::{EssdCategory, EssdLevel, InstanceImage, PowerState};
use decide::{Desired, DiskWish, ImageChoice, InstanceEffect, InstanceMachine, KeyChoice, Observed, Wanted};

/// The cloud takes 20 tags, and the operator needs five of them here.
const TAGS_MAX: usize = 15;
/// What RunInstances takes.
const DATA_DISKS_MAX: usize = 16;

impl KindStatus for EncryptedInstanceStatus {
    fn shared(&self) -> &SharedStatus {
        &self.shared
    }

    fn shared_mut(&mut self) -> &mut SharedStatus {
        &mut self.shared
    }
}

impl Kind for EncryptedInstance {
    type Machine = InstanceMachine;
    type Status = EncryptedInstanceStatus;
    type Shared = ();
    const READS: &[&str] = foresee::READS;

    fn api(client: Client, namespace: Option<&str>) -> Api<Self> {
        match namespace {
            Some(namespace) => Api::namespaced(client, namespace),
            None => Api::all(client),
        }
    }

    fn guarded(client: Client, namespace: Option<&str>) -> Api<DeserializeGuard<Self>> {
        match namespace {
            Some(namespace) => Api::namespaced(client, namespace),
            None => Api::all(client),
        }
    }

    fn keeps_what_it_made(&self) -> bool {
        !self.may_delete()
    }

    fn account(&self) -> Option<&AccountReference> {
        self.spec.account_ref.as_ref()
    }

    fn status(&self) -> Option<&EncryptedInstanceStatus> {
        self.status.as_ref()
    }

    fn desired(&self) -> Result<Desired, Invalid> {
        if self.metadata.deletion_timestamp.is_some() {
            return Ok(Desired::Absent { delete: self.may_delete(), protect: self.spec.deletion_protection });
        }
        wanted(&self.spec).map(|wanted| Desired::Present(Box::new(wanted)))
    }

    async fn observe(&self, desired: &Desired, world: &World, _shared: &()) -> Result<Observed, Fault> {
        observe::observe(self, desired, world).await
    }

    async fn act(&self, world: &World, _shared: &(), effect: &InstanceEffect) -> Result<(), Fault> {
        act::act(self, world, effect).await
    }

    fn request(
        &self,
        desired: &Desired,
        observed: &Observed,
        owner: &Owner,
        attempt: u32,
    ) -> BTreeMap<String, String> {
        request::run_instances(desired, observed, owner, attempt)
    }

    fn depends_on(&self) -> Vec<Dependency> {
        let spec = &self.spec;
        let of_disks = spec.data_disks.iter().map(|disk| &disk.key).chain([&spec.system_disk.key]).flatten();
        let mut all: Vec<Dependency> = Vec::new();
        for named in std::iter::once(&spec.key).chain(of_disks) {
            let key = Dependency::key(&spec.region, self.pinned_key(named), named);
            all.extend(key.filter(|key| !all.contains(key)));
        }
        let image = spec.image.image_ref.as_ref();
        all.extend(image.map(|image| Dependency::object("EncryptedImage", &image.name)));
        all
    }

    fn foresee(
        &self,
        desired: &Desired,
        observed: &Observed,
        decision: &Decision<InstanceEffect>,
    ) -> Option<Observed> {
        foresee::after(desired, observed, decision)
    }

    fn calls(
        &self,
        desired: &Desired,
        observed: &Observed,
        owner: &Owner,
        effect: &InstanceEffect,
    ) -> Vec<Call> {
        foresee::calls(self, desired, observed, owner, effect)
    }

    fn report(
        &self,
        desired: &Desired,
        observed: &Observed,
        decision: &Decision<InstanceEffect>,
        now: jiff::Timestamp,
    ) -> Report<EncryptedInstanceStatus> {
        report::report(self.status.as_ref(), desired, observed, decision, now)
    }
}

impl EncryptedInstance {
    /// The id that a key of the object had when it was first looked up.
    fn pinned_key(&self, named: &KeyReference) -> Option<&str> {
        let text = named.id.as_deref().or(named.alias.as_deref())?;
        let pinned = self.status.iter().flat_map(|status| &status.keys).find(|key| key.reference == text);
        pinned.map(|key| key.key_id.as_str())
    }

    /// An adopted instance is never deleted: adoption must not become a way to delete somebody else's machine.
    fn may_delete(&self) -> bool {
        self.spec.deletion_policy == DeletionPolicy::Delete
            && self.spec.management_policy == ManagementPolicy::Manage
            && self.spec.adopt.is_none()
    }
}

/// The spec, checked once more: objects may have been stored around the schema's rules.
fn wanted(spec: &EncryptedInstanceSpec) -> Result<Wanted, Invalid> {
    let at = |path: &'static str| move |problem| Invalid::field(path, problem);
    check::place(&spec.region).map_err(at("spec.region"))?;
    check::place(&spec.zone_id).map_err(at("spec.zoneId"))?;
    if !spec.zone_id.starts_with(&spec.region) {
        let problem = format!("{} is not a zone of {}", spec.zone_id, spec.region);
        return Err(Invalid::field("spec.zoneId", problem));
    }
    check_texts(spec)?;
    check::id(&spec.network.v_switch_id, "vsw").map_err(at("spec.network.vSwitchId"))?;
    for group in &spec.network.security_group_ids {
        check::id(group, "sg").map_err(at("spec.network.securityGroupIds"))?;
    }
    if spec.network.security_group_ids.is_empty() || spec.network.security_group_ids.len() > 16 {
        return Err(Invalid::field("spec.network.securityGroupIds", "1 to 16 are needed"));
    }
    let tags = check::tags(&spec.tags).map_err(at("spec.tags"))?;
    if tags.len() > TAGS_MAX {
        return Err(Invalid::field(
            "spec.tags",
            format!("{} tags are too many: at most {TAGS_MAX}", tags.len()),
        ));
    }
    Ok(Wanted {
        region: spec.region.clone(),
        zone_id: spec.zone_id.clone(),
        instance_type: spec.instance_type.clone(),
        key: key("spec.key", &spec.key)?,
        image: image(&spec.image)?,
        system: system_disk(spec)?,
        data: data_disks(spec)?,
        vswitch_id: spec.network.v_switch_id.clone(),
        security_group_ids: spec.network.security_group_ids.clone(),
        ram_role_name: spec.ram_role_name.clone(),
        key_pair_name: spec.key_pair_name.clone(),
        user_data: spec.user_data_secret_ref.as_ref().map(|secret| (secret.name.clone(), secret.key.clone())),
        metadata_token: spec.require_metadata_token,
        protect: spec.deletion_protection,
        running: spec.power_state == PowerState::Running,
        instance_name: spec.instance_name.clone(),
        description: spec.description.clone(),
        tags,
        resource_group_id: spec.resource_group_id.clone(),
        adopt: check::adoption(&spec.adopt, "i").map_err(at("spec.adopt"))?,
        manage: spec.management_policy == ManagementPolicy::Manage,
        suspend: spec.suspend,
    })
}

fn check_texts(spec: &EncryptedInstanceSpec) -> Result<(), Invalid> {
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte));
    let word = |path: &'static str, text: &str, length_max: usize| match plain(text)
        && (1..=length_max).contains(&text.len())
    {
        true => Ok(()),
        false => Err(Invalid::field(path, format!("{} is not such a name", check::quoted(text)))),
    };
    word("spec.instanceType", &spec.instance_type, 64)?;
    if let Some(name) = &spec.ram_role_name {
        word("spec.ramRoleName", name, 64)?;
    }
    if let Some(name) = &spec.key_pair_name {
        word("spec.keyPairName", name, 128)?;
    }
    if let Some(secret) = &spec.user_data_secret_ref {
        word("spec.userDataSecretRef.name", &secret.name, 253)?;
        word("spec.userDataSecretRef.key", &secret.key, 253)?;
    }
    if let Some(name) = &spec.instance_name {
        check::name(name).map_err(|problem| Invalid::field("spec.instanceName", problem))?;
    }
    if let Some(text) = &spec.description {
        check::description(text).map_err(|problem| Invalid::field("spec.description", problem))?;
    }
    if let Some(group) = &spec.resource_group_id {
        check::resource_group(group).map_err(|problem| Invalid::field("spec.resourceGroupId", problem))?;
    }
    Ok(())
}

fn key(path: &str, reference: &KeyReference) -> Result<KeyChoice, Invalid> {
    let (text, service) = check::key(reference).map_err(|problem| Invalid::field(path, problem))?;
    Ok(KeyChoice { text, service })
}

fn image(image: &InstanceImage) -> Result<ImageChoice, Invalid> {
    let name_of = |text: &str, other: &[u8]| {
        let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || other.contains(&byte));
        plain && (1..=253).contains(&text.len()) && text.starts_with(|c: char| c.is_ascii_alphanumeric())
    };
    match (&image.image_id, &image.image_ref) {
        (Some(id), None) if name_of(id, b"._-") => Ok(ImageChoice::Id(id.clone())),
        (None, Some(object)) if name_of(&object.name, b".-") => Ok(ImageChoice::Object(object.name.clone())),
        (Some(id), None) => {
            Err(Invalid::field("spec.image.imageId", format!("{} is not an image", check::quoted(id))))
        }
        (None, Some(object)) => {
            let problem = format!("{} is not the name of an object", check::quoted(&object.name));
            Err(Invalid::field("spec.image.imageRef.name", problem))
        }
        _ => Err(Invalid::field("spec.image", "exactly one of imageId and imageRef must be set")),
    }
}

fn system_disk(spec: &EncryptedInstanceSpec) -> Result<DiskWish, Invalid> {
    let disk = &spec.system_disk;
    let own = disk.key.as_ref().map(|reference| key("spec.systemDisk.key", reference)).transpose()?;
    let wish = wish("spec.systemDisk", disk.category, disk.performance_level, disk.size_gib, own)?;
    match disk.size_gib {
        20..=2048 => Ok(wish),
        size => Err(Invalid::field("spec.systemDisk.sizeGiB", format!("{size} is not between 20 and 2048"))),
    }
}

fn data_disks(spec: &EncryptedInstanceSpec) -> Result<Vec<DiskWish>, Invalid> {
    if spec.data_disks.len() > DATA_DISKS_MAX {
        let problem = format!("{} disks are too many: at most {DATA_DISKS_MAX}", spec.data_disks.len());
        return Err(Invalid::field("spec.dataDisks", problem));
    }
    let mut names = BTreeSet::new();
    let mut wishes = Vec::new();
    for disk in &spec.data_disks {
        let plain = disk.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !plain || !(1..=32).contains(&disk.name.len()) || !names.insert(&disk.name) {
            let problem = format!(
                "{} is not a name of its own of 1 to 32 letters, digits and -",
                check::quoted(&disk.name)
            );
            return Err(Invalid::field("spec.dataDisks", problem));
        }
        let path = format!("spec.dataDisks[{}]", disk.name);
        let own = disk.key.as_ref().map(|reference| key(&format!("{path}.key"), reference)).transpose()?;
        let wish = wish(&path, disk.category, disk.performance_level, disk.size_gib, own)?;
        wishes.push(DiskWish {
            name: disk.name.clone(),
            delete_with_instance: disk.delete_with_instance,
            ..wish
        });
    }
    Ok(wishes)
}

fn wish(
    path: &str,
    category: Option<EssdCategory>,
    level: Option<EssdLevel>,
    size_gib: u32,
    key: Option<KeyChoice>,
) -> Result<DiskWish, Invalid> {
    if !(1..=65_536).contains(&size_gib) {
        return Err(Invalid::field(
            &format!("{path}.sizeGiB"),
            format!("{size_gib} is not between 1 and 65536"),
        ));
    }
    let category = category.unwrap_or_default();
    if level.is_some() && category != EssdCategory::CloudEssd {
        return Err(Invalid::field(&format!("{path}.performanceLevel"), "needs category cloud_essd"));
    }
    Ok(DiskWish {
        name: String::new(),
        category: category.as_str().to_owned(),
        performance_level: level.map(|level| level.as_str().to_owned()),
        size_gib,
        key,
        delete_with_instance: true,
    })
}
