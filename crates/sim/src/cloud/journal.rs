//! The record of every request, and the counters, for tests and for people.
//!
//! Deliberately without secrets: signatures, tokens, passwords and user data never enter it; a ClientToken
//! enters as a hash.

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::names::hex;

/// The most requests that are kept; older ones fall out, their counts stay.
const ENTRIES_MAX: usize = 50_000;

/// One request.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Counts from 1.
    pub number: u64,
    /// Simulated time of arrival.
    pub time: String,
    /// Real milliseconds from the start of the simulation to the arrival.
    pub arrived_milliseconds: f64,
    /// Real milliseconds until the answer; absent while the call is under way.
    pub took_milliseconds: Option<f64>,
    /// `ecs`, `kms`, `ram`, `sts`, or empty.
    pub service: String,
    /// The action.
    pub action: String,
    /// The region that the call was taken to concern.
    pub region: String,
    /// The parameters with everything secret removed.
    pub parameters: Value,
    /// A short hash of the ClientToken.
    pub client_token_hash: Option<String>,
    /// The account that it was performed in, or refused for; empty if the caller was not recognised.
    pub account: String,
    /// True once the action has been performed successfully, whatever the caller was told.
    pub performed: bool,
    /// The HTTP status; absent while under way and when the connection was dropped.
    pub status: Option<u16>,
    /// `OK`, the error code, or what a fault did.
    pub code: String,
    /// The request id.
    pub request_id: String,
    /// True if a planned fault struck.
    pub fault: bool,
}

/// The record.
#[derive(Clone, Debug, Default)]
pub struct Journal {
    entries: VecDeque<Entry>,
    count: u64,
    /// Answers by `service:Action` and code.
    pub counters: BTreeMap<String, BTreeMap<String, u64>>,
}

impl Journal {
    /// Adds a request on its arrival and answers its number.
    pub fn open(&mut self, mut entry: Entry) -> u64 {
        self.count += 1;
        entry.number = self.count;
        if self.entries.len() >= ENTRIES_MAX {
            self.entries.pop_front();
        }
        self.entries.push_back(entry);
        self.count
    }

    /// Notes that the action took effect, before anybody is told.
    pub fn mark_performed(&mut self, number: u64) {
        if let Some(entry) = self.entry(number) {
            entry.performed = true;
        }
    }

    /// Notes whose account the call concerns.
    pub fn mark_account(&mut self, number: u64, account: &str) {
        if let Some(entry) = self.entry(number) {
            entry.account = account.to_string();
        }
    }

    /// Completes a request.
    pub fn close(&mut self, number: u64, change: impl FnOnce(&mut Entry)) {
        let Some(entry) = self.entry(number) else { return };
        change(entry);
        let action = format!("{}:{}", entry.service, entry.action);
        let code = entry.code.clone();
        *self.counters.entry(action).or_default().entry(code).or_default() += 1;
    }

    fn entry(&mut self, number: u64) -> Option<&mut Entry> {
        let first = self.entries.front()?.number;
        self.entries.get_mut(usize::try_from(number.checked_sub(first)?).ok()?)
    }

    /// The kept requests after number `after`, oldest first.
    pub fn since(&self, after: u64) -> Vec<&Entry> {
        self.entries.iter().filter(|entry| entry.number > after).collect()
    }
}

/// A short hash by which equal tokens can be recognised.
pub fn token_hash(token: &str) -> String {
    hex(&Sha256::digest(token)[..6])
}
