//! What a revocation promises, as predicates on what was seen. Pure; `decide` strives for it, models check it.

use super::decide::{
    Deed, Desired, ECS_GRANT, Goal, Inventory, Lever, Observed, Running, Stage, Switch, Wanted,
};
use crate::decision::Reason;

/// The calls that switch off, as the journal names them.
pub const CUTS: [&str; 2] = ["DisableKey", "DetachPolicyFromRole"];
/// The result of a call that the cloud accepted, as the journal names it.
pub const ACCEPTED: &str = "Accepted";
/// The calls that switch on.
pub const RETURNS: [&str; 2] = ["EnableKey", "AttachPolicyToRole"];

/// The condition that stands while the guard of this cluster's own nodes holds an order back. It outlasts whatever Ready says.
pub const SELF_LOCKOUT: &str = "SelfLockout";

/// True while the observed state equals the one that is asked for.
pub fn holds(desired: &Desired, observed: &Observed) -> bool {
    let Desired::Present(wanted) = desired else { return observed.farewell };
    match goal(wanted, observed) {
        Goal::Planned => matches!(&observed.inventory, Inventory::Done(blast) if blast.complete()),
        Goal::Revoked => observed.prior.is_some() && rejected(observed.switch),
        // Once it was given back and nothing of the revocation can arrive any more, what others do with it is theirs.
        Goal::Restored if observed.stage == Stage::Restored && observed.closed => true,
        Goal::Restored => observed.prior == Some(observed.switch) && observed.holder.is_none(),
    }
}

/// What is asked for now: a drill that has run its time asks for its end.
pub fn goal(wanted: &Wanted, observed: &Observed) -> Goal {
    match wanted.goal {
        Goal::Revoked if wanted.drill && observed.drill_over => Goal::Restored,
        goal => goal,
    }
}

/// True if this process has cut, and status does not say so yet.
pub fn has_cut(observed: &Observed) -> bool {
    tell_cut(&observed.deeds)
}

/// True if a cut of these was accepted.
pub fn tell_cut(deeds: &[Deed]) -> bool {
    deeds.iter().any(|deed| CUTS.contains(&deed.action) && deed.result == ACCEPTED)
}

/// True once what becomes of the key is its owner's business again.
pub fn closes(observed: &Observed) -> bool {
    observed.stage == Stage::Restored
        && observed.aged
        && !observed.closed
        && !observed.unfinished
        && observed.prior == Some(observed.switch)
}

/// True if no new use of the key can begin.
pub fn rejected(switch: Switch) -> bool {
    matches!(switch, Switch::Off | Switch::Deletion | Switch::Import)
}

/// True if a step before the cut wants the list of what is hit.
pub fn needs_inventory(wanted: &Wanted) -> bool {
    demands_inventory(wanted) || wanted.evidence || wanted.running != Running::Leave
}

/// True if the cut needs nothing but the object: what it goes back to is declared, and nothing is to be done before it.
pub fn cuts_at_once(wanted: &Wanted) -> bool {
    wanted.goal == Goal::Revoked && needs_no_record(wanted)
}

/// True if nothing had to be written down before the cut, so that it may have come although nothing is.
pub fn needs_no_record(wanted: &Wanted) -> bool {
    wanted.declared && wanted.approvals_missing == 0 && !needs_inventory(wanted)
}

/// What a declared end means, in the words of a record: the state of the key or of the role, and the role's policies.
pub fn declared(lever: Lever) -> (String, Option<Vec<String>>) {
    match lever {
        Lever::Key => ("Enabled".to_owned(), None),
        Lever::Role => ("Attached".to_owned(), Some(vec![ECS_GRANT.to_owned()])),
    }
}

/// True if the cut must be held back without a complete list.
pub fn demands_inventory(wanted: &Wanted) -> bool {
    wanted.max_affected.is_some() || wanted.digest.is_some()
}

/// Whether to switch on or off to come from `now` to `prior`; or why nobody but a human can.
///
/// Deletions are neither cancelled nor scheduled: the first would enable the key whatever it was, the second is final.
pub fn way_back(prior: Switch, now: Switch) -> Result<bool, Reason> {
    match (prior, now) {
        (_, Switch::Deletion) => Err(Reason::KeyPendingDeletion),
        (_, Switch::Import) => Err(Reason::KeyPendingImport),
        (_, Switch::Missing | Switch::Unasked) => Err(Reason::KeyNotFound),
        (Switch::On, Switch::Off | Switch::Unknown | Switch::On) => Ok(true),
        (Switch::Off, Switch::On | Switch::Unknown | Switch::Off) => Ok(false),
        _ => Err(Reason::PriorStateUnreachable),
    }
}
