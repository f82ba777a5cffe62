//! Random wishes and worlds of a KeyRevocation, and the laws that only it has: what may be switched, and when.

use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::TestRunner;

use super::super::key_revocation::decide::{
    Deed, Desired, Goal, Inventory, KeyCheck, Observed, RevocationEffect, RevocationMachine, Running, Stage,
    Starts, Step, Switch, Wanted,
};
use super::super::key_revocation::{KeyRevocation, promise};
use crate::decision::{Decision, Machine, Reason};
use crate::kind::Kind;

type Decider = fn(&Desired, &Observed) -> Decision<RevocationEffect>;

/// The first law that the decider breaks.
fn broken_law(decide: Decider) -> Option<String> {
    let config = ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() };
    let result = TestRunner::new(config).run(&(desired(), observed()), |(desired, observed)| {
        let decision = decide(&desired, &observed);
        prop_assert_eq!(&decision, &decide(&desired, &observed), "deterministic");
        let settled = decision == Decision::Settled;
        prop_assert!(
            !settled || promise::holds(&desired, &observed),
            "settled, but the promise does not hold"
        );
        let revoking =
            matches!(&desired, Desired::Present(wanted) if promise::goal(wanted, &observed) == Goal::Revoked);
        let unwritten = revoking && observed.stage == Stage::Fresh && promise::has_cut(&observed);
        prop_assert!(
            !unwritten || decision == Decision::Do(RevocationEffect::Record),
            "a cut that came is not written down"
        );
        match decision {
            Decision::Do(effect) => may_do(&desired, &observed, &effect),
            _ => Ok(()),
        }
    });
    let config = ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() };
    let ends = TestRunner::new(config)
        .run(&(desired(), observed()), |(desired, observed)| comes_to_an_end(&desired, &observed, decide));
    result.err().or(ends.err()).map(|error| error.to_string())
}

/// Every effect leads somewhere, and nothing is foreseen for ever.
fn comes_to_an_end(desired: &Desired, observed: &Observed, decide: Decider) -> Result<(), TestCaseError> {
    let object: KeyRevocation = super::object(serde_json::json!({
        "region": "cn-a", "keyId": "key-a", "desiredState": "Revoked", "reason": "a rehearsal", "requestedBy": "a",
    }));
    let mut seen = observed.clone();
    for _ in 0..100 {
        let decision = decide(desired, &seen);
        let next = object.foresee(desired, &seen, &decision);
        prop_assert!(next.is_some() || !matches!(decision, Decision::Do(_)), "{:?} leads nowhere", decision);
        let Some(next) = next else { return Ok(()) };
        seen = next;
    }
    prop_assert!(false, "a forecast without an end: {seen:?}");
    Ok(())
}

fn may_do(desired: &Desired, observed: &Observed, effect: &RevocationEffect) -> Result<(), TestCaseError> {
    use RevocationEffect::{Cut, Farewell, Publish, Record, Return, Start, Stop, TakeEvidence};
    let Desired::Present(wanted) = desired else {
        prop_assert!(matches!(effect, Farewell), "deleting the object does something: {effect:?}");
        return Ok(());
    };
    let goal = promise::goal(wanted, observed);
    prop_assert!(goal != Goal::Planned || matches!(effect, Publish), "a plan changes something: {effect:?}");
    match effect {
        Cut => {
            prop_assert!(
                goal == Goal::Revoked && (observed.prior.is_some() || promise::cuts_at_once(wanted)),
                "a cut without a recorded prior state"
            );
            prop_assert!(
                wanted.approvals_missing == 0 || observed.stage != Stage::Fresh,
                "without its approvals"
            );
            prop_assert!(
                wanted.allow_self_lockout || !observed.self_lockout || observed.stage != Stage::Fresh,
                "a lock-out of oneself"
            );
        }
        Record => {
            // What has happened is written down, whatever would have held it back.
            let done = promise::has_cut(observed);
            prop_assert!(done || observed.key == KeyCheck::Customer, "the key of a service");
            prop_assert!(done || wanted.approvals_missing == 0, "without its approvals");
            prop_assert!(
                done || wanted.allow_self_lockout || !observed.self_lockout,
                "a lock-out of oneself"
            );
        }
        Return { on } => {
            prop_assert!(
                observed.stage == Stage::Restoring,
                "given back although what it is now may be somebody else's"
            );
            prop_assert!(
                goal == Goal::Restored && observed.holder.is_none(),
                "given back although it is held"
            );
            let recorded = observed.prior.map(|prior| prior == Switch::On);
            prop_assert_eq!(recorded, Some(*on), "given back as something else than was recorded");
        }
        Start => prop_assert!(
            goal == Goal::Restored && Some(observed.switch) == observed.prior,
            "a start too early"
        ),
        Stop | TakeEvidence => prop_assert!(goal == Goal::Revoked && observed.prior.is_some(), "{effect:?}"),
        _ => {}
    }
    Ok(())
}

fn desired() -> impl Strategy<Value = Desired> {
    let goal = select(vec![Goal::Planned, Goal::Revoked, Goal::Restored]);
    let running = select(vec![Running::Leave, Running::PerInstance, Running::Stop, Running::ForceStop]);
    let guards = (proptest::option::weighted(0.2, 0..2u32), any::<bool>(), 0..2u32, any::<bool>());
    let wanted = (goal, running, any::<(bool, bool)>(), guards).prop_map(
        |(
            goal,
            running,
            (evidence, declared),
            (max_affected, allow_self_lockout, approvals_missing, drill),
        )| Wanted {
            goal,
            declared,
            running,
            evidence,
            max_affected,
            allow_self_lockout,
            approvals_missing,
            drill,
            ..Wanted::default()
        },
    );
    prop_oneof![6 => wanted.prop_map(Desired::Present), 1 => Just(Desired::Absent)]
}

fn switch() -> impl Strategy<Value = Switch> {
    use Switch::{Deletion, Import, Missing, Off, On, Unasked, Unknown};
    select(vec![On, Off, Deletion, Import, Missing, Unknown, Unasked])
}

fn observed() -> impl Strategy<Value = Observed> {
    let stage = select(vec![Stage::Fresh, Stage::Cutting, Stage::Cut, Stage::Restoring, Stage::Restored]);
    let key = select(vec![KeyCheck::Customer, KeyCheck::Customer, KeyCheck::Service, KeyCheck::Missing]);
    let step = || select(vec![Step::None, Step::Waiting, Step::Due, Step::Over]);
    let starts = select(vec![Starts::None, Starts::Due, Starts::Moving, Starts::Refused]);
    let inventory = select(vec![
        Inventory::Unasked,
        Inventory::Running,
        Inventory::Late,
        Inventory::Done(Box::default()),
    ]);
    let flags = proptest::array::uniform9(any::<bool>());
    let holder = proptest::option::weighted(0.3, Just("other".to_owned()));
    (switch(), switch(), stage, key, (step(), step(), starts), inventory, flags, holder, 0..2usize).prop_map(
        |(switch, prior, stage, key, (evidence, stops, starts), inventory, flags, holder, unasked)| {
            let [self_lockout, drill_over, aged, closed, published, farewell, unfinished, first, cut] = flags;
            let deed = Deed {
                at: 1,
                action: "DisableKey",
                target: "key-a".into(),
                request_id: None,
                result: promise::ACCEPTED.into(),
                details: Vec::new(),
            };
            // Only before the beginning is there something that is done without a look.
            let asked = stage == Stage::Fresh || switch != Switch::Unasked;
            Observed {
                switch: if asked { switch } else { Switch::Off },
                word: "Enabled".into(),
                request_id: None,
                policies: None,
                key,
                // Whatever came after the beginning has a record of what stood before.
                prior: (stage != Stage::Fresh).then_some(prior),
                inherited: (first && holder.is_some())
                    .then(|| ("first".to_owned(), prior, "Enabled".to_owned())),
                stage,
                inventory,
                self_lockout,
                evidence,
                stops,
                unasked,
                starts,
                holder,
                unfinished,
                drill_over,
                aged,
                closed,
                deeds: Vec::from_iter(cut.then_some(deed)),
                probe: None,
                journal_intact: true,
                published,
                report_namespace: None,
                farewell,
                asked_at: 0,
            }
        },
    )
}

#[test]
fn revocations_keep_the_laws() {
    assert_eq!(broken_law(RevocationMachine::decide), None);
}

#[test]
fn deciders_that_break_a_law_are_noticed() {
    let hasty: Decider = |_, _| Decision::Do(RevocationEffect::Cut);
    assert!(broken_law(hasty).is_some());
    let careless: Decider = |desired, observed| match (desired, RevocationMachine::decide(desired, observed))
    {
        (Desired::Present(_), Decision::Do(RevocationEffect::Record)) => Decision::Do(RevocationEffect::Cut),
        (_, decision) => decision,
    };
    assert!(broken_law(careless).is_some_and(|law| law.contains("prior state")));
    let forgetful: Decider = |desired, observed| match RevocationMachine::decide(desired, observed) {
        Decision::Do(RevocationEffect::Record) if observed.key == KeyCheck::Missing => {
            Decision::Blocked(Reason::KeyNotFound)
        }
        decision => decision,
    };
    assert!(broken_law(forgetful).is_some_and(|law| law.contains("not written down")));
    let lenient: Decider = |_, _| Decision::Do(RevocationEffect::Return { on: true });
    assert!(broken_law(lenient).is_some());
}
