//! What an EncryptedDisk may ask for, one thing at a time. Pure.

use super::{Amendment, Place};
use crate::decision::{Effect, Reason, Take};

/// What a creation makes. Both roles share the object's one recorded intent and its count of attempts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// The disk itself.
    #[default]
    Disk,
    /// The last snapshot of the source disk.
    Snapshot,
}

impl Role {
    /// The word in tokens and in status. Frozen: a changed word would double resources.
    pub fn word(self) -> &'static str {
        match self {
            Role::Disk => "disk",
            Role::Snapshot => "snapshot",
        }
    }
}

/// A mutation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum DiskEffect {
    /// Take the right to send a creation once.
    Claim(Role, Take),
    /// Send the recorded creation.
    Create {
        /// What it makes.
        role: Role,
        /// The attempt's number.
        attempt: u32,
    },
    /// Write down what is about to be done, or what was seen, so that it is not forgotten.
    Note(Noted),
    /// Attach the disk.
    Attach {
        /// The disk.
        id: String,
        /// Where.
        place: Place,
    },
    /// Detach the disk.
    Detach {
        /// The disk.
        id: String,
        /// The instance that has it.
        instance: String,
    },
    /// Detach the source disk.
    DetachSource {
        /// The source disk.
        id: String,
        /// The instance that has it.
        instance: String,
    },
    /// Set names, and whether the disk goes with its instance.
    Amend {
        /// The disk.
        id: String,
        /// What to set.
        amendment: Amendment,
    },
    /// Grow the disk.
    Resize {
        /// The disk.
        id: String,
        /// The new size in GiB.
        size_gib: u32,
        /// True for a disk in use.
        online: bool,
    },
    /// Delete the disk.
    Delete {
        /// The disk.
        id: String,
    },
    /// Delete the source disk, which the disk has replaced.
    RetireSource {
        /// The source disk.
        id: String,
    },
    /// Delete a snapshot that the operator took.
    DeleteSnapshot {
        /// The snapshot.
        id: String,
    },
}

/// What is written down before it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Noted {
    /// Where the disk is about to be attached.
    Place,
    /// Where the source disk is attached, and is about to be detached.
    Origin,
    /// That the successor was verified in its place.
    Replaced,
}

impl Effect for DiskEffect {
    fn claim(&self) -> Option<Take> {
        match self {
            DiskEffect::Claim(_, take) => Some(*take),
            _ => None,
        }
    }

    fn role(&self) -> Option<&'static str> {
        match self {
            // The disk's own role stays unwritten, as it was before there was another one.
            DiskEffect::Claim(Role::Snapshot, _) => Some(Role::Snapshot.word()),
            _ => None,
        }
    }

    fn records(&self) -> bool {
        matches!(self, DiskEffect::Note(_))
    }

    fn reason(&self) -> Reason {
        match self {
            DiskEffect::Note(Noted::Place) => Reason::Attaching,
            DiskEffect::Note(Noted::Origin) => Reason::Detaching,
            DiskEffect::Claim(Role::Snapshot, _) | DiskEffect::Create { role: Role::Snapshot, .. } => {
                Reason::Snapshotting
            }
            DiskEffect::Attach { .. } => Reason::Attaching,
            DiskEffect::Detach { .. } | DiskEffect::DetachSource { .. } => Reason::Detaching,
            DiskEffect::Note(Noted::Replaced)
            | DiskEffect::Delete { .. }
            | DiskEffect::RetireSource { .. }
            | DiskEffect::DeleteSnapshot { .. } => Reason::Deleting,
            DiskEffect::Claim(..)
            | DiskEffect::Create { .. }
            | DiskEffect::Amend { .. }
            | DiskEffect::Resize { .. } => Reason::Creating,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            DiskEffect::Claim(_, Take::Record { .. }) => "record",
            DiskEffect::Claim(_, Take::Replay { .. }) => "replay",
            DiskEffect::Create { role: Role::Disk, .. } => "create",
            DiskEffect::Create { role: Role::Snapshot, .. } => "snapshot",
            DiskEffect::Note(_) => "note",
            DiskEffect::Attach { .. } => "attach",
            DiskEffect::Detach { .. } => "detach",
            DiskEffect::DetachSource { .. } => "detach_source",
            DiskEffect::Amend { .. } => "amend",
            DiskEffect::Resize { .. } => "resize",
            DiskEffect::Delete { .. } => "delete",
            DiskEffect::RetireSource { .. } => "retire_source",
            DiskEffect::DeleteSnapshot { .. } => "delete_snapshot",
        }
    }
}
