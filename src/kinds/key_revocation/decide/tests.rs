//! The table of sentences that a KeyRevocation's decisions must satisfy.

use super::super::blast::{Blast, InstanceHit};
use super::*;

fn wanted(goal: Goal) -> Wanted {
    Wanted { goal, ..Wanted::default() }
}

fn fresh() -> Observed {
    Observed {
        switch: Switch::On,
        word: "Enabled".into(),
        request_id: None,
        policies: None,
        key: KeyCheck::Customer,
        prior: None,
        inherited: None,
        stage: Stage::Fresh,
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
        asked_at: 0,
    }
}

fn recorded(stage: Stage, prior: Switch, switch: Switch) -> Observed {
    Observed { stage, prior: Some(prior), switch, ..fresh() }
}

fn list(instances: usize) -> Inventory {
    let instance = |number: usize| {
        let hit = InstanceHit { status: Some("Running".into()), ..InstanceHit::default() };
        (format!("i-{number}"), hit)
    };
    Inventory::Done(Box::new(Blast { instances: (0..instances).map(instance).collect(), ..Blast::default() }))
}

#[track_caller]
fn check(wanted: Wanted, observed: Observed, expected: Decision<RevocationEffect>) {
    assert_eq!(RevocationMachine::decide(&Desired::Present(wanted), &observed), expected);
}

const REVOKED: Goal = Goal::Revoked;

#[test]
fn a_declared_end_lets_the_cut_come_first_unless_something_holds_it_back() {
    let declared = || Wanted { declared: true, ..wanted(REVOKED) };
    let unasked = || Observed { switch: Switch::Unasked, ..fresh() };
    check(declared(), unasked(), Decision::Do(RevocationEffect::Cut));
    check(declared(), fresh(), Decision::Do(RevocationEffect::Record));
    check(wanted(REVOKED), unasked(), Decision::Do(RevocationEffect::Record));
    let approvals = Wanted { approvals_missing: 1, ..declared() };
    check(approvals, unasked(), Decision::Blocked(Reason::ApprovalMissing));
    let own = Observed { self_lockout: true, ..unasked() };
    check(declared(), own, Decision::Blocked(Reason::SelfLockout));
    for held in [
        Wanted { evidence: true, ..declared() },
        Wanted { running: Running::Stop, ..declared() },
        Wanted { max_affected: Some(9), ..declared() },
    ] {
        assert!(!promise::cuts_at_once(&held));
        check(held, unasked(), Decision::wait_seconds(Reason::Planning));
    }
}

#[test]
fn a_cut_that_came_is_recorded_whatever_would_have_held_it_back() {
    let cut = |result: &str| Deed {
        at: 1,
        action: "DetachPolicyFromRole",
        target: ECS_GRANT.into(),
        request_id: None,
        result: result.into(),
        details: Vec::new(),
    };
    let wanted = Wanted { declared: true, lever: Lever::Role, ..wanted(REVOKED) };
    for found in [
        Observed { key: KeyCheck::Missing, ..fresh() },
        Observed { key: KeyCheck::Service, ..fresh() },
        Observed { self_lockout: true, ..fresh() },
    ] {
        let done = Observed { deeds: vec![cut("Accepted")], switch: Switch::Off, ..found.clone() };
        check(wanted.clone(), done, Decision::Do(RevocationEffect::Record));
        let refused = Observed { deeds: vec![cut("NoPermission")], ..found };
        let decision = RevocationMachine::decide(&Desired::Present(wanted.clone()), &refused);
        assert!(matches!(decision, Decision::Blocked(_)), "{decision:?}");
    }
}

#[test]
fn a_plan_changes_nothing_whatever_is_seen() {
    for switch in [Switch::On, Switch::Off, Switch::Deletion, Switch::Import, Switch::Unknown] {
        for inventory in [Inventory::Unasked, Inventory::Running, Inventory::Late, list(3)] {
            let observed = Observed { switch, inventory, ..fresh() };
            let decision = RevocationMachine::decide(&Desired::Present(wanted(Goal::Planned)), &observed);
            assert!(!matches!(decision, Decision::Do(_)), "{decision:?}");
        }
    }
    check(wanted(Goal::Planned), Observed { inventory: list(3), ..fresh() }, Decision::Settled);
}

#[test]
fn the_prior_state_is_recorded_before_the_cut_and_nothing_else_is_waited_for() {
    check(wanted(REVOKED), fresh(), Decision::Do(RevocationEffect::Record));
    let cutting = recorded(Stage::Cutting, Switch::On, Switch::On);
    check(wanted(REVOKED), cutting, Decision::Do(RevocationEffect::Cut));
}

#[test]
fn a_key_that_is_off_already_is_recorded_so_and_not_switched() {
    for switch in [Switch::Off, Switch::Deletion, Switch::Import] {
        let observed = Observed { switch, ..fresh() };
        check(wanted(REVOKED), observed, Decision::Do(RevocationEffect::Record));
        let observed = Observed { inventory: list(0), ..recorded(Stage::Cutting, switch, switch) };
        check(wanted(REVOKED), observed.clone(), Decision::wait_seconds(Reason::Planning));
        check(wanted(REVOKED), Observed { stage: Stage::Cut, ..observed }, Decision::Settled);
    }
}

#[test]
fn an_undocumented_state_is_switched_off_rather_than_left() {
    check(
        wanted(REVOKED),
        recorded(Stage::Cutting, Switch::Unknown, Switch::Unknown),
        Decision::Do(RevocationEffect::Cut),
    );
}

#[test]
fn what_cannot_be_revoked_is_refused_before_anything_is_recorded() {
    for goal in [Goal::Planned, Goal::Revoked] {
        let service = Observed { key: KeyCheck::Service, ..fresh() };
        check(wanted(goal), service, Decision::Blocked(Reason::ServiceKeyNotRevocable));
        let missing = Observed { key: KeyCheck::Missing, switch: Switch::Missing, ..fresh() };
        check(wanted(goal), missing, Decision::Blocked(Reason::KeyNotFound));
    }
}

#[test]
fn approvals_and_the_guard_hold_the_cut_back() {
    let unapproved = Wanted { approvals_missing: 1, ..wanted(REVOKED) };
    check(unapproved, fresh(), Decision::Blocked(Reason::ApprovalMissing));
    let own = || Observed { self_lockout: true, ..fresh() };
    check(wanted(REVOKED), own(), Decision::Blocked(Reason::SelfLockout));
    let allowed = Wanted { allow_self_lockout: true, ..wanted(REVOKED) };
    check(allowed, own(), Decision::Do(RevocationEffect::Record));
}

#[test]
fn a_limit_and_a_digest_hold_until_they_are_met_and_a_late_list_does_not_meet_them() {
    let limited = || Wanted { max_affected: Some(2), ..wanted(REVOKED) };
    let with = |inventory| Observed { inventory, ..fresh() };
    check(limited(), with(Inventory::Running), Decision::wait_seconds(Reason::Planning));
    check(limited(), with(Inventory::Late), Decision::wait_patient(Reason::InventoryIncomplete));
    check(limited(), with(list(3)), Decision::Blocked(Reason::TooManyAffected));
    check(limited(), with(list(2)), Decision::Do(RevocationEffect::Record));
    let partial = Blast { missing: vec!["instances: denied".into()], ..Blast::default() };
    check(
        limited(),
        with(Inventory::Done(Box::new(partial))),
        Decision::wait_patient(Reason::InventoryIncomplete),
    );
    let digest = |text: String| Wanted { digest: Some(text), ..wanted(REVOKED) };
    check(digest("ab".into()), with(list(2)), Decision::Blocked(Reason::DigestMismatch));
    let Inventory::Done(blast) = list(2) else { unreachable!("it is done") };
    check(digest(blast.digest()), with(list(2)), Decision::Do(RevocationEffect::Record));
}

#[test]
fn where_stopping_is_asked_a_late_list_does_not_hold_the_cut() {
    let stopping = || Wanted { running: Running::Stop, ..wanted(REVOKED) };
    let with = |inventory| Observed { inventory, ..fresh() };
    check(stopping(), with(Inventory::Running), Decision::wait_seconds(Reason::Planning));
    check(stopping(), with(Inventory::Late), Decision::Do(RevocationEffect::Record));
}

#[test]
fn evidence_comes_before_the_stops_and_the_stops_before_the_cut() {
    let all = || Wanted { running: Running::Stop, evidence: true, ..wanted(REVOKED) };
    let cutting = || recorded(Stage::Cutting, Switch::On, Switch::On);
    let with = |evidence, stops| Observed { evidence, stops, ..cutting() };
    check(all(), with(Step::Waiting, Step::Due), Decision::wait_seconds(Reason::Planning));
    check(all(), with(Step::Due, Step::Due), Decision::Do(RevocationEffect::TakeEvidence));
    check(all(), with(Step::Over, Step::Due), Decision::Do(RevocationEffect::Stop));
    check(all(), with(Step::Over, Step::Over), Decision::Do(RevocationEffect::Cut));
    let off = Observed { switch: Switch::Off, inventory: list(0), ..with(Step::Due, Step::Over) };
    // The list is from before the cut.
    check(all(), off, Decision::wait_seconds(Reason::Planning));
}

#[test]
fn a_key_that_somebody_enabled_is_counted_and_cut_again() {
    check(
        wanted(REVOKED),
        recorded(Stage::Cut, Switch::On, Switch::On),
        Decision::Do(RevocationEffect::Reassert),
    );
    check(
        wanted(REVOKED),
        recorded(Stage::Cutting, Switch::On, Switch::On),
        Decision::Do(RevocationEffect::Cut),
    );
}

#[test]
fn more_may_be_stopped_after_the_cut() {
    let stopping = || Wanted { running: Running::Stop, ..wanted(REVOKED) };
    let cut = || Observed { inventory: list(1), ..recorded(Stage::Cut, Switch::On, Switch::Off) };
    let unasked = Observed { unasked: 1, ..cut() };
    check(stopping(), unasked.clone(), Decision::Do(RevocationEffect::RecordStops));
    check(wanted(REVOKED), unasked, Decision::Settled);
    check(stopping(), Observed { stops: Step::Due, ..cut() }, Decision::Do(RevocationEffect::Stop));
}

#[test]
fn restoring_needs_a_record_and_begins_with_one() {
    let restored = || wanted(Goal::Restored);
    check(restored(), fresh(), Decision::Blocked(Reason::NothingToRestore));
    let cut = recorded(Stage::Cut, Switch::On, Switch::Off);
    check(restored(), cut, Decision::Do(RevocationEffect::BeginRestore));
    let begun = recorded(Stage::Restoring, Switch::On, Switch::Off);
    check(restored(), begun, Decision::Do(RevocationEffect::Return { on: true }));
    check(restored(), recorded(Stage::Restoring, Switch::On, Switch::On), Decision::Settled);
}

#[test]
fn a_key_that_was_off_before_is_off_afterwards_even_if_somebody_switched_it_on() {
    let restored = || wanted(Goal::Restored);
    check(restored(), recorded(Stage::Restoring, Switch::Off, Switch::Off), Decision::Settled);
    check(
        restored(),
        recorded(Stage::Restoring, Switch::Off, Switch::On),
        Decision::Do(RevocationEffect::Return { on: false }),
    );
}

#[test]
fn deletions_are_neither_cancelled_nor_scheduled() {
    let restored = || wanted(Goal::Restored);
    let begun = |prior, now| recorded(Stage::Restoring, prior, now);
    check(restored(), begun(Switch::Deletion, Switch::Deletion), Decision::Settled);
    check(restored(), begun(Switch::On, Switch::Deletion), Decision::Blocked(Reason::KeyPendingDeletion));
    for now in [Switch::On, Switch::Off] {
        check(restored(), begun(Switch::Deletion, now), Decision::Blocked(Reason::PriorStateUnreachable));
    }
}

#[test]
fn the_key_returns_with_the_last_revocation_only() {
    let held =
        Observed { holder: Some("other".into()), ..recorded(Stage::Restoring, Switch::On, Switch::Off) };
    check(wanted(Goal::Restored), held, Decision::wait_patient(Reason::OverlappingRevocation));
}

#[test]
fn instances_are_started_after_the_key_is_back() {
    let restored = || wanted(Goal::Restored);
    let with = |stage, starts| Observed { starts, ..recorded(stage, Switch::On, Switch::On) };
    for starts in [Starts::Due, Starts::Moving, Starts::Refused] {
        check(restored(), with(Stage::Restoring, starts), Decision::Do(RevocationEffect::EndRestore));
    }
    for closed in [false, true] {
        let with = |starts| Observed { closed, ..with(Stage::Restored, starts) };
        check(restored(), with(Starts::Due), Decision::Do(RevocationEffect::Start));
        check(restored(), with(Starts::Moving), Decision::wait_seconds(Reason::Restoring));
        check(restored(), with(Starts::Refused), Decision::wait_patient(Reason::InstancesNotStarted));
        check(restored(), with(Starts::None), Decision::Settled);
    }
    let closed = |starts| Observed { closed: true, ..with(Stage::Restored, starts) };
    let held = |starts| Observed { holder: Some("next".into()), ..closed(starts) };
    check(restored(), held(Starts::Due), Decision::wait_patient(Reason::OverlappingRevocation));
    check(restored(), held(Starts::None), Decision::Settled);
    let aged = Observed { aged: true, ..with(Stage::Restored, Starts::Refused) };
    check(restored(), aged, Decision::Do(RevocationEffect::EndRestore));
}

#[test]
fn a_late_cut_is_undone_for_a_minute_and_then_what_others_do_stays() {
    let restored = || wanted(Goal::Restored);
    let late = || recorded(Stage::Restored, Switch::On, Switch::Off);
    check(restored(), late(), Decision::Do(RevocationEffect::BeginRestore));
    let aged = || Observed { aged: true, ..late() };
    check(restored(), aged(), Decision::Blocked(Reason::SwitchedSinceRestored));
    check(restored(), Observed { switch: Switch::On, ..aged() }, Decision::Settled);
    check(restored(), Observed { closed: true, ..late() }, Decision::Settled);
}

#[test]
fn another_revocation_on_its_way_back_is_waited_for_and_not_taken_for_somebody_else() {
    let late = Observed { aged: true, ..recorded(Stage::Restored, Switch::On, Switch::Off) };
    let waits = Decision::wait_patient(Reason::OverlappingRevocation);
    check(wanted(Goal::Restored), Observed { unfinished: true, ..late.clone() }, waits);
    check(wanted(Goal::Restored), late, Decision::Blocked(Reason::SwitchedSinceRestored));
}

#[test]
fn a_drill_restores_itself_when_its_time_has_run() {
    let drill = || Wanted { drill: true, ..wanted(REVOKED) };
    let cut = || Observed { inventory: list(0), ..recorded(Stage::Cut, Switch::On, Switch::Off) };
    check(drill(), cut(), Decision::Settled);
    let over = Observed { drill_over: true, ..cut() };
    check(drill(), over.clone(), Decision::Do(RevocationEffect::BeginRestore));
    check(wanted(REVOKED), over, Decision::Settled);
}

#[test]
fn deleting_the_object_undoes_nothing_and_writes_the_last_entry() {
    let decide = |observed| RevocationMachine::decide(&Desired::Absent, &observed);
    let cut = recorded(Stage::Cut, Switch::On, Switch::Off);
    assert_eq!(decide(cut.clone()), Decision::Do(RevocationEffect::Farewell));
    assert_eq!(decide(Observed { farewell: true, ..cut }), Decision::Settled);
}

#[test]
fn a_broken_journal_never_holds_the_cut_back() {
    let broken = Observed { journal_intact: false, ..recorded(Stage::Cutting, Switch::On, Switch::On) };
    check(wanted(REVOKED), broken, Decision::Do(RevocationEffect::Cut));
}

#[test]
fn settled_means_that_the_promise_holds_for_every_view_of_the_world() {
    let mut settled = 0;
    let switches =
        [Switch::On, Switch::Off, Switch::Deletion, Switch::Import, Switch::Missing, Switch::Unknown];
    let stages = [Stage::Fresh, Stage::Cutting, Stage::Cut, Stage::Restoring, Stage::Restored];
    for goal in [Goal::Planned, Goal::Revoked, Goal::Restored] {
        for stage in stages {
            for prior in switches {
                for switch in switches {
                    for flags in 0..16_u8 {
                        let observed = Observed {
                            prior: (stage != Stage::Fresh).then_some(prior),
                            inventory: if flags & 1 == 0 { list(1) } else { Inventory::Late },
                            holder: (flags & 2 != 0).then(|| "other".to_owned()),
                            closed: flags & 4 != 0,
                            drill_over: flags & 8 != 0,
                            stage,
                            switch,
                            ..fresh()
                        };
                        let desired = Desired::Present(Wanted { drill: true, ..wanted(goal) });
                        if RevocationMachine::decide(&desired, &observed) == Decision::Settled {
                            settled += 1;
                            assert!(promise::holds(&desired, &observed), "{desired:?} {observed:?}");
                        }
                    }
                }
            }
        }
    }
    assert!(settled > 100, "only {settled} views were settled");
}

#[test]
fn nothing_is_ever_switched_on_unless_restoring_was_asked() {
    for stage in [Stage::Fresh, Stage::Cutting, Stage::Cut, Stage::Restoring, Stage::Restored] {
        for switch in [Switch::On, Switch::Off, Switch::Deletion, Switch::Unknown] {
            for goal in [Goal::Planned, Goal::Revoked] {
                let prior = (stage != Stage::Fresh).then_some(Switch::On);
                let observed = Observed { stage, switch, prior, ..fresh() };
                let decision = RevocationMachine::decide(&Desired::Present(wanted(goal)), &observed);
                let on = Decision::Do(RevocationEffect::Return { on: true });
                assert!(decision != on && decision != Decision::Do(RevocationEffect::Start), "{observed:?}");
            }
        }
    }
}
