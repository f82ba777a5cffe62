//! What status says of a step, of the stops and of the checks.

use serde_json::json;

use super::super::api::KeyRevocation;
use super::super::blast::{Blast, InstanceHit};
use super::super::decide::{KeyCheck, Probe, RevocationMachine, Switch};
use super::*;
use crate::decision::Machine;
use crate::decision::report::Truth;

const NOW: &str = "2026-01-01T00:00:05.000000Z";

fn object(status: KeyRevocationStatus) -> KeyRevocation {
    let spec = json!({"region": "cn-a", "keyId": "key-a", "desiredState": "Revoked",
        "reason": "a leaked credential", "requestedBy": "alice"});
    let mut object = KeyRevocation::new("one", serde_json::from_value(spec).expect("a spec"));
    object.metadata.uid = Some("u-1".into());
    object.status = Some(status);
    object
}

fn observed(stage: Stage, switch: Switch) -> Observed {
    Observed {
        switch,
        word: if switch == Switch::On { "Enabled" } else { "Disabled" }.into(),
        request_id: None,
        policies: None,
        key: KeyCheck::Customer,
        prior: (stage != Stage::Fresh).then_some(Switch::On),
        inherited: None,
        stage,
        inventory: Inventory::Unasked,
        self_lockout: false,
        evidence: Step::None,
        stops: Step::None,
        unasked: 0,
        starts: Starts::None,
        holder: None,
        unfinished: false,
        drill_over: false,
        aged: false,
        closed: false,
        deeds: Vec::new(),
        probe: None,
        journal_intact: true,
        published: true,
        report_namespace: None,
        farewell: false,
        asked_at: 1_767_225_600_000_000,
    }
}

fn list(instances: &[(&str, &str)]) -> Inventory {
    let hit = |(id, status): &(&str, &str)| {
        ((*id).to_owned(), InstanceHit { status: Some((*status).to_owned()), ..InstanceHit::default() })
    };
    Inventory::Done(Box::new(Blast { instances: instances.iter().map(hit).collect(), ..Blast::default() }))
}

fn told(wanted: &Wanted, observed: &Observed, status: KeyRevocationStatus) -> Report<KeyRevocationStatus> {
    let desired = Desired::Present(wanted.clone());
    let decision = RevocationMachine::decide(&desired, observed);
    report(&object(status), &desired, observed, &decision, NOW.parse().expect("a time"))
}

fn wanted(running: Running) -> Wanted {
    Wanted { goal: Goal::Revoked, running, ..Wanted::default() }
}

fn truth(report: &Report<KeyRevocationStatus>, name: &str) -> Option<Truth> {
    report.facts.iter().find(|fact| fact.name == name).map(|fact| fact.truth)
}

#[test]
fn the_record_holds_the_prior_state_and_what_is_going_to_be_stopped() {
    let seen = Observed {
        inventory: list(&[("i-1", "Running"), ("i-2", "Stopped")]),
        ..observed(Stage::Fresh, Switch::On)
    };
    let status = told(&wanted(Running::Stop), &seen, KeyRevocationStatus::default()).status;
    assert_eq!(status.prior_state.expect("a record").key_state, "Enabled");
    assert_eq!(status.stops.expect("stops").instances, ["i-1"], "a stopped instance was not stopped by us");
    let actions: Vec<_> = status.journal.iter().map(|entry| entry.action.as_str()).collect();
    assert_eq!(actions, ["RecordPriorState", "RecordStops"]);
    assert_eq!(status.timings.requested_at.expect("a time").0.as_microsecond(), seen.asked_at);
    assert!(status.timings.revoked_at.is_none());
}

#[test]
fn an_inherited_state_wins_over_the_one_that_another_revocation_made() {
    let inherited = Some(("earlier".to_owned(), Switch::On, "Enabled".to_owned()));
    let seen = Observed { inherited, ..observed(Stage::Fresh, Switch::Off) };
    let prior = told(&wanted(Running::Leave), &seen, KeyRevocationStatus::default()).status.prior_state;
    let prior = prior.expect("a record");
    assert_eq!((prior.key_state.as_str(), prior.inherited_from.as_deref()), ("Enabled", Some("earlier")));
}

#[test]
fn the_time_to_revoke_ends_with_the_accepted_call_and_is_not_moved_by_a_reassertion() {
    let first =
        told(&wanted(Running::Leave), &observed(Stage::Fresh, Switch::On), KeyRevocationStatus::default());
    let deed = Deed {
        at: 1_767_225_600_250_000,
        action: "DisableKey",
        target: "key-a".into(),
        request_id: Some("r-1".into()),
        result: "Accepted".into(),
        details: Vec::new(),
    };
    let seen = Observed { deeds: vec![deed], ..observed(Stage::Cutting, Switch::Off) };
    let cut = told(&wanted(Running::Leave), &seen, first.status);
    assert_eq!(cut.status.timings.time_to_revoke_ms, Some(250));
    assert_eq!(cut.status.phase, Some(Phase::Revoked));
    assert_eq!(truth(&cut, "Revoked"), Some(Truth::True));
    assert_eq!(truth(&cut, "Contained"), Some(Truth::Unknown), "nobody has looked yet");
    let reverted = told(&wanted(Running::Leave), &observed(Stage::Cut, Switch::On), cut.status.clone());
    assert_eq!((reverted.status.reverts, reverted.status.phase), (1, Some(Phase::Revoking)));
    assert_eq!(truth(&reverted, "RevocationReverted"), Some(Truth::True));
    assert_eq!(reverted.status.timings.revoked_at, cut.status.timings.revoked_at);
    let entries = journal::verify("u-1", &reverted.status.journal, None);
    assert_eq!(entries, Ok(()));
}

#[test]
fn revoked_and_contained_are_two_things() {
    let contained = |instances: &[(&str, &str)]| {
        let seen = Observed { inventory: list(instances), ..observed(Stage::Cut, Switch::Off) };
        let report = told(&wanted(Running::Leave), &seen, KeyRevocationStatus::default());
        (
            truth(&report, "Contained"),
            report.status.still_readable.expect("a list").count,
            report.status.phase,
        )
    };
    assert_eq!(contained(&[("i-1", "Running")]), (Some(Truth::False), 1, Some(Phase::Revoked)));
    assert_eq!(contained(&[("i-1", "Stopping")]), (Some(Truth::False), 1, Some(Phase::Revoked)));
    assert_eq!(contained(&[("i-1", "Stopped")]), (Some(Truth::True), 0, Some(Phase::Contained)));
}

#[test]
fn what_refused_to_stop_is_readable_and_not_to_be_started() {
    let stops = Stops {
        requested_at: MicroTime(NOW.parse().expect("a time")),
        answered: false,
        instances: vec!["i-1".into(), "i-2".into()],
        forced: Vec::new(),
        refused: Vec::new(),
        started: false,
    };
    let code = "InvalidParameter.KMSKeyId.CMKNotEnabled";
    let deed = Deed {
        at: AFTER,
        action: STOP,
        target: "2 instances".into(),
        request_id: None,
        result: "1 of 2 accepted".into(),
        details: vec![("i-1".into(), "Accepted".into()), ("i-2".into(), code.into())],
    };
    let seen = Observed {
        deeds: vec![deed],
        inventory: list(&[("i-1", "Stopping"), ("i-2", "Running")]),
        ..observed(Stage::Cut, Switch::Off)
    };
    let before = KeyRevocationStatus { stops: Some(stops), ..KeyRevocationStatus::default() };
    let status = told(&wanted(Running::Stop), &seen, before).status;
    let stops = status.stops.clone().expect("stops");
    assert_eq!((stops.instances, stops.answered), (vec!["i-1".to_owned()], true));
    let readable = status.still_readable.clone().expect("a list");
    assert_eq!(readable.instances[1].reason.as_deref(), Some(format!("refused to stop: {code}").as_str()));
    let Inventory::Done(blast) = &seen.inventory else { unreachable!("it is done") };
    assert_eq!(unasked(&status, blast, Running::Stop), 0, "it is not asked again in the same way");
    assert_eq!(unasked(&status, blast, Running::ForceStop), 1, "but it is by force");
}

#[test]
fn whatever_many_instances_refuse_to_stop_none_is_asked_again_and_again() {
    for count in [150, 5_200] {
        let names: Vec<String> = (0..count).map(|number| format!("i-{number:05}")).collect();
        let running: Vec<_> = names.iter().map(|name| (name.as_str(), "Running")).collect();
        let cut = || Observed { inventory: list(&running), ..observed(Stage::Cut, Switch::Off) };
        let due = Observed { unasked: count, ..cut() };
        let mut status = told(&wanted(Running::Stop), &due, KeyRevocationStatus::default()).status;
        let line = status.journal.last().expect("an entry");
        assert_eq!(line.action, "RecordStops");
        assert_eq!(
            line.result.contains("200 more than status can hold"),
            count > STOPS_MAX,
            "{}",
            line.result
        );
        let refused = status
            .stops
            .as_ref()
            .expect("stops")
            .instances
            .iter()
            .map(|id| (id.clone(), "NoPermission".into()));
        let details: Vec<_> = refused.collect();
        let deed = |details: Vec<(String, String)>| Deed {
            at: AFTER,
            action: STOP,
            target: format!("{} instances", details.len()),
            request_id: None,
            result: "0 accepted".into(),
            details,
        };
        let seen = Observed { deeds: vec![deed(details)], ..cut() };
        status = told(&wanted(Running::Stop), &seen, status).status;
        let stops = status.stops.clone().expect("stops");
        assert_eq!((stops.instances.len(), stops.refused.len()), (0, count.min(STOPS_MAX)));
        let Inventory::Done(blast) = &seen.inventory else { unreachable!("it is done") };
        assert_eq!(unasked(&status, blast, Running::Stop), 0, "the revocation comes to rest");
        assert_eq!(unasked(&status, blast, Running::ForceStop), count.min(STOPS_MAX));
        assert!(serde_json::to_vec(&status).expect("JSON").len() < 1_000_000);
        // By force, and accepted: they are to be started, and do not count as refused any more.
        let forced = Observed { unasked: 1, ..cut() };
        let stops = told(&wanted(Running::ForceStop), &forced, status).status.stops.expect("stops");
        assert_eq!((stops.forced.len(), stops.refused.len()), (count.min(STOPS_MAX), 0));
    }
}

#[test]
fn what_cannot_be_checked_never_counts_as_a_pass() {
    let verified = |probe: Option<Option<bool>>| {
        let probe = probe.map(|cut_off| Probe { instance: "i-1".into(), cut_off, word: "code".into() });
        let seen = Observed { probe, inventory: list(&[]), ..observed(Stage::Cut, Switch::Off) };
        let report = told(&wanted(Running::Leave), &seen, KeyRevocationStatus::default());
        (truth(&report, "Verified"), report.status.timings.verified_at.is_some())
    };
    assert_eq!(verified(None), (Some(Truth::True), true));
    assert_eq!(verified(Some(Some(true))), (Some(Truth::True), true));
    assert_eq!(verified(Some(None)), (Some(Truth::Unknown), false));
    assert_eq!(verified(Some(Some(false))), (Some(Truth::False), false));
}

#[test]
fn a_broken_journal_is_told_for_ever() {
    let seen = Observed { journal_intact: false, inventory: list(&[]), ..observed(Stage::Cut, Switch::Off) };
    let report = told(&wanted(Running::Leave), &seen, KeyRevocationStatus::default());
    assert_eq!(truth(&report, "JournalBroken"), Some(Truth::True));
}

#[test]
fn the_record_of_the_key_does_not_wait_for_machines_that_do_not_start() {
    let wanted = Wanted { goal: Goal::Restored, ..wanted(Running::Stop) };
    let seen = Observed { starts: Starts::Refused, ..observed(Stage::Restoring, Switch::On) };
    let status = told(&wanted, &seen, KeyRevocationStatus::default()).status;
    assert_eq!(status.phase, Some(Phase::Restored));
    assert!(status.timings.restored_at.is_some(), "what others do to the key from now on is theirs");
    let aged = Observed { stage: Stage::Restored, aged: true, ..seen };
    let status = told(&wanted, &aged, status).status;
    assert!(status.timings.closed_at.is_some(), "nor does the end of the record");
}

/// A moment after [`NOW`].
const AFTER: i64 = 1_767_225_606_000_000;

fn of_many(action: &'static str, at: i64, outcomes: &[(&str, &str)]) -> Deed {
    let details = outcomes.iter().map(|(id, outcome)| ((*id).to_owned(), (*outcome).to_owned())).collect();
    Deed { at, action, target: "some".into(), request_id: None, result: "told".into(), details }
}

#[test]
fn a_second_process_takes_no_evidence_away_and_forgets_no_machine_that_the_first_one_stopped() {
    let stops = json!({"requestedAt": NOW, "answered": false, "instances": ["i-1", "i-2"]});
    let before = KeyRevocationStatus {
        stops: Some(serde_json::from_value(stops).expect("stops")),
        ..KeyRevocationStatus::default()
    };
    let tell = |status: KeyRevocationStatus, deeds: Vec<Deed>| {
        told(&wanted(Running::Stop), &Observed { deeds, ..observed(Stage::Cutting, Switch::Off) }, status)
            .status
    };
    let first = || {
        vec![
            of_many(EVIDENCE, AFTER, &[("d-1", "s-1"), ("d-2", "s-2")]),
            of_many(STOP, AFTER + 1, &[("i-1", ACCEPTED), ("i-2", ACCEPTED)]),
        ]
    };
    let second = || {
        vec![
            of_many(EVIDENCE, AFTER + 2, &[("d-1", "Throttling"), ("d-2", "s-2")]),
            of_many(STOP, AFTER + 3, &[("i-1", "InvalidKms"), ("i-2", ACCEPTED)]),
        ]
    };
    for (one, other) in [(first(), second()), (second(), first())] {
        let status = tell(tell(before.clone(), one), other);
        let evidence = status.evidence.expect("evidence");
        assert_eq!((evidence.accepted, evidence.refused), (2, 0));
        let mut stops = status.stops.expect("stops");
        stops.instances.sort();
        assert_eq!((stops.instances, stops.refused.len()), (vec!["i-1".to_owned(), "i-2".to_owned()], 0));
    }
}

#[test]
fn what_a_process_learned_of_an_earlier_round_says_nothing_of_the_next_one() {
    let stops = json!({"requestedAt": "2026-01-01T00:00:07.000000Z", "answered": false, "forced": ["i-1"]});
    let before = KeyRevocationStatus {
        stops: Some(serde_json::from_value(stops).expect("stops")),
        ..KeyRevocationStatus::default()
    };
    let deeds = vec![of_many(STOP, AFTER, &[("i-1", "DependencyViolation")])];
    let seen = Observed { deeds, ..observed(Stage::Cut, Switch::Off) };
    let stops = told(&wanted(Running::ForceStop), &seen, before.clone()).status.stops.expect("stops");
    assert_eq!((stops.answered, stops.forced, stops.refused.len()), (false, vec!["i-1".to_owned()], 0));
    // What may have stopped it all the same takes it back from what was refused to another process.
    let mut refused = before;
    refused.stops = Some(
        serde_json::from_value(json!({"requestedAt": NOW, "answered": true,
        "refused": [{"id": "i-1", "code": "DependencyViolation", "forced": false}]}))
        .expect("stops"),
    );
    let deeds = vec![of_many(STOP, AFTER, &[("i-1", "may stop: NotAnswered")])];
    let seen = Observed { deeds, ..observed(Stage::Cut, Switch::Off) };
    let stops = told(&wanted(Running::Stop), &seen, refused).status.stops.expect("stops");
    assert_eq!((stops.instances, stops.refused.len()), (vec!["i-1".to_owned()], 0));
}

#[test]
fn a_list_from_before_the_cut_contains_nothing() {
    let list = || list(&[("i-1", "Stopped")]);
    let cutting = Observed { inventory: list(), ..observed(Stage::Cutting, Switch::Off) };
    let report = told(&wanted(Running::Leave), &cutting, KeyRevocationStatus::default());
    assert_eq!(
        (report.status.phase, truth(&report, "Contained")),
        (Some(Phase::Revoked), Some(Truth::Unknown))
    );
    assert!(report.status.timings.contained_at.is_none());
    let seen = Observed { inventory: list(), ..observed(Stage::Cut, Switch::Off) };
    assert_eq!(told(&wanted(Running::Leave), &seen, report.status).status.phase, Some(Phase::Contained));
}

#[test]
fn the_checks_of_the_cut_are_not_made_again_of_a_key_that_is_to_return() {
    let revoked =
        told(&wanted(Running::Leave), &observed(Stage::Cut, Switch::Off), KeyRevocationStatus::default());
    let passed = revoked.status.verification.clone();
    assert_eq!(passed[0].result, VerificationResult::Pass);
    let wanted = Wanted { goal: Goal::Restored, ..wanted(Running::Leave) };
    let status = told(&wanted, &observed(Stage::Cut, Switch::On), revoked.status).status;
    assert_eq!(status.verification, passed, "it was on already, which is no failure of the cut");
}
