//! What to do next for an EncryptedImage. Pure: no clock, no client, no Kubernetes.

use std::collections::BTreeSet;

use crate::decision::creation::{Creation, Step};
use crate::decision::key::{KeyFact, Protection};
use crate::decision::{Decision, Effect, Machine, Reason, Take};

/// Larger images need a ticket with Alibaba Cloud before they can be copied encrypted (the console says so).
pub const SOURCE_GIB_MAX: u32 = 500;

/// How many snapshots status names; an image has at most 17 disks.
pub const SNAPSHOTS_MAX: usize = 32;

/// The brain of the kind.
pub struct ImageMachine;

/// What the object asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(
    clippy::large_enum_variant,
    reason = "one lives for one pass, and a box would stand in every pattern"
)]
pub enum Desired {
    /// The encrypted image should exist.
    Present(Wanted),
    /// The object is being deleted.
    Absent {
        /// True if the operator may change the cloud. Then a copy that is still running is cancelled, whatever the policies.
        manage: bool,
        /// True if the image goes with it.
        delete_image: bool,
        /// True if the snapshots behind the image go with it.
        delete_snapshots: bool,
    },
}

/// The image that should exist.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Wanted {
    /// Region of source, copy and key.
    pub region: String,
    /// The image that is copied.
    pub source_image_id: String,
    /// Name of the copy.
    pub image_name: Option<String>,
    /// Description of the copy.
    pub description: Option<String>,
    /// Seconds that a copy may take.
    pub copy_timeout_seconds: u64,
    /// The user's tags.
    pub tags: Vec<(String, String)>,
    /// Resource group.
    pub resource_group_id: Option<String>,
    /// Id or alias of the key, as the KMS API takes it.
    pub key: String,
    /// True for the service key.
    pub service_key: bool,
    /// The image to take over instead of making a copy.
    pub adopt: Option<String>,
    /// True if the operator may change the cloud.
    pub manage: bool,
    /// True if nothing is to be done.
    pub suspend: bool,
}

/// What was seen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Observed {
    /// The key.
    pub key: KeyFact,
    /// The source; only looked at while there is no copy.
    pub source: SourceFact,
    /// Every image that is this object's copy. A set, so that a duplicate can be seen.
    pub copies: BTreeSet<Copy>,
    /// The id that status remembers: this copy was seen before.
    pub known: Option<String>,
    /// The creation.
    pub creation: Creation,
    /// A refusal of the cloud that stands until the object changes.
    pub refusal: Option<Reason>,
    /// An image that carries this object's name from another life of it.
    pub namesake: Option<String>,
    /// The key that the alias names now, if that is not the pinned one; shown, never decided on.
    pub repointed: Option<String>,
    /// How many copies must finish or go first; 0 means that it is this one's turn.
    pub queued_behind: u32,
    /// True if the copy has taken longer than it may.
    pub timed_out: bool,
    /// On deletion: the snapshots of the image that still exist.
    pub leftover_snapshots: BTreeSet<String>,
    /// On deletion: the image has snapshots that go with it and that status does not name yet.
    pub unwritten_snapshots: bool,
}

/// One copy.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Copy {
    /// Its id.
    pub id: String,
    /// Its state.
    pub state: CopyState,
    /// How the weakest of its snapshots is encrypted.
    pub protection: Protection,
    /// True if its tags prove that the operator made it for this object.
    pub own: bool,
    /// What must be set so that its name, description and tags are as wanted.
    pub amendment: Amendment,
    /// Its status in the words of the ECS API; shown, never decided on.
    pub status: String,
    /// Percent done; shown, never decided on.
    pub progress: Option<u8>,
    /// Size in GiB; shown, never decided on.
    pub size_gib: u32,
    /// Id, encryption and key of each snapshot behind it; shown, never decided on.
    pub snapshots: Vec<(String, bool, Option<String>)>,
    /// Field, wanted value and real value of what is not mended; shown, never decided on.
    pub drift: BTreeSet<(String, String, String)>,
}

/// What ModifyImageAttribute and TagResources should set; empty where all is as wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Amendment {
    /// The name.
    pub name: Option<String>,
    /// The description.
    pub description: Option<String>,
    /// Tags that are missing or have another value.
    pub tags: Vec<(String, String)>,
}

/// State of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CopyState {
    /// Waiting in the cloud, or being copied.
    Copying,
    /// Complete, perhaps deprecated.
    Available,
    /// CreateFailed or UnAvailable.
    Failed,
    /// A word that is not documented.
    Unknown,
}

/// The source of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SourceFact {
    /// Not looked at.
    Unasked,
    /// A custom image that can be copied.
    Ready,
    /// Still being created.
    NotReady,
    /// There is no such image in the region, or it is no custom image of the account.
    Missing,
    /// Failed, deprecated, or in a state that is not documented: cannot be copied.
    Unusable,
    /// Larger than [`SOURCE_GIB_MAX`].
    TooLarge {
        /// Its size in GiB.
        size_gib: u32,
    },
}

/// A mutation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ImageEffect {
    /// Take the right to send the creation once.
    Claim(Take),
    /// Send the recorded creation.
    Copy {
        /// The attempt's number.
        attempt: u32,
    },
    /// Set name, description or tags.
    Amend {
        /// The image.
        id: String,
        /// What to set.
        amendment: Amendment,
    },
    /// Cancel a running copy, which removes it.
    Cancel {
        /// The copy.
        id: String,
    },
    /// Delete the image.
    Delete {
        /// The image.
        id: String,
    },
    /// Delete one snapshot that stood behind the image.
    DeleteSnapshot {
        /// The snapshot.
        id: String,
    },
}

impl Effect for ImageEffect {
    fn claim(&self) -> Option<Take> {
        match self {
            ImageEffect::Claim(take) => Some(*take),
            _ => None,
        }
    }

    fn reason(&self) -> Reason {
        match self {
            ImageEffect::Claim(_) | ImageEffect::Copy { .. } => Reason::Copying,
            ImageEffect::Amend { .. } => Reason::Adjusting,
            ImageEffect::Cancel { .. } | ImageEffect::Delete { .. } | ImageEffect::DeleteSnapshot { .. } => {
                Reason::Deleting
            }
        }
    }

    fn name(&self) -> &'static str {
        match self {
            ImageEffect::Claim(Take::Record { .. }) => "record",
            ImageEffect::Claim(Take::Replay { .. }) => "replay",
            ImageEffect::Copy { .. } => "copy",
            ImageEffect::Amend { .. } => "amend",
            ImageEffect::Cancel { .. } => "cancel",
            ImageEffect::Delete { .. } => "delete",
            ImageEffect::DeleteSnapshot { .. } => "delete-snapshot",
        }
    }
}

impl Machine for ImageMachine {
    type Desired = Desired;
    type Observed = Observed;
    type Effect = ImageEffect;

    fn decide(desired: &Desired, observed: &Observed) -> Decision<ImageEffect> {
        match desired {
            Desired::Absent { manage, delete_image, delete_snapshots } => {
                depart(*manage, *delete_image, *delete_snapshots, observed)
            }
            Desired::Present(wanted) if wanted.suspend => Decision::Blocked(Reason::Suspended),
            Desired::Present(_) if observed.key.is_revoked() => Decision::Blocked(Reason::KeyRevoked),
            Desired::Present(wanted) => match pick(observed) {
                Pick::None => create(wanted, observed),
                Pick::One(copy) => keep(wanted, observed, copy),
                Pick::Surplus(copy) => remove_surplus(wanted, copy),
            },
        }
    }
}

enum Pick<'a> {
    None,
    One(&'a Copy),
    Surplus(&'a Copy),
}

/// The copy that counts is the one that status remembers, else the one with the smallest id; any other is a surplus.
fn pick(observed: &Observed) -> Pick<'_> {
    let remembered = observed.copies.iter().find(|copy| Some(&copy.id) == observed.known.as_ref());
    let Some(chosen) = remembered.or_else(|| observed.copies.first()) else { return Pick::None };
    match observed.copies.iter().find(|copy| copy.id != chosen.id) {
        Some(surplus) => Pick::Surplus(surplus),
        None => Pick::One(chosen),
    }
}

fn remove_surplus(wanted: &Wanted, surplus: &Copy) -> Decision<ImageEffect> {
    let id = surplus.id.clone();
    match surplus.state {
        _ if !surplus.own || !wanted.manage => Decision::Blocked(Reason::AdoptionMismatch),
        CopyState::Copying => Decision::Do(ImageEffect::Cancel { id }),
        CopyState::Available | CopyState::Failed => Decision::Do(ImageEffect::Delete { id }),
        CopyState::Unknown => Decision::wait_patient(Reason::StatusUnknown),
    }
}

fn keep(wanted: &Wanted, observed: &Observed, copy: &Copy) -> Decision<ImageEffect> {
    match copy.state {
        CopyState::Copying if observed.timed_out => return Decision::Blocked(Reason::CopyFailed),
        CopyState::Copying => return Decision::wait_minutes(Reason::Copying),
        CopyState::Failed => return Decision::Blocked(Reason::CopyFailed),
        CopyState::Unknown => return Decision::wait_patient(Reason::StatusUnknown),
        CopyState::Available => {}
    }
    match copy.protection {
        Protection::Plain => Decision::Blocked(Reason::NotEncrypted),
        Protection::OtherKey => Decision::Blocked(Reason::KeyMismatch),
        Protection::Unproven => Decision::wait_minutes(Reason::KeyMismatch),
        Protection::Exact => match observed.key.obstacle() {
            Some(obstacle) => Decision::Blocked(obstacle),
            None => improve(wanted, observed, copy),
        },
    }
}

/// Name, description and tags: all that may be changed of an image.
fn improve(wanted: &Wanted, observed: &Observed, copy: &Copy) -> Decision<ImageEffect> {
    let amendment = copy.amendment.clone();
    if !wanted.manage || amendment == Amendment::default() {
        return Decision::Settled;
    }
    match observed.refusal {
        Some(reason) => Decision::Blocked(reason),
        None => Decision::Do(ImageEffect::Amend { id: copy.id.clone(), amendment }),
    }
}

fn create(wanted: &Wanted, observed: &Observed) -> Decision<ImageEffect> {
    if observed.known.is_some() || wanted.adopt.is_some() || !wanted.manage {
        return Decision::Blocked(Reason::ExternalGone);
    }
    if observed.namesake.is_some() {
        return Decision::Blocked(Reason::AdoptionMismatch);
    }
    if let Some(reason) = observed.refusal {
        return Decision::Blocked(reason);
    }
    // The size first: an image that needs a ticket is refused before anything else is asked of the cloud.
    match observed.source {
        SourceFact::TooLarge { .. } => return Decision::Blocked(Reason::SourceTooLarge),
        SourceFact::Missing | SourceFact::Unasked => return Decision::Blocked(Reason::SourceNotFound),
        SourceFact::Unusable => return Decision::wait_patient(Reason::DependencyNotReady),
        SourceFact::NotReady => return Decision::wait_minutes(Reason::DependencyNotReady),
        SourceFact::Ready => {}
    }
    if let Some(obstacle) = observed.key.obstacle() {
        return Decision::Blocked(obstacle);
    }
    match observed.creation.step() {
        Step::Record { .. } if observed.queued_behind > 0 => Decision::wait_minutes(Reason::CopyQueued),
        Step::Record { attempt } => Decision::Do(ImageEffect::Claim(Take::Record { attempt })),
        Step::Replay { attempt } => Decision::Do(ImageEffect::Claim(Take::Replay { attempt })),
        Step::Send { attempt } => Decision::Do(ImageEffect::Copy { attempt }),
        Step::Appearing => Decision::wait_seconds(Reason::Copying),
        Step::Settle => Decision::wait_patient(Reason::Settling),
    }
}

/// Deletion: half a copy is cancelled whatever the policy says, because half an image is no use to anybody; but an object that
/// only observes changes nothing.
fn depart(
    manage: bool,
    delete_image: bool,
    delete_snapshots: bool,
    observed: &Observed,
) -> Decision<ImageEffect> {
    let own = || observed.copies.iter().filter(|copy| copy.own);
    let goes = |copy: &Copy| delete_image || (manage && copy.state == CopyState::Copying);
    // What would be deleted may be evidence.
    let doomed =
        own().any(goes) || (delete_image && delete_snapshots && !observed.leftover_snapshots.is_empty());
    if observed.key.is_revoked() && doomed {
        return Decision::Blocked(Reason::KeyRevoked);
    }
    // Gone before status names it, nobody could tell a deletion from a list that lags, and the object would have to wait for
    // its creation to age.
    if observed.known.is_none() && observed.creation.intent.is_some() && own().any(goes) {
        return Decision::wait_seconds(Reason::Deleting);
    }
    if let Some(copy) = own().find(|copy| manage && copy.state == CopyState::Copying) {
        return Decision::Do(ImageEffect::Cancel { id: copy.id.clone() });
    }
    if delete_image && let Some(copy) = own().next() {
        return match copy.state {
            CopyState::Unknown => Decision::wait_patient(Reason::StatusUnknown),
            // Once the image is gone, nothing but status says which snapshots stood behind it.
            _ if delete_snapshots && observed.unwritten_snapshots => Decision::wait_seconds(Reason::Deleting),
            _ => Decision::Do(ImageEffect::Delete { id: copy.id.clone() }),
        };
    }
    if delete_image
        && delete_snapshots
        && let Some(id) = observed.leftover_snapshots.first()
    {
        return Decision::Do(ImageEffect::DeleteSnapshot { id: id.clone() });
    }
    match observed.creation.nothing_in_flight(observed.known.is_some()) || !observed.copies.is_empty() {
        true => Decision::Settled,
        false => Decision::wait_patient(Reason::Settling),
    }
}

#[cfg(test)]
mod tests;
