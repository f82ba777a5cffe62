//! Looks at the disk that is replaced, and at the snapshots that were taken of it.

use jiff::{SignedDuration, Timestamp};

use super::{Look, place, protection, state};
use crate::alibaba;
use crate::decision::key::{KeyFact, Protection};
use crate::kind::Fault;
use crate::kinds::encrypted_disk::decide::{
    Heritage, OriginDisk, Role, Since, Snapshot, SnapshotState, Wanted,
};
use crate::resource::tag;

/// By how much the clocks of two services may differ. To attach a disk, write to it and detach it takes far longer.
const SKEW: SignedDuration = SignedDuration::from_secs(5);

/// What is known of the source disk; empty for a disk that replaces none.
pub(super) async fn heritage(look: &Look<'_>, key: &KeyFact) -> Result<Heritage, Fault> {
    let status = look.object.status.clone().unwrap_or_default();
    let source = look.object.spec.source.as_ref().and_then(|source| source.disk_id.clone());
    let mut heritage = Heritage {
        origin_place: status.source_attachment.as_ref().map(place::of_record),
        place_is_given: look.object.spec.attachment.is_some(),
        known_snapshot: status.source_snapshot_id.clone(),
        replaced: source.is_some() && status.replaced_disk_id == source,
        ..Heritage::default()
    };
    let Some(source) = source.filter(|_| is_asked(look, heritage.replaced)) else { return Ok(heritage) };
    let (snapshots, origin) =
        tokio::try_join!(find_snapshots(look, status.source_snapshot_id), origin(look, &source))?;
    heritage.snapshots = snapshots.iter().map(snapshot_fact).collect();
    let chosen = heritage.snapshot().map(|chosen| chosen.id.clone());
    let taken = snapshots.iter().find(|snapshot| Some(&snapshot.id) == chosen.as_ref());
    heritage.origin = origin.map(|disk| origin_fact(&disk, taken, look, key));
    Ok(heritage)
}

/// Once the successor serves, nobody asks for its source any more, unless it is to be deleted or the object is.
fn is_asked(look: &Look, replaced: bool) -> bool {
    match look.wanted {
        Some(wanted) => !replaced || wanted.succession.as_ref().is_some_and(|succession| succession.retire),
        // Also an object that leaves everything behind must see what its last request made.
        None => look.creation.intent.is_some(),
    }
}

async fn origin(look: &Look<'_>, id: &str) -> Result<Option<alibaba::Disk>, Fault> {
    Ok(look.world.cloud.disk(look.region(), id).await?)
}

/// By the id that is known or was answered, else by tags; the same rules as for the disk itself.
async fn find_snapshots(look: &Look<'_>, known: Option<String>) -> Result<Vec<alibaba::Snapshot>, Fault> {
    let (owner, cloud) = (&look.owner, &look.world.cloud);
    if let Some(id) = known.or(look.answered(Role::Snapshot)) {
        let mut found = cloud.snapshots(look.region(), &[id]).await?;
        found.retain(|snapshot| owner.owns(&snapshot.tags));
        if look.wanted.is_some() || !found.is_empty() {
            return Ok(found);
        }
    }
    let tags = [(tag::CLUSTER, &*owner.cluster), (tag::UID, &*owner.uid)];
    Ok(cloud.snapshots_by_tags(look.region(), &tags).await?)
}

fn snapshot_fact(snapshot: &alibaba::Snapshot) -> Snapshot {
    Snapshot {
        id: snapshot.id.clone(),
        state: match snapshot.status {
            alibaba::SnapshotStatus::Accomplished => SnapshotState::Ready,
            alibaba::SnapshotStatus::Progressing => SnapshotState::Progressing,
            alibaba::SnapshotStatus::Failed => SnapshotState::Failed,
            alibaba::SnapshotStatus::Unknown(_) => SnapshotState::Unknown,
        },
    }
}

fn origin_fact(
    disk: &alibaba::Disk,
    taken: Option<&alibaba::Snapshot>,
    look: &Look,
    key: &KeyFact,
) -> OriginDisk {
    let protection = protection(disk, look.wanted, key);
    OriginDisk {
        id: disk.id.clone(),
        state: state(&disk.status),
        place: place::of_disk(disk),
        protection,
        size_gib: disk.size_gib,
        unsuitable: look.wanted.and_then(|wanted| unsuitable(disk, protection, wanted, look)),
        since: since(disk, taken),
    }
}

/// Why the disk cannot be replaced by such a disk.
fn unsuitable(disk: &alibaba::Disk, protection: Protection, wanted: &Wanted, look: &Look) -> Option<String> {
    if disk.kind != alibaba::DiskKind::Data {
        return Some("it is not a data disk".to_owned());
    }
    if disk.zone_id != wanted.zone_id {
        return Some(format!("it is in zone {}, and spec.zoneId is {}", disk.zone_id, wanted.zone_id));
    }
    if protection == Protection::Exact {
        return Some("it is already encrypted under the key; take it over with spec.adopt".to_owned());
    }
    if look.owner.owns(&disk.tags) {
        return Some("it is the disk of this very object".to_owned());
    }
    (disk.portable == Some(false)).then(|| "it is not portable, so it can never be detached".to_owned())
}

/// Whether the disk was attached after the snapshot was taken.
fn since(disk: &alibaba::Disk, taken: Option<&alibaba::Snapshot>) -> Since {
    let moment = |text: &Option<String>| text.as_ref()?.parse::<Timestamp>().ok();
    let Some(limit) = taken
        .and_then(|snapshot| moment(&snapshot.creation_time))
        .and_then(|taken| taken.checked_add(SKEW).ok())
    else {
        return Since::Unsaid;
    };
    let (attached, detached) = (moment(&disk.attached_time), moment(&disk.detached_time));
    match (attached, detached) {
        _ if attached.max(detached) > Some(limit) => Since::Touched,
        (_, Some(_)) => Since::Untouched,
        (_, None) => Since::Unsaid,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alibaba::{DiskKind, DiskStatus, SnapshotStatus};

    fn disk(attached: &str, detached: &str) -> alibaba::Disk {
        let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        alibaba::Disk {
            id: "d-1".into(),
            name: String::new(),
            status: DiskStatus::Available,
            encrypted: false,
            kms_key_id: None,
            instance_id: None,
            instance_ids: Default::default(),
            category: String::new(),
            performance_level: None,
            size_gib: 20,
            zone_id: String::new(),
            kind: DiskKind::Data,
            source_snapshot_id: None,
            tags: Default::default(),
            delete_with_instance: None,
            delete_auto_snapshot: None,
            portable: None,
            creation_time: None,
            attached_time: text(attached),
            detached_time: text(detached),
            description: String::new(),
        }
    }

    fn snapshot(taken: &str) -> alibaba::Snapshot {
        alibaba::Snapshot {
            id: "s-1".into(),
            status: SnapshotStatus::Accomplished,
            encrypted: false,
            kms_key_id: None,
            source_disk_size_gib: 20,
            source_disk_id: None,
            progress: None,
            tags: Default::default(),
            usage: None,
            creation_time: Some(taken.to_owned()),
        }
    }

    #[test]
    fn a_disk_that_was_attached_after_its_snapshot_is_seen_to_have_been() {
        let taken = snapshot("2026-01-01T12:00:00Z");
        let since = |attached: &str, detached: &str| since(&disk(attached, detached), Some(&taken));
        assert_eq!(since("2026-01-01T10:00:00Z", "2026-01-01T11:59:59Z"), Since::Untouched);
        assert_eq!(since("2026-01-01T10:00:00Z", "2026-01-01T12:00:02Z"), Since::Untouched, "clocks differ");
        assert_eq!(since("2026-01-01T12:30:00Z", "2026-01-01T11:00:00Z"), Since::Touched, "it is attached");
        assert_eq!(since("2026-01-01T12:30:00Z", "2026-01-01T12:40:00Z"), Since::Touched);
    }

    #[test]
    fn what_the_cloud_does_not_say_proves_nothing() {
        let taken = snapshot("2026-01-01T12:00:00Z");
        assert_eq!(since(&disk("", ""), Some(&taken)), Since::Unsaid);
        assert_eq!(since(&disk("", "soon"), Some(&taken)), Since::Unsaid);
        assert_eq!(since(&disk("", "2026-01-01T11:00:00Z"), None), Since::Unsaid);
        assert_eq!(since(&disk("", "2026-01-01T11:00:00Z"), Some(&snapshot("noon"))), Since::Unsaid);
    }

    #[test]
    fn a_snapshot_shows_its_state() {
        let with = |status| snapshot_fact(&alibaba::Snapshot { status, ..snapshot("") }).state;
        assert_eq!(with(SnapshotStatus::Progressing), SnapshotState::Progressing);
        assert_eq!(with(SnapshotStatus::Failed), SnapshotState::Failed);
        assert_eq!(with(SnapshotStatus::Unknown("x".into())), SnapshotState::Unknown);
    }
}
