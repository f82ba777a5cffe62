//! What to do next for an EncryptionAudit. Pure: no clock, no client, no Kubernetes.
//!
//! There is nothing that it could do to the account: its effects have no values.

use super::judge::Policy;
use super::outcome::Outcome;
use crate::decision::{Decision, Effect, Machine, Reason, Take};

/// The brain of the kind.
pub struct AuditMachine;

/// What the object asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Desired {
    /// The account should be looked at, again and again.
    Present(Box<Wanted>),
    /// Nothing is looked at.
    Suspended,
    /// The object is being deleted.
    Absent,
}

/// How the account should be looked at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Wanted {
    /// What is required.
    pub policy: Policy,
    /// Where; empty for every region.
    pub regions: Vec<String>,
    /// Seconds from one scan to the next.
    pub interval_seconds: i64,
}

/// What was seen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Observed {
    /// How far the scan is.
    pub scan: Scan,
    /// True if status tells of a scan that was made as the object asks now, and nothing has gone wrong since.
    pub told: bool,
}

/// How far a scan is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Scan {
    /// None is due.
    Resting,
    /// It is under way.
    Running,
    /// It has ended, and status does not tell of it yet.
    Done(Box<Outcome>),
}

/// The effects of an audit: there are none, so that the compiler itself proves that it changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum NoEffect {}

impl Effect for NoEffect {
    fn claim(&self) -> Option<Take> {
        match *self {}
    }

    fn reason(&self) -> Reason {
        match *self {}
    }

    fn name(&self) -> &'static str {
        match *self {}
    }
}

impl Machine for AuditMachine {
    type Desired = Desired;
    type Observed = Observed;
    type Effect = NoEffect;

    fn decide(desired: &Desired, observed: &Observed) -> Decision<NoEffect> {
        match (desired, &observed.scan) {
            (Desired::Absent, _) => Decision::Settled,
            (Desired::Suspended, _) => Decision::Blocked(Reason::Suspended),
            (Desired::Present(_), Scan::Done(_)) => Decision::Settled,
            // A scan that is repeated takes nothing back of what the one before has told.
            (Desired::Present(_), Scan::Running | Scan::Resting) if observed.told => Decision::Settled,
            (Desired::Present(_), Scan::Running | Scan::Resting) => Decision::wait_seconds(Reason::Scanning),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::promise::holds;
    use super::*;

    fn wanted() -> Desired {
        Desired::Present(Box::new(Wanted {
            policy: Policy::default(),
            regions: Vec::new(),
            interval_seconds: 600,
        }))
    }

    #[test]
    fn ready_means_that_a_scan_of_this_request_is_told_whatever_it_found() {
        for (scan, told, settled) in [
            (Scan::Running, false, false),
            (Scan::Resting, false, false),
            (Scan::Running, true, true),
            (Scan::Resting, true, true),
            (Scan::Done(Box::default()), false, true),
            (Scan::Done(Box::default()), true, true),
        ] {
            let observed = Observed { scan, told };
            let decision = AuditMachine::decide(&wanted(), &observed);
            let expected = if settled { Decision::Settled } else { Decision::wait_seconds(Reason::Scanning) };
            assert_eq!(decision, expected, "{observed:?}");
            assert_eq!(holds(&wanted(), &observed), settled);
            let rest = AuditMachine::decide(&Desired::Suspended, &observed);
            assert_eq!(rest, Decision::Blocked(Reason::Suspended));
            assert_eq!(AuditMachine::decide(&Desired::Absent, &observed), Decision::Settled);
        }
    }
}
