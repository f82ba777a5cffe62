//! KeyRevocation: the emergency lever. ECS loses the use of one key, who is hit is said, and it is undone only on demand.
//!
//! Runs in the emergency lane: in every replica, without waiting for the lease. Everything it does is idempotent, every record is a
//! compare-and-swap, and nothing irreversible exists.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kube::core::DeserializeGuard;
use kube::runtime::watcher::Event;
use kube::{Api, Client};
use tokio::time::Instant;

use crate::decision::report::Report;
use crate::decision::{Decision, Reason};
use crate::kind::cluster;
use crate::kind::revocations::{Hit, Hold, Incident};
use crate::kind::{Call, Fault, Invalid, Kind, KindStatus, Lane, Owner, World};
use crate::resource::{AccountReference, SharedStatus, check};

pub mod act;
pub mod api;
pub mod blast;
pub mod decide;
pub mod foresee;
pub mod inventory;
pub mod journal;
pub mod notes;
pub mod observe;
pub mod others;
pub mod own_nodes;
pub mod promise;
pub mod report;
pub mod request;
mod warm;

use api::{DesiredState, Method, Phase, RestoreTo, RunningInstances};
pub use api::{KeyRevocation, KeyRevocationSpec, KeyRevocationStatus};
use decide::{Desired, Goal, Lever, Observed, RevocationEffect, RevocationMachine, Running, Wanted};
use notes::Notes;

/// Characters of a reason.
const REASON_MIN: usize = 10;
/// How often connections are used so that they stay open; servers and this side close idle ones after 15 seconds.
const WARM_EVERY: Duration = Duration::from_secs(10);
/// How soon after the first round the second one comes.
const WARM_FIRST: Duration = Duration::from_secs(1);
/// How often the keys of this cluster's own nodes are looked up for the guard against locking oneself out, in such rounds.
const OWN_KEYS_EVERY: u32 = 30;
/// How often the nodes are listed, to see whether there is another one.
const OWN_NODES_EVERY: u32 = 3;

impl KindStatus for KeyRevocationStatus {
    fn shared(&self) -> &SharedStatus {
        &self.shared
    }

    fn shared_mut(&mut self) -> &mut SharedStatus {
        &mut self.shared
    }
}

impl Kind for KeyRevocation {
    type Machine = RevocationMachine;
    type Status = KeyRevocationStatus;
    type Shared = Notes;
    const READS: &[&str] = foresee::READS;
    const LANE: Lane = Lane::Emergency;
    const ALARMS: &[&str] = &["JournalBroken", "RevocationReverted"];
    /// Not the plan's own: a list that was incomplete stays so in a record of what is over.
    const CONCERNS: &[&str] = &["Contained", "Verified"];

    fn api(client: Client, _namespace: Option<&str>) -> Api<Self> {
        Api::all(client)
    }

    fn guarded(client: Client, _namespace: Option<&str>) -> Api<DeserializeGuard<Self>> {
        Api::all(client)
    }

    fn account(&self) -> Option<&AccountReference> {
        self.spec.account_ref.as_ref()
    }

    fn status(&self) -> Option<&KeyRevocationStatus> {
        self.status.as_ref()
    }

    fn desired(&self) -> Result<Desired, Invalid> {
        if self.metadata.deletion_timestamp.is_some() {
            return Ok(Desired::Absent);
        }
        wanted(&self.spec).map(Desired::Present)
    }

    async fn observe(&self, desired: &Desired, world: &World, notes: &Notes) -> Result<Observed, Fault> {
        observe::observe(self, desired, world, notes).await
    }

    async fn act(&self, world: &World, notes: &Notes, effect: &RevocationEffect) -> Result<(), Fault> {
        act::act(self, world, notes, effect).await
    }

    fn request(
        &self,
        _desired: &Desired,
        _observed: &Observed,
        _owner: &Owner,
        _attempt: u32,
    ) -> BTreeMap<String, String> {
        // A revocation creates no resource that it could own.
        BTreeMap::new()
    }

    fn foresee(
        &self,
        desired: &Desired,
        observed: &Observed,
        decision: &Decision<RevocationEffect>,
    ) -> Option<Observed> {
        foresee::after(self, desired, observed, decision)
    }

    fn calls(
        &self,
        desired: &Desired,
        observed: &Observed,
        owner: &Owner,
        effect: &RevocationEffect,
    ) -> Vec<Call> {
        foresee::calls(self, desired, observed, owner, effect)
    }

    fn remember(preview: &Observed, observed: &mut Observed) {
        if observed.inventory == decide::Inventory::Unasked {
            observed.inventory = preview.inventory.clone();
        }
    }

    /// Who is hit is part of what would be done, and is only shown by a plan before the cut.
    fn preview(&self) -> Option<Self> {
        let untouched = self.status.as_ref().is_none_or(|status| status.prior_state.is_none());
        let revokes = self.spec.desired_state == DesiredState::Revoked && untouched;
        let spec = KeyRevocationSpec { desired_state: DesiredState::Planned, ..self.spec.clone() };
        revokes.then(|| KeyRevocation { spec, ..self.clone() })
    }

    fn report(
        &self,
        desired: &Desired,
        observed: &Observed,
        decision: &Decision<RevocationEffect>,
        now: jiff::Timestamp,
    ) -> Report<KeyRevocationStatus> {
        report::report(self, desired, observed, decision, now)
    }

    fn settled(&self, desired: &Desired, observed: &Observed) -> Reason {
        let Desired::Present(wanted) = desired else { return Reason::Deleting };
        match promise::goal(wanted, observed) {
            Goal::Planned => Reason::Planned,
            Goal::Revoked => Reason::Revoked,
            Goal::Restored => Reason::Restored,
        }
    }

    /// After the cut and not before: deleting the object undoes nothing, so nothing is lost without it but the journal's last
    /// entry, and the cut does not wait for a write that it does not need.
    fn wants_finalizer(&self, _decision: &Decision<RevocationEffect>) -> bool {
        self.status.as_ref().is_some_and(|status| status.timings.revoked_at.is_some())
    }

    /// Logs what the journal got: whoever may write status can write the journal anew as a whole, but not the log.
    fn written(&self, after: &Self) {
        let last = |object: &Self| {
            object.status.as_ref().and_then(|status| status.journal.last()).map_or(0, |entry| entry.seq)
        };
        let (known, name) = (last(self), after.metadata.name.as_deref());
        let journal = after.status.as_ref().map(|status| status.journal.as_slice()).unwrap_or_default();
        for entry in journal.iter().filter(|entry| entry.seq > known) {
            let api::JournalEntry { seq, time, action, target, request_id, result, hash } = entry;
            let (uid, time, request_id) =
                (after.metadata.uid.as_deref(), time.0.to_string(), request_id.as_deref());
            tracing::info!(
                revocation = name,
                uid,
                seq,
                time,
                action,
                target,
                request_id,
                result,
                hash,
                "journal entry"
            );
        }
    }

    async fn last_words(&self, world: &World) -> Result<(), Fault> {
        act::publish::journal(self, world).await
    }

    fn incident(&self) -> Option<Incident> {
        let status = self.status.clone().unwrap_or_default();
        let is_over = status.phase == Some(Phase::Restored) || was_never_revoked(self);
        let phase = status.phase.map_or_else(|| "Ordered".to_owned(), |phase| format!("{phase:?}"));
        let hit = status.blast_radius.filter(api::BlastRadius::is_listed).map(|blast| Hit {
            instances: blast.instances_affected.unwrap_or_default(),
            disks: blast.disks.unwrap_or_default(),
            namespaces: blast.namespaces,
            is_complete: blast.complete,
        });
        let still_readable = status.still_readable.as_ref().map(|readable| readable.count);
        let readers = status.still_readable.into_iter().flat_map(|readable| readable.instances);
        let readers = readers.map(|instance| instance.id).collect();
        (!is_over).then(|| Incident {
            hold: hold_of(self),
            is_held: is_live(self),
            phase,
            still_readable,
            readers,
            hit,
        })
    }

    fn notice(event: &Event<Self>, world: &World) {
        let uid = |object: &Self| object.metadata.uid.clone().unwrap_or_default();
        match event {
            Event::Init => world.revocations.begin_list(),
            Event::InitDone => world.revocations.end_list(),
            Event::Apply(object) | Event::InitApply(object) => {
                if matches!(event, Event::Apply(_)) {
                    note_creation(object, world);
                }
                let account = object.spec.account_ref.as_ref().map(|account| account.name.as_str());
                world.revocations.meet(&object.spec.region, account);
                world.revocations.set(&uid(object), is_live(object).then(|| hold_of(object)));
            }
            Event::Delete(object) => world.revocations.set(&uid(object), None),
        }
    }

    fn unserved(world: &World) {
        world.revocations.cannot_be();
    }

    async fn companion(world: &World, notes: &Notes) {
        let (mut round, mut again) = (0_u32, false);
        loop {
            let own_keys = async {
                if round.is_multiple_of(OWN_NODES_EVERY) {
                    // Once more after a change: a new node may not say at once which instance it is.
                    again =
                        look_at_own_keys(world, notes, again || round.is_multiple_of(OWN_KEYS_EVERY)).await;
                }
            };
            tokio::join!(own_keys, warm::keep(world));
            // The first round may come before the first list, which names the regions and accounts.
            tokio::time::sleep(if round == 0 { WARM_FIRST } else { WARM_EVERY }).await;
            round = round.wrapping_add(1);
        }
    }
}

/// Lists the keys of this cluster's own nodes, if there is another node or `anyway`. True if there is another one.
async fn look_at_own_keys(world: &World, notes: &Notes, anyway: bool) -> bool {
    let look = async {
        let nodes = cluster::node_uids(&world.kube).await.map_err(|error| error.to_string())?;
        let changed = notes.own_nodes().as_ref() != Some(&nodes);
        if anyway || changed {
            notes.set_own_keys(inventory::own_keys(&world.cloud, &world.kube).await?, nodes);
        }
        Ok::<bool, String>(changed)
    };
    look.await.unwrap_or_else(|error| {
        notes.miss_own_keys();
        tracing::warn!(
            "the keys of this cluster's own nodes could not be listed; what was known before guards against revoking them: {error}"
        );
        true
    })
}

/// A new object that the watch brings within a moment of its creation is as fresh as one that was read.
fn note_creation(object: &KeyRevocation, world: &World) {
    let Some(created) =
        object.metadata.creation_timestamp.as_ref().filter(|_| object.metadata.generation == Some(1))
    else {
        return;
    };
    // Not if the cluster's clock is ahead of this one: then nobody can say how long ago it was.
    let age = Duration::try_from(world.clock.now().duration_since(created.0)).ok();
    if let Some(asked) = age.and_then(|age| Instant::now().checked_sub(age)) {
        world.fresh.note(object, asked);
    }
}

/// True from the record of the prior state until that state stands again.
pub fn is_live(object: &KeyRevocation) -> bool {
    let Some(status) = &object.status else { return false };
    status.prior_state.is_some()
        && status.timings.restored_at.is_none()
        && status.phase != Some(Phase::Restored)
}

/// True if the object's cut may be under way although nothing is recorded.
pub fn cuts_at_once(object: &KeyRevocation) -> bool {
    let leaving = object.metadata.deletion_timestamp.is_some();
    !leaving && !was_held(object) && wanted(&object.spec).is_ok_and(|wanted| promise::cuts_at_once(&wanted))
}

/// True if a cut of the object may have come, or be on its way, although nothing is recorded. Also once its end was asked for.
pub fn may_have_cut(object: &KeyRevocation) -> bool {
    !was_never_revoked(object)
        && !was_held(object)
        && wanted(&object.spec).is_ok_and(|wanted| promise::needs_no_record(&wanted))
}

/// What the object goes back to, by its record or else by its own declaration: the word, and what of the role's policies it means.
pub fn goes_back_to(object: &KeyRevocation) -> Option<(String, Option<Vec<String>>)> {
    let recorded = object.status.as_ref().and_then(|status| status.prior_state.as_ref());
    match recorded {
        Some(prior) => Some((prior.key_state.clone(), prior.ecs_role_policies.clone())),
        // A declaration counts only where a cut may stand on it: what was held back, or never asked for, has nothing to restore.
        None => may_have_cut(object).then(|| promise::declared(lever(&object.spec))),
    }
}

/// True if status says that it was held back: then the record comes first, so that without one there was no cut.
fn was_held(object: &KeyRevocation) -> bool {
    object.status.as_ref().is_some_and(|status| status.phase == Some(Phase::Held))
}

fn was_never_revoked(object: &KeyRevocation) -> bool {
    match object.spec.desired_state {
        DesiredState::Planned => true,
        DesiredState::Revoked => false,
        DesiredState::Restored => object.metadata.generation == Some(1),
    }
}

/// True if the object still wants the key to stay away: a drill that has run its time does not.
fn keeps(object: &KeyRevocation, now: jiff::Timestamp) -> bool {
    let over = || {
        let drill = object.spec.drill?;
        let revoked = object.status.as_ref()?.timings.revoked_at.as_ref()?;
        let minutes = jiff::SignedDuration::from_mins(i64::from(drill.restore_after_minutes));
        Some(now >= revoked.0.checked_add(minutes).ok()?)
    };
    object.spec.desired_state == DesiredState::Revoked && !over().unwrap_or(false)
}

/// What a live revocation holds.
pub fn hold_of(object: &KeyRevocation) -> Hold {
    Hold {
        name: object.metadata.name.clone().unwrap_or_default(),
        account: object.spec.account_ref.as_ref().map(|account| account.name.clone()),
        region: object.spec.region.clone(),
        key_id: observe::named_key(object).map(str::to_owned),
    }
}

fn lever(spec: &KeyRevocationSpec) -> Lever {
    match spec.method {
        Method::DisableKey => Lever::Key,
        Method::DetachEcsRole => Lever::Role,
    }
}

/// The spec, checked once more: objects may have been stored around the schema's rules.
fn wanted(spec: &KeyRevocationSpec) -> Result<Wanted, Invalid> {
    check_key(&spec.key_id)?;
    check::place(&spec.region).map_err(|problem| Invalid::field("spec.region", problem))?;
    if spec.reason.trim().chars().count() < REASON_MIN {
        return Err(Invalid::field("spec.reason", "must say in 10 characters or more why"));
    }
    if spec.requested_by.trim().is_empty() {
        return Err(Invalid::field("spec.requestedBy", "must name who asks for it"));
    }
    if spec.approvals.iter().any(|approval| approval.approver == spec.requested_by) {
        return Err(Invalid::field("spec.approvals", "whoever asked for the revocation cannot approve it"));
    }
    if spec.method == Method::DetachEcsRole && !spec.safety.acknowledge_account_wide {
        return Err(Invalid::field(
            "spec.safety.acknowledgeAccountWide",
            "must be true for method DetachEcsRole, which hits every customer key in every region of the account",
        ));
    }
    let by_list = spec.safety.max_affected_instances.is_some() || spec.safety.acknowledged_digest.is_some();
    if spec.method == Method::DetachEcsRole && by_list {
        return Err(Invalid::field(
            "spec.safety",
            "must have neither maxAffectedInstances nor acknowledgedDigest with method DetachEcsRole, which hits more than is listed",
        ));
    }
    let approvers: BTreeSet<&str> =
        spec.approvals.iter().map(|approval| approval.approver.as_str()).collect();
    let approvals = u32::try_from(approvers.len()).unwrap_or(u32::MAX);
    Ok(Wanted {
        goal: match spec.desired_state {
            DesiredState::Planned => Goal::Planned,
            DesiredState::Revoked => Goal::Revoked,
            DesiredState::Restored => Goal::Restored,
        },
        lever: lever(spec),
        declared: spec.restore_to == RestoreTo::Enabled,
        running: match spec.running_instances {
            RunningInstances::Leave => Running::Leave,
            RunningInstances::PerInstance => Running::PerInstance,
            RunningInstances::Stop => Running::Stop,
            RunningInstances::ForceStop => Running::ForceStop,
        },
        evidence: spec.evidence_snapshots,
        max_affected: spec.safety.max_affected_instances,
        digest: spec.safety.acknowledged_digest.clone(),
        allow_self_lockout: spec.safety.allow_self_lockout,
        approvals_missing: spec.approvals_required.saturating_sub(approvals),
        drill: spec.drill.is_some(),
    })
}

/// An id and nothing else: what an alias points at can be changed during an attack.
fn check_key(key_id: &str) -> Result<(), Invalid> {
    if key_id.starts_with("alias/acs/") {
        return Err(Invalid {
            reason: Reason::ServiceKeyNotRevocable,
            message: format!(
                "spec.keyId: {key_id} is the key of a cloud service, which can never be disabled"
            ),
        });
    }
    let plain = key_id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    match plain && !key_id.is_empty() && key_id.len() <= 64 {
        true => Ok(()),
        false => Err(Invalid::field(
            "spec.keyId",
            "must be the id of a key, never an alias or an ARN; DescribeKey shows the id",
        )),
    }
}

#[cfg(test)]
mod tests;
