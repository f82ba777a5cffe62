//! What to do next about one revocation. Pure.
//!
//! Order: record the prior state, evidence if asked, stop calls if asked, cut, look who is hit, verify. Where the prior state is
//! declared and nothing else is asked for, the cut comes first, because the object itself is the record. Nothing here is
//! irreversible: the only mutations are switching off, switching on, stopping, starting and taking snapshots.

use super::blast::Blast;
use super::promise;
use crate::decision::{Decision, Machine, Reason};

mod effect;

pub use effect::RevocationEffect;

/// The policy through which ECS uses customer keys, as status writes it.
pub const ECS_GRANT: &str = "System/AliyunECSDiskEncryptRolePolicy";

/// The brain of KeyRevocation.
#[derive(Clone, Copy, Debug)]
pub struct RevocationMachine;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Desired {
    /// The object is being deleted, which undoes nothing.
    Absent,
    /// The object stands.
    Present(Wanted),
}

/// What a standing object asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Wanted {
    /// Planned, Revoked or Restored.
    pub goal: Goal,
    /// What is switched off.
    pub lever: Lever,
    /// True: it goes back to On, by declaration, so that the cut waits for no record.
    pub declared: bool,
    /// What is done to running instances.
    pub running: Running,
    /// True: snapshots before the cut.
    pub evidence: bool,
    /// The most instances that may be hit.
    pub max_affected: Option<u32>,
    /// The digest that somebody has read.
    pub digest: Option<String>,
    /// True: nodes of this cluster may be hit.
    pub allow_self_lockout: bool,
    /// Approvals that are still missing.
    pub approvals_missing: u32,
    /// True: a rehearsal, which is restored by itself.
    pub drill: bool,
}

/// The state that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Goal {
    /// Only look.
    #[default]
    Planned,
    /// Switch off and keep off.
    Revoked,
    /// Give back what was recorded.
    Restored,
}

/// What is switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Lever {
    /// The key, for every cloud service.
    #[default]
    Key,
    /// The grant through which ECS uses customer keys, for the whole account.
    Role,
}

/// What is done to running instances, in rising order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Running {
    /// Nothing.
    #[default]
    Leave,
    /// What each says.
    PerInstance,
    /// Stop all.
    Stop,
    /// Stop all as if the power failed.
    ForceStop,
}

/// What was seen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Observed {
    /// What is switched, as it stands now.
    pub switch: Switch,
    /// The cloud's word for it; shown and recorded, never decided on.
    pub word: String,
    /// The cloud's id of the request that said so; for the journal.
    pub request_id: Option<String>,
    /// The policies of ECS's role; None unless the lever is the role.
    pub policies: Option<Vec<String>>,
    /// True if the customer key that the role's revocation names is one that can be revoked at all.
    pub key: KeyCheck,
    /// What status recorded before the first change.
    pub prior: Option<Switch>,
    /// An earlier revocation of the same whose record is the true one: its name, the switch and the word that it recorded.
    pub inherited: Option<(String, Switch, String)>,
    /// How far status says that it has come.
    pub stage: Stage,
    /// The list of what is hit.
    pub inventory: Inventory,
    /// True if nodes of this cluster are known to have disks under the key.
    pub self_lockout: bool,
    /// The snapshots before the cut.
    pub evidence: Step,
    /// The stop calls.
    pub stops: Step,
    /// Running instances that should be stopped and were not asked to.
    pub unasked: usize,
    /// The starts after the restoration.
    pub starts: Starts,
    /// The name of another live revocation that holds the same switch.
    pub holder: Option<String>,
    /// True while another revocation of the same switch has not given it back yet: until then it must see what is recorded here.
    pub unfinished: bool,
    /// True once a drill has run its time.
    pub drill_over: bool,
    /// True once no cut that another process began before the restoration can still arrive. Stays true.
    pub aged: bool,
    /// True once the record is closed: the prior state was seen to stand after that.
    pub closed: bool,
    /// What this process did and status does not say yet.
    pub deeds: Vec<Deed>,
    /// A proof that instances under the key cannot start, or that they can; None if there is none to try on.
    pub probe: Option<Probe>,
    /// False if the journal in status was tampered with.
    pub journal_intact: bool,
    /// False if the whole list has not been put where status says that it is.
    pub published: bool,
    /// The namespace in which it lies.
    pub report_namespace: Option<String>,
    /// True once status says that the object is leaving.
    pub farewell: bool,
    /// Microseconds since 1970 at which the revocation was asked for; a label, never compared.
    pub asked_at: i64,
}

/// The state of what is switched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Switch {
    /// Usable.
    On,
    /// Switched off, and can be switched on.
    Off,
    /// The key is scheduled for deletion: unusable, and not switchable.
    Deletion,
    /// The key waits for material: unusable, and not switchable.
    Import,
    /// There is no such key.
    Missing,
    /// A word that is not documented.
    Unknown,
    /// Not looked at.
    Unasked,
}

/// Whether a key can be revoked at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KeyCheck {
    /// A customer key of the region.
    Customer,
    /// The key of a cloud service, which can be neither disabled nor taken from ECS.
    Service,
    /// There is none of that id in the region.
    Missing,
}

/// How far status says that it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Stage {
    /// Nothing was changed.
    #[default]
    Fresh,
    /// The prior state is recorded and the cut may be under way.
    Cutting,
    /// The cut was seen.
    Cut,
    /// The restoration may be under way.
    Restoring,
    /// The prior state was seen again.
    Restored,
}

/// The list of what is hit, as far as this process has it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Inventory {
    /// Nobody asked for it yet.
    Unasked,
    /// Under way.
    Running,
    /// Not there in time.
    Late,
    /// Here it is.
    Done(Box<Blast>),
}

/// A step before the cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Step {
    /// Not asked for, or nothing to do.
    #[default]
    None,
    /// To be done once the list is there.
    Waiting,
    /// To be done.
    Due,
    /// Done, or given up.
    Over,
}

/// The starts after a restoration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Starts {
    /// Nothing was stopped, or all were asked to start.
    #[default]
    None,
    /// Some stand still and can be started.
    Due,
    /// Some are still on their way down.
    Moving,
    /// Some were refused.
    Refused,
}

/// One call that changed something, or was refused.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Deed {
    /// Microseconds since 1970; a label for the journal, never compared.
    pub at: i64,
    /// What was called.
    pub action: &'static str,
    /// On what.
    pub target: String,
    /// The cloud's request id, or the first of several.
    pub request_id: Option<String>,
    /// Accepted, or the cloud's code.
    pub result: String,
    /// What it says of single instances or snapshots: id and outcome.
    pub details: Vec<(String, String)>,
}

/// What an attempt to start a stopped instance without starting it said.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Probe {
    /// The instance.
    pub instance: String,
    /// Some(true): refused for the key. Some(false): it would have started. None: it says nothing of the key.
    pub cut_off: Option<bool>,
    /// The cloud's word.
    pub word: String,
}

impl Machine for RevocationMachine {
    type Desired = Desired;
    type Observed = Observed;
    type Effect = RevocationEffect;

    fn decide(desired: &Desired, observed: &Observed) -> Decision<RevocationEffect> {
        let Desired::Present(wanted) = desired else {
            return match observed.farewell {
                true => Decision::Settled,
                false => Decision::Do(RevocationEffect::Farewell),
            };
        };
        match promise::goal(wanted, observed) {
            Goal::Planned => plan(observed),
            Goal::Revoked if observed.stage == Stage::Fresh => begin(wanted, observed),
            Goal::Revoked => revoke(wanted, observed),
            Goal::Restored => restore(observed),
        }
    }
}

/// Planned: the list, and nothing else.
fn plan(observed: &Observed) -> Decision<RevocationEffect> {
    if let Some(reason) = impossible(observed) {
        return Decision::Blocked(reason);
    }
    match &observed.inventory {
        Inventory::Unasked | Inventory::Running => Decision::wait_seconds(Reason::Planning),
        Inventory::Late => Decision::wait_patient(Reason::InventoryIncomplete),
        Inventory::Done(_) if !observed.published => Decision::Do(RevocationEffect::Publish),
        Inventory::Done(blast) if !blast.complete() => Decision::wait_patient(Reason::InventoryIncomplete),
        Inventory::Done(_) => Decision::Settled,
    }
}

fn impossible(observed: &Observed) -> Option<Reason> {
    match observed.key {
        KeyCheck::Service => Some(Reason::ServiceKeyNotRevocable),
        KeyCheck::Missing => Some(Reason::KeyNotFound),
        KeyCheck::Customer => None,
    }
}

/// Before anything was changed: everything that may hold the cut back, then the record.
fn begin(wanted: &Wanted, observed: &Observed) -> Decision<RevocationEffect> {
    if promise::has_cut(observed) {
        // What would have held it back was seen too late: without the record, nobody could give it back.
        return Decision::Do(RevocationEffect::Record);
    }
    if let Some(reason) = impossible(observed) {
        return Decision::Blocked(reason);
    }
    if wanted.approvals_missing > 0 {
        return Decision::Blocked(Reason::ApprovalMissing);
    }
    if observed.self_lockout && !wanted.allow_self_lockout {
        return Decision::Blocked(Reason::SelfLockout);
    }
    if promise::needs_inventory(wanted) {
        match &observed.inventory {
            Inventory::Unasked | Inventory::Running => return Decision::wait_seconds(Reason::Planning),
            Inventory::Late if promise::demands_inventory(wanted) => {
                return Decision::wait_patient(Reason::InventoryIncomplete);
            }
            Inventory::Late => {}
            Inventory::Done(blast) => {
                if let Some(held) = held_by_list(wanted, blast) {
                    return held;
                }
            }
        }
    }
    match observed.switch {
        // Nobody looked, because what it goes back to is declared: the record follows the cut.
        Switch::Unasked if promise::cuts_at_once(wanted) => Decision::Do(RevocationEffect::Cut),
        _ => Decision::Do(RevocationEffect::Record),
    }
}

fn held_by_list(wanted: &Wanted, blast: &Blast) -> Option<Decision<RevocationEffect>> {
    if promise::demands_inventory(wanted) && !blast.complete() {
        return Some(Decision::wait_patient(Reason::InventoryIncomplete));
    }
    if wanted.max_affected.is_some_and(|most| blast.instances.len() > most as usize) {
        return Some(Decision::Blocked(Reason::TooManyAffected));
    }
    let mismatch = wanted.digest.as_ref().is_some_and(|digest| *digest != blast.digest());
    mismatch.then_some(Decision::Blocked(Reason::DigestMismatch))
}

/// The prior state is recorded: evidence, stops, cut, and then keeping it so.
fn revoke(wanted: &Wanted, observed: &Observed) -> Decision<RevocationEffect> {
    // A switch that reads as something undocumented is switched off as well: doubt must not leave it on.
    let on = matches!(observed.switch, Switch::On | Switch::Unknown);
    if observed.stage == Stage::Cutting && observed.switch == Switch::Unasked {
        return Decision::Do(RevocationEffect::NoteCut);
    }
    if observed.stage == Stage::Cutting {
        match observed.evidence {
            Step::Waiting if on => return Decision::wait_seconds(Reason::Planning),
            Step::Due if on => return Decision::Do(RevocationEffect::TakeEvidence),
            _ => {}
        }
        if observed.stops == Step::Due {
            return Decision::Do(RevocationEffect::Stop);
        }
        if on {
            return Decision::Do(RevocationEffect::Cut);
        }
    } else if on {
        return Decision::Do(RevocationEffect::Reassert);
    }
    if observed.switch == Switch::Missing {
        return Decision::Blocked(Reason::KeyNotFound);
    }
    // Asked for more after the cut: what has not been asked to stop is, though it may be refused now.
    if wanted.running != Running::Leave && observed.stops == Step::Due {
        return Decision::Do(RevocationEffect::Stop);
    }
    if wanted.running != Running::Leave && observed.unasked > 0 {
        return Decision::Do(RevocationEffect::RecordStops);
    }
    match observed.inventory {
        // A list from before the cut says nothing of who runs after it.
        _ if observed.stage == Stage::Cutting => Decision::wait_seconds(Reason::Planning),
        Inventory::Unasked | Inventory::Running => Decision::wait_seconds(Reason::Planning),
        Inventory::Done(_) if !observed.published => Decision::Do(RevocationEffect::Publish),
        Inventory::Late | Inventory::Done(_) => Decision::Settled,
    }
}

/// Back to what was recorded, and to nothing else.
fn restore(observed: &Observed) -> Decision<RevocationEffect> {
    let Some(prior) = observed.prior else { return Decision::Blocked(Reason::NothingToRestore) };
    if observed.stage == Stage::Restored && observed.closed {
        return match observed.starts {
            // What another revocation has stopped since is not this one's to start.
            Starts::Due | Starts::Moving | Starts::Refused if observed.holder.is_some() => {
                Decision::wait_patient(Reason::OverlappingRevocation)
            }
            _ if observed.switch == prior => start(observed),
            _ => Decision::Settled,
        };
    }
    if observed.holder.is_some() {
        return Decision::wait_patient(Reason::OverlappingRevocation);
    }
    if observed.inherited.is_some() {
        // Another one's record was first, and counts for both.
        return Decision::Do(RevocationEffect::BeginRestore);
    }
    if observed.switch != prior {
        return match promise::way_back(prior, observed.switch) {
            Err(reason) => Decision::Blocked(reason),
            // Another revocation of it is on its way back.
            Ok(_) if observed.stage == Stage::Restored && observed.aged && observed.unfinished => {
                Decision::wait_patient(Reason::OverlappingRevocation)
            }
            // Nothing of this revocation can arrive any more, so it is somebody else who switched, perhaps in the next emergency.
            Ok(_) if observed.stage == Stage::Restored && observed.aged => {
                Decision::Blocked(Reason::SwitchedSinceRestored)
            }
            // Also when a late cut is found after the restoration.
            Ok(_) if observed.stage != Stage::Restoring => Decision::Do(RevocationEffect::BeginRestore),
            Ok(on) => Decision::Do(RevocationEffect::Return { on }),
        };
    }
    if observed.stage < Stage::Restoring {
        return Decision::Do(RevocationEffect::BeginRestore);
    }
    let due = observed.stage == Stage::Restoring || promise::closes(observed);
    if due && observed.starts != Starts::None {
        return Decision::Do(RevocationEffect::EndRestore);
    }
    start(observed)
}

/// The key is back; what this revocation stopped is started.
fn start(observed: &Observed) -> Decision<RevocationEffect> {
    match observed.starts {
        Starts::Due => Decision::Do(RevocationEffect::Start),
        Starts::Moving => Decision::wait_seconds(Reason::Restoring),
        Starts::Refused => Decision::wait_patient(Reason::InstancesNotStarted),
        Starts::None => Decision::Settled,
    }
}

#[cfg(test)]
mod tests;
