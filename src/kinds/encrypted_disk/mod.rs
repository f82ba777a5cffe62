//! EncryptedDisk: a data disk that is encrypted from birth under a chosen key.
//!
//! Wires the files of the kind together, and checks the spec.

use std::collections::BTreeMap;

use kube::core::DeserializeGuard;
use kube::{Api, Client};

use crate::decision::report::Report;
use crate::decision::{Decision, Machine, Reason};
use crate::kind::{Call, Dependency, Fault, Invalid, Kind, KindStatus, Owner, World};
use crate::resource::{AccountReference, DeletionPolicy, ManagementPolicy, SharedStatus, check};

pub mod act;
pub mod api;
pub mod decide;
pub mod foresee;
pub mod observe;
pub mod promise;
pub mod report;
pub mod request;

use api::Cutover;
pub use api::{EncryptedDisk, EncryptedDiskSpec, EncryptedDiskStatus};
use decide::{Attachment, Desired, DiskEffect, DiskMachine, InstanceName, Observed, Succession, Wanted};

impl KindStatus for EncryptedDiskStatus {
    fn shared(&self) -> &SharedStatus {
        &self.shared
    }

    fn shared_mut(&mut self) -> &mut SharedStatus {
        &mut self.shared
    }
}

impl Kind for EncryptedDisk {
    type Machine = DiskMachine;
    type Status = EncryptedDiskStatus;
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

    fn status(&self) -> Option<&EncryptedDiskStatus> {
        self.status.as_ref()
    }

    fn desired(&self) -> Result<Desired, Invalid> {
        if self.metadata.deletion_timestamp.is_some() {
            return Ok(Desired::Absent { delete: self.may_delete() });
        }
        wanted(&self.spec).map(Desired::Present)
    }

    async fn observe(&self, desired: &Desired, world: &World, _shared: &()) -> Result<Observed, Fault> {
        observe::observe(self, desired, world).await
    }

    async fn act(&self, world: &World, _shared: &(), effect: &DiskEffect) -> Result<(), Fault> {
        act::act(self, world, effect).await
    }

    fn request(
        &self,
        desired: &Desired,
        observed: &Observed,
        owner: &Owner,
        attempt: u32,
    ) -> BTreeMap<String, String> {
        let role = match DiskMachine::decide(desired, observed) {
            Decision::Do(DiskEffect::Claim(role, _)) => role,
            _ => decide::Role::Disk,
        };
        request::request(desired, observed, owner, role, attempt)
    }

    fn depends_on(&self) -> Vec<Dependency> {
        let pinned = self.status.as_ref().and_then(|status| status.key_id.as_deref());
        let key = Dependency::key(&self.spec.region, pinned, &self.spec.key);
        let instance = self.spec.attachment.as_ref().and_then(|attachment| attachment.instance_ref.as_ref());
        let instance = instance.map(|instance| Dependency::object("EncryptedInstance", &instance.name));
        key.into_iter().chain(instance).collect()
    }

    fn foresee(
        &self,
        desired: &Desired,
        observed: &Observed,
        decision: &Decision<DiskEffect>,
    ) -> Option<Observed> {
        foresee::after(desired, observed, decision)
    }

    fn calls(&self, desired: &Desired, observed: &Observed, owner: &Owner, effect: &DiskEffect) -> Vec<Call> {
        foresee::calls(self, desired, observed, owner, effect)
    }

    fn report(
        &self,
        desired: &Desired,
        observed: &Observed,
        decision: &Decision<DiskEffect>,
        _now: jiff::Timestamp,
    ) -> Report<EncryptedDiskStatus> {
        report::report(self.status.as_ref(), desired, observed, decision)
    }
}

impl EncryptedDisk {
    /// An adopted disk is never deleted: adoption must not become a way to delete somebody else's disk.
    fn may_delete(&self) -> bool {
        self.spec.deletion_policy == DeletionPolicy::Delete
            && self.spec.management_policy == ManagementPolicy::Manage
            && self.spec.adopt.is_none()
    }
}

/// The spec, checked once more: objects may have been stored around the schema's rules.
fn wanted(spec: &EncryptedDiskSpec) -> Result<Wanted, Invalid> {
    let (key, service_key) = check::key(&spec.key).map_err(|problem| Invalid::field("spec.key", problem))?;
    check::place(&spec.region).map_err(|problem| Invalid::field("spec.region", problem))?;
    check::place(&spec.zone_id).map_err(|problem| Invalid::field("spec.zoneId", problem))?;
    if !spec.zone_id.starts_with(&spec.region) {
        return Err(Invalid::field(
            "spec.zoneId",
            format!("{} is not a zone of {}", spec.zone_id, spec.region),
        ));
    }
    let (snapshot_id, succession) = source(spec)?;
    if let Some(name) = &spec.disk_name {
        check::name(name).map_err(|problem| Invalid::field("spec.diskName", problem))?;
    }
    if let Some(text) = &spec.description {
        check::description(text).map_err(|problem| Invalid::field("spec.description", problem))?;
    }
    if let Some(group) = &spec.resource_group_id {
        check::resource_group(group).map_err(|problem| Invalid::field("spec.resourceGroupId", problem))?;
    }
    let adopt = check::adoption(&spec.adopt, "d").map_err(|problem| Invalid::field("spec.adopt", problem))?;
    let category = check_category(spec, spec.source.is_some())?;
    if spec.size_gib.is_none() && spec.source.is_none() && adopt.is_none() {
        return Err(Invalid::field("spec.sizeGiB", "is required for a blank disk"));
    }
    Ok(Wanted {
        region: spec.region.clone(),
        zone_id: spec.zone_id.clone(),
        category,
        performance_level: spec.performance_level.map(|level| level.as_str().to_owned()),
        size_gib: spec.size_gib,
        snapshot_id,
        succession,
        attachment: spec.attachment.as_ref().map(attachment).transpose()?,
        disk_name: spec.disk_name.clone(),
        description: spec.description.clone(),
        tags: check::tags(&spec.tags).map_err(|problem| Invalid::field("spec.tags", problem))?,
        resource_group_id: spec.resource_group_id.clone(),
        key,
        service_key,
        adopt,
        manage: spec.management_policy == ManagementPolicy::Manage,
        suspend: spec.suspend,
    })
}

/// The snapshot to start with, or the disk to replace.
fn source(spec: &EncryptedDiskSpec) -> Result<(Option<String>, Option<Succession>), Invalid> {
    let source = spec.source.clone().unwrap_or_default();
    let succeeds = source.disk_id.is_some();
    match (&source.snapshot_id, &source.disk_id) {
        (Some(id), None) => {
            check::id(id, "s").map_err(|problem| Invalid::field("spec.source.snapshotId", problem))?;
        }
        (None, Some(id)) => {
            check::id(id, "d").map_err(|problem| Invalid::field("spec.source.diskId", problem))?;
        }
        (None, None) if spec.source.is_none() => {}
        _ => return Err(Invalid::field("spec.source", "exactly one of snapshotId and diskId must be set")),
    }
    if succeeds && spec.adopt.is_some() {
        return Err(Invalid::field("spec.adopt", "a disk is either taken over or made of source.diskId"));
    }
    for (field, given) in
        [("spec.cutover", spec.cutover.is_some()), ("spec.retireSource", spec.retire_source)]
    {
        if given && !succeeds {
            return Err(Invalid::field(field, "needs source.diskId"));
        }
    }
    let cutover = match spec.cutover.unwrap_or_default() {
        Cutover::Manual => decide::Cutover::Manual,
        Cutover::WhenDetached => decide::Cutover::WhenDetached,
        Cutover::Now => decide::Cutover::Now,
    };
    let succession =
        source.disk_id.map(|disk_id| Succession { disk_id, cutover, retire: spec.retire_source });
    Ok((source.snapshot_id, succession))
}

fn attachment(spec: &api::DiskAttachment) -> Result<Attachment, Invalid> {
    let instance = match (&spec.instance_id, &spec.instance_ref) {
        (Some(id), None) => {
            check::id(id, "i").map_err(|problem| Invalid::field("spec.attachment.instanceId", problem))?;
            InstanceName::Id(id.clone())
        }
        (None, Some(reference)) => InstanceName::Reference(reference.name.clone()),
        _ => {
            let problem = "exactly one of instanceRef and instanceId must be set";
            return Err(Invalid::field("spec.attachment", problem));
        }
    };
    Ok(Attachment { instance, delete_with_instance: spec.delete_with_instance })
}

fn check_category(spec: &EncryptedDiskSpec, from_snapshot: bool) -> Result<String, Invalid> {
    let category = spec.category.unwrap_or_default();
    if from_snapshot && !category.is_essd_family() {
        return Err(Invalid::field(
            "spec.category",
            "an encrypted disk from a snapshot or a disk needs cloud_essd, cloud_auto or cloud_essd_entry",
        ));
    }
    match spec.size_gib {
        Some(size) if !(1..=65_536).contains(&size) => Err(Invalid {
            reason: Reason::InvalidSpec,
            message: format!("spec.sizeGiB: {size} is not between 1 and 65536"),
        }),
        _ => Ok(category.as_str().to_owned()),
    }
}
