//! Random wishes and worlds of an EncryptedImage.

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::json;

use super::super::encrypted_image::decide::{
    Amendment, Copy, CopyState, Desired, Observed, SourceFact, Wanted,
};
use super::super::encrypted_image::{EncryptedImage, promise};
use super::{Subject, Wish, creation, id, key_fact, object, protection, refusal, several};

pub(super) fn subject() -> Subject<EncryptedImage> {
    let spec = json!({ "region": "cn-a", "source": { "imageId": "m-1" }, "key": { "id": "key-a" } });
    Subject {
        object: object(spec),
        with_status: |object, status| EncryptedImage { status: Some(status), ..object.clone() },
        desired: desired().boxed(),
        observed: observed().boxed(),
        holds: promise::holds,
        wish: |desired| match desired {
            Desired::Absent { .. } => Wish::Absent,
            Desired::Present(wanted) if wanted.suspend || !wanted.manage => Wish::Resting,
            Desired::Present(_) => Wish::Managed,
        },
        occupied: |observed| !observed.copies.is_empty() || observed.known.is_some(),
        key: |observed| &observed.key,
    }
}

fn desired() -> impl Strategy<Value = Desired> {
    let adopt = proptest::option::weighted(0.2, id("m"));
    let wanted = (adopt, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(adopt, service_key, manage, suspend)| Wanted {
            region: "cn-a".into(),
            source_image_id: "m-1".into(),
            copy_timeout_seconds: 7_200,
            key: "key-a".into(),
            service_key,
            adopt,
            manage,
            suspend,
            ..Wanted::default()
        },
    );
    let absent = (any::<bool>(), any::<bool>()).prop_map(|(delete_image, delete_snapshots)| {
        Desired::Absent { manage: true, delete_image, delete_snapshots }
    });
    prop_oneof![4 => wanted.prop_map(Desired::Present), 1 => absent]
}

fn copy() -> impl Strategy<Value = Copy> {
    let state = select(vec![CopyState::Copying, CopyState::Available, CopyState::Failed, CopyState::Unknown]);
    let snapshots = proptest::collection::vec(
        (id("s"), any::<bool>(), proptest::option::of(Just("key-a".to_owned()))),
        0..3,
    );
    let progress = proptest::option::of(0..=100u8);
    let name = proptest::option::weighted(0.2, id("name"));
    let tags = proptest::collection::vec(Just(("team".to_owned(), "shop".to_owned())), 0..2);
    let amendment = (name, tags).prop_map(|(name, tags)| Amendment { name, description: None, tags });
    let drift = proptest::collection::btree_set(
        Just(("spec.resourceGroupId".to_owned(), "rg-1".to_owned(), "rg-2".to_owned())),
        0..2,
    );
    (id("m"), state, protection(), any::<bool>(), progress, snapshots, (amendment, drift)).prop_map(
        |(id, state, protection, own, progress, snapshots, (amendment, drift))| Copy {
            id,
            state,
            protection,
            own,
            amendment,
            status: "Available".into(),
            progress,
            size_gib: 40,
            snapshots,
            drift,
        },
    )
}

fn observed() -> impl Strategy<Value = Observed> {
    let source = select(vec![
        SourceFact::Unasked,
        SourceFact::Ready,
        SourceFact::NotReady,
        SourceFact::Missing,
        SourceFact::Unusable,
        SourceFact::TooLarge { size_gib: 600 },
    ]);
    let copies = several(copy(), |copy| copy.id.clone());
    let known = proptest::option::weighted(0.4, id("m"));
    let namesake = proptest::option::weighted(0.1, id("m"));
    let leftover = proptest::collection::btree_set(id("s"), 0..2);
    let world = (key_fact(), source, copies, known, creation());
    let repointed = proptest::option::weighted(0.2, Just("key-b".to_owned()));
    let rest = (refusal(), namesake, repointed, 0..3u32, any::<bool>(), leftover);
    (world, rest).prop_map(|((key, source, copies, known, creation), rest)| {
        let (refusal, namesake, repointed, queued_behind, timed_out, leftover_snapshots) = rest;
        Observed {
            key,
            source,
            copies,
            known,
            creation,
            refusal,
            namesake,
            repointed,
            queued_behind,
            timed_out,
            leftover_snapshots,
            unwritten_snapshots: false,
        }
    })
}
