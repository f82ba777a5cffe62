//! EncryptedImage: a custom image, copied into one encrypted under a chosen key, so that system disks made from it are encrypted.
//!
//! Wires the files of the kind together. Copies within one region only: the cloud refuses plain to encrypted across regions.

use std::collections::BTreeMap;

use kube::core::DeserializeGuard;
use kube::{Api, Client};

use crate::decision::Decision;
use crate::decision::report::Report;
use crate::kind::{Call, Dependency, Fault, Invalid, Kind, KindStatus, Owner, World};
use crate::resource::{AccountReference, DeletionPolicy, ManagementPolicy, SharedStatus, check};

pub mod act;
pub mod api;
pub mod decide;
pub mod foresee;
pub mod observe;
pub mod promise;
pub mod queue;
pub mod report;
pub mod request;

pub use api::{EncryptedImage, EncryptedImageSpec, EncryptedImageStatus};
use decide::{Desired, ImageEffect, ImageMachine, Observed, Wanted};
use queue::CopyQueue;

impl KindStatus for EncryptedImageStatus {
    fn shared(&self) -> &SharedStatus {
        &self.shared
    }

    fn shared_mut(&mut self) -> &mut SharedStatus {
        &mut self.shared
    }
}

impl Kind for EncryptedImage {
    type Machine = ImageMachine;
    type Status = EncryptedImageStatus;
    type Shared = CopyQueue;
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
        matches!(self.desired(), Ok(Desired::Absent { delete_image: false, delete_snapshots: false, .. }))
    }

    fn account(&self) -> Option<&AccountReference> {
        self.spec.account_ref.as_ref()
    }

    fn status(&self) -> Option<&EncryptedImageStatus> {
        self.status.as_ref()
    }

    fn desired(&self) -> Result<Desired, Invalid> {
        if self.metadata.deletion_timestamp.is_some() {
            // An adopted image is never deleted: adoption must not become a way to delete somebody else's image.
            let manage = self.spec.management_policy == ManagementPolicy::Manage;
            let own = manage && self.spec.adopt.is_none();
            return Ok(Desired::Absent {
                manage,
                delete_image: own && self.spec.deletion_policy == DeletionPolicy::Delete,
                delete_snapshots: own && self.spec.snapshot_policy == DeletionPolicy::Delete,
            });
        }
        wanted(&self.spec).map(Desired::Present)
    }

    async fn observe(&self, desired: &Desired, world: &World, queue: &CopyQueue) -> Result<Observed, Fault> {
        observe::observe(self, desired, world, queue).await
    }

    async fn act(&self, world: &World, _queue: &CopyQueue, effect: &ImageEffect) -> Result<(), Fault> {
        act::act(self, world, effect).await
    }

    fn request(
        &self,
        desired: &Desired,
        observed: &Observed,
        owner: &Owner,
        attempt: u32,
    ) -> BTreeMap<String, String> {
        request::copy_image(desired, observed, owner, attempt)
    }

    fn depends_on(&self) -> Vec<Dependency> {
        let pinned = self.status.as_ref().and_then(|status| status.key_id.as_deref());
        Dependency::key(&self.spec.region, pinned, &self.spec.key).into_iter().collect()
    }

    fn foresee(
        &self,
        desired: &Desired,
        observed: &Observed,
        decision: &Decision<ImageEffect>,
    ) -> Option<Observed> {
        foresee::after(desired, observed, decision)
    }

    fn calls(
        &self,
        desired: &Desired,
        observed: &Observed,
        owner: &Owner,
        effect: &ImageEffect,
    ) -> Vec<Call> {
        foresee::calls(self, desired, observed, owner, effect)
    }

    fn report(
        &self,
        desired: &Desired,
        observed: &Observed,
        decision: &Decision<ImageEffect>,
        now: jiff::Timestamp,
    ) -> Report<EncryptedImageStatus> {
        report::report(self.status.as_ref(), desired, observed, decision, now)
    }
}

/// The spec, checked once more: objects may have been stored around the schema's rules.
fn wanted(spec: &EncryptedImageSpec) -> Result<Wanted, Invalid> {
    let (key, service_key) = check::key(&spec.key).map_err(|problem| Invalid::field("spec.key", problem))?;
    check::place(&spec.region).map_err(|problem| Invalid::field("spec.region", problem))?;
    check::id(&spec.source.image_id, "m")
        .map_err(|problem| Invalid::field("spec.source.imageId", problem))?;
    if spec.source.region.as_ref().is_some_and(|region| *region != spec.region) {
        return Err(Invalid::field(
            "spec.source.region",
            "a source in another region cannot be copied and encrypted in one step; copy it across first",
        ));
    }
    if let Some(name) = &spec.image_name {
        check::name(name).map_err(|problem| Invalid::field("spec.imageName", problem))?;
    }
    if let Some(text) = &spec.description {
        check::description(text).map_err(|problem| Invalid::field("spec.description", problem))?;
    }
    if let Some(group) = &spec.resource_group_id {
        check::resource_group(group).map_err(|problem| Invalid::field("spec.resourceGroupId", problem))?;
    }
    Ok(Wanted {
        region: spec.region.clone(),
        source_image_id: spec.source.image_id.clone(),
        image_name: spec.image_name.clone(),
        description: spec.description.clone(),
        copy_timeout_seconds: timeout_seconds(&spec.copy_timeout)?,
        tags: check::tags(&spec.tags).map_err(|problem| Invalid::field("spec.tags", problem))?,
        resource_group_id: spec.resource_group_id.clone(),
        key,
        service_key,
        adopt: check::adoption(&spec.adopt, "m").map_err(|problem| Invalid::field("spec.adopt", problem))?,
        manage: spec.management_policy == ManagementPolicy::Manage,
        suspend: spec.suspend,
    })
}

/// Between a minute and a week.
fn timeout_seconds(text: &str) -> Result<u64, Invalid> {
    const WEEK: u64 = 7 * 24 * 3600;
    let total = check::duration(text).filter(|total| (60..=WEEK).contains(total));
    total.ok_or_else(|| {
        let text = check::quoted(text);
        Invalid::field(
            "spec.copyTimeout",
            format!("{text} is not a duration such as 2h or 90m, between 1m and 168h"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_exactly_or_refused() {
        assert_eq!(timeout_seconds("2h"), Ok(7200));
        assert_eq!(timeout_seconds("1h30m"), Ok(5400));
        assert_eq!(timeout_seconds("90s"), Ok(90));
        for wrong in ["", "2", "2d", "h", "30m1h", "-1h", "1s", "9999999999999999999h", "200h", "1.5h"] {
            assert!(timeout_seconds(wrong).is_err(), "{wrong:?}");
        }
    }
}
