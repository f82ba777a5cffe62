//! What to do next for an EncryptedInstance. Pure: no clock, no client, no Kubernetes.

use std::collections::{BTreeMap, BTreeSet};

use crate::decision::creation::{Creation, Step};
use crate::decision::key::{KeyFact, Protection};
use crate::decision::{Decision, Effect, Machine, Reason, Take};

#[cfg(test)]
mod tests;
mod wanted;

pub use wanted::{Desired, DiskWish, ImageChoice, KeyChoice, Wanted};

/// The brain of the kind.
pub struct InstanceMachine;

/// What was seen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Observed {
    /// The keys, by the text with which the object names them; on deletion those that a KeyRevocation holds, by id.
    pub keys: BTreeMap<String, KeyFact>,
    /// The image; not looked at while there is an instance.
    pub image: ImageFact,
    /// The user data; not looked at while there is an instance.
    pub user_data: UserDataFact,
    /// Every instance that is this object's: by ownership tags, or the adopted one. A set, so that a duplicate can be seen.
    pub instances: BTreeSet<Instance>,
    /// A disk that is attached to an instance of this object, although no list shows that instance.
    pub hidden: Option<String>,
    /// The id that status remembers: this instance was seen before.
    pub known: Option<String>,
    /// True if the instance ran once. Before that, an instance that vanishes was never given a host.
    pub born: bool,
    /// True if the look before this one missed the instance, too.
    pub missed: bool,
    /// The creation.
    pub creation: Creation,
    /// A refusal of the cloud that stands until the object changes.
    pub refusal: Option<Reason>,
    /// An instance that carries this object's name from another life of it (same cluster, namespace and name, another uid).
    pub namesake: Option<String>,
    /// Field, pinned key and present key of every alias that was re-pointed; shown, never decided on.
    pub repointed: BTreeSet<(String, String, String)>,
}

/// One instance.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Instance {
    /// Its id.
    pub id: String,
    /// Its state.
    pub state: InstanceState,
    /// What is attached to it; empty while it is Pending.
    pub disks: BTreeSet<Disk>,
    /// True if its tags prove that the operator created it for this object.
    pub own: bool,
    /// True if the cloud refuses to delete it.
    pub protected: bool,
    /// True if its name is the wanted one, or none is wanted.
    pub named: bool,
    /// Wanted tags that it has not, or with another value.
    pub tags_amiss: Vec<(String, String)>,
    /// True if it is in the wanted zone.
    pub in_zone: bool,
    /// Its status in the words of the ECS API; shown, never decided on.
    pub status: String,
    /// Private addresses; shown, never decided on.
    pub private_ips: Vec<String>,
    /// Field, wanted value and real value of what is not mended; shown, never decided on.
    pub drift: BTreeSet<(String, String, String)>,
}

/// State of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum InstanceState {
    /// Accepted, and may still vanish.
    Pending,
    /// On its way to running.
    Starting,
    /// Running.
    Running,
    /// On its way to stopped.
    Stopping,
    /// Stopped.
    Stopped,
    /// A word that is not documented.
    Unknown,
}

/// One attached disk.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Disk {
    /// Its id.
    pub id: String,
    /// True for the system disk.
    pub system: bool,
    /// The name under which the object asked for it.
    pub name: Option<String>,
    /// How it is encrypted, against the best fitting of the allowed keys.
    pub protection: Protection,
    /// The key that the cloud shows; shown, never decided on.
    pub key_id: Option<String>,
}

/// The image of an instance that is to be made.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ImageFact {
    /// Not looked at.
    Unasked,
    /// Usable.
    Ready {
        /// Its id.
        id: String,
        /// Its size in GiB; 0 if unknown.
        size_gib: u32,
    },
    /// The object, or the image itself, is not ready yet.
    NotReady,
    /// There is no such image in the region.
    Missing,
    /// It brings a data disk along that would not be encrypted.
    PlainData,
}

/// The user data of an instance that is to be made.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum UserDataFact {
    /// None is wanted, or it was not looked at.
    Unasked,
    /// Readable.
    Ready {
        /// Which version of the Secret it is; never its content.
        version: String,
        /// True unless a recorded request was made for another version, which must not be sent under the same token.
        replayable: bool,
    },
    /// There is no such Secret, or no such key in it.
    Missing,
    /// More than the cloud takes.
    TooLarge,
}

/// A mutation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum InstanceEffect {
    /// Take the right to send the creation once.
    Claim(Take),
    /// Send the recorded creation.
    Create {
        /// The attempt's number.
        attempt: u32,
    },
    /// Start a stopped instance.
    Start {
        /// The instance.
        id: String,
    },
    /// Stop a running instance in an orderly way.
    Stop {
        /// The instance.
        id: String,
    },
    /// Switch the protection from deletion.
    Protect {
        /// The instance.
        id: String,
        /// On or off.
        on: bool,
    },
    /// Give it its name.
    Rename {
        /// The instance.
        id: String,
        /// The name.
        name: String,
    },
    /// Give it tags; its other tags stay.
    Tag {
        /// The instance.
        id: String,
        /// The tags.
        tags: Vec<(String, String)>,
    },
    /// Delete a stopped instance.
    Delete {
        /// The instance.
        id: String,
    },
}

impl Effect for InstanceEffect {
    fn claim(&self) -> Option<Take> {
        match self {
            InstanceEffect::Claim(take) => Some(*take),
            _ => None,
        }
    }

    fn reason(&self) -> Reason {
        match self {
            InstanceEffect::Claim(_) | InstanceEffect::Create { .. } => Reason::Creating,
            InstanceEffect::Delete { .. } => Reason::Deleting,
            InstanceEffect::Start { .. }
            | InstanceEffect::Stop { .. }
            | InstanceEffect::Protect { .. }
            | InstanceEffect::Rename { .. }
            | InstanceEffect::Tag { .. } => Reason::Adjusting,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            InstanceEffect::Claim(Take::Record { .. }) => "record",
            InstanceEffect::Claim(Take::Replay { .. }) => "replay",
            InstanceEffect::Create { .. } => "create",
            InstanceEffect::Start { .. } => "start",
            InstanceEffect::Stop { .. } => "stop",
            InstanceEffect::Protect { .. } => "protect",
            InstanceEffect::Rename { .. } => "rename",
            InstanceEffect::Tag { .. } => "tag",
            InstanceEffect::Delete { .. } => "delete",
        }
    }
}

impl Machine for InstanceMachine {
    type Desired = Desired;
    type Observed = Observed;
    type Effect = InstanceEffect;

    fn decide(desired: &Desired, observed: &Observed) -> Decision<InstanceEffect> {
        match desired {
            Desired::Absent { delete, protect } => depart(*delete, *protect, observed),
            Desired::Present(wanted) if wanted.suspend => Decision::Blocked(Reason::Suspended),
            Desired::Present(wanted) => match chosen(observed) {
                // Which of two machines is the right one is not for the operator to say, and neither goes by itself.
                Some(_) if observed.instances.len() > 1 => Decision::Blocked(Reason::AdoptionMismatch),
                Some(instance) => keep(wanted, observed, instance),
                None => absent(wanted, observed),
            },
        }
    }
}

/// The instance that counts: the one that status remembers, else the one with the smallest id.
pub fn chosen(observed: &Observed) -> Option<&Instance> {
    let remembered = observed.instances.iter().find(|instance| Some(&instance.id) == observed.known.as_ref());
    remembered.or_else(|| observed.instances.first())
}

/// True while the instance is on its way to its first Ready: nothing is read off it, and nothing written down but its id.
pub fn unborn(instance: &Instance, born: bool) -> bool {
    match instance.state {
        InstanceState::Pending => true,
        InstanceState::Starting => !born,
        _ => false,
    }
}

/// The weakest of all attached disks; an instance whose system disk was not seen proves nothing.
pub fn protection(instance: &Instance) -> Protection {
    let unseen = (!instance.disks.iter().any(|disk| disk.system)).then_some(Protection::Unproven);
    Protection::weakest(instance.disks.iter().map(|disk| disk.protection).chain(unseen))
}

/// The key that stands in the way most: what is gone for good before what a click brings back.
pub fn worst_key(observed: &Observed) -> Option<(&str, &KeyFact, Reason)> {
    let rank = |reason: Reason| match reason {
        Reason::KeyNotFound => 5,
        Reason::KeyPendingDeletion => 4,
        Reason::KeyRevoked => 3,
        Reason::KeyDisabled => 2,
        _ => 1,
    };
    let obstacles = observed.keys.iter().filter_map(|(text, key)| Some((&**text, key, key.obstacle()?)));
    obstacles.max_by_key(|(_, _, reason)| rank(*reason))
}

fn keep(wanted: &Wanted, observed: &Observed, instance: &Instance) -> Decision<InstanceEffect> {
    use InstanceState::{Pending, Running, Starting, Stopped, Stopping, Unknown};
    if wanted.adopt.is_some() && !instance.in_zone {
        return Decision::Blocked(Reason::AdoptionMismatch);
    }
    if unborn(instance, observed.born) {
        return Decision::wait_seconds(Reason::Creating);
    }
    match (instance.state, protection(instance)) {
        (_, Protection::Plain) => return Decision::Blocked(Reason::NotEncrypted),
        (_, Protection::OtherKey) => return Decision::Blocked(Reason::KeyMismatch),
        (Unknown, _) => return Decision::wait_patient(Reason::StatusUnknown),
        (_, Protection::Unproven) => return Decision::wait_patient(Reason::KeyMismatch),
        (Pending | Starting | Running | Stopping | Stopped, Protection::Exact) => {}
    }
    if let Some((_, _, obstacle)) = worst_key(observed) {
        return Decision::Blocked(obstacle);
    }
    if !wanted.manage {
        return Decision::Settled;
    }
    if matches!(instance.state, Starting | Stopping) {
        return Decision::wait_seconds(Reason::Adjusting);
    }
    let Some(effect) = adjust(wanted, instance) else { return Decision::Settled };
    match observed.refusal {
        Some(reason) => Decision::Blocked(reason),
        None => Decision::Do(effect),
    }
}

/// The one thing that differs and can be mended; power comes last, so that a machine is protected before it runs.
fn adjust(wanted: &Wanted, instance: &Instance) -> Option<InstanceEffect> {
    let id = instance.id.clone();
    if instance.protected != wanted.protect {
        return Some(InstanceEffect::Protect { id, on: wanted.protect });
    }
    if let Some(name) = wanted.instance_name.clone().filter(|_| !instance.named) {
        return Some(InstanceEffect::Rename { id, name });
    }
    if !instance.tags_amiss.is_empty() {
        return Some(InstanceEffect::Tag { id, tags: instance.tags_amiss.clone() });
    }
    match (instance.state, wanted.running) {
        (InstanceState::Stopped, true) => Some(InstanceEffect::Start { id }),
        (InstanceState::Running, false) => Some(InstanceEffect::Stop { id }),
        _ => None,
    }
}

/// No list shows an instance. That alone proves nothing: an identity without permission sees an empty list, too.
fn absent(wanted: &Wanted, observed: &Observed) -> Decision<InstanceEffect> {
    if observed.hidden.is_some() {
        return Decision::Blocked(Reason::AccessDenied);
    }
    let taken = wanted.adopt.is_some() || !wanted.manage;
    if taken || observed.known.is_some() && observed.born {
        let seen_before = observed.known.is_some();
        return match observed.missed || !seen_before {
            true => Decision::Blocked(Reason::ExternalGone),
            false => Decision::wait_seconds(Reason::CloudUnavailable),
        };
    }
    if observed.known.is_some() {
        return vanished(wanted, observed);
    }
    prepare(wanted, observed).unwrap_or_else(|| create(observed, observed.creation.step()))
}

/// The instance was accepted and seen, and went before it ever ran: the zone had no stock for it.
///
/// The cloud remembers that failure with the token, so only a new attempt can help; and only where no other send of the
/// old one can make a second instance.
fn vanished(wanted: &Wanted, observed: &Observed) -> Decision<InstanceEffect> {
    if !observed.missed {
        return Decision::Blocked(Reason::NoStock);
    }
    if !observed.creation.nothing_in_flight(true) {
        return Decision::wait_patient(Reason::Settling);
    }
    let attempt = observed.creation.intent.map_or(0, |intent| intent.attempt) + 1;
    prepare(wanted, observed).unwrap_or_else(|| create(observed, Step::Record { attempt }))
}

/// What must be right before any creation; None if all is.
fn prepare(wanted: &Wanted, observed: &Observed) -> Option<Decision<InstanceEffect>> {
    if observed.namesake.is_some() {
        return Some(Decision::Blocked(Reason::AdoptionMismatch));
    }
    if let Some(reason) = observed.refusal.or(worst_key(observed).map(|(_, _, reason)| reason)) {
        return Some(Decision::Blocked(reason));
    }
    match &observed.image {
        ImageFact::NotReady => return Some(Decision::wait_minutes(Reason::DependencyNotReady)),
        ImageFact::Missing => return Some(Decision::Blocked(Reason::SourceNotFound)),
        ImageFact::PlainData => return Some(Decision::Blocked(Reason::NotEncrypted)),
        ImageFact::Ready { size_gib, .. } if *size_gib > wanted.system.size_gib => {
            return Some(Decision::Blocked(Reason::InvalidSpec));
        }
        ImageFact::Ready { .. } | ImageFact::Unasked => {}
    }
    match observed.user_data {
        UserDataFact::Missing => Some(Decision::wait_minutes(Reason::DependencyNotReady)),
        UserDataFact::TooLarge => Some(Decision::Blocked(Reason::InvalidSpec)),
        UserDataFact::Ready { .. } | UserDataFact::Unasked => None,
    }
}

fn create(observed: &Observed, step: Step) -> Decision<InstanceEffect> {
    // The same token must never carry other user data: the attempt is left to age, and the next one takes the new text.
    let stale = matches!(observed.user_data, UserDataFact::Ready { replayable: false, .. });
    match step {
        Step::Send { .. } | Step::Replay { .. } if stale => Decision::wait_patient(Reason::Settling),
        Step::Record { attempt } => Decision::Do(InstanceEffect::Claim(Take::Record { attempt })),
        Step::Replay { attempt } => Decision::Do(InstanceEffect::Claim(Take::Replay { attempt })),
        Step::Send { attempt } => Decision::Do(InstanceEffect::Create { attempt }),
        Step::Appearing => Decision::wait_seconds(Reason::Creating),
        Step::Settle => Decision::wait_patient(Reason::Settling),
    }
}

/// Deletion: never a protected instance, never one that was adopted, never under a key that was taken away, and never done
/// while a request may still create one.
fn depart(delete: bool, protect: bool, observed: &Observed) -> Decision<InstanceEffect> {
    if delete && let Some(instance) = observed.instances.iter().find(|instance| instance.own) {
        // What would be stopped and deleted, memory and disks, may be evidence.
        return match observed.keys.values().any(KeyFact::is_revoked) {
            true => Decision::Blocked(Reason::KeyRevoked),
            false => remove(protect, observed, instance),
        };
    }
    if delete && observed.hidden.is_some() {
        return Decision::Blocked(Reason::AccessDenied);
    }
    match observed.creation.nothing_in_flight(observed.known.is_some()) || !observed.instances.is_empty() {
        true => Decision::Settled,
        false => Decision::wait_patient(Reason::Settling),
    }
}

fn remove(protect: bool, observed: &Observed, instance: &Instance) -> Decision<InstanceEffect> {
    let id = instance.id.clone();
    if protect {
        return Decision::Blocked(Reason::DeletionProtected);
    }
    match instance.state {
        InstanceState::Pending | InstanceState::Starting | InstanceState::Stopping => {
            Decision::wait_seconds(Reason::Deleting)
        }
        InstanceState::Unknown => Decision::wait_patient(Reason::StatusUnknown),
        _ if observed.refusal.is_some() => {
            Decision::Blocked(observed.refusal.unwrap_or(Reason::RequestRefused))
        }
        _ if instance.protected => Decision::Do(InstanceEffect::Protect { id, on: false }),
        InstanceState::Running => Decision::Do(InstanceEffect::Stop { id }),
        InstanceState::Stopped => Decision::Do(InstanceEffect::Delete { id }),
    }
}
