//! Sees whether a scan is due, begins it beside the passes, and brings what came of it. Reads only.
//!
//! A scan may take minutes, so no pass waits for it. What fails and may be there in a moment is tried again after the engine's
//! ordinary back-off; meanwhile what was read of other regions is kept.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;

use super::api::{EncryptionAudit, EncryptionAuditStatus};
use super::decide::{Desired, Observed, Scan, Wanted};
use super::notes::{Ending, Notes, Order, State, Turn};
use super::outcome::{ClusterOutcome, Outcome};
use super::report::{self, FINDINGS_MAX};
use super::scan::{self, Plan};
use crate::kind::{Fault, World, requested_at};

/// How soon regions are tried again that could not be read although they might.
const AGAIN_SECONDS: i64 = 600;
/// The shortest time from a scan to the one after it that the end of an exemption brings.
const SOON_SECONDS: i64 = 60;
/// How far a clock may have been set back before a scan that is due later than it can be is due now.
const CLOCK_SLACK_SECONDS: i64 = 60;

/// Everything that `decide` needs to know.
pub async fn observe(
    object: &EncryptionAudit,
    desired: &Desired,
    world: &World,
    notes: &Notes,
) -> Result<Observed, Fault> {
    let uid = object.metadata.uid.as_deref().unwrap_or_default();
    let Desired::Present(wanted) = desired else {
        notes.forget(uid);
        return Ok(Observed { scan: Scan::Resting, told: false });
    };
    let order = order(object);
    let nothing = EncryptionAuditStatus::default();
    let status = object.status.as_ref().unwrap_or(&nothing);
    let told = tells(status, &order);
    let answered = told && status.scanned_request == order.request;
    let now = world.clock.now().as_second();
    let mut gaps_only = false;
    let due = match notes.state(uid, &order) {
        State::Running => return Ok(Observed { scan: Scan::Running, told }),
        State::Failing(fault, idle) => {
            if idle {
                begin(object, wanted, world, notes, &order, true);
            }
            return Err(*fault);
        }
        State::Ended(mut outcome, full_at) => {
            let passing = outcome.gaps().any(|(_, gap)| gap.passing);
            let again = if passing { wanted.interval_seconds.min(AGAIN_SECONDS) } else { i64::MAX };
            let full_next = next_of_all(wanted, &outcome, full_at);
            outcome.next = full_next.min(outcome.at.saturating_add(again));
            notes.set_next(uid, outcome.next);
            let written = status.last_scan_time.as_ref().is_some_and(|time| time.0.as_second() == outcome.at);
            // An outcome that cannot be written does not keep the account from being looked at again.
            if !(answered && written) && now < outcome.next {
                return Ok(Observed { scan: Scan::Done(outcome), told });
            }
            gaps_only = answered && passing && now < full_next;
            !answered || is_due(status, wanted, now)
        }
        State::None => !answered || is_due(status, wanted, now),
    };
    if due {
        if gaps_only {
            notes.count_anew(uid);
        }
        begin(object, wanted, world, notes, &order, gaps_only);
    }
    Ok(Observed { scan: if due { Scan::Running } else { Scan::Resting }, told })
}

/// As what the object asks to be scanned.
pub fn order(object: &EncryptionAudit) -> Order {
    let request = requested_at(object).map(|value| value.chars().take(256).collect());
    Order { generation: object.metadata.generation.unwrap_or_default(), request }
}

/// True if status tells of a scan of this generation. Whoever asks for a look at what is unchanged takes nothing back of it; a look
/// that failed does, until the next scan.
fn tells(status: &EncryptionAuditStatus, order: &Order) -> bool {
    let same = status.last_scan_time.is_some() && status.scanned_generation == Some(order.generation);
    same && report::is_true(status, "Ready")
}

/// When all regions are to be read again: after the interval, or as soon as something is let off no longer.
fn next_of_all(wanted: &Wanted, outcome: &Outcome, full_at: i64) -> i64 {
    let end = wanted.policy.next_end(outcome.oldest()).unwrap_or(i64::MAX);
    (full_at + wanted.interval_seconds).min(end.max(outcome.at + SOON_SECONDS))
}

fn is_due(status: &EncryptionAuditStatus, wanted: &Wanted, now: i64) -> bool {
    let latest = now + wanted.interval_seconds + CLOCK_SLACK_SECONDS;
    status.next_scan_time.as_ref().is_none_or(|next| !(now + 1..=latest).contains(&next.0.as_second()))
}

fn begin(
    object: &EncryptionAudit,
    wanted: &Wanted,
    world: &World,
    notes: &Notes,
    order: &Order,
    gaps_only: bool,
) {
    let uid = object.metadata.uid.clone().unwrap_or_default();
    let turn = notes.begin(&uid, order, gaps_only);
    let ending = Ending::new(notes, &uid, turn.number, world.clock);
    // The cluster's nodes are in the operator's own account.
    let own = object.spec.account_ref.is_none();
    let (wanted, world, notes) = (wanted.clone(), world.clone(), notes.clone());
    tokio::spawn(async move {
        let mut ending = ending;
        let work = Work { wanted, world, notes, uid, own };
        let failed = work.scan(turn, &mut ending).await.err();
        ending.finish(failed);
    });
}

/// A scan beside the passes.
struct Work {
    wanted: Wanted,
    world: World,
    notes: Notes,
    uid: String,
    own: bool,
}

impl Work {
    async fn scan(&self, turn: Turn, ending: &mut Ending) -> Result<(), Fault> {
        let World { cloud, kube, settings, .. } = &self.world;
        let home = settings.home_region.as_deref();
        self.world.revocations_known().await?;
        let regions: BTreeSet<String> = match turn.regions {
            Some(regions) => regions,
            None if !self.wanted.regions.is_empty() => self.wanted.regions.iter().cloned().collect(),
            None => cloud.regions(home.unwrap_or(scan::HOME)).await?.into_iter().collect(),
        };
        let now = self.world.clock.now().as_second();
        let plan = Plan { policy: self.wanted.policy.clone(), keep: FINDINGS_MAX, now };
        let account = self.world.account.as_deref();
        let held = |region: &str, key: &str| self.world.revocations.holder(account, region, key).is_some();
        let (namespaces, namespaces_error) = match scan::namespaces(kube).await {
            Ok(found) => (found, None),
            Err(error) => (BTreeMap::new(), Some(error)),
        };
        let cluster = match self.own {
            true => scan::classes_of_cluster(cloud, kube, home, &plan, &held).await,
            false => ClusterOutcome::default(),
        };
        let cluster = ClusterOutcome { namespaces_error, ..cluster };
        self.notes.put_cluster(&self.uid, turn.number, cluster, &regions);
        let names: Vec<&String> = regions.iter().collect();
        for few in names.chunks(scan::REGIONS_AT_ONCE) {
            if !self.notes.is_current(&self.uid, turn.number) {
                return Ok(());
            }
            let plan = Plan { now: self.world.clock.now().as_second(), ..plan.clone() };
            let reads = few.iter().map(|name| scan::region(cloud, name, &plan, &namespaces, &held));
            for (name, read) in few.iter().zip(join_all(reads).await) {
                ending.take(name, read);
            }
        }
        Ok(())
    }
}
