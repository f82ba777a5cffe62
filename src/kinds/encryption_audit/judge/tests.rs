//! Each reason, each way out, and that nothing is counted twice or passes because it is not known.

use proptest::prelude::*;
use proptest::sample::select;

use super::*;

const NOW: i64 = 1_000;

fn under(key: &str) -> Storage {
    Storage { encrypted: true, key: Some(key.to_owned()), ..Storage::default() }
}

fn plain() -> Storage {
    Storage::default()
}

fn keys() -> BTreeMap<String, KeyClass> {
    [
        ("customer", KeyClass::Customer),
        ("other", KeyClass::Customer),
        ("service", KeyClass::Service),
        ("held", KeyClass::Held),
        ("disabled", KeyClass::Unusable(Reason::KeyDisabled)),
        ("doomed", KeyClass::Unusable(Reason::KeyPendingDeletion)),
        ("hollow", KeyClass::Unusable(Reason::KeyPendingImport)),
        ("gone", KeyClass::Missing),
        ("denied", KeyClass::Unknown),
    ]
    .map(|(name, class)| (name.to_owned(), class))
    .into()
}

fn strict() -> Policy {
    Policy { customer_key: true, account_default: true, ..Policy::default() }
}

fn facts(disks: &[(&str, Storage)]) -> Facts {
    let disks = disks.iter().map(|(id, disk)| ((*id).to_owned(), disk.clone())).collect();
    Facts { region: "cn-a".into(), disks, keys: keys(), ..Facts::default() }
}

fn on(instance: &str, disk: Storage) -> Storage {
    Storage { instances: [instance.to_owned()].into(), ..disk }
}

fn let_off(id: &str, expires_at: i64) -> Exemption {
    Exemption { target: Target::Resource(id.to_owned()), expires_at }
}

#[track_caller]
fn reason_of(policy: &Policy, disk: Storage) -> Option<Reason> {
    let judgement = region(policy, &facts(&[("d-1", disk)]), NOW);
    assert_eq!(judgement.found as usize, judgement.findings.len());
    judgement.findings.first().map(|finding| finding.reason)
}

#[test]
fn a_disk_is_judged_by_whether_and_under_what_it_is_encrypted() {
    let lenient = Policy { customer_key: false, ..strict() };
    let listed = Policy { allowed: ["customer".to_owned()].into(), ..strict() };
    let local = Storage { local: true, ..plain() };
    let hidden = Storage { key: None, ..under("x") };
    use Reason::*;
    for (disk, strictly, leniently, by_list) in [
        (plain(), Some(NotEncrypted), Some(NotEncrypted), Some(NotEncrypted)),
        (local, Some(EncryptionUnsupported), Some(EncryptionUnsupported), Some(EncryptionUnsupported)),
        (under("customer"), None, None, None),
        (under("other"), None, None, Some(KeyMismatch)),
        (under("service"), Some(ServiceKey), None, Some(ServiceKey)),
        (under("held"), None, None, Some(KeyMismatch)),
        (under("disabled"), Some(KeyDisabled), Some(KeyDisabled), Some(KeyDisabled)),
        (under("doomed"), Some(KeyPendingDeletion), Some(KeyPendingDeletion), Some(KeyPendingDeletion)),
        (under("hollow"), Some(KeyPendingImport), Some(KeyPendingImport), Some(KeyPendingImport)),
        (under("gone"), Some(KeyNotFound), Some(KeyNotFound), Some(KeyNotFound)),
        (under("denied"), Some(KeyUnknown), Some(KeyUnknown), Some(KeyUnknown)),
        (under("never-read"), Some(KeyUnknown), Some(KeyUnknown), Some(KeyUnknown)),
        (hidden, Some(KeyUnknown), Some(KeyUnknown), Some(KeyUnknown)),
    ] {
        assert_eq!(reason_of(&strict(), disk.clone()), strictly, "{disk:?}");
        assert_eq!(reason_of(&lenient, disk.clone()), leniently, "{disk:?}");
        assert_eq!(reason_of(&listed, disk.clone()), by_list, "{disk:?}");
    }
    let service = Policy { allowed: ["customer".to_owned()].into(), customer_key: false, ..strict() };
    assert_eq!(reason_of(&service, under("service")), Some(KeyMismatch));
}

#[test]
fn an_instance_is_one_finding_that_names_its_disks_and_totals_count_each_disk_once() {
    let disks = [
        ("d-1", on("i-1", plain())),
        ("d-2", on("i-1", under("service"))),
        ("d-3", on("i-1", under("customer"))),
        ("d-4", on("i-2", under("customer"))),
        ("d-5", plain()),
    ];
    let judgement = region(&strict(), &facts(&disks), NOW).keep(100);
    let shown: Vec<_> = judgement
        .findings
        .iter()
        .map(|finding| (finding.sort, finding.id.as_str(), finding.reason, finding.parts.join(",")))
        .collect();
    assert_eq!(
        shown,
        [
            (Sort::Disk, "d-5", Reason::NotEncrypted, String::new()),
            (Sort::Instance, "i-1", Reason::NotEncrypted, "d-1,d-2".to_owned()),
        ]
    );
    let disks = &judgement.sorts[&Sort::Disk];
    assert_eq!((disks.total, disks.unencrypted, disks.service_key, disks.customer_key), (5, 2, 1, 2));
    assert_eq!(disks.violations, 3);
    let instances = &judgement.sorts[&Sort::Instance];
    assert_eq!((instances.total, instances.unencrypted, instances.customer_key), (2, 1, 1));
    assert_eq!(disks.coverage_percent(), Some(60));
    assert_eq!(disks.revocable_percent(), Some(40));
}

#[test]
fn a_disk_under_a_volume_is_told_to_its_team_even_while_it_is_attached() {
    let mut facts = facts(&[("d-1", on("i-1", plain())), ("d-2", under("customer"))]);
    facts.namespaces = [("d-1", "team"), ("d-2", "team")].map(|(a, b)| (a.to_owned(), b.to_owned())).into();
    let judgement = region(&strict(), &facts, NOW);
    let told = judgement.findings.iter().find(|finding| finding.sort == Sort::Disk).expect("a finding");
    assert_eq!((told.namespace.as_deref(), told.instance.as_deref()), (Some("team"), Some("i-1")));
    let tally = &judgement.namespaces["team"];
    assert_eq!((tally.total, tally.unencrypted, tally.violations), (2, 1, 1));
    assert_eq!(judgement.sorts[&Sort::Disk].total, 2);
}

#[test]
fn an_image_is_as_good_as_the_worst_of_its_snapshots() {
    let mut facts = facts(&[]);
    facts.snapshots = [("s-plain", plain()), ("s-good", under("customer")), ("s-denied", under("denied"))]
        .map(|(id, snapshot)| (id.to_owned(), snapshot))
        .into();
    let image = |snapshots: &[&str]| ImageFact {
        snapshots: snapshots.iter().map(|id| Some((*id).to_owned()).filter(|id| !id.is_empty())).collect(),
        ..ImageFact::default()
    };
    let pending = ImageFact { unfinished: true, ..ImageFact::default() };
    facts.images = [
        ("m-good", image(&["s-good"])),
        ("m-half", image(&["s-good", "s-plain"])),
        ("m-denied", image(&["s-good", "s-denied"])),
        ("m-hidden", image(&["s-good", "s-elsewhere"])),
        ("m-blank", image(&["s-good", ""])),
        ("m-none", image(&[])),
        ("m-copying", pending),
    ]
    .map(|(id, image)| (id.to_owned(), image))
    .into();
    let judgement = region(&strict(), &facts, NOW).keep(100);
    let images = judgement.findings.iter().filter(|finding| finding.sort == Sort::Image);
    let shown: Vec<_> = images.map(|finding| (finding.id.as_str(), finding.reason)).collect();
    assert_eq!(
        shown,
        [
            ("m-half", Reason::NotEncrypted),
            ("m-blank", Reason::KeyUnknown),
            ("m-denied", Reason::KeyUnknown),
            ("m-hidden", Reason::KeyUnknown),
            ("m-none", Reason::KeyUnknown),
        ]
    );
    let tally = &judgement.sorts[&Sort::Image];
    assert_eq!((tally.total, tally.customer_key, tally.unencrypted, tally.unknown), (6, 1, 1, 4));
}

#[test]
fn an_exemption_goes_by_id_or_tag_covers_what_belongs_to_it_and_ends() {
    let tagged = |storage: Storage| Storage { tags: [("audit".into(), "off".into())].into(), ..storage };
    let by_tag = |value: &str| Exemption {
        target: Target::Tag("audit".into(), value.to_owned()),
        expires_at: NOW + 1,
    };
    let with = |exemptions: Vec<Exemption>| Policy { exemptions, ..strict() };
    for (policy, disk, expected) in [
        (with(vec![let_off("d-1", NOW + 1)]), plain(), None),
        (with(vec![let_off("d-2", NOW + 1)]), plain(), Some(Reason::NotEncrypted)),
        (with(vec![let_off("d-1", NOW)]), plain(), Some(Reason::ExemptionExpired)),
        (with(vec![let_off("d-1", NOW), let_off("d-1", NOW + 1)]), plain(), None),
        (with(vec![let_off("d-1", NOW)]), under("customer"), None),
        (with(vec![by_tag("off")]), tagged(plain()), None),
        (with(vec![by_tag("on")]), tagged(plain()), Some(Reason::NotEncrypted)),
        (with(vec![by_tag("off")]), plain(), Some(Reason::NotEncrypted)),
        (with(vec![let_off("i-1", NOW + 1)]), on("i-1", plain()), None),
        (with(vec![let_off("i-1", NOW)]), on("i-1", plain()), Some(Reason::ExemptionExpired)),
    ] {
        assert_eq!(reason_of(&policy, disk), expected, "{policy:?}");
    }
    let judgement = region(&with(vec![let_off("i-1", NOW + 1)]), &facts(&[("d-1", on("i-1", plain()))]), NOW);
    for sort in [Sort::Disk, Sort::Instance] {
        let tally = &judgement.sorts[&sort];
        assert_eq!(
            (tally.exempt, tally.violations, tally.unencrypted),
            (1, 0, 1),
            "{sort:?} stays unencrypted"
        );
    }
    let expired = region(&with(vec![let_off("d-1", NOW)]), &facts(&[("d-1", plain())]), NOW);
    assert_eq!(expired.findings[0].behind, Reason::NotEncrypted);
}

#[test]
fn an_instance_that_is_not_shown_is_not_let_off_by_its_tag() {
    let exemption = Exemption { target: Target::Tag("audit".into(), "off".into()), expires_at: NOW + 1 };
    let policy = Policy { exemptions: vec![exemption], ..strict() };
    let mut facts = facts(&[("d-1", on("i-1", plain()))]);
    assert_eq!(region(&policy, &facts, NOW).found, 1);
    facts.instances = [("i-1".to_owned(), [("audit".to_owned(), "off".to_owned())].into())].into();
    assert_eq!(region(&policy, &facts, NOW).found, 0);
}

#[test]
fn a_disk_that_two_instances_share_is_told_with_both_and_let_off_with_both_only() {
    let shared = Storage { instances: ["i-1", "i-2"].map(str::to_owned).into(), ..plain() };
    let judged = |exemptions: Vec<Exemption>| {
        let policy = Policy { exemptions, ..strict() };
        region(&policy, &facts(&[("d-1", shared.clone()), ("d-2", on("i-2", under("customer")))]), NOW)
    };
    let judgement = judged(Vec::new()).keep(100);
    let told: Vec<_> = judgement.findings.iter().map(|one| (one.id.as_str(), one.parts.join(","))).collect();
    assert_eq!(told, [("i-1", "d-1".to_owned()), ("i-2", "d-1".to_owned())]);
    assert_eq!((judgement.sorts[&Sort::Disk].total, judgement.sorts[&Sort::Disk].violations), (2, 1));
    assert_eq!(judged(vec![let_off("i-1", NOW + 1)]).found, 2, "the other one has it too");
    assert_eq!(judged(vec![let_off("i-1", NOW + 1), let_off("i-2", NOW + 1)]).found, 0);
    assert_eq!(judged(vec![let_off("d-1", NOW + 1)]).found, 0);
}

#[test]
fn what_may_be_let_off_by_something_that_was_not_read_is_neither_a_violation_nor_let_off() {
    let by_tag = Exemption { target: Target::Tag("audit".into(), "off".into()), expires_at: NOW + 1 };
    let ended = Exemption { expires_at: NOW, ..by_tag.clone() };
    let mut facts =
        facts(&[("d-1", on("i-1", plain())), ("d-2", plain()), ("d-3", on("i-3", under("customer")))]);
    facts.snapshots = [("s-1".to_owned(), plain())].into();
    (facts.images_unread, facts.instances_unread) = (true, true);
    let judged = |exemption: Exemption| {
        let policy = Policy { exemptions: vec![exemption], ..strict() };
        let judgement = region(&policy, &facts, NOW).keep(100);
        let found: Vec<String> = judgement.findings.iter().map(|finding| finding.id.clone()).collect();
        let open = judgement.sorts.values().map(|tally| tally.unencrypted - tally.violations).sum::<u32>();
        (found.join(" "), open, judgement.sorts.values().map(|tally| tally.exempt).sum::<u32>())
    };
    // A disk that no instance uses can be let off by its own tags only, and those were read.
    assert_eq!(judged(by_tag), ("d-2".to_owned(), 3, 0), "the attached disk, its instance and the snapshot");
    assert_eq!(judged(let_off("m-1", NOW + 1)), ("d-2 i-1".to_owned(), 1, 0), "only the snapshot");
    assert_eq!(judged(let_off("d-9", NOW + 1)).0, "d-2 i-1 s-1");
    assert_eq!(judged(ended), ("d-2 i-1 s-1".to_owned(), 0, 0), "what has ended lets nothing off");
}

#[test]
fn snapshots_are_let_off_with_their_images_if_all_of_these_are() {
    let mut facts = facts(&[]);
    facts.snapshots = [("s-1".to_owned(), plain())].into();
    let image = ImageFact { snapshots: vec![Some("s-1".to_owned())], ..ImageFact::default() };
    facts.images = [("m-1".to_owned(), image.clone()), ("m-2".to_owned(), image)].into();
    let found = |exemptions: Vec<Exemption>| region(&Policy { exemptions, ..strict() }, &facts, NOW).found;
    assert_eq!(found(vec![let_off("m-1", NOW + 1), let_off("m-2", NOW + 1)]), 0);
    assert_eq!(found(vec![let_off("s-1", NOW + 1)]), 0);
    assert_eq!(found(vec![let_off("m-1", NOW + 1)]), 2, "the snapshot is told with both of them");
    assert_eq!(found(Vec::new()), 2);
}

#[test]
fn the_default_of_a_region_is_judged_unless_it_has_none_or_nobody_asks() {
    let reason = |policy: &Policy, default: Option<DefaultFact>| {
        let facts = Facts { default, ..facts(&[]) };
        let judgement = region(policy, &facts, NOW);
        let counted = judgement.sorts.get(&Sort::AccountDefault).map_or(0, |tally| tally.total);
        (counted, judgement.findings.first().map(|finding| finding.reason))
    };
    let lenient = Policy { customer_key: false, ..strict() };
    let silent = Policy { account_default: false, ..strict() };
    let on = |key: &str| Some(DefaultFact::On(Some(key.to_owned())));
    assert_eq!(reason(&strict(), Some(DefaultFact::Off)), (1, Some(Reason::DefaultOff)));
    assert_eq!(reason(&strict(), on("service")), (1, Some(Reason::ServiceKey)));
    assert_eq!(reason(&lenient, on("service")), (1, None));
    assert_eq!(reason(&strict(), on("customer")), (1, None));
    assert_eq!(reason(&strict(), on("denied")), (1, Some(Reason::KeyUnknown)));
    assert_eq!(reason(&strict(), Some(DefaultFact::On(None))), (1, Some(Reason::KeyUnknown)));
    assert_eq!(reason(&strict(), Some(DefaultFact::Unavailable)), (0, None));
    assert_eq!(reason(&strict(), None), (0, None));
    assert_eq!(reason(&silent, Some(DefaultFact::Off)), (0, None));
    let exempt = Policy { exemptions: vec![let_off("cn-a", NOW + 1)], ..strict() };
    assert_eq!(reason(&exempt, Some(DefaultFact::Off)), (1, None));
}

#[test]
fn a_class_is_judged_by_what_it_gives_to_its_driver() {
    let lenient = Policy { customer_key: false, ..strict() };
    let listed = Policy { allowed: ["customer".to_owned()].into(), ..lenient.clone() };
    let reason = |policy: &Policy, parameters: &[(&str, &str)]| {
        let parameters = parameters.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        let mut judgement = Judgement::default();
        storage_class(policy, "fast", &parameters, &keys(), NOW, &mut judgement);
        judgement.findings.first().map(|finding| finding.reason)
    };
    for parameters in
        [&[][..], &[("encrypted", "false")], &[("encrypted", "yes")], &[("kmsKeyId", "customer")]]
    {
        assert_eq!(reason(&lenient, parameters), Some(Reason::NotEncrypted), "{parameters:?}");
    }
    let without_key = [("encrypted", "true")];
    assert_eq!(reason(&strict(), &without_key), Some(Reason::ServiceKey));
    assert_eq!(reason(&lenient, &without_key), None);
    assert_eq!(reason(&listed, &without_key), Some(Reason::ServiceKey));
    let with_key = |key| [("encrypted", "true"), ("kmsKeyId", key)];
    assert_eq!(reason(&strict(), &with_key("customer")), None);
    assert_eq!(reason(&strict(), &with_key("service")), Some(Reason::ServiceKey));
    assert_eq!(reason(&strict(), &with_key("elsewhere")), Some(Reason::KeyUnknown));
    assert_eq!(reason(&listed, &with_key("other")), Some(Reason::KeyMismatch));
    assert_eq!(reason(&strict(), &with_key("")), Some(Reason::ServiceKey));
}

#[test]
fn the_worst_comes_first_and_the_rest_is_counted() {
    let disks: Vec<(String, Storage)> = (0..150)
        .map(|number| (format!("d-{number:03}"), if number == 140 { plain() } else { under("service") }))
        .collect();
    let disks: Vec<_> = disks.iter().map(|(id, disk)| (id.as_str(), disk.clone())).collect();
    let judgement = region(&strict(), &facts(&disks), NOW).keep(100);
    assert_eq!((judgement.found, judgement.findings.len()), (150, 100));
    assert_eq!((judgement.findings[0].id.as_str(), judgement.findings[1].id.as_str()), ("d-140", "d-000"));
}

/// A storage in any state.
fn storage() -> impl Strategy<Value = Storage> {
    let key = select(vec!["customer", "service", "held", "disabled", "gone", "denied", "unread"]);
    let instances = proptest::collection::btree_set(select(vec!["i-1".to_owned(), "i-2".to_owned()]), 0..3);
    (any::<bool>(), proptest::option::of(key), any::<bool>(), instances).prop_map(
        |(encrypted, key, local, instances)| Storage {
            encrypted,
            key: key.map(str::to_owned),
            local,
            instances,
            tags: Tags::new(),
        },
    )
}

fn world() -> impl Strategy<Value = Facts> {
    let storages = |prefix: &'static str| {
        proptest::collection::btree_map((0..8u8).prop_map(move |n| format!("{prefix}-{n}")), storage(), 0..8)
    };
    let image = proptest::collection::vec((0..10u8).prop_map(|n| Some(format!("s-{n}"))), 0..3);
    let images = proptest::collection::btree_map((0..4u8).prop_map(|n| format!("m-{n}")), image, 0..4);
    (storages("d"), storages("s"), images).prop_map(|(disks, snapshots, images)| Facts {
        region: "cn-a".into(),
        disks,
        snapshots,
        images: images
            .into_iter()
            .map(|(id, snapshots)| (id, ImageFact { snapshots, ..ImageFact::default() }))
            .collect(),
        keys: keys(),
        namespaces: [("d-1".to_owned(), "team".to_owned()), ("d-2".to_owned(), "other".to_owned())].into(),
        ..Facts::default()
    })
}

fn policy() -> impl Strategy<Value = Policy> {
    let exempted = proptest::option::of((select(vec!["d-1", "i-1", "m-1", "s-1"]), -1..2i64));
    (any::<bool>(), any::<bool>(), exempted).prop_map(|(customer_key, listed, exempted)| Policy {
        customer_key,
        allowed: if listed { ["customer".to_owned()].into() } else { BTreeSet::new() },
        exemptions: exempted.into_iter().map(|(id, after)| let_off(id, NOW + after)).collect(),
        account_default: true,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn in_every_world_counts_add_up_and_what_is_not_known_or_plain_never_passes(
        policy in policy(), facts in world()
    ) {
        let judgement = region(&policy, &facts, NOW);
        prop_assert_eq!(&judgement, &region(&policy, &facts, NOW), "the same world is the same judgement");
        for (sort, tally) in &judgement.sorts {
            let parts = tally.customer_key + tally.service_key + tally.unencrypted + tally.unknown;
            prop_assert_eq!(tally.total, parts, "{:?}", sort);
            prop_assert!(tally.violations + tally.exempt >= tally.unencrypted + tally.unknown, "{:?}", sort);
            prop_assert!(tally.violations + tally.exempt <= tally.total, "{:?}", sort);
        }
        let total = |sort| judgement.sorts.get(&sort).map_or(0, |tally: &Tally| tally.total as usize);
        prop_assert_eq!(total(Sort::Disk), facts.disks.len());
        prop_assert_eq!(total(Sort::Snapshot), facts.snapshots.len());
        prop_assert_eq!(total(Sort::Image), facts.images.len());
        // Every violation is told: by itself, or by the instance or image that it belongs to.
        for (sort, whole) in [(Sort::Disk, Sort::Instance), (Sort::Snapshot, Sort::Image)] {
            let named = judgement.findings.iter().flat_map(|finding| match finding.sort {
                found if found == sort => vec![&finding.id],
                found if found == whole => finding.parts.iter().collect(),
                _ => Vec::new(),
            });
            let there = |id: &&String| facts.disks.contains_key(*id) || facts.snapshots.contains_key(*id);
            let named: BTreeSet<&String> = named.filter(there).collect();
            let violations = judgement.sorts.get(&sort).map_or(0, |tally| tally.violations as usize);
            prop_assert_eq!(named.len(), violations, "{:?}", sort);
        }
        let namespaces: u32 = judgement.namespaces.values().map(|tally| tally.total).sum();
        let volumes = facts.namespaces.keys().filter(|disk| facts.disks.contains_key(*disk)).count();
        prop_assert_eq!(namespaces as usize, volumes);
    }

    #[test]
    fn a_world_in_which_less_is_known_has_no_fewer_violations(policy in policy(), facts in world()) {
        let violations = |facts: &Facts| -> u32 {
            let judgement = region(&policy, facts, NOW);
            judgement.sorts.values().map(|tally| tally.violations + tally.exempt).sum()
        };
        let blind = Facts { keys: BTreeMap::new(), ..facts.clone() };
        prop_assert!(violations(&blind) >= violations(&facts));
    }
}
