//! The vocabulary of decisions: what a kind wants, what it may answer, and the closed list of reasons.
//!
//! Standard library only. Nothing here knows Kubernetes, Alibaba Cloud or time: `decide` receives two values and returns one.
//! The creation protocol, the one decision that kinds share, stands in `creation`.

pub mod creation;
pub mod key;
pub mod reason;
pub mod report;

pub use creation::Creation;
pub use reason::Reason;

use std::fmt;
use std::hash::Hash;

/// A kind's brain: a pure function from what is wanted and what was seen to at most one effect.
///
/// One effect at most, so that the gap between two decisions *is* the crash point that tests and models exercise.
pub trait Machine {
    /// What the object asks for, already validated.
    type Desired: Clone + Eq + Hash + fmt::Debug + Send + Sync;
    /// What was seen in the world: facts only, never clocks or floats, so that models stay finite.
    type Observed: Clone + Eq + Hash + fmt::Debug + Send + Sync;
    /// The mutations that this kind can ask for.
    type Effect: Effect;
    /// Total and deterministic: every pair of inputs has exactly one answer.
    fn decide(desired: &Self::Desired, observed: &Self::Observed) -> Decision<Self::Effect>;
}

/// One mutation that a decision may ask for.
pub trait Effect: Clone + Eq + Hash + fmt::Debug + Send + Sync {
    /// Some for the effects that only write the intent of a creation into the object's status.
    ///
    /// The engine performs these itself, as one compare-and-swap status write; `Kind::act` performs all the others.
    fn claim(&self) -> Option<Take>;
    /// The role of the resource that the claim is for, in kinds that create more than one sort; part of the ClientToken.
    ///
    /// All roles of an object share its one recorded intent and its one count of attempts.
    fn role(&self) -> Option<&'static str> {
        None
    }
    /// True for the effects whose whole doing is the status that the kind reports with them.
    ///
    /// The engine writes it by compare-and-swap on the version that was looked at and goes on with what the server answered:
    /// the winner of such a write has, by winning it, read the object afresh.
    fn records(&self) -> bool {
        false
    }
    /// What status says while the effect is under way.
    fn reason(&self) -> Reason;
    /// A short stable name for logs, spans and metric labels.
    fn name(&self) -> &'static str;
}

/// Taking the right to send a creation request once, by a compare-and-swap write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Take {
    /// Record a new attempt with freshly built parameters.
    Record {
        /// The attempt's number.
        attempt: u32,
    },
    /// Allow one more send of the recorded attempt.
    Replay {
        /// The attempt's number.
        attempt: u32,
    },
}

/// What to do next for one object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Decision<E> {
    /// Perform exactly this, then look again.
    Do(E),
    /// Nothing to do until the world moves by itself.
    Wait(Wait),
    /// The promise holds.
    Settled,
    /// Nothing to do until a human, or another object, changes something.
    Blocked(Reason),
}

/// Why nothing is done now, and how eagerly to look again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Wait {
    /// What is being waited for.
    pub reason: Reason,
    /// How soon a change is likely.
    pub pace: WaitPace,
}

/// How eagerly the world is looked at again while waiting. The delays stand in `engine::pace`, nowhere else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WaitPace {
    /// The cloud finishes such work within seconds.
    Seconds,
    /// The cloud works for minutes, or a place in a queue must come free.
    Minutes,
    /// Somebody's action or a quota window is needed; look again now and then.
    Patient,
}

impl<E> Decision<E> {
    /// A wait that is usually over within seconds.
    pub fn wait_seconds(reason: Reason) -> Self {
        Decision::Wait(Wait { reason, pace: WaitPace::Seconds })
    }

    /// A wait that usually takes minutes.
    pub fn wait_minutes(reason: Reason) -> Self {
        Decision::Wait(Wait { reason, pace: WaitPace::Minutes })
    }

    /// A wait for something outside of our reach that may end by itself.
    pub fn wait_patient(reason: Reason) -> Self {
        Decision::Wait(Wait { reason, pace: WaitPace::Patient })
    }
}
