//! The small world of the creation models: one object in the API, the cloud's resources, and what two processes remember.
//!
//! Values only. Versions are a flag: a snapshot is fresh or it is not, which is all that a compare-and-swap can tell.

use std::hash::{DefaultHasher, Hash, Hasher};

use ecskms::decision::creation::{Claim, Intent};

/// At most this many processes work on the object at the same time, without any leader election.
pub const PROCESSES: usize = 2;

/// Everything that a checker must tell apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// The object; None once it is gone.
    pub api: Option<Object>,
    /// The operator's processes.
    pub processes: [Process; PROCESSES],
    /// The cloud.
    pub cloud: Cloud,
    /// How much may still go wrong.
    pub left: Budget,
    /// True once a process called the promise kept while the real world, without any lag, broke it.
    pub lied: bool,
    /// True once a token was used again with other parameters.
    pub mismatched: bool,
}

/// The object as the API server holds it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Object {
    /// Whether our finalizer is on it.
    pub finalizer: bool,
    /// Whether it has a deletion timestamp.
    pub deleting: bool,
    /// Whether the spec asks for the larger size.
    pub large: bool,
    /// `status.lastError` holds a refusal that stands until the object changes.
    pub refused: bool,
    /// The id in status.
    pub known: Option<u8>,
    /// Whether the snapshots behind the resource stand in status.
    pub listed: bool,
    /// Whether the resource was Ready once: then the frozen request has been dropped.
    pub settled: bool,
    /// `status.intent`.
    pub intent: Option<Recorded>,
}

/// `IntentRecord`, with its age in place of its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Recorded {
    /// The attempt's number.
    pub attempt: u8,
    /// Sends allowed.
    pub sends: u8,
    /// Sends known to be answered.
    pub answered: u8,
    /// Whether one was accepted.
    pub accepted: bool,
    /// Whether the settle time has passed since the last claim.
    pub aged: bool,
    /// The frozen parameters: which size is asked for.
    pub large: bool,
}

impl Recorded {
    /// The intent as decisions see it.
    pub fn fact(&self) -> Intent {
        Intent {
            attempt: u32::from(self.attempt),
            sends: u32::from(self.sends),
            answered: u32::from(self.answered),
            accepted: self.accepted,
        }
    }
}

/// A version of the object that somebody read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Snapshot {
    /// What was read.
    pub object: Object,
    /// True while it is still the newest version: then a compare-and-swap on it wins.
    pub fresh: bool,
}

/// One process of the operator.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Process {
    /// The reflector's store, which may lag behind; None once it has seen the object go.
    pub cache: Option<Snapshot>,
    /// The version that the pass under way works on; None between passes.
    pub hand: Option<Snapshot>,
    /// What was decided and not done yet.
    pub pending: Option<Pending>,
    /// The claim in memory.
    pub held: Option<Held>,
    /// A claim whose winning write has not been heard of yet: the attempt, and whether its send window has passed meanwhile.
    pub won: Option<(u8, bool)>,
}

/// `kind::claims::Held`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Held {
    /// The attempt that the claim is for.
    pub attempt: u8,
    /// Where it stands.
    pub claim: Claim,
    /// The id that the cloud answered.
    pub id: Option<u8>,
}

/// A decision on its way to becoming an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pending {
    /// What to do.
    pub verdict: Verdict,
    /// The id that the report names.
    pub known: Option<u8>,
    /// Whether the report names the snapshots.
    pub listed: bool,
    /// Whether the report carries a standing refusal.
    pub refused: bool,
}

/// A kind's decision in words that both kinds share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The engine's own: put the finalizer on first.
    Secure,
    /// Record a new attempt.
    Record(u8),
    /// Take one more send of the attempt.
    Replay(u8),
    /// Send the recorded request.
    Send(u8),
    /// Delete the resource.
    Remove(u8),
    /// Cancel the unfinished resource.
    Cancel(u8),
    /// Grow the resource.
    Grow(u8),
    /// Delete a snapshot that was left.
    DropSnapshot,
    /// Settled on deletion: take the finalizer off.
    Leave,
    /// Settled, and the object stays.
    Settled,
    /// Nothing to do until the world moves.
    Wait,
    /// Nothing to do until somebody acts.
    Blocked,
    /// Only in wrong protocols: create at once, without an intent.
    CreateBlind,
}

impl Verdict {
    /// True for what `Decision::Do` stands for.
    pub fn is_effect(self) -> bool {
        !matches!(self, Verdict::Leave | Verdict::Settled | Verdict::Wait | Verdict::Blocked)
    }
}

/// The cloud.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Cloud {
    /// The resources that exist and carry this object's tags, oldest first.
    pub resources: Vec<Resource>,
    /// Requests that were sent and may still be executed.
    pub flights: Vec<Request>,
    /// How many resources were ever made; also the last id.
    pub made: u8,
    /// Snapshots whose resource is gone.
    pub snapshots: u8,
}

/// One resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Resource {
    /// Never used twice.
    pub id: u8,
    /// The token of the request that made it: its attempt, where the protocol is right.
    pub token: u8,
    /// Whether lookups show it yet.
    pub visible: bool,
    /// Whether it is finished.
    pub done: bool,
    /// Whether it was made large.
    pub born_large: bool,
    /// Whether it is large now.
    pub large: bool,
}

/// One creation request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Request {
    /// Its token.
    pub token: u8,
    /// Its size.
    pub large: bool,
}

/// How often each fault may still happen. Every number makes the space larger, and all of them together make it finite.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Budget {
    /// A process dies and starts anew, before or after an effect.
    pub crashes: u8,
    /// The answer to a creation is lost; the request may be executed late, or never.
    pub lost: u8,
    /// The cloud refuses a creation before any effect.
    pub refusals: u8,
    /// The answer to a write to the API is lost; the write took effect.
    pub lost_writes: u8,
    /// The answer to a winning claim comes late: the process was paused.
    pub pauses: u8,
    /// A claim runs out of its send window unused.
    pub expiries: u8,
    /// The settle time passes.
    pub agings: u8,
    /// The user deletes the object.
    pub deletions: u8,
    /// The user asks for the larger size.
    pub edits: u8,
    /// Somebody deletes the resource behind the operator's back.
    pub intrusions: u8,
}

impl State {
    /// One object without finalizer, which every process has seen.
    pub fn start(processes: usize, budget: Budget) -> State {
        let object = Object::default();
        let idle = |index: usize| Process {
            cache: (index < processes).then(|| Snapshot { object: object.clone(), fresh: true }),
            ..Process::default()
        };
        let cloud = Cloud::default();
        State {
            processes: [idle(0), idle(1)],
            api: Some(object),
            cloud,
            left: budget,
            lied: false,
            mismatched: false,
        }
    }

    /// The same state with interchangeable processes in one order: halves the space.
    pub fn in_order(mut self, processes: usize) -> State {
        if processes == PROCESSES && digest(&self.processes[1]) < digest(&self.processes[0]) {
            self.processes.swap(0, 1);
        }
        self.cloud.flights.sort_unstable();
        self
    }

    /// The newest version, as a quorum read returns it.
    pub fn read(&self) -> Option<Snapshot> {
        self.api.clone().map(|object| Snapshot { object, fresh: true })
    }

    /// A compare-and-swap write on the version in a process's hand. False if somebody was faster.
    ///
    /// Mirrors `engine::reconcile::write_status` and `Context::write_finalizers`: both carry the resourceVersion.
    pub fn write(&mut self, process: usize, change: impl FnOnce(&mut Object)) -> bool {
        let fresh = self.processes[process].hand.as_ref().is_some_and(|hand| hand.fresh);
        let Some(object) = self.api.as_mut().filter(|_| fresh) else { return false };
        change(object);
        let written = object.clone();
        for other in &mut self.processes {
            for snapshot in other.cache.iter_mut().chain(other.hand.iter_mut()) {
                snapshot.fresh = false;
            }
        }
        if written.deleting && !written.finalizer {
            self.api = None;
        }
        self.processes[process].hand = self.read();
        true
    }

    /// A write by somebody who is not the operator.
    pub fn edit(&mut self, change: impl FnOnce(&mut Object)) {
        let Some(object) = self.api.as_mut() else { return };
        change(object);
        if object.deleting && !object.finalizer {
            self.api = None;
        }
        for process in &mut self.processes {
            for snapshot in process.cache.iter_mut().chain(process.hand.iter_mut()) {
                snapshot.fresh = false;
            }
        }
    }
}

impl Cloud {
    /// Executes a creation: a live resource with the same token is the answer, else a new one is made.
    ///
    /// The token is forgotten with its resource, which is the worst that the API reference leaves open.
    pub fn execute(&mut self, request: Request, lag: bool, instant: bool) -> Executed {
        if let Some(resource) = self.resources.iter().find(|resource| resource.token == request.token) {
            return Executed { id: resource.id, mismatched: resource.born_large != request.large };
        }
        self.made += 1;
        self.resources.push(Resource {
            id: self.made,
            token: request.token,
            visible: !lag,
            done: instant,
            born_large: request.large,
            large: request.large,
        });
        Executed { id: self.made, mismatched: false }
    }

    /// Removes a resource; its finished snapshots stay.
    pub fn remove(&mut self, id: u8, leaves_snapshots: bool) {
        if let Some(index) = self.resources.iter().position(|resource| resource.id == id) {
            let resource = self.resources.remove(index);
            self.snapshots += u8::from(leaves_snapshots && resource.done);
        }
    }
}

/// What a creation answered.
pub struct Executed {
    /// The id of the resource.
    pub id: u8,
    /// True if the token had been used with other parameters.
    pub mismatched: bool,
}

/// The same number for the same value in every run.
pub fn digest(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
