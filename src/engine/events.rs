//! Kubernetes Events: one when an object becomes Ready, and one when it needs a human. Progress is in status, not here.

use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};

use super::metrics::Metrics;
use crate::kind::{Kind, KindStatus};

/// The API server's limit for a note, in bytes.
const NOTE_MAX: usize = 1_024;

/// Writes Events; never holds a pass up with an error.
pub struct Announcer {
    recorder: Recorder,
}

impl Announcer {
    /// Speaks as controller `ecskms`, instance `identity`.
    pub fn new(client: Client, identity: &str) -> Announcer {
        let reporter = Reporter { controller: "ecskms".to_owned(), instance: Some(identity.to_owned()) };
        Announcer { recorder: Recorder::new(client, reporter) }
    }

    /// Says what the new status says, if its Ready condition has come to another end than before.
    pub async fn announce<K: Kind>(&self, object: &K, status: &K::Status, metrics: &Metrics) {
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
        if before.is_some_and(|(was_good, old_reason, _)| (was_good, &old_reason) == (good, &reason)) {
            return;
        }
        let event = Event {
            type_: if good { EventType::Normal } else { EventType::Warning },
            reason,
            note: Some(bounded(&message)),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        metrics.count_write(&K::kind(&()), "event");
        if let Err(error) = self.recorder.publish(&event, &object.object_ref(&())).await {
            tracing::debug!("event not written: {error}");
        }
    }
}

fn bounded(text: &str) -> String {
    let mut end = text.len().min(NOTE_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}
