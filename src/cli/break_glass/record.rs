//! One KeyRevocation in a file, behind as much of the Kubernetes API as the loop asks for.
//!
//! Every write is a compare-and-swap, and is on disk before it is answered: a cut whose record cannot be written does not happen.
//! A list brings the other records of the folder too ([`neighbours`]). Whatever else is asked for is answered 503, so that the list of what is hit names it as missing.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path as FilePath, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, patch, post};
use axum::{Json, Router};
use kube::{Client, CustomResourceExt, Resource};
use serde_json::{Value, json};

use super::neighbours;
use crate::kinds::KeyRevocation;

/// The record. Clones share it.
#[derive(Clone)]
pub struct Record {
    shared: Arc<Shared>,
}

struct Shared {
    object: Mutex<KeyRevocation>,
    path: Option<PathBuf>,
    others: Others,
    unwritten: Mutex<Option<Unwritten>>,
}

/// What could not be written.
#[derive(Clone)]
pub struct Unwritten {
    /// The record as it was to be.
    pub object: KeyRevocation,
    /// Why it is not.
    pub why: String,
}

/// Why a record cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// The file cannot be read or written.
    #[error("{0}")]
    File(#[from] std::io::Error),
    /// Another process works on it.
    #[error("another command is working on it")]
    Busy,
    /// The file holds something else.
    #[error("it is not the record of a revocation: {0}")]
    Form(#[from] serde_json::Error),
}

/// Whether the other records of its folder count: what they hold stays away, and what was first recorded of it is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Others {
    /// They do.
    Count,
    /// Somebody said that they do not.
    Ignored,
}

/// Conditions that say how it stands, and not what was found.
const STANDING: [&str; 3] = ["Ready", "Reconciling", "Stalled"];

/// Only the owner may read and write.
const OWNER_ONLY: u32 = 0o600;

/// The right to work on a record, held by one command at a time: otherwise a revocation that still runs would undo a restoration.
///
/// The lock is on a file beside the record, which is itself replaced by every write. The system frees it with the process.
pub struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    /// Takes it, or says at once that somebody else has it.
    pub fn take(record: &FilePath) -> Result<Lock, Trouble> {
        /// Commands that may end between the opening of the file and its lock; each takes the file away.
        const TRIES: usize = 16;
        let path = beside(record, ".lock");
        for _ in 0..TRIES {
            let mut options = OpenOptions::new();
            let file = options.write(true).create(true).truncate(false).mode(OWNER_ONLY).open(&path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(Trouble::Busy),
                Err(TryLockError::Error(error)) => return Err(error.into()),
            }
            let held = file.metadata()?;
            // The lock counts only on the file that others find there.
            if fs::metadata(&path).is_ok_and(|found| (found.dev(), found.ino()) == (held.dev(), held.ino())) {
                return Ok(Lock { path, _file: file });
            }
        }
        Err(Trouble::Busy)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Still locked, so that nobody else's is taken away. One that stays does no harm.
        let _ = fs::remove_file(&self.path);
    }
}

impl Record {
    /// A record, written at once; without a path it is kept in memory only. What an earlier command said of its standing goes:
    /// only what this one sees may be told as its outcome.
    pub fn begin(
        mut object: KeyRevocation,
        path: Option<PathBuf>,
        others: Others,
    ) -> Result<Record, Trouble> {
        object.metadata.resource_version = Some("1".to_owned());
        if let Some(status) = &mut object.status {
            let shared = &mut status.shared;
            shared.conditions.retain(|condition| !STANDING.contains(&condition.type_.as_str()));
            shared.last_error = None;
        }
        let shared = Shared { object: Mutex::new(object), path, others, unwritten: Mutex::default() };
        shared.keep(&locked(&shared.object))?;
        Ok(Record { shared: Arc::new(shared) })
    }

    /// The record in the file, or None if there is no such file.
    pub fn read(path: &FilePath) -> Result<Option<KeyRevocation>, Trouble> {
        match fs::read(path) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The object as it stands.
    pub fn object(&self) -> KeyRevocation {
        locked(&self.shared.object).clone()
    }

    /// What could not be written, if that was so.
    pub fn unwritten(&self) -> Option<Unwritten> {
        locked(&self.shared.unwritten).clone()
    }

    /// Where it is kept.
    pub fn path(&self) -> Option<&FilePath> {
        self.shared.path.as_deref()
    }

    /// A client that reaches this record and nothing else.
    pub fn client(&self) -> Client {
        let api = KeyRevocation::api_resource();
        let list = format!("/apis/{}/{}/{}", api.group, api.version, api.plural);
        let router = Router::new()
            .route(&list, get(list_all))
            .route(&format!("{list}/{{name}}"), get(read_one).patch(patch_one))
            .route(&format!("{list}/{{name}}/status"), patch(patch_one))
            .route("/apis/events.k8s.io/v1/namespaces/{namespace}/events", post(accept_event))
            .fallback(nothing_else)
            .with_state(self.clone());
        Client::new(router, "default")
    }
}

impl Shared {
    /// A whole file or the one before it, never half of one.
    fn keep(&self, object: &KeyRevocation) -> Result<(), Trouble> {
        let Some(path) = &self.path else { return Ok(()) };
        let text = serde_json::to_vec_pretty(object)?;
        let new = beside(path, ".new");
        // What a crash left, or what somebody put there so that something else is written to.
        match fs::remove_file(&new) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        // It says who is hit, and what to undo: nobody else's to read or to write.
        let mut file = OpenOptions::new().write(true).create_new(true).mode(OWNER_ONLY).open(&new)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        sync_folder(path)
    }
}

/// Only then does the new name outlast a power failure.
fn sync_folder(path: &FilePath) -> Result<(), Trouble> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    match File::open(folder.unwrap_or(FilePath::new("."))).and_then(|folder| folder.sync_all()) {
        // Some file systems cannot do it for a directory; a cut does not fail for that.
        Err(error) if !matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => {
            Err(error.into())
        }
        _ => Ok(()),
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn beside(path: &FilePath, ending: &str) -> PathBuf {
    let mut name = path.to_path_buf().into_os_string();
    name.push(ending);
    name.into()
}

async fn list_all(State(record): State<Record>) -> Response {
    let kind = format!("{}List", KeyRevocation::kind(&()));
    let version = KeyRevocation::api_version(&());
    let mut items = vec![record.object()];
    if let (Some(path), Others::Count) = (record.path(), record.shared.others) {
        items.extend(neighbours::look(path, &items[0]).records);
    }
    Json(json!({ "apiVersion": version, "kind": kind, "metadata": {}, "items": items })).into_response()
}

async fn read_one(State(record): State<Record>, Path(name): Path<String>) -> Response {
    let object = record.object();
    match object.metadata.name.as_deref() == Some(&name) {
        true => Json(object).into_response(),
        false => refusal(StatusCode::NOT_FOUND, "NotFound", "there is no such record"),
    }
}

/// Merge patches of metadata or status; what the patch names of the version must be what stands.
async fn patch_one(
    State(record): State<Record>,
    Path(name): Path<String>,
    Json(patch): Json<Value>,
) -> Response {
    let mut object = locked(&record.shared.object);
    if object.metadata.name.as_deref() != Some(&name) {
        return refusal(StatusCode::NOT_FOUND, "NotFound", "there is no such record");
    }
    let stands =
        |asked: &Value, stands: &Option<String>| asked.is_null() || asked.as_str() == stands.as_deref();
    let meta = &patch["metadata"];
    if !stands(&meta["resourceVersion"], &object.metadata.resource_version)
        || !stands(&meta["uid"], &object.metadata.uid)
    {
        return refusal(StatusCode::CONFLICT, "Conflict", "the record has changed");
    }
    let patched = serde_json::to_value(&*object).and_then(|mut value| {
        json_patch::merge(&mut value, &patch);
        serde_json::from_value::<KeyRevocation>(value)
    });
    let mut patched = match patched {
        Ok(patched) => patched,
        Err(error) => return refusal(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", &error.to_string()),
    };
    let version = object.metadata.resource_version.as_deref().and_then(|version| version.parse::<u64>().ok());
    patched.metadata.resource_version = Some((version.unwrap_or_default() + 1).to_string());
    if let Err(trouble) = record.shared.keep(&patched) {
        let text = format!("the record cannot be written: {trouble}");
        // The first says what was done; those after it only that this could not be written.
        locked(&record.shared.unwritten)
            .get_or_insert_with(|| Unwritten { object: patched, why: trouble.to_string() });
        return refusal(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", &text);
    }
    *object = patched;
    Json(&*object).into_response()
}

/// Events are for clusters; the journal says the same.
async fn accept_event(Json(event): Json<Value>) -> Response {
    (StatusCode::CREATED, Json(event)).into_response()
}

async fn nothing_else() -> Response {
    refusal(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", "the command line works without a cluster")
}

fn refusal(code: StatusCode, reason: &str, message: &str) -> Response {
    let status = json!({
        "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure",
        "reason": reason, "message": message, "code": code.as_u16(),
    });
    (code, Json(status)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// A folder of its own for each test.
    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("ecskms-record-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        folder
    }

    fn object() -> KeyRevocation {
        let spec = json!({
            "region": "cn-hangzhou", "keyId": "key-a", "desiredState": "Revoked",
            "reason": "a leaked credential", "requestedBy": "alice",
        });
        KeyRevocation::new("one", serde_json::from_value(spec).expect("a spec"))
    }

    #[test]
    fn a_record_is_its_owners_and_goes_through_nobodys_link() {
        let folder = folder("mode");
        let (path, victim) = (folder.join("record.json"), folder.join("victim"));
        fs::write(&victim, "untouched").expect("a file");
        std::os::unix::fs::symlink(&victim, beside(&path, ".new")).expect("a link");
        Record::begin(object(), Some(path.clone()), Others::Count).expect("a record");
        let found = fs::symlink_metadata(&path).expect("a record");
        assert!(found.is_file());
        assert_eq!(found.permissions().mode() & 0o777, OWNER_ONLY);
        assert_eq!(fs::read_to_string(&victim).expect("a file"), "untouched");
        assert!(Record::read(&path).expect("readable").is_some());
        fs::remove_dir_all(folder).expect("removed");
    }

    #[test]
    fn what_an_earlier_command_said_of_its_standing_goes_and_what_was_found_stays() {
        let condition = |name: &str| {
            json!({
                "type": name, "status": "True", "reason": "Revoked", "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            })
        };
        let names = ["Ready", "Reconciling", "Stalled", "Revoked", "JournalBroken"];
        let status = json!({
            "conditions": names.map(condition), "accountId": "1",
            "lastError": {"code": "a", "class": "Denied", "reason": "AccessDenied", "generation": 1},
        });
        let mut before = object();
        before.status = Some(serde_json::from_value(status).expect("a status"));
        let record = Record::begin(before, None, Others::Ignored).expect("a record");
        let shared = record.object().status.expect("a status").shared;
        let left: Vec<&str> = shared.conditions.iter().map(|condition| condition.type_.as_str()).collect();
        assert_eq!(left, ["Revoked", "JournalBroken"]);
        assert_eq!((shared.last_error, shared.account_id.as_deref()), (None, Some("1")));
    }

    #[test]
    fn one_command_at_a_time_has_a_record() {
        let folder = folder("lock");
        let path = folder.join("record.json");
        let first = Lock::take(&path).expect("free");
        assert!(matches!(Lock::take(&path), Err(Trouble::Busy)));
        drop(first);
        assert!(!beside(&path, ".lock").exists(), "nothing is left behind");
        // What a killed command leaves is nobody's.
        fs::write(beside(&path, ".lock"), "").expect("a file");
        drop(Lock::take(&path).expect("free again"));
        fs::remove_dir_all(folder).expect("removed");
    }
}
