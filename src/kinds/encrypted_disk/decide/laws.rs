//! What holds of every decision: each law is checked over the product of all situations that can differ.

use super::*;
use crate::decision::creation::{Claim, Intent};
use crate::kinds::encrypted_disk::promise;

fn place(instance: &str) -> Place {
    Place { instance: instance.into(), delete_with_instance: false }
}

fn keys() -> Vec<KeyFact> {
    let unusable = KeyFact::Unusable { id: "key-a".into(), reason: Reason::KeyDisabled };
    vec![KeyFact::Usable { id: "key-a".into(), service: false }, unusable]
}

fn targets() -> Vec<Target> {
    let facts = [InstanceFact::Ready, InstanceFact::Busy, InstanceFact::OtherZone("z".into())];
    let there = facts.into_iter().map(|fact| Target::At(place("i-1"), fact));
    [Target::Nowhere, Target::Pending].into_iter().chain(there).collect()
}

fn disks() -> Vec<Option<Disk>> {
    let disk = |state, at: Option<&str>| {
        Some(Disk {
            id: "d-1".into(),
            state,
            protection: Protection::Exact,
            attached_to: at.map(str::to_owned),
            delete_with_instance: false,
            size_gib: 40,
            own: true,
            amendment: Amendment::default(),
            status: String::new(),
            drift: BTreeSet::new(),
        })
    };
    let plain = disk(DiskState::Available, None).map(|disk| Disk { protection: Protection::Plain, ..disk });
    vec![
        None,
        disk(DiskState::Creating, None),
        disk(DiskState::Available, None),
        disk(DiskState::InUse, Some("i-1")),
        disk(DiskState::InUse, Some("i-9")),
        disk(DiskState::Moving, Some("i-1")),
        plain,
    ]
}

fn origins() -> Vec<Option<OriginDisk>> {
    let origin = |state, at: Option<&str>, since| {
        Some(OriginDisk {
            id: "d-0".into(),
            state,
            place: at.map(place),
            protection: Protection::Plain,
            size_gib: 40,
            unsuitable: None,
            since,
        })
    };
    vec![
        None,
        origin(DiskState::Available, None, Since::Untouched),
        origin(DiskState::Available, None, Since::Touched),
        origin(DiskState::Available, None, Since::Unsaid),
        origin(DiskState::InUse, Some("i-1"), Since::Unsaid),
        origin(DiskState::Moving, Some("i-1"), Since::Unsaid),
    ]
}

fn heritages() -> Vec<Heritage> {
    let mut list = Vec::new();
    for origin in origins() {
        for state in [None, Some(SnapshotState::Progressing), Some(SnapshotState::Ready)] {
            for (replaced, noted) in [(false, false), (false, true), (true, true)] {
                let snapshots = state.map(|state| Snapshot { id: "s-1".into(), state });
                list.push(Heritage {
                    origin: origin.clone(),
                    origin_place: noted.then(|| place("i-1")),
                    snapshots: BTreeSet::from_iter(snapshots),
                    replaced,
                    ..Heritage::default()
                });
            }
        }
    }
    list
}

fn creations() -> Vec<(Role, Creation)> {
    let intent = |answered, accepted| Some(Intent { attempt: 1, sends: 1, answered, accepted });
    let with = |intent, claim, aged| Creation { intent, claim, aged };
    vec![
        (Role::Disk, Creation::default()),
        (Role::Disk, with(intent(0, false), Claim::Open, false)),
        (Role::Snapshot, with(intent(0, false), Claim::Open, false)),
        (Role::Snapshot, with(intent(0, false), Claim::None, false)),
        (Role::Snapshot, with(intent(1, true), Claim::None, false)),
        (Role::Snapshot, with(intent(0, false), Claim::None, true)),
    ]
}

/// Calls `law` with every situation of a given disk, key and target, and returns how many there were.
fn each(mut law: impl FnMut(&Observed)) -> usize {
    let mut count = 0;
    for ((disk, key), target) in disks()
        .into_iter()
        .flat_map(|disk| keys().into_iter().map(move |key| (disk.clone(), key)))
        .flat_map(|pair| targets().into_iter().map(move |target| (pair.clone(), target)))
    {
        for heritage in heritages() {
            for (role, creation) in creations() {
                for placed in [None, Some(place("i-1"))] {
                    let observed = Observed {
                        key: key.clone(),
                        repointed: None,
                        source: SourceFact::Blank,
                        disks: BTreeSet::from_iter(disk.clone()),
                        known: disk.as_ref().map(|disk| disk.id.clone()),
                        creation: creation.clone(),
                        role,
                        refusal: None,
                        namesake: None,
                        target: target.clone(),
                        placed,
                        heritage: heritage.clone(),
                    };
                    law(&observed);
                    count += 1;
                }
            }
        }
    }
    count
}

/// With and without a source, each cutover, retired or not, managed or only observed.
fn wishes() -> Vec<Wanted> {
    let mut list = Vec::new();
    let plain = Wanted { manage: true, size_gib: Some(40), key: "key-a".into(), ..Wanted::default() };
    for (cutover, retire) in
        [(Cutover::Manual, false), (Cutover::WhenDetached, true), (Cutover::Now, false), (Cutover::Now, true)]
    {
        let succession = Some(Succession { disk_id: "d-0".into(), cutover, retire });
        list.push(Wanted { succession, ..plain.clone() });
    }
    let observed = list.last().cloned().map(|wanted| Wanted { manage: false, ..wanted });
    list.extend(observed);
    list.push(plain);
    list
}

#[track_caller]
fn every_present(law: impl Fn(&Wanted, &Observed, &Decision<DiskEffect>) -> bool) {
    for wanted in wishes() {
        let desired = Desired::Present(wanted.clone());
        let count = each(|observed| {
            let decision = DiskMachine::decide(&desired, observed);
            assert!(law(&wanted, observed, &decision), "{wanted:#?}\n{observed:#?}\n{decision:?}");
        });
        assert!(count > 10_000, "only {count} situations");
    }
}

#[track_caller]
fn every_absent(law: impl Fn(bool, &Observed, &Decision<DiskEffect>) -> bool) {
    for delete in [true, false] {
        let desired = Desired::Absent { delete };
        each(|observed| {
            let decision = DiskMachine::decide(&desired, observed);
            assert!(law(delete, observed, &decision), "{delete}\n{observed:#?}\n{decision:?}");
        });
    }
}

#[test]
fn settled_means_that_the_promise_holds() {
    every_present(|wanted, observed, decision| {
        let promised = promise::holds(&Desired::Present(wanted.clone()), observed);
        *decision != Decision::Settled || promised
    });
    every_absent(|delete, observed, decision| {
        *decision != Decision::Settled || promise::holds(&Desired::Absent { delete }, observed)
    });
}

#[test]
fn nothing_is_done_for_who_only_observes_or_under_a_key_that_cannot_be_used() {
    every_present(|wanted, observed, decision| {
        let may = wanted.manage && observed.key.obstacle().is_none();
        may || !matches!(decision, Decision::Do(_))
    });
}

#[test]
fn a_snapshot_is_only_taken_of_a_source_that_is_attached_to_nothing() {
    every_present(|_, observed, decision| match decision {
        Decision::Do(
            DiskEffect::Claim(Role::Snapshot, _) | DiskEffect::Create { role: Role::Snapshot, .. },
        ) => observed.heritage.origin.as_ref().is_some_and(|origin| origin.place.is_none()),
        _ => true,
    });
}

#[test]
fn a_disk_is_only_made_of_a_complete_snapshot_of_a_source_that_stayed_detached() {
    every_present(|wanted, observed, decision| match decision {
        Decision::Do(DiskEffect::Claim(Role::Disk, _) | DiskEffect::Create { role: Role::Disk, .. })
            if wanted.succession.is_some() =>
        {
            let heritage = &observed.heritage;
            let untouched = heritage
                .origin
                .as_ref()
                .is_none_or(|origin| origin.place.is_none() && origin.since != Since::Touched);
            untouched && heritage.snapshot().is_some_and(|one| one.state == SnapshotState::Ready)
        }
        _ => true,
    });
}

#[test]
fn the_source_is_only_deleted_when_asked_when_replaced_and_when_provably_unchanged() {
    every_present(|wanted, observed, decision| match decision {
        Decision::Do(DiskEffect::RetireSource { id }) => {
            let asked = wanted.succession.as_ref().is_some_and(|one| one.retire && one.disk_id == *id);
            let verified = observed.disks.iter().all(|disk| disk.protection == Protection::Exact);
            let unchanged = observed.heritage.origin.as_ref().is_some_and(|origin| {
                origin.state == DiskState::Available
                    && origin.place.is_none()
                    && origin.since == Since::Untouched
            });
            asked && verified && unchanged && observed.heritage.replaced && observed.disks.len() == 1
        }
        _ => true,
    });
}

#[test]
fn a_source_is_only_detached_when_the_cutover_is_now_and_its_place_is_written_down() {
    every_present(|wanted, observed, decision| match decision {
        Decision::Do(DiskEffect::DetachSource { instance, .. }) => {
            let now = wanted.succession.as_ref().is_some_and(|one| one.cutover == Cutover::Now);
            now && observed.heritage.origin_place.as_ref().is_some_and(|place| place.instance == *instance)
        }
        _ => true,
    });
}

#[test]
fn a_disk_is_attached_where_status_says_and_detached_from_nowhere_else() {
    let moves = |observed: &Observed, decision: &Decision<DiskEffect>| match decision {
        Decision::Do(DiskEffect::Attach { place, .. }) => observed.placed.as_ref() == Some(place),
        Decision::Do(DiskEffect::Detach { instance, .. }) => {
            observed.placed.as_ref().is_some_and(|place| place.instance == *instance)
        }
        _ => true,
    };
    every_present(|_, observed, decision| moves(observed, decision));
    every_absent(|_, observed, decision| moves(observed, decision));
}

#[test]
fn what_status_says_of_the_place_is_never_forgotten_while_the_disk_is_there() {
    every_present(|wanted, observed, decision| {
        let at = observed.disks.first().and_then(|disk| disk.attached_to.as_ref());
        let placed = observed.placed.as_ref().filter(|place| at == Some(&place.instance));
        placed.is_none() || placed_next(wanted, observed, decision).as_ref() == placed
    });
}

#[test]
fn deletion_takes_only_what_is_free_and_never_the_last_copy() {
    every_absent(|delete, observed, decision| match decision {
        Decision::Do(DiskEffect::Delete { id }) => {
            let free = |disk: &Disk| disk.id == *id && disk.own && disk.state == DiskState::Available;
            delete && observed.disks.iter().any(free)
        }
        Decision::Do(DiskEffect::DeleteSnapshot { .. }) => delete && observed.heritage.may_forget(),
        Decision::Do(DiskEffect::Detach { .. }) => delete,
        Decision::Do(_) => false,
        _ => true,
    });
}
