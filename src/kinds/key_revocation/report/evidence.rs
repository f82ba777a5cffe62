//! The snapshots before the cut, and what is said where there are none. Pure.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

use super::super::api::Evidence;
use super::super::decide::{Deed, Observed, Wanted};
use super::{EVIDENCE, LIST_MAX, Pen, words};

impl Pen<'_> {
    /// Several processes ask with the same tokens: who was refused, or came too late, takes nothing from who was not.
    pub(super) fn take_evidence(&mut self, taken: Evidence) {
        let Some(old) = self.status.evidence.as_mut().filter(|old| old.missing.is_none()) else {
            self.status.evidence = Some(taken);
            return;
        };
        let all = (old.accepted + old.refused).max(taken.accepted + taken.refused);
        let both: BTreeSet<String> = old.snapshots.iter().chain(&taken.snapshots).cloned().collect();
        let named = u32::try_from(both.len()).unwrap_or(u32::MAX);
        // Lists that are cut short name less than was accepted.
        old.accepted = old.accepted.max(taken.accepted).max(named).min(all);
        old.refused = all - old.accepted;
        old.snapshots = both.into_iter().take(LIST_MAX).collect();
    }

    /// Says once that evidence was asked for and is not there: after the cut none can be taken.
    pub(super) fn miss_evidence(&mut self, wanted: &Wanted, observed: &Observed) {
        if !wanted.evidence || self.status.evidence.is_some() {
            return;
        }
        let Some(why) = words::no_evidence(observed, &self.status) else { return };
        let why: String = why.chars().take(512).collect();
        self.line(EVIDENCE, "0 disks", None, &why);
        let (requested_at, missing) = (self.now(), Some(why));
        self.status.evidence =
            Some(Evidence { requested_at, accepted: 0, refused: 0, snapshots: Vec::new(), missing });
    }
}

/// What one round of calls came to.
pub(super) fn of(deed: &Deed, requested_at: MicroTime) -> Evidence {
    let accepted = deed.details.iter().filter(|(_, outcome)| outcome.starts_with("s-"));
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    Evidence {
        requested_at,
        accepted: count(accepted.clone().count()),
        refused: count(deed.details.len() - accepted.clone().count()),
        snapshots: accepted.take(LIST_MAX).map(|(disk, snapshot)| format!("{disk}={snapshot}")).collect(),
        missing: None,
    }
}
