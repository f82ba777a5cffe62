//! Kubernetes Events: one when an object needs a human, and one when it is well again. Progress is in status, not here.
//!
//! What goes well from the start is told by status alone: a thousand new disks are not a thousand Events. The emergency lane is
//! different, because each end of a revocation is something that people must hear of.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};

use super::controller::CALL_MAX;
use super::metrics::Metrics;
use crate::kind::{Kind, KindStatus, Lane};

/// The API server's limit for a note, in bytes.
const NOTE_MAX: usize = 1_024;

/// How long a pass of the emergency lane waits for an Event: the next change of its object may be an approval or a restoration.
const URGENT_PATIENCE: Duration = Duration::from_secs(1);

/// Writes Events; never holds a pass up with an error.
pub struct Announcer {
    recorder: Recorder,
    /// Objects, by uid, of which this process has told bad news and no good news since.
    unwell: Mutex<HashSet<String>>,
}

impl Announcer {
    /// Speaks as controller `ecskms`, instance `identity`.
    pub fn new(client: Client, identity: &str) -> Announcer {
        let reporter = Reporter { controller: "ecskms".to_owned(), instance: Some(identity.to_owned()) };
        Announcer { recorder: Recorder::new(client, reporter), unwell: Mutex::default() }
    }

    /// The object is gone.
    pub fn forget(&self, uid: &str) {
        self.unwell.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }

    /// True if this end must be told: bad news always, good news after bad.
    fn is_news<K: Kind>(&self, object: &K, good: bool, was_bad: bool) -> bool {
        let uid = object.meta().uid.clone().unwrap_or_default();
        let mut unwell = self.unwell.lock().unwrap_or_else(PoisonError::into_inner);
        match good {
            true => unwell.remove(&uid) || was_bad || K::LANE == Lane::Emergency,
            false => {
                unwell.insert(uid);
                true
            }
        }
    }

    /// Says that a condition which the kind names as an alarm has become true; Ready may stand beside it.
    pub async fn alarm<K: Kind>(
        &self,
        object: &K,
        status: &K::Status,
        metrics: &Metrics,
        patience: Duration,
    ) {
        let before = object.status().map(|status| status.shared().conditions.as_slice()).unwrap_or_default();
        let is_on =
            |condition: &&Condition| condition.status == "True" && K::ALARMS.contains(&&*condition.type_);
        for condition in status.shared().conditions.iter().filter(is_on) {
            // One that counts says another number.
            let same = |old: &Condition| (&old.type_, &old.message) == (&condition.type_, &condition.message);
            if !before.iter().filter(is_on).any(same) {
                let (reason, message) = (condition.reason.clone(), &condition.message);
                self.publish(object, EventType::Warning, reason, message, metrics, patience).await;
            }
        }
    }

    /// Says what the new status says: alarms, and if its Ready condition has come to another end than before and somebody should hear of it.
    pub async fn announce<K: Kind>(&self, object: &K, status: &K::Status, metrics: &Metrics) {
        let patience = if K::LANE == Lane::Emergency { URGENT_PATIENCE } else { CALL_MAX };
        self.alarm(object, status, metrics, patience).await;
        let end = |status: &K::Status| {
            let conditions = &status.shared().conditions;
            let stalled =
                conditions.iter().any(|condition| condition.type_ == "Stalled" && condition.status == "True");
            let ready = conditions.iter().find(|condition| condition.type_ == "Ready")?;
            let good = ready.status == "True";
            (good || stalled).then(|| (good, ready.reason.clone(), ready.message.clone()))
        };
        let Some((good, reason, message)) = end(status) else { return };
        let before = object.status().and_then(end);
        if before.as_ref().is_some_and(|(was_good, old_reason, _)| (*was_good, old_reason) == (good, &reason))
        {
            return;
        }
        if !self.is_news(object, good, before.is_some_and(|(was_good, _, _)| !was_good)) {
            return;
        }
        let type_ = if good { EventType::Normal } else { EventType::Warning };
        self.publish(object, type_, reason, &message, metrics, patience).await;
    }

    async fn publish<K: Kind>(
        &self,
        object: &K,
        type_: EventType,
        reason: String,
        message: &str,
        metrics: &Metrics,
        patience: Duration,
    ) {
        let event = Event {
            type_,
            reason,
            note: Some(bounded(message)),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        metrics.count_write(&K::kind(&()), "event");
        let (recorder, reference) = (self.recorder.clone(), object.object_ref(&()));
        let written = tokio::spawn(async move {
            match tokio::time::timeout(CALL_MAX, recorder.publish(&event, &reference)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!("event not written: {error}"),
                Err(_) => tracing::debug!("event not written in time"),
            }
        });
        // It goes on being written; only the pass does not wait for it any longer.
        let _ = tokio::time::timeout(patience, written).await;
    }
}

fn bounded(text: &str) -> String {
    let mut end = text.len().min(NOTE_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}
