//! The other records in the folder of one. Two of one key count as two KeyRevocations of one cluster do: the key returns with the
//! last of them, and to what was recorded first.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::may_have_acted;
use crate::kinds::KeyRevocation;
use crate::kinds::key_revocation::api::Phase;
use crate::kinds::key_revocation::others::same_switch;

/// How the names of objects begin that are records. What somebody saved from a cluster is none: that cluster goes on with it.
pub const NAME_PREFIX: &str = "command-line-";

/// No record is larger, by far.
const BYTES_MAX: u64 = 16 * 1024 * 1024;

/// How long after its end a record still counts: so long a cut of it may arrive.
pub const LOOKS_BACK: Duration = Duration::from_secs(60);

/// What lies beside a record.
#[derive(Default)]
pub struct Neighbours {
    /// Records of the same key, or role, that are not over; each has its file for a name.
    pub records: Vec<KeyRevocation>,
    /// What could not be read, and why: there may be such a record in it.
    pub unread: Vec<String>,
}

/// Looks at every file of the record's folder whose name ends as a record's does.
pub fn look(path: &Path, own: &KeyRevocation) -> Neighbours {
    let mut found = Neighbours::default();
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut files: Vec<PathBuf> = match fs::read_dir(folder) {
        Ok(entries) => entries.filter_map(|entry| Some(entry.ok()?.path())).collect(),
        Err(error) => {
            found.unread.push(format!("{}: {error}", folder.display()));
            return found;
        }
    };
    files.sort();
    for file in files {
        let is_small_file =
            |file: &Path| fs::metadata(file).is_ok_and(|found| found.is_file() && found.len() <= BYTES_MAX);
        if file.extension().is_none_or(|ending| ending != "json") || !is_small_file(&file) {
            continue;
        }
        match fs::read(&file) {
            Ok(bytes) => found.records.extend(counted(&bytes, &file, own)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => found.unread.push(format!("{}: {error}", file.display())),
        }
    }
    found
}

/// The record in a file, if it is another one of the same switch and counts.
fn counted(bytes: &[u8], file: &Path, own: &KeyRevocation) -> Option<KeyRevocation> {
    let mut other: KeyRevocation = serde_json::from_slice(bytes).ok()?;
    let is_record = other.metadata.name.as_ref().is_some_and(|name| name.starts_with(NAME_PREFIX));
    let is_other = other.metadata.uid.is_some() && other.metadata.uid != own.metadata.uid;
    let counts = is_record && is_other && same_switch(&other, own) && may_have_acted(&other);
    if !counts || is_long_over(&other, jiff::Timestamp::now()) {
        return None;
    }
    let name: String = file.display().to_string().chars().filter(|c| !c.is_control()).collect();
    other.metadata.name = Some(name.trim_start_matches("./").to_owned());
    Some(other)
}

fn is_long_over(object: &KeyRevocation, now: jiff::Timestamp) -> bool {
    let Some(status) = &object.status else { return false };
    let long_ago = status
        .timings
        .restored_at
        .as_ref()
        .is_some_and(|at| at.0.checked_add(LOOKS_BACK).is_ok_and(|end| now >= end));
    status.phase == Some(Phase::Restored) && long_ago
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const KEY: &str = "key-a";

    fn record(uid: &str, key: &str, status: Value) -> Value {
        json!({
            "apiVersion": "ecskms.dev/v1alpha1", "kind": "KeyRevocation",
            "metadata": {"name": format!("{NAME_PREFIX}{key}"), "uid": uid, "generation": 1},
            "spec": {
                "region": "cn-hangzhou", "keyId": key, "desiredState": "Revoked",
                "reason": "a leaked credential", "requestedBy": "alice",
            },
            "status": status,
        })
    }

    fn counts(other: &Value) -> Option<String> {
        let own = record("u-own", KEY, json!({}));
        let own = serde_json::from_value(own).expect("a record");
        let bytes = serde_json::to_vec(other).expect("JSON");
        counted(&bytes, Path::new("./other.json"), &own).and_then(|found| found.metadata.name)
    }

    #[test]
    fn a_record_counts_that_may_still_hold_the_same_key() {
        let prior = json!({"keyState": "Enabled", "capturedAt": "2026-01-01T00:00:00.000000Z"});
        let live = json!({"phase": "Revoked", "priorState": prior});
        assert_eq!(counts(&record("u-1", KEY, live.clone())).as_deref(), Some("other.json"));
        assert_eq!(counts(&record("u-own", KEY, live.clone())), None, "a copy of itself");
        assert_eq!(counts(&record("u-1", "key-b", live.clone())), None, "another key");
        assert_eq!(counts(&record("u-1", KEY, json!({}))), None, "it did nothing");
        let mut saved = record("u-1", KEY, live);
        saved["metadata"]["name"] = json!("leak");
        assert_eq!(counts(&saved), None, "an object of a cluster");
        assert_eq!(counts(&json!({"kind": "Other"})), None);
    }

    #[test]
    fn a_folder_that_cannot_be_read_is_told() {
        let own = serde_json::from_value(record("u-own", KEY, json!({}))).expect("a record");
        let found = look(Path::new("/no/such/folder/record.json"), &own);
        assert!(found.records.is_empty() && found.unread.len() == 1, "{:?}", found.unread);
    }

    #[test]
    fn a_record_that_is_over_counts_as_long_as_its_cut_may_arrive() {
        let ended = |seconds: i64| {
            let at = jiff::Timestamp::now() - jiff::SignedDuration::from_secs(seconds);
            let prior = json!({"keyState": "Enabled", "capturedAt": "2026-01-01T00:00:00.000000Z"});
            let timings = json!({"restoredAt": format!("{at:.6}")});
            record("u-1", KEY, json!({"phase": "Restored", "priorState": prior, "timings": timings}))
        };
        assert!(counts(&ended(5)).is_some());
        assert_eq!(counts(&ended(90)), None);
    }
}
