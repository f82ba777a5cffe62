//! The last Events of an object.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use kube::api::ListParams;
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::cli::output;
use crate::cli::reading::within;

/// Events that are told.
const TOLD_MAX: usize = 8;
/// Events that are read, at most; an object has few, because they expire after an hour.
const READ_MAX: u32 = 500;

/// One Event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// When it came last.
    pub at: Option<Timestamp>,
    /// Normal or Warning.
    pub type_: String,
    /// Why.
    pub reason: String,
    /// What.
    pub message: String,
}

impl Told {
    /// For programs.
    pub fn json(&self) -> Value {
        let at = self.at.map(|at| at.to_string());
        json!({ "time": at, "type": self.type_, "reason": self.reason, "message": self.message })
    }
}

/// The last Events of the object with that uid, the oldest first; or why they cannot be read.
pub async fn read(client: &Client, namespace: Option<&str>, uid: &str) -> Result<Vec<Told>, String> {
    // Those of objects of the cluster are in namespace default.
    let api: Api<Event> = Api::namespaced(client.clone(), namespace.unwrap_or("default"));
    let params = ListParams::default().fields(&format!("involvedObject.uid={uid}")).limit(READ_MAX);
    let events = within(api.list(&params)).await.map_err(|error| error.to_string())?;
    let mut told: Vec<Told> = events.items.into_iter().map(one).collect();
    told.sort_by_key(|event| event.at);
    Ok(told.split_off(told.len().saturating_sub(TOLD_MAX)))
}

fn one(event: Event) -> Told {
    let text = |text: Option<String>| output::clean(&text.unwrap_or_default());
    let repeated = event.series.and_then(|series| series.last_observed_time).map(|time| time.0);
    let once = event.last_timestamp.map(|time| time.0).or(event.event_time.map(|time| time.0));
    Told {
        at: repeated.or(once).or(event.metadata.creation_timestamp.map(|time| time.0)),
        type_: text(event.type_),
        reason: text(event.reason),
        message: text(event.message),
    }
}
