//! Laws that every kind must satisfy, checked on random wishes and random worlds, also on such as can never be.
//!
//! `decide`, `promise` and `report` are total and pure, so nothing here needs a cloud. What each kind's values look like stands
//! in `laws/<kind>.rs`; a kind of the registry that has no values here fails the last test.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::TestRunner;

use super::encrypted_disk::EncryptedDiskStatus;
use super::encrypted_disk::decide::{DiskEffect, Role};
use super::{
    CloudAccount, EncryptedDisk, EncryptedImage, EncryptedInstance, EncryptionAudit, KeyRevocation, Visitor,
};
use crate::decision::creation::{Claim, Creation, Intent};
use crate::decision::key::{KeyFact, Protection};
use crate::decision::{Decision, Effect, Machine, Reason, Take};
use crate::kind::{Dependency, DesiredOf, EffectOf, Kind, KindStatus, ObservedOf, Owner, accounts};

mod cloud_account;
mod encrypted_disk;
mod encrypted_image;
mod encrypted_instance;
mod encryption_audit;
mod key_revocation;

/// What the laws must know of a kind.
struct Subject<K: Kind> {
    /// An object, to report on.
    object: K,
    /// Puts a status into the object.
    with_status: fn(&K, K::Status) -> K,
    desired: BoxedStrategy<DesiredOf<K>>,
    observed: BoxedStrategy<ObservedOf<K>>,
    /// The kind's promise.
    holds: fn(&DesiredOf<K>, &ObservedOf<K>) -> bool,
    /// What the wish says of itself.
    wish: fn(&DesiredOf<K>) -> Wish,
    /// True if a resource of the object is there, or was.
    occupied: fn(&ObservedOf<K>) -> bool,
    key: fn(&ObservedOf<K>) -> &KeyFact,
}

/// What the laws must know of a wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    /// The resource should exist and the operator may work on it.
    Managed,
    /// The object is suspended, or only observes.
    Resting,
    /// The object is being deleted.
    Absent,
}

type Decider<K> = fn(&DesiredOf<K>, &ObservedOf<K>) -> Decision<EffectOf<K>>;

/// The first law that the decider breaks, with the smallest case that was found.
fn broken_law<K: Kind>(subject: &Subject<K>, decide: Decider<K>) -> Option<String> {
    let config = ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() };
    let pairs = (subject.desired.clone(), subject.observed.clone());
    let result = TestRunner::new(config).run(&pairs, |(desired, observed)| {
        let decision = decide(&desired, &observed);
        prop_assert_eq!(&decision, &decide(&desired, &observed), "deterministic");
        may_decide(subject, &desired, &observed, &decision)?;
        is_well_told(subject, &desired, &observed, &decision)
    });
    let config = ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() };
    let ends = TestRunner::new(config)
        .run(&pairs, |(desired, observed)| comes_to_an_end(subject, &desired, &observed, decide));
    result.err().or(ends.err()).map(|error| error.to_string())
}

fn may_decide<K: Kind>(
    subject: &Subject<K>,
    desired: &DesiredOf<K>,
    observed: &ObservedOf<K>,
    decision: &Decision<EffectOf<K>>,
) -> Result<(), TestCaseError> {
    let settled = *decision == Decision::Settled;
    prop_assert!(!settled || (subject.holds)(desired, observed), "settled, but the promise does not hold");
    let Decision::Do(effect) = decision else { return Ok(()) };
    let wish = (subject.wish)(desired);
    prop_assert!(wish != Wish::Resting, "{} for an object at rest", effect.name());
    if effect.claim().is_some() {
        prop_assert!(wish == Wish::Managed, "a creation that nobody asked for");
        prop_assert!(!(subject.occupied)(observed), "a second resource");
        prop_assert!((subject.key)(observed).obstacle().is_none(), "a creation under an unusable key");
    }
    Ok(())
}

fn is_well_told<K: Kind>(
    subject: &Subject<K>,
    desired: &DesiredOf<K>,
    observed: &ObservedOf<K>,
    decision: &Decision<EffectOf<K>>,
) -> Result<(), TestCaseError> {
    let now = jiff::Timestamp::UNIX_EPOCH;
    let once = subject.object.report(desired, observed, decision, now);
    prop_assert!(once.message.ends_with('.'), "no sentence: {:?}", once.message);
    let names: BTreeSet<_> = once.facts.iter().map(|fact| fact.name).collect();
    prop_assert_eq!(names.len(), once.facts.len(), "a condition stands twice");
    let object = (subject.with_status)(&subject.object, once.status.clone());
    let twice = object.report(desired, observed, decision, now);
    prop_assert_eq!(once, twice, "a report of the same facts is another report");
    Ok(())
}

/// Every effect leads somewhere, nothing is foreseen for ever, and what changes the cloud is called by name.
fn comes_to_an_end<K: Kind>(
    subject: &Subject<K>,
    desired: &DesiredOf<K>,
    observed: &ObservedOf<K>,
    decide: Decider<K>,
) -> Result<(), TestCaseError> {
    let owner = Owner::of("cluster", &subject.object);
    let mut seen = observed.clone();
    for _ in 0..100 {
        let decision = decide(desired, &seen);
        let next = subject.object.foresee(desired, &seen, &decision);
        if let Decision::Do(effect) = &decision {
            prop_assert!(next.is_some(), "{} leads nowhere", effect.name());
            let calls = subject.object.calls(desired, &seen, &owner, effect);
            let is_written = effect.claim().is_some() || effect.records();
            prop_assert_eq!(calls.len(), usize::from(!is_written), "{} is one call", effect.name());
        }
        let Some(next) = next else { return Ok(()) };
        prop_assert!(next != seen, "what is foreseen is what was there");
        seen = next;
    }
    prop_assert!(false, "a forecast without an end: {seen:?}");
    Ok(())
}

/// The key in every state.
fn key_fact() -> impl Strategy<Value = KeyFact> {
    let usable = |service| KeyFact::Usable { id: "key-a".into(), service };
    let unusable = |reason| KeyFact::Unusable { id: "key-a".into(), reason };
    select(vec![
        usable(false),
        usable(true),
        unusable(Reason::KeyDisabled),
        unusable(Reason::KeyRevoked),
        unusable(Reason::EcsRoleMissing),
        KeyFact::Missing,
        KeyFact::Unasked,
    ])
}

/// The creation in every state, also in those that the protocol excludes.
fn creation() -> impl Strategy<Value = Creation> {
    let intent = (1..3u32, 1..4u32, 0..4u32, any::<bool>())
        .prop_map(|(attempt, sends, answered, accepted)| Intent { attempt, sends, answered, accepted });
    let claim = select(vec![Claim::None, Claim::Open, Claim::Accepted, Claim::Refused, Claim::Unclear]);
    (proptest::option::of(intent), claim, any::<bool>()).prop_map(|(intent, claim, aged)| Creation {
        intent,
        claim,
        aged,
    })
}

/// Encryption in every state.
fn protection() -> impl Strategy<Value = Protection> {
    select(vec![Protection::Exact, Protection::Unproven, Protection::OtherKey, Protection::Plain])
}

/// One of two ids, so that coincidences are common.
fn id(prefix: &'static str) -> impl Strategy<Value = String> {
    (1..3u8).prop_map(move |number| format!("{prefix}-{number}"))
}

/// Up to two resources; no id stands twice, because the cloud gives none twice.
fn several<T: Clone + Debug + Ord + 'static>(
    one: impl Strategy<Value = T> + 'static,
    id: fn(&T) -> String,
) -> impl Strategy<Value = BTreeSet<T>> {
    proptest::collection::vec(one, 0..3).prop_map(move |list| {
        let by_id: BTreeMap<String, T> = list.into_iter().map(|item| (id(&item), item)).collect();
        by_id.into_values().collect()
    })
}

/// A refusal that stands, or none.
fn refusal() -> impl Strategy<Value = Option<Reason>> {
    proptest::option::weighted(0.2, select(vec![Reason::RequestRefused, Reason::InvalidSpec]))
}

/// An object of the kind as the API server would hold it.
fn object<K: Kind>(spec: serde_json::Value) -> K {
    let meta = K::crd();
    serde_json::from_value(serde_json::json!({
        "apiVersion": format!("{}/{}", meta.spec.group, meta.spec.versions[0].name),
        "kind": meta.spec.names.kind,
        "metadata": { "name": "one", "namespace": "team", "uid": "u-1", "generation": 1 },
        "spec": spec,
    }))
    .expect("a spec of the kind")
}

#[test]
fn disks_keep_the_laws() {
    let subject = encrypted_disk::subject();
    assert_eq!(broken_law(&subject, <EncryptedDisk as Kind>::Machine::decide), None);
}

#[test]
fn images_keep_the_laws() {
    let subject = encrypted_image::subject();
    assert_eq!(broken_law(&subject, <EncryptedImage as Kind>::Machine::decide), None);
}

#[test]
fn instances_keep_the_laws() {
    let subject = encrypted_instance::subject();
    assert_eq!(broken_law(&subject, <EncryptedInstance as Kind>::Machine::decide), None);
}

#[test]
fn audits_keep_the_laws() {
    let subject = encryption_audit::subject();
    assert_eq!(broken_law(&subject, <EncryptionAudit as Kind>::Machine::decide), None);
}

#[test]
fn accounts_keep_the_laws() {
    let subject = cloud_account::subject();
    assert_eq!(broken_law(&subject, <CloudAccount as Kind>::Machine::decide), None);
}

#[test]
fn deciders_that_break_a_law_are_noticed() {
    let subject = encrypted_disk::subject();
    let eager: Decider<EncryptedDisk> =
        |_, _| Decision::Do(DiskEffect::Claim(Role::Disk, Take::Record { attempt: 1 }));
    assert!(broken_law(&subject, eager).is_some());
    let content: Decider<EncryptedDisk> = |_, _| Decision::Settled;
    assert!(broken_law(&subject, content).is_some_and(|law| law.contains("promise")));
}

#[test]
fn every_kind_of_the_registry_is_under_the_laws() {
    let name = |kind: std::borrow::Cow<'_, str>| kind.into_owned();
    let under_law = vec![
        name(<EncryptedImage as kube::Resource>::kind(&())),
        name(<EncryptedDisk as kube::Resource>::kind(&())),
        name(<EncryptedInstance as kube::Resource>::kind(&())),
        // Creates nothing and switches instead, so its laws are its own.
        name(<KeyRevocation as kube::Resource>::kind(&())),
        name(<EncryptionAudit as kube::Resource>::kind(&())),
        name(<CloudAccount as kube::Resource>::kind(&())),
    ];
    assert_eq!(registered(), under_law);
}

/// The names of all kinds.
fn registered() -> Vec<String> {
    struct Names(Vec<String>);
    impl Visitor for Names {
        fn visit<K: Kind>(&mut self) {
            self.0.push(K::kind(&()).into_owned());
        }
    }
    let mut names = Names(Vec::new());
    super::visit(&mut names);
    names.0
}

#[test]
fn a_status_of_every_kind_begins_empty() {
    struct Empty;
    impl Visitor for Empty {
        fn visit<K: Kind>(&mut self) {
            let status = K::Status::default();
            assert!(status.shared().conditions.is_empty() && status.shared().intent.is_none());
            let text = serde_json::to_value(&status).expect("a status is JSON");
            let says_nothing = |value: &serde_json::Value| *value == serde_json::json!({});
            let empty = text.as_object().is_some_and(|fields| fields.values().all(says_nothing));
            assert!(empty, "{}: {text}", K::kind(&()));
        }
    }
    super::visit(&mut Empty);
}

#[test]
fn what_an_object_stands_on_is_of_the_registry_and_pinned_once_it_is_known() {
    let key = |id: &str| Dependency::Key { region: "cn-a".into(), id: id.into() };
    let disk = serde_json::json!({ "region": "cn-a", "zoneId": "cn-a-b", "key": { "alias": "alias/a" },
        "attachment": { "instanceRef": { "name": "web" } } });
    let mut disk: EncryptedDisk = object(disk);
    let instance = Dependency::object("EncryptedInstance", "web");
    assert_eq!(disk.depends_on(), [key("alias/a"), instance.clone()]);
    disk.status =
        Some(EncryptedDiskStatus { key_id: Some("key-a".into()), ..EncryptedDiskStatus::default() });
    assert_eq!(disk.depends_on(), [key("key-a"), instance]);
    let web = serde_json::json!({ "region": "cn-a", "zoneId": "cn-a-b", "instanceType": "t", "key": { "id": "key-a" },
        "image": { "imageRef": { "name": "web" } }, "network": { "vSwitchId": "vsw-1", "securityGroupIds": ["sg-1"] },
        "systemDisk": { "sizeGiB": 40, "key": { "alias": "alias/b" } },
        "dataDisks": [{ "name": "d", "sizeGiB": 20, "key": { "id": "key-a" } }] });
    let web: EncryptedInstance = object(web);
    let image = Dependency::object("EncryptedImage", "web");
    assert_eq!(web.depends_on(), [key("key-a"), key("alias/b"), image]);
    for kind in ["EncryptedInstance", "EncryptedImage", accounts::KIND] {
        assert!(registered().iter().any(|name| name == kind), "{kind}");
    }
}
