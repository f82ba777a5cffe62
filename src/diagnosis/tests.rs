//! What shares a cause and what does not, by examples; and what holds for all clusters, by random ones.

use super::*;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

const ACCOUNT: &str = "Account";
const HOLDER: &str = "Holder";

fn id(kind: &str, name: &str) -> Id {
    let namespace = (![ACCOUNT, HOLDER].contains(&kind)).then(|| "ns".to_owned());
    Id { kind: kind.to_owned(), namespace, name: name.to_owned() }
}

/// An object that was looked at and is not Ready for this reason.
fn object(kind: &str, name: &str, reason: &str) -> Object {
    let ready = if reason == "Available" { Truth::True } else { Truth::False };
    Object {
        id: id(kind, name),
        looked_at: true,
        ready,
        stalled: false,
        reason: reason.to_owned(),
        message: format!("{reason} of {name}."),
        alarms: Vec::new(),
        concerns: Vec::new(),
        forsaken: false,
        is_account: kind == ACCOUNT,
        region: Some("cn-a".to_owned()),
        account: None,
        needs: Vec::new(),
        keys: Vec::new(),
        held_by: None,
        denied: None,
        code: None,
    }
}

fn kinds() -> BTreeSet<String> {
    ["Disk", "Image", ACCOUNT, HOLDER].into_iter().map(str::to_owned).collect()
}

fn diagnose(objects: Vec<Object>) -> Diagnosis {
    Diagnosis::new(objects, kinds())
}

/// Each group as its cause and the names of its members.
fn told(diagnosis: &Diagnosis) -> Vec<(Cause, Vec<&str>)> {
    let names =
        |group: &Group| group.members.iter().map(|place| &*diagnosis.objects()[*place].id.name).collect();
    diagnosis.groups().iter().map(|group| (group.cause.clone(), names(group))).collect()
}

fn outside(reason: &str, account: Option<Id>, region: Option<&str>, subject: Subject) -> Cause {
    Cause::Outside { reason: reason.to_owned(), account, region: region.map(str::to_owned), subject }
}

#[test]
fn objects_follow_their_account_and_an_object_behind_an_object_follows_on() {
    let in_prod = |kind: &str, name: &str, reason: &str| Object {
        account: Some(id(ACCOUNT, "prod")),
        ..object(kind, name, reason)
    };
    let waiting = Object { needs: vec![id("Image", "web")], ..object("Disk", "d", "DependencyNotReady") };
    let diagnosis = diagnose(vec![
        object(ACCOUNT, "prod", "CredentialsInvalid"),
        in_prod("Disk", "a", "CredentialsInvalid"),
        in_prod("Disk", "b", "DependencyNotReady"),
        in_prod("Image", "web", "CredentialsInvalid"),
        // Its own trouble, whatever the account's is.
        in_prod("Disk", "c", "InvalidSpec"),
        waiting,
    ]);
    let prod = Cause::Object(id(ACCOUNT, "prod"));
    let own = Cause::Object(id("Disk", "c"));
    assert_eq!(told(&diagnosis), [(prod, vec!["prod", "a", "b", "d", "web"]), (own, vec!["c"])]);
    let place = diagnosis.find(&id("Disk", "d")).expect("it is there");
    let way: Vec<_> =
        diagnosis.chain(place).steps.iter().map(|step| &*diagnosis.objects()[*step].id.name).collect();
    assert_eq!(way, ["d", "web", "prod"]);
}

#[test]
fn what_a_revocation_holds_is_its_own_group_although_the_revocation_is_well() {
    let held = |name: &str| Object {
        keys: vec!["key-a".to_owned()],
        held_by: Some(id(HOLDER, "inc")),
        ..object("Disk", name, "KeyRevoked")
    };
    let unknown = Object { held_by: None, ..held("z") };
    let mut holder = object(HOLDER, "inc", "Revoked");
    holder.ready = Truth::True;
    let diagnosis = diagnose(vec![held("a"), held("b"), unknown, holder.clone()]);
    let key = outside("KeyRevoked", None, Some("cn-a"), Subject::Key("key-a".to_owned()));
    assert_eq!(
        told(&diagnosis),
        [(Cause::Object(id(HOLDER, "inc")), vec!["a", "b"]), (key.clone(), vec!["z"])]
    );
    let group = &diagnosis.groups()[0];
    assert_eq!((group.urgency, diagnosis.mover(group)), (Urgency::Needs, Mover::Outside));
    // An alarm comes first of all, takes what it holds along, and is told although Ready is True.
    holder.alarms = vec!["JournalBroken".to_owned()];
    let diagnosis = diagnose(vec![held("a"), object("Disk", "c", "NotEncrypted"), holder]);
    assert_eq!(told(&diagnosis)[0], (Cause::Object(id(HOLDER, "inc")), vec!["a", "inc"]));
    assert_eq!(diagnosis.groups()[0].urgency, Urgency::Alarm);
}

#[test]
fn what_lies_outside_of_objects_is_one_cause_for_as_many_as_have_it_in_common() {
    let under = |name: &str, reason: &str, key: &str, region: &str| Object {
        keys: vec![key.to_owned()],
        region: Some(region.to_owned()),
        ..object("Disk", name, reason)
    };
    let denied = |name: &str, action: &str| Object {
        denied: Some(action.to_owned()),
        ..object("Disk", name, "AccessDenied")
    };
    let elsewhere = Object { account: Some(id(ACCOUNT, "other")), ..denied("r", "ecs:CreateDisk") };
    let diagnosis = diagnose(vec![
        under("a", "KeyDisabled", "key-a", "cn-a"),
        under("b", "KeyDisabled", "key-a", "cn-a"),
        under("c", "KeyDisabled", "key-a", "cn-b"),
        under("d", "KeyPendingDeletion", "key-a", "cn-a"),
        denied("p", "ecs:CreateDisk"),
        denied("q", "ecs:CreateDisk"),
        elsewhere,
        denied("s", "kms:DescribeKey"),
    ]);
    let key = |reason, region| outside(reason, None, Some(region), Subject::Key("key-a".to_owned()));
    let action =
        |account, action: &str| outside("AccessDenied", account, None, Subject::Action(action.to_owned()));
    let told = told(&diagnosis);
    assert_eq!(told[0], (key("KeyPendingDeletion", "cn-a"), vec!["d"]), "what loses data comes first");
    let rest: BTreeMap<_, _> = told.into_iter().collect();
    assert_eq!(rest[&key("KeyDisabled", "cn-a")], ["a", "b"]);
    assert_eq!(rest[&key("KeyDisabled", "cn-b")], ["c"]);
    assert_eq!(rest[&action(None, "ecs:CreateDisk")], ["p", "q"]);
    assert_eq!(rest[&action(Some(id(ACCOUNT, "other")), "ecs:CreateDisk")], ["r"]);
    assert_eq!(rest[&action(None, "kms:DescribeKey")], ["s"]);
}

#[test]
fn of_several_keys_the_one_counts_that_the_message_names() {
    let mut two = object("Disk", "a", "KeyDisabled");
    two.keys = vec!["key-a".to_owned(), "key-b".to_owned()];
    let cause = |object: &Object| diagnose(vec![object.clone()]).groups()[0].cause.clone();
    assert_eq!(cause(&two), Cause::Object(id("Disk", "a")), "nobody can say which");
    two.message = "Key key-b is disabled.".to_owned();
    assert_eq!(cause(&two), outside("KeyDisabled", None, Some("cn-a"), Subject::Key("key-b".to_owned())));
}

#[test]
fn what_is_named_and_not_there_is_a_cause_and_what_could_not_be_read_is_not_called_absent() {
    let waiting =
        |name: &str| Object { needs: vec![id("Image", "web")], ..object("Disk", name, "DependencyNotReady") };
    let absent = diagnose(vec![waiting("a"), waiting("b")]);
    assert_eq!(told(&absent), [(Cause::Absent(id("Image", "web")), vec!["a", "b"])]);
    assert_eq!(absent.groups()[0].urgency, Urgency::Needs);
    let unread = Diagnosis::new(vec![waiting("a")], ["Disk".to_owned()].into());
    assert_eq!(told(&unread), [(Cause::Unread(id("Image", "web")), vec!["a"])]);
    assert_eq!(unread.groups()[0].urgency, Urgency::Working);
    let there = diagnose(vec![waiting("a"), object("Image", "web", "Available")]);
    assert_eq!(told(&there).len(), 1, "it is Ready by now: the next look shows it");
    assert_eq!(there.groups()[0].urgency, Urgency::Working);
    let mut account = object("Disk", "a", "AccountNotFound");
    account.account = Some(id(ACCOUNT, "gone"));
    assert_eq!(told(&diagnose(vec![account])), [(Cause::Absent(id(ACCOUNT, "gone")), vec!["a"])]);
}

#[test]
fn a_circle_has_one_cause_from_wherever_it_is_entered() {
    let waiting = |kind: &str, name: &str, on: Id| Object {
        needs: vec![on],
        ..object(kind, name, "DependencyNotReady")
    };
    let diagnosis = diagnose(vec![
        waiting("Image", "x", id("Disk", "y")),
        waiting("Disk", "y", id("Image", "x")),
        waiting("Disk", "outer", id("Image", "x")),
        waiting("Disk", "self", id("Disk", "self")),
    ]);
    let told = told(&diagnosis);
    assert_eq!(told[0], (Cause::Circle(id("Disk", "y")), vec!["outer", "y", "x"]));
    assert_eq!(told[1], (Cause::Circle(id("Disk", "self")), vec!["self"]));
    assert!(
        diagnosis.groups().iter().all(|group| group.urgency == Urgency::Needs),
        "no circle ends by itself"
    );
}

#[test]
fn what_nobody_has_looked_at_what_is_under_way_and_what_rests_are_told_apart() {
    let unseen = Object { looked_at: false, ..object("Disk", "a", "Available") };
    let diagnosis = diagnose(vec![
        unseen,
        object("Disk", "b", "Creating"),
        object("Disk", "c", "Creating"),
        object("Disk", "d", "Suspended"),
        object("Disk", "e", "CutoverPending"),
        object("Disk", "f", "Available"),
        Object { stalled: true, ..object("Disk", "g", "OfTomorrow") },
        object("Disk", "h", "OfTomorrow"),
    ]);
    let urgencies: Vec<_> =
        diagnosis.groups().iter().map(|group| (group.urgency, group.members.len())).collect();
    use Urgency::{Needs, Suspended, Unseen, Working};
    assert_eq!(urgencies, [(Needs, 1), (Needs, 1), (Unseen, 1), (Working, 2), (Working, 1), (Suspended, 1)]);
    let counts = diagnosis.counts();
    let disks = Counts { total: 8, ready: 1, working: 3, needs: 2, suspended: 1, unseen: 1 };
    assert_eq!((counts["Disk"], counts["Image"]), (disks, Counts::default()));
}

#[test]
fn a_suspended_account_suspends_its_objects_and_needs_nobody() {
    let disk = Object { account: Some(id(ACCOUNT, "prod")), ..object("Disk", "a", "Suspended") };
    let diagnosis = diagnose(vec![disk, object(ACCOUNT, "prod", "Suspended")]);
    assert_eq!(told(&diagnosis).len(), 1);
    assert_eq!(diagnosis.groups()[0].cause, Cause::Object(id(ACCOUNT, "prod")));
    assert_eq!(diagnosis.groups()[0].urgency, Urgency::Suspended);
}

fn concern(reason: &str) -> Concern {
    Concern { reason: reason.to_owned(), words: format!("Condition: {reason}") }
}

#[test]
fn what_is_amiss_beside_ready_needs_somebody_and_is_told_once() {
    let ready = |kind: &str, reason: &str, amiss: &str| Object {
        ready: Truth::True,
        concerns: vec![concern(amiss)],
        ..object(kind, "prod", reason)
    };
    let audit = ready("Image", "Scanned", "ExemptionExpired");
    let account = ready(ACCOUNT, "Available", "EcsRoleMissing");
    let blocked = Object { account: Some(id(ACCOUNT, "prod")), ..object("Disk", "a", "EcsRoleMissing") };
    let other = Object { account: Some(id(ACCOUNT, "prod")), ..object("Disk", "b", "Creating") };
    // Ready tells enough where it is not True.
    let working = Object { concerns: vec![concern("NotVerified")], ..object("Disk", "c", "Creating") };
    let diagnosis = diagnose(vec![audit, account, blocked, other, working]);
    let told = told(&diagnosis);
    assert_eq!(told[0], (Cause::Object(id(ACCOUNT, "prod")), vec!["prod", "a"]));
    assert_eq!(told[1], (Cause::Object(id("Image", "prod")), vec!["prod"]));
    assert_eq!(told[2].1, ["b", "c"]);
    let groups = diagnosis.groups();
    let movers = groups.iter().map(|group| (group.urgency, diagnosis.mover(group)));
    let (needs, working) = (Urgency::Needs, Urgency::Working);
    let expected = [(needs, Mover::Outside), (needs, Mover::Object), (working, Mover::Time)];
    assert_eq!(movers.collect::<Vec<_>>(), expected);
    assert_eq!((diagnosis.counts()["Image"].ready, diagnosis.counts()["Image"].needs), (0, 1));
    // Of equally urgent causes the one comes first that lays data open, by its condition too.
    let open = ready("Image", "Scanned", "NotEncrypted");
    let diagnosis = diagnose(vec![object(ACCOUNT, "a", "CredentialsInvalid"), open]);
    assert_eq!(diagnosis.groups()[0].cause, Cause::Object(id("Image", "prod")));
}

#[test]
fn what_nobody_will_look_at_needs_somebody() {
    let forsaken = |kind: &str, name: &str, reason: &str, looked_at| Object {
        forsaken: true,
        looked_at,
        ..object(kind, name, reason)
    };
    let behind =
        Object { needs: vec![id("Image", "b")], ..forsaken("Disk", "d", "DependencyNotReady", true) };
    let diagnosis = diagnose(vec![
        forsaken("Disk", "a", "Available", false),
        forsaken("Image", "b", "Creating", true),
        forsaken("Disk", "c", "Suspended", true),
        forsaken("Disk", "e", "Available", true),
        behind,
        Object { looked_at: false, ..object("Disk", "new", "Available") },
    ]);
    assert_eq!(told(&diagnosis)[..2], [(Cause::Forsaken, vec!["a", "d", "b"]), (Cause::Unseen, vec!["new"])]);
    let group = &diagnosis.groups()[0];
    assert_eq!((group.urgency, diagnosis.mover(group)), (Urgency::Needs, Mover::Outside));
}

/// Any cluster of a few objects that name one another at random.
fn clusters() -> impl Strategy<Value = Vec<Object>> {
    let ids: Vec<Id> = ["Disk", "Image", ACCOUNT, HOLDER]
        .into_iter()
        .flat_map(|kind| ["a", "b", "c"].map(|name| id(kind, name)))
        .collect();
    let reasons: Vec<String> = Reason::ALL
        .iter()
        .map(|reason| reason.as_str().to_owned())
        .chain(["OfTomorrow".to_owned()])
        .collect();
    let concerns: Vec<Concern> = Reason::ALL.iter().map(|reason| concern(reason.as_str())).collect();
    let weighted = prop_oneof![3 => select(reasons), 2 => Just("DependencyNotReady".to_owned()), 1 => Just("KeyRevoked".to_owned())];
    let names = ids.clone();
    let one = (
        (weighted, any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>()),
        proptest::option::of(select(vec![id(ACCOUNT, "a"), id(ACCOUNT, "b"), id(ACCOUNT, "gone")])),
        proptest::option::of(select(vec![id(HOLDER, "a"), id(HOLDER, "b")])),
        subsequence(names, 0..4),
        subsequence(vec!["key-a".to_owned(), "key-b".to_owned()], 0..=2),
        proptest::option::of(select(concerns)),
    );
    let objects = proptest::collection::vec(one, ids.len());
    objects.prop_flat_map(move |parts| {
        let all: Vec<Object> = ids
            .iter()
            .zip(parts)
            .map(
                |(
                    id,
                    (
                        (reason, ready, looked_at, stalled, alarmed, forsaken),
                        account,
                        held_by,
                        needs,
                        keys,
                        concern,
                    ),
                )| {
                    Object {
                        id: id.clone(),
                        looked_at,
                        ready: if ready { Truth::True } else { Truth::False },
                        stalled,
                        alarms: (alarmed && id.kind == HOLDER)
                            .then(|| "Alarm".to_owned())
                            .into_iter()
                            .collect(),
                        concerns: concern.into_iter().collect(),
                        forsaken,
                        account,
                        held_by,
                        needs,
                        keys,
                        ..object(&id.kind, &id.name, &reason)
                    }
                },
            )
            .collect();
        let most = all.len();
        subsequence(all, 0..=most).prop_shuffle()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Every object that is not as promised is in exactly one group, no group is without one, and each is in the group of its chain.
    #[test]
    fn groups_are_a_partition_of_what_is_not_as_promised(objects in clusters()) {
        let diagnosis = diagnose(objects);
        let groups = diagnosis.groups();
        let mut members: Vec<usize> = groups.iter().flat_map(|group| group.members.clone()).collect();
        members.sort_unstable();
        let troubled: Vec<usize> = (0..diagnosis.objects().len())
            .filter(|place| diagnosis.objects()[*place].is_troubled())
            .collect();
        prop_assert_eq!(members, troubled);
        for group in &groups {
            prop_assert!(!group.members.is_empty() && group.speaker < diagnosis.objects().len());
            prop_assert!(group.members.is_sorted());
            for place in &group.members {
                prop_assert_eq!(&diagnosis.chain(*place).cause, &group.cause);
            }
            // What needs somebody says so, and what moves by itself or rests is never called urgent.
            let mover = diagnosis.mover(group);
            if group.urgency <= Urgency::Needs {
                prop_assert!(mover != Mover::Nobody, "{group:?}");
            }
        }
        let causes: BTreeSet<&Cause> = groups.iter().map(|group| &group.cause).collect();
        prop_assert_eq!(causes.len(), groups.len(), "a cause stands twice");
        prop_assert!(groups.is_sorted_by_key(|group| group.urgency), "the most urgent first");
        let needy = diagnosis.objects().iter().any(|object| object.state() == State::Needs);
        let told = groups.iter().any(|group| group.urgency <= Urgency::Needs);
        prop_assert!(!needy || told, "somebody must move, and nobody is told so");
    }

    /// The order in which the cluster lists its objects changes nothing.
    #[test]
    fn the_outcome_does_not_depend_on_the_order_of_the_objects(objects in clusters()) {
        let forward = diagnose(objects.clone());
        let backward = diagnose(objects.into_iter().rev().collect());
        prop_assert_eq!(forward.groups(), backward.groups());
    }

    /// No chain is longer than there are objects, none visits one twice, and following it leads to its cause.
    #[test]
    fn every_chain_ends(objects in clusters()) {
        let diagnosis = diagnose(objects);
        for place in 0..diagnosis.objects().len() {
            let chain = diagnosis.chain(place);
            let visited: BTreeSet<_> = chain.steps.iter().collect();
            prop_assert_eq!(visited.len(), chain.steps.len());
            prop_assert_eq!(chain.steps[0], place);
            for step in &chain.steps {
                prop_assert_eq!(&diagnosis.chain(*step).cause, &chain.cause);
            }
        }
    }
}
