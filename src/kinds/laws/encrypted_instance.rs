//! Random wishes and worlds of an EncryptedInstance.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::json;

use super::super::encrypted_instance::decide::{
    Desired, Disk, DiskWish, ImageFact, Instance, InstanceState, KeyChoice, Observed, UserDataFact, Wanted,
};
use super::super::encrypted_instance::{EncryptedInstance, promise};
use super::{Subject, Wish, creation, id, key_fact, object, protection, refusal, several};
use crate::decision::key::KeyFact;

pub(super) fn subject() -> Subject<EncryptedInstance> {
    let spec = json!({
        "region": "cn-a", "zoneId": "cn-a-b", "instanceType": "ecs.g7.large", "key": { "id": "key-a" },
        "image": { "imageId": "m-1" }, "systemDisk": { "sizeGiB": 40 },
        "network": { "vSwitchId": "vsw-1", "securityGroupIds": ["sg-1"] },
    });
    Subject {
        object: object(spec),
        with_status: |object, status| EncryptedInstance { status: Some(status), ..object.clone() },
        desired: desired().boxed(),
        observed: observed().boxed(),
        holds: promise::holds,
        wish: |desired| match desired {
            Desired::Absent { .. } => Wish::Absent,
            Desired::Present(wanted) if wanted.suspend || !wanted.manage => Wish::Resting,
            Desired::Present(_) => Wish::Managed,
        },
        // An instance that was accepted and never Ready may be made anew: the zone had no stock for it.
        occupied: |observed| {
            !observed.instances.is_empty()
                || observed.hidden.is_some()
                || (observed.known.is_some() && observed.born)
        },
        key: |observed| observed.keys.get("key-a").unwrap_or(&KeyFact::Unasked),
    }
}

fn desired() -> impl Strategy<Value = Desired> {
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    let wanted = (proptest::option::weighted(0.2, id("i")), proptest::option::of(id("name")), flags)
        .prop_map(|(adopt, instance_name, (protect, running, manage, suspend))| Wanted {
            region: "cn-a".into(),
            zone_id: "cn-a-b".into(),
            key: KeyChoice { text: "key-a".into(), service: false },
            system: DiskWish { size_gib: 40, ..DiskWish::default() },
            instance_name,
            adopt,
            protect,
            running,
            manage,
            suspend,
            ..Wanted::default()
        });
    let absent =
        (any::<bool>(), any::<bool>()).prop_map(|(delete, protect)| Desired::Absent { delete, protect });
    prop_oneof![4 => wanted.prop_map(|wanted| Desired::Present(Box::new(wanted))), 1 => absent]
}

fn disk() -> impl Strategy<Value = Disk> {
    let key = proptest::option::of(Just("key-a".to_owned()));
    (id("d"), any::<bool>(), protection(), key).prop_map(|(id, system, protection, key_id)| Disk {
        id,
        system,
        name: None,
        protection,
        key_id,
    })
}

fn instance() -> impl Strategy<Value = Instance> {
    let state = select(vec![
        InstanceState::Pending,
        InstanceState::Starting,
        InstanceState::Running,
        InstanceState::Stopping,
        InstanceState::Stopped,
        InstanceState::Unknown,
    ]);
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    let disks = several(disk(), |disk| disk.id.clone());
    let tags = proptest::collection::vec(Just(("team".to_owned(), "shop".to_owned())), 0..2);
    let resource = (id("i"), state, disks, tags, flags);
    resource.prop_map(|(id, state, disks, tags_amiss, (own, protected, named, in_zone))| Instance {
        id,
        state,
        disks,
        own,
        protected,
        named,
        tags_amiss,
        in_zone,
        status: "Running".into(),
        private_ips: Vec::new(),
        drift: BTreeSet::new(),
    })
}

fn observed() -> impl Strategy<Value = Observed> {
    let image = select(vec![
        ImageFact::Unasked,
        ImageFact::Ready { id: "m-1".into(), size_gib: 20 },
        ImageFact::Ready { id: "m-1".into(), size_gib: 60 },
        ImageFact::NotReady,
        ImageFact::Missing,
        ImageFact::PlainData,
    ]);
    let user_data = select(vec![
        UserDataFact::Unasked,
        UserDataFact::Ready { version: "1".into(), replayable: true },
        UserDataFact::Ready { version: "2".into(), replayable: false },
        UserDataFact::Missing,
        UserDataFact::TooLarge,
    ]);
    let instances = several(instance(), |instance| instance.id.clone());
    let ids = (
        proptest::option::weighted(0.1, id("d")),
        proptest::option::weighted(0.4, id("i")),
        proptest::option::weighted(0.1, id("i")),
    );
    let rest = (creation(), refusal(), any::<bool>(), any::<bool>());
    (key_fact(), image, user_data, instances, ids, rest).prop_map(
        |(key, image, user_data, instances, (hidden, known, namesake), rest)| {
            let (creation, refusal, born, missed) = rest;
            Observed {
                keys: BTreeMap::from([("key-a".to_owned(), key)]),
                image,
                user_data,
                instances,
                hidden,
                known,
                born,
                missed,
                creation,
                refusal,
                namesake,
                repointed: BTreeSet::new(),
            }
        },
    )
}
