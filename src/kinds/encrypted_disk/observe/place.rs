//! Looks at the instance that should have the disk.

use super::Look;
use crate::alibaba;
use crate::kind::Fault;
use crate::kinds::encrypted_disk::api::Placement;
use crate::kinds::encrypted_disk::decide::{
    Disk, DiskState, InstanceFact, InstanceName, Observed, Place, Target, Wanted,
};

/// The place that status remembers.
pub(super) fn of_record(record: &Placement) -> Place {
    Place { instance: record.instance_id.clone(), delete_with_instance: record.delete_with_instance }
}

/// Where a disk is.
pub(super) fn of_disk(disk: &alibaba::Disk) -> Option<Place> {
    let instance = disk.instance_id.clone().filter(|id| !id.is_empty())?;
    Some(Place { instance, delete_with_instance: disk.delete_with_instance.unwrap_or_default() })
}

/// Where the disk should be: where the object says, else where the disk was that it replaces.
pub(super) async fn target(look: &Look<'_>, wanted: &Wanted, observed: &Observed) -> Result<Target, Fault> {
    let heritage = &observed.heritage;
    let place = match &wanted.attachment {
        Some(attachment) => match named(look, &attachment.instance).await? {
            Some(instance) => Place { instance, delete_with_instance: attachment.delete_with_instance },
            None => return Ok(Target::Pending),
        },
        None => {
            let attached = heritage.origin.as_ref().filter(|origin| origin.state == DiskState::InUse);
            let present = attached.and_then(|origin| origin.place.clone());
            match present.filter(|_| !heritage.replaced).or(heritage.origin_place.clone()) {
                Some(place) if wanted.succession.is_some() => place,
                _ => return Ok(Target::Nowhere),
            }
        }
    };
    if !is_asked(look, wanted, observed.disks.first(), &place) {
        return Ok(Target::At(place, InstanceFact::Unasked));
    }
    let found = look.world.cloud.instance(look.region(), &place.instance).await?;
    Ok(Target::At(place, fact(found, wanted)))
}

/// The instance is looked at before anything is made for it, and before the disk is moved there; not while nothing can follow.
fn is_asked(look: &Look, wanted: &Wanted, disk: Option<&Disk>, place: &Place) -> bool {
    wanted.manage
        && match disk {
            None => wanted.attachment.is_some() && look.creation.intent.is_none(),
            Some(disk) => {
                matches!(disk.state, DiskState::Available | DiskState::InUse)
                    && disk.attached_to.as_ref() != Some(&place.instance)
            }
        }
}

async fn named(look: &Look<'_>, name: &InstanceName) -> Result<Option<String>, Fault> {
    let name = match name {
        InstanceName::Id(id) => return Ok(Some(id.clone())),
        InstanceName::Reference(name) => name,
    };
    let found =
        look.world.reference("encryptedinstances", "EncryptedInstance", &look.owner.namespace, name).await?;
    let id = found.and_then(|object| object.status["instanceId"].as_str().map(str::to_owned));
    Ok(id.filter(|id| !id.is_empty()))
}

fn fact(found: Option<alibaba::Instance>, wanted: &Wanted) -> InstanceFact {
    use alibaba::InstanceStatus;
    match found {
        None => InstanceFact::Missing,
        Some(instance) if instance.zone_id != wanted.zone_id => InstanceFact::OtherZone(instance.zone_id),
        Some(instance) => match instance.status {
            InstanceStatus::Running | InstanceStatus::Stopped => InstanceFact::Ready,
            _ => InstanceFact::Busy,
        },
    }
}
