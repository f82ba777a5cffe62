//! Laws that hold for every kind, whatever it makes.

use std::collections::BTreeSet;

use super::encrypted_disk::decide as disk;
use crate::decision::key::{KeyFact, Protection};
use crate::decision::{Creation, Decision, Machine, Reason};

#[test]
fn while_its_key_is_revoked_nothing_is_created_replaced_or_deleted() {
    let one = |id: &str| disk::Disk {
        id: id.into(),
        state: disk::DiskState::Available,
        protection: Protection::Exact,
        attached_to: None,
        size_gib: 20,
        own: true,
        status: "Available".into(),
        drift: BTreeSet::new(),
    };
    let seen = |ids: &[&str]| disk::Observed {
        key: KeyFact::Unusable { id: "key-a".into(), reason: Reason::KeyRevoked },
        source: disk::SourceFact::Blank,
        disks: ids.iter().map(|id| one(id)).collect(),
        known: None,
        creation: Creation::default(),
        refusal: None,
        namesake: None,
    };
    let wanted =
        disk::Wanted { size_gib: Some(40), manage: true, key: "key-a".into(), ..disk::Wanted::default() };
    for ids in [&[][..], &["d-1"], &["d-1", "d-2"]] {
        let decision = disk::DiskMachine::decide(&disk::Desired::Present(wanted.clone()), &seen(ids));
        assert_eq!(decision, Decision::Blocked(Reason::KeyRevoked), "{ids:?}");
    }
    let absent = |delete, ids| disk::DiskMachine::decide(&disk::Desired::Absent { delete }, &seen(ids));
    assert_eq!(absent(true, &["d-1"]), Decision::Blocked(Reason::KeyRevoked), "it may be evidence");
    assert_eq!(absent(false, &["d-1"]), Decision::Settled, "nothing is deleted");
    assert_eq!(absent(true, &[]), Decision::Settled, "there is nothing to delete");
}
