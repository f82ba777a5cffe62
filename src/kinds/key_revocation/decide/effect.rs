//! What a revocation may do: mutations, and the records of those to come.

use crate::decision::{Effect, Reason, Take};

/// A mutation, or the record of one to come.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RevocationEffect {
    /// Record the prior state, and what is going to be stopped.
    Record,
    /// Ask for the snapshots.
    TakeEvidence,
    /// Send the stop calls.
    Stop,
    /// Switch off.
    Cut,
    /// Record that somebody switched it on, before it is switched off again.
    Reassert,
    /// Record what is going to be stopped although the cut is done.
    RecordStops,
    /// Record that the restoration begins.
    BeginRestore,
    /// Record that a cut was accepted which nobody may look at.
    NoteCut,
    /// Record that what was recorded stands again, or that the record of the key is closed, before machines are started: they may
    /// take long.
    EndRestore,
    /// Switch to what was recorded.
    Return {
        /// True: on.
        on: bool,
    },
    /// Start what was stopped.
    Start,
    /// Put the whole list where the cluster's people can read it.
    Publish,
    /// Write the journal's last entry.
    Farewell,
}

impl Effect for RevocationEffect {
    fn claim(&self) -> Option<Take> {
        None
    }

    fn records(&self) -> bool {
        use RevocationEffect::{BeginRestore, EndRestore, Farewell, NoteCut, Reassert, Record, RecordStops};
        matches!(self, Record | Reassert | RecordStops | NoteCut | BeginRestore | EndRestore | Farewell)
    }

    fn reason(&self) -> Reason {
        use RevocationEffect::{BeginRestore, EndRestore, Farewell, Publish, Return, Start};
        match self {
            BeginRestore | EndRestore | Return { .. } | Start => Reason::Restoring,
            Farewell => Reason::Deleting,
            Publish => Reason::Planning,
            _ => Reason::Revoking,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            RevocationEffect::Record => "record",
            RevocationEffect::TakeEvidence => "evidence",
            RevocationEffect::Stop => "stop",
            RevocationEffect::Cut => "cut",
            RevocationEffect::Reassert => "reassert",
            RevocationEffect::RecordStops => "record-stops",
            RevocationEffect::BeginRestore => "begin-restore",
            RevocationEffect::NoteCut => "note-cut",
            RevocationEffect::EndRestore => "end-restore",
            RevocationEffect::Return { .. } => "return",
            RevocationEffect::Start => "start",
            RevocationEffect::Publish => "publish",
            RevocationEffect::Farewell => "farewell",
        }
    }
}
