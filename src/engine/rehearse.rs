//! What the loop would do about an object if all goes well: a real look, and then the real decisions over what each of them would
//! lead to. Changes nothing.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::merge::to_value;
use super::reconcile::{account_of, has_finalizer, sentence};
use crate::decision::report::Report;
use crate::decision::{Decision, Machine, Reason, Wait, WaitPace};
use crate::kind::{Call, DesiredOf, Fault, Kind, KindStatus, Lane, ObservedOf, Owner, World};

/// Decisions about one object; whoever takes more goes in circles.
const STEPS_MAX: usize = 1_000;
/// How long something that this process itself has begun, such as a list of what is hit, is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
/// The pause between two looks at it.
const PAUSE: Duration = Duration::from_millis(200);

/// What would be done about one object.
#[derive(Clone, Debug, PartialEq)]
pub struct Rehearsal {
    /// What would be done and waited for, in order.
    pub steps: Vec<Step>,
    /// How it would end.
    pub end: End,
    /// Why it would end there.
    pub reason: Reason,
    /// The same in a sentence or two.
    pub message: String,
    /// The request that was refused, if one was.
    pub request_id: Option<String>,
    /// What a look shows that belongs to what would be done.
    pub shows: Option<String>,
}

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// A call that changes the cloud.
    Change(Call),
    /// Something must come to pass first.
    Wait {
        /// What.
        reason: Reason,
        /// The same in a sentence or two.
        message: String,
    },
}

/// How a rehearsal ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// As the object promises.
    Settled,
    /// Waiting for something that nobody can foresee, such as a person's work.
    Waiting,
    /// Somebody must change something first.
    Blocked,
    /// It could not be looked at.
    Unknown,
}

impl Rehearsal {
    fn ended(end: End, reason: Reason, message: &str) -> Rehearsal {
        let message = sentence(message);
        Rehearsal { steps: Vec::new(), end, reason, message, request_id: None, shows: None }
    }

    /// The rehearsal of what is well as it is.
    pub fn nothing(message: &str) -> Rehearsal {
        Rehearsal::ended(End::Settled, Reason::Available, message)
    }

    fn failed(fault: Fault) -> Rehearsal {
        let ended = Rehearsal::ended(End::Unknown, fault.reason, &fault.message);
        Rehearsal { request_id: fault.request_id, ..ended }
    }

    /// True if something in the cloud would be changed.
    pub fn changes(&self) -> bool {
        self.calls().next().is_some()
    }

    /// The calls that would change the cloud.
    pub fn calls(&self) -> impl Iterator<Item = &Call> {
        self.steps.iter().filter_map(|step| match step {
            Step::Change(call) => Some(call),
            Step::Wait { .. } => None,
        })
    }
}

/// Rehearses what would be done about the object as it stands there. `is_new`: it was never created, so that its uid is not its own.
pub async fn rehearse<K: Kind>(object: K, world: &World, is_new: bool) -> Rehearsal {
    let shared = K::Shared::default();
    match K::LANE {
        Lane::Ordinary => both(object, world, &shared, is_new).await,
        // What it holds an order back for, its companion finds out.
        Lane::Emergency => tokio::select! {
            rehearsal = both(object, world, &shared, is_new) => rehearsal,
            () = K::companion(world, &shared) => {
                Rehearsal::failed(Fault::defect("Companion", "The companion ended; please report this."))
            }
        },
    }
}

/// The object, and before it what it only wants to show.
async fn both<K: Kind>(object: K, world: &World, shared: &K::Shared, is_new: bool) -> Rehearsal {
    let (mut shows, mut seen) = (None, None);
    if let Some(preview) = object.preview() {
        match run(preview, world, shared, is_new, None).await {
            Ok((looked, observed)) => (shows, seen) = (Some(looked.message), observed),
            Err(fault) => shows = Some(Rehearsal::failed(fault).message),
        }
    }
    let rehearsal = run(object, world, shared, is_new, seen).await.map(|(rehearsal, _)| rehearsal);
    Rehearsal { shows, ..rehearsal.unwrap_or_else(Rehearsal::failed) }
}

async fn run<K: Kind>(
    mut object: K,
    world: &World,
    shared: &K::Shared,
    is_new: bool,
    seen: Option<ObservedOf<K>>,
) -> Result<(Rehearsal, Option<ObservedOf<K>>), Fault> {
    let at_once = |rehearsal| Ok((rehearsal, None));
    let desired = match object.desired() {
        Ok(desired) => desired,
        Err(invalid) => return at_once(Rehearsal::ended(End::Blocked, invalid.reason, &invalid.message)),
    };
    let leaving = object.meta().deletion_timestamp.is_some();
    if leaving && !has_finalizer(&object) {
        return at_once(Rehearsal::nothing("The object goes at once: the operator holds nothing for it."));
    }
    if K::LOOKS_ONLY {
        return at_once(Rehearsal::nothing("Objects of this kind look and change nothing."));
    }
    let world = match world.of(&object).await? {
        Ok(world) => world,
        Err(obstacle) => {
            return at_once(Rehearsal::ended(End::Blocked, obstacle.reason, &obstacle.message));
        }
    };
    account_of(&object, &world).await?;
    let owner = Owner::of(&world.settings.cluster, &object);
    let owner = if is_new { owner.unborn() } else { owner };
    let mut observed = look(&object, &desired, &world, shared).await?;
    if let Some(seen) = &seen {
        K::remember(seen, &mut observed);
    }
    let mut decision = K::Machine::decide(&desired, &observed);
    let mut steps = Vec::new();
    for _ in 0..STEPS_MAX {
        let report = object.report(&desired, &observed, &decision, world.clock.now());
        let next = object.foresee(&desired, &observed, &decision);
        match &decision {
            Decision::Do(effect) => {
                steps.extend(object.calls(&desired, &observed, &owner, effect).into_iter().map(Step::Change));
            }
            Decision::Wait(wait) if next.is_some() => {
                steps.push(Step::Wait { reason: wait.reason, message: report.message.clone() });
            }
            // What ends by itself, such as a drill.
            Decision::Settled if next.is_some() => {
                let reason = object.settled(&desired, &observed);
                steps.push(Step::Wait { reason, message: report.message.clone() });
            }
            Decision::Wait(_) | Decision::Settled | Decision::Blocked(_) => {}
        }
        let Some(next) = next else {
            let settled = object.settled(&desired, &observed);
            let (end, reason) = end(&decision, settled);
            let changes = steps.iter().any(|step| matches!(step, Step::Change(_)));
            // What status says of a departure is meant for those who wait for it.
            let message = match (end, leaving, changes) {
                (End::Settled, true, false) => "The object goes, and nothing in the cloud with it.",
                (End::Settled, true, true) => "The object goes after that.",
                _ => &report.message,
            };
            let ended = Rehearsal::ended(end, reason, message);
            return Ok((Rehearsal { steps, ..ended }, Some(observed)));
        };
        object = told(&object, report)?;
        decision = K::Machine::decide(&desired, &next);
        observed = next;
    }
    Err(Fault::defect("Restless", "The plan does not come to an end; please report this."))
}

fn end<E>(decision: &Decision<E>, settled: Reason) -> (End, Reason) {
    match decision {
        Decision::Settled => (End::Settled, settled),
        Decision::Blocked(reason) => (End::Blocked, *reason),
        Decision::Wait(wait) => (End::Waiting, wait.reason),
        // An effect that leads nowhere is a mistake of the forecast, which must not look like a plan.
        Decision::Do(_) => (End::Unknown, Reason::StatusUnknown),
    }
}

/// Looks until nothing that was begun with the look is still under way.
async fn look<K: Kind>(
    object: &K,
    desired: &DesiredOf<K>,
    world: &World,
    shared: &K::Shared,
) -> Result<ObservedOf<K>, Fault> {
    let begun = Instant::now();
    loop {
        let observed = object.observe(desired, world, shared).await?;
        let decision = K::Machine::decide(desired, &observed);
        let moves = matches!(&decision, Decision::Wait(Wait { pace: WaitPace::Seconds, .. }));
        if !moves || object.foresee(desired, &observed, &decision).is_some() {
            return Ok(observed);
        }
        if begun.elapsed() > PATIENCE {
            let text = "What would be done hangs on a look that has not come to an end. Plan it again.";
            return Err(Fault::defect("Timeout", text));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The object with what status would say.
fn told<K: Kind>(object: &K, report: Report<K::Status>) -> Result<K, Fault> {
    let defect = |error: serde_json::Error| Fault::defect("Encode", error.to_string());
    let mut value = serde_json::to_value(object).map_err(defect)?;
    let mut status = report.status;
    // Requests are not recorded: nothing is sent.
    status.shared_mut().intent = None;
    value["status"] = to_value(Some(&status)).unwrap_or_else(|_| json!({}));
    serde_json::from_value(value).map_err(defect)
}
