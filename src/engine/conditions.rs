//! Turns decisions, faults and facts into `metav1.Condition`s as kstatus reads them.
//!
//! Ready always; Reconciling and Stalled only while True and never both. Times are kept while a condition's status stays.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::decision::reason::Mover;
use crate::decision::report::{Fact, Truth};
use crate::decision::{Decision, Effect, Reason};
use crate::kind::{Fault, FaultClass};

/// The three conditions that the engine itself derives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Status of Ready.
    pub ready: Truth,
    /// Reason of all three.
    pub reason: Reason,
    /// True: it goes on by itself.
    pub reconciling: bool,
    /// True: a human must act.
    pub stalled: bool,
}

impl Standing {
    /// What a decision means for a reader of status; `settled` is the kind's reason once its promise holds.
    pub fn of_decision<E: Effect>(decision: &Decision<E>, settled: Reason) -> Standing {
        match decision {
            Decision::Settled => {
                Standing { ready: Truth::True, reason: settled, reconciling: false, stalled: false }
            }
            Decision::Do(effect) => Standing::moving(effect.reason()),
            Decision::Wait(wait) => Standing::moving(wait.reason),
            Decision::Blocked(reason) => Standing::blocked(*reason),
        }
    }

    /// Blocked: Ready is False, and Stalled unless somebody asked for the standstill.
    pub fn blocked(reason: Reason) -> Standing {
        let asked_for = matches!(reason, Reason::Suspended | Reason::CutoverPending);
        let stalled = !asked_for && matches!(reason.mover(), Mover::Object | Mover::Outside);
        Standing { ready: Truth::False, reason, reconciling: false, stalled }
    }

    /// What a fault means: only what a human must mend is Stalled.
    pub fn of_fault(fault: &Fault) -> Standing {
        match fault.class {
            FaultClass::Denied | FaultClass::Refused | FaultClass::Defect => Standing::blocked(fault.reason),
            FaultClass::Transient | FaultClass::Throttled | FaultClass::Conflict | FaultClass::Gone => {
                Standing::moving(fault.reason)
            }
        }
    }

    /// It goes on by itself.
    pub fn moving(reason: Reason) -> Standing {
        Standing { ready: Truth::Unknown, reason, reconciling: true, stalled: false }
    }
}

/// The whole list: Ready, then Reconciling or Stalled, then the kind's own facts. What is not named is dropped.
pub fn conditions(
    before: &[Condition],
    standing: &Standing,
    message: &str,
    facts: &[Fact],
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let stamp = |name: &str, truth: Truth, reason: Reason, message: &str| {
        condition(before, name, truth, reason, message, generation, now)
    };
    let mut list = vec![stamp("Ready", standing.ready, standing.reason, message)];
    if standing.reconciling {
        list.push(stamp("Reconciling", Truth::True, standing.reason, message));
    }
    if standing.stalled {
        list.push(stamp("Stalled", Truth::True, standing.reason, message));
    }
    list.extend(facts.iter().map(|fact| stamp(fact.name, fact.truth, fact.reason, &fact.message)));
    list
}

/// The kind's own facts as they stand, for a pass that could not look; without those that are told anew, because they are in doubt.
pub fn standing_facts(before: &[Condition], doubt: &[Fact]) -> Vec<Condition> {
    let engines = |name: &str| matches!(name, "Ready" | "Reconciling" | "Stalled");
    let stands = |condition: &&Condition| {
        !engines(&condition.type_) && doubt.iter().all(|fact| fact.name != condition.type_)
    };
    before.iter().filter(stands).cloned().collect()
}

fn condition(
    before: &[Condition],
    name: &str,
    truth: Truth,
    reason: Reason,
    message: &str,
    generation: Option<i64>,
    now: Timestamp,
) -> Condition {
    /// The API server's limit for a condition's message.
    const MESSAGE_MAX: usize = 32_768;
    let previous = before.iter().find(|condition| condition.type_ == name);
    let unchanged = previous.filter(|condition| condition.status == truth.as_str());
    let whole_second = Timestamp::from_second(now.as_second()).unwrap_or(now);
    Condition {
        type_: name.to_owned(),
        status: truth.as_str().to_owned(),
        reason: reason.as_str().to_owned(),
        message: message.chars().take(MESSAGE_MAX).collect(),
        observed_generation: generation,
        last_transition_time: unchanged
            .map_or(Time(whole_second), |condition| condition.last_transition_time.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    fn ready(before: &[Condition], truth: Truth, second: i64) -> Vec<Condition> {
        let standing =
            Standing { ready: truth, reason: Reason::Available, reconciling: false, stalled: false };
        conditions(before, &standing, "text", &[], Some(1), at(second))
    }

    #[test]
    fn a_condition_keeps_its_time_until_its_status_changes() {
        let first = ready(&[], Truth::Unknown, 100);
        let same = ready(&first, Truth::Unknown, 200);
        assert_eq!(same[0].last_transition_time.0, at(100));
        let changed = ready(&same, Truth::True, 300);
        assert_eq!(changed[0].last_transition_time.0, at(300));
    }

    #[test]
    fn reconciling_and_stalled_never_stand_together_and_vanish_when_done() {
        for reason in Reason::ALL {
            for standing in [Standing::blocked(*reason), Standing::moving(*reason)] {
                assert!(!(standing.reconciling && standing.stalled), "{reason}");
            }
        }
        assert_eq!(ready(&[], Truth::True, 1).len(), 1);
    }

    #[test]
    fn throttling_is_never_stalled_and_a_missing_permission_always_is() {
        let fault = |class, reason| Fault { class, reason, ..Fault::conflict("x") };
        assert!(!Standing::of_fault(&fault(FaultClass::Throttled, Reason::Throttled)).stalled);
        assert!(Standing::of_fault(&fault(FaultClass::Denied, Reason::AccessDenied)).stalled);
        assert!(!Standing::blocked(Reason::Suspended).stalled);
        assert!(!Standing::blocked(Reason::CutoverPending).stalled);
    }
}
