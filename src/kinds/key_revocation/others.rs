//! Looks at the other revocations of the same switch: whose record counts, and who still wants it off.

use kube::Api;
use kube::api::ListParams;

use super::api::KeyRevocation;
use super::decide::{Goal, KeyCheck, Lever, Observed, Stage, Switch, Wanted};
use super::observe::{stage, switch_recorded};
use crate::kind::{Fault, World};

/// The revocations beside this one. Asked of the server itself where the answer changes what is done: before a state that another
/// revocation has made is taken for the prior one, and before the key is given back. Never before a cut that is due.
pub async fn look_at_others(
    object: &KeyRevocation,
    wanted: &Wanted,
    goal: Goal,
    world: &World,
    observed: &mut Observed,
) -> Result<(), Fault> {
    let uid = object.metadata.uid.as_deref().unwrap_or_default();
    let capturing = goal == Goal::Revoked
        && !wanted.declared
        && observed.stage == Stage::Fresh
        && !matches!(observed.switch, Switch::On | Switch::Missing)
        && observed.key == KeyCheck::Customer;
    if !capturing && goal != Goal::Restored {
        let hold = super::hold_of(object);
        observed.holder = world.revocations.others(uid, &hold).into_iter().next();
        return Ok(());
    }
    let api: Api<KeyRevocation> = Api::all(world.kube.clone());
    let list = world.read(api.list(&ListParams::default())).await?;
    let mut others: Vec<KeyRevocation> = list
        .items
        .into_iter()
        .filter(|other| other.metadata.uid.as_deref() != Some(uid) && same_switch(other, object))
        .filter(|other| is_recorded(other) || super::may_have_cut(other))
        .collect();
    others.sort_by_key(|other| (captured_at(other), other.metadata.uid.clone()));
    // Also one that is restored, as long as a late cut of it may have made the state that is seen here.
    let is_closed = |other: &KeyRevocation| {
        other.status.as_ref().is_some_and(|status| status.timings.closed_at.is_some())
    };
    let first = others.iter().find(|other| !is_closed(other));
    if let Some(other) = first.filter(|_| capturing) {
        inherit(object, other, observed);
    }
    if goal == Goal::Restored {
        let done = |other: &KeyRevocation| {
            other.status.as_ref().is_some_and(|status| stage(status) == Stage::Restored)
        };
        observed.unfinished = others.iter().any(|other| !done(other));
        let own = (captured_at(object), uid);
        let before = |other: &&KeyRevocation| {
            let theirs = (captured_at(other), other.metadata.uid.as_deref().unwrap_or_default());
            is_recorded(other) && !is_closed(other) && (own.0.is_none() || theirs < own)
        };
        if let Some(other) = others.iter().find(before) {
            inherit(object, other, observed);
        }
    }
    let wants_it = |other: &&KeyRevocation| {
        (super::is_live(other) || (!is_recorded(other) && super::cuts_at_once(other)))
            && super::keeps(other, world.clock.now())
    };
    let holder = others.iter().find(wants_it).and_then(|other| other.metadata.name.clone());
    observed.holder = holder;
    Ok(())
}

/// Takes what another revocation goes back to for what this one goes back to, if that differs from what is recorded here: two
/// records of one switch that differ would each undo what the other gives back.
fn inherit(object: &KeyRevocation, other: &KeyRevocation, observed: &mut Observed) {
    let Some((word, policies)) = super::goes_back_to(other) else { return };
    let switch = switch_recorded(other, &word, policies.as_deref());
    if observed.prior == Some(switch) {
        return;
    }
    observed.prior = observed.prior.map(|_| switch);
    observed.inherited = Some((other.metadata.name.clone().unwrap_or_default(), switch, word));
    if super::lever(&object.spec) == Lever::Role {
        observed.policies = policies;
    }
}

fn captured_at(object: &KeyRevocation) -> Option<jiff::Timestamp> {
    Some(object.status.as_ref()?.prior_state.as_ref()?.captured_at.0)
}

fn is_recorded(object: &KeyRevocation) -> bool {
    object.status.as_ref().is_some_and(|status| status.prior_state.is_some())
}

/// True if both are about one key, or one role.
pub fn same_switch(a: &KeyRevocation, b: &KeyRevocation) -> bool {
    let lever = super::lever(&a.spec);
    let account =
        |object: &KeyRevocation| object.spec.account_ref.as_ref().map(|account| account.name.clone());
    a.spec.method == b.spec.method
        && (lever == Lever::Key || account(a) == account(b))
        && (lever == Lever::Role || (a.spec.region == b.spec.region && a.spec.key_id == b.spec.key_id))
}
