//! The only table from the outcome of a pass to the delay before the next. Pure; jitter is added by the caller.
//!
//! Real seconds of the real cloud; `Settings::tempo` shortens them for a cloud that lives faster.

use std::time::Duration;

use crate::decision::reason::Mover;
use crate::decision::{Reason, WaitPace};
use crate::kind::{Fault, FaultClass, Lane};

/// How a pass over one object ended.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The promise holds.
    Settled,
    /// The world is moving by itself.
    Waiting(WaitPace),
    /// Somebody must act.
    Blocked(Reason),
    /// The object is gone, or the operator has let go of it.
    Gone,
    /// Looking or acting failed.
    Fault(Fault),
}

/// When to look again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// After this long at the latest; sooner if the object changes.
    After(Duration),
    /// Only when the object changes.
    OnChange,
}

/// First back-off after a transient fault; doubles up to [`BACKOFF_MAX`].
pub const BACKOFF_FIRST: Duration = Duration::from_secs(1);
/// Longest back-off after transient faults.
pub const BACKOFF_MAX: Duration = Duration::from_secs(300);
/// Drift is looked for this often; ten thousand disks cost twenty list calls a round.
pub const RESYNC: Duration = Duration::from_secs(600);

/// The longest pause after a fault in the emergency lane: flat, because whoever revokes a key cannot wait for a back-off.
pub const EMERGENCY_RETRY: Duration = Duration::from_millis(400);
/// Faults in a row after which the emergency lane takes it for an outage and asks less often.
const OUTAGE: u32 = 50;

/// True if so many faults in a row are an outage in the emergency lane.
pub fn is_outage(failures: u32) -> bool {
    failures > OUTAGE
}

/// The table. `failures` counts the transient faults in a row, this one included.
pub fn pace(lane: Lane, outcome: &Outcome, failures: u32) -> Pace {
    match lane {
        Lane::Ordinary => ordinary(outcome, failures),
        Lane::Emergency => emergency(outcome, failures),
    }
}

/// What is revoked is looked at again every ten seconds, so that it is made again soon if somebody takes it back.
fn emergency(outcome: &Outcome, failures: u32) -> Pace {
    let seconds = |seconds| Pace::After(Duration::from_secs(seconds));
    match outcome {
        Outcome::Gone => Pace::OnChange,
        Outcome::Settled => seconds(10),
        Outcome::Waiting(WaitPace::Seconds) => Pace::After(Duration::from_millis(100)),
        Outcome::Waiting(WaitPace::Minutes) => seconds(2),
        Outcome::Waiting(WaitPace::Patient) => seconds(5),
        Outcome::Blocked(reason) if reason.mover() == Mover::Object => Pace::OnChange,
        Outcome::Blocked(_) => seconds(5),
        Outcome::Fault(fault) => match fault.class {
            FaultClass::Denied | FaultClass::Refused => seconds(5),
            // However long others eat the quota: whoever asks less often than they do gets none of it.
            FaultClass::Throttled => Pace::After(EMERGENCY_RETRY),
            _ if is_outage(failures) => seconds(2),
            _ => Pace::After(EMERGENCY_RETRY),
        },
    }
}

fn ordinary(outcome: &Outcome, failures: u32) -> Pace {
    let seconds = |seconds| Pace::After(Duration::from_secs(seconds));
    match outcome {
        Outcome::Gone => Pace::OnChange,
        Outcome::Settled => Pace::After(RESYNC),
        Outcome::Waiting(WaitPace::Seconds) => seconds(2),
        Outcome::Waiting(WaitPace::Minutes) => seconds(15),
        Outcome::Waiting(WaitPace::Patient) => seconds(60),
        Outcome::Blocked(reason) => match reason.mover() {
            // What is said of the key and the resource must stay true, and what is invalid may be so because of another object.
            Mover::Object => Pace::After(RESYNC),
            Mover::Outside | Mover::Nobody | Mover::Time => seconds(60),
        },
        Outcome::Fault(fault) => Pace::After(after_fault(fault, failures)),
    }
}

fn after_fault(fault: &Fault, failures: u32) -> Duration {
    let doubled = BACKOFF_FIRST
        .saturating_mul(1_u32.checked_shl(failures.saturating_sub(1).min(16)).unwrap_or(u32::MAX));
    let delay = match fault.class {
        FaultClass::Transient | FaultClass::Defect => doubled.min(BACKOFF_MAX),
        FaultClass::Throttled => fault.retry_after.unwrap_or(Duration::from_secs(10)),
        FaultClass::Conflict => Duration::from_secs(5),
        FaultClass::Gone => BACKOFF_FIRST,
        // The same request would be refused again; only a write that failed makes another look necessary.
        FaultClass::Refused if fault.reason.mover() == Mover::Object => RESYNC,
        FaultClass::Refused => doubled.saturating_mul(60).min(RESYNC),
        FaultClass::Denied => Duration::from_secs(120),
    };
    fault.retry_after.map_or(delay, |asked| asked.max(delay).min(BACKOFF_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transient_faults_back_off_to_a_limit_and_never_overflow() {
        let fault = Fault { class: FaultClass::Transient, ..Fault::conflict("x") };
        let delay = |failures| pace(Lane::Ordinary, &Outcome::Fault(fault.clone()), failures);
        assert_eq!(delay(1), Pace::After(Duration::from_secs(1)));
        assert_eq!(delay(4), Pace::After(Duration::from_secs(8)));
        assert_eq!(delay(u32::MAX), Pace::After(BACKOFF_MAX));
    }

    #[test]
    fn what_only_the_author_can_mend_is_looked_at_as_rarely_as_what_rests() {
        let pace = |reason| pace(Lane::Ordinary, &Outcome::Blocked(reason), 0);
        assert_eq!(pace(Reason::InvalidSpec), Pace::After(RESYNC));
        assert_eq!(pace(Reason::CutoverPending), Pace::After(RESYNC));
        assert_eq!(pace(Reason::KeyDisabled), Pace::After(Duration::from_secs(60)));
    }

    #[test]
    fn the_other_side_may_ask_for_more_time_but_not_for_ever() {
        let asking =
            |seconds| Fault { retry_after: Some(Duration::from_secs(seconds)), ..Fault::conflict("x") };
        let pace = |seconds| pace(Lane::Ordinary, &Outcome::Fault(asking(seconds)), 1);
        assert_eq!(pace(42), Pace::After(Duration::from_secs(42)));
        assert_eq!(pace(86_400), Pace::After(BACKOFF_MAX));
    }

    #[test]
    fn the_emergency_lane_repeats_at_once_and_never_waits_for_what_the_other_side_asks() {
        for class in [FaultClass::Transient, FaultClass::Throttled, FaultClass::Conflict] {
            let fault = Fault { class, retry_after: Some(Duration::from_secs(60)), ..Fault::conflict("x") };
            let outcome = Outcome::Fault(fault);
            assert_eq!(pace(Lane::Emergency, &outcome, 1), Pace::After(EMERGENCY_RETRY), "{class}");
            assert_eq!(pace(Lane::Emergency, &outcome, 9), Pace::After(EMERGENCY_RETRY), "{class}");
            // Whoever asks less often than others who eat the quota gets none of it.
            let late = if class == FaultClass::Throttled { EMERGENCY_RETRY } else { Duration::from_secs(2) };
            assert_eq!(pace(Lane::Emergency, &outcome, 1_000), Pace::After(late), "{class}");
        }
    }
}
