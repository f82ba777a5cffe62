//! Random wishes and worlds of an EncryptedDisk.

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::json;

use super::super::encrypted_disk::decide::{Desired, Disk, DiskState, Observed, SourceFact, Wanted};
use super::super::encrypted_disk::{EncryptedDisk, promise};
use super::{Subject, Wish, creation, id, key_fact, object, protection, refusal, several};

pub(super) fn subject() -> Subject<EncryptedDisk> {
    let spec = json!({ "region": "cn-a", "zoneId": "cn-a-b", "sizeGiB": 40, "key": { "id": "key-a" } });
    Subject {
        object: object(spec),
        with_status: |object, status| EncryptedDisk { status: Some(status), ..object.clone() },
        desired: desired().boxed(),
        observed: observed().boxed(),
        holds: promise::holds,
        wish: |desired| match desired {
            Desired::Absent { .. } => Wish::Absent,
            Desired::Present(wanted) if wanted.suspend || !wanted.manage => Wish::Resting,
            Desired::Present(_) => Wish::Managed,
        },
        occupied: |observed| !observed.disks.is_empty() || observed.known.is_some(),
        key: |observed| &observed.key,
    }
}

fn desired() -> impl Strategy<Value = Desired> {
    let size = proptest::option::of(select(vec![20u32, 40]));
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    let wanted = (size, proptest::option::of(id("s")), proptest::option::weighted(0.2, id("d")), flags)
        .prop_map(|(size_gib, snapshot_id, adopt, (service_key, manage, suspend))| Wanted {
            region: "cn-a".into(),
            zone_id: "cn-a-b".into(),
            category: "cloud_essd".into(),
            size_gib,
            snapshot_id,
            key: "key-a".into(),
            service_key,
            adopt,
            manage,
            suspend,
            ..Wanted::default()
        });
    prop_oneof![
        4 => wanted.prop_map(Desired::Present),
        1 => any::<bool>().prop_map(|delete| Desired::Absent { delete }),
    ]
}

fn disk() -> impl Strategy<Value = Disk> {
    let state = select(vec![DiskState::Creating, DiskState::Available, DiskState::InUse, DiskState::Unknown]);
    let drift = proptest::collection::btree_set(
        Just(("spec.category".to_owned(), "cloud_essd".to_owned(), "cloud_auto".to_owned())),
        0..2,
    );
    (
        id("d"),
        state,
        protection(),
        proptest::option::of(id("i")),
        select(vec![20u32, 40]),
        any::<bool>(),
        drift,
    )
        .prop_map(|(id, state, protection, attached_to, size_gib, own, drift)| Disk {
            id,
            state,
            protection,
            attached_to,
            size_gib,
            own,
            status: "Available".into(),
            drift,
        })
}

fn observed() -> impl Strategy<Value = Observed> {
    let source = select(vec![
        SourceFact::Blank,
        SourceFact::Ready { size_gib: 20 },
        SourceFact::Ready { size_gib: 60 },
        SourceFact::NotReady,
        SourceFact::Missing,
    ]);
    let disks = several(disk(), |disk| disk.id.clone());
    let known = proptest::option::weighted(0.4, id("d"));
    let namesake = proptest::option::weighted(0.1, id("d"));
    (key_fact(), source, disks, known, creation(), refusal(), namesake).prop_map(
        |(key, source, disks, known, creation, refusal, namesake)| Observed {
            key,
            source,
            disks,
            known,
            creation,
            refusal,
            namesake,
        },
    )
}
