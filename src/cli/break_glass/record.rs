//! One KeyRevocation in a file, behind as much of the Kubernetes API as the loop asks for.
//!
//! Every write is a compare-and-swap, and is on disk before it is answered: a cut whose record cannot be written does not happen.
//! Whatever else is asked for is answered 503, so that the list of what is hit names it as missing.

use std::io::Write;
use std::path::{Path as FilePath, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, patch, post};
use axum::{Json, Router};
use kube::{Client, CustomResourceExt, Resource};
use serde_json::{Value, json};

use crate::kinds::KeyRevocation;

/// The record. Clones share it.
#[derive(Clone)]
pub struct Record {
    shared: Arc<Shared>,
}

struct Shared {
    object: Mutex<KeyRevocation>,
    path: Option<PathBuf>,
}

/// Why a record cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// The file cannot be read or written.
    #[error("{0}")]
    File(#[from] std::io::Error),
    /// The file holds something else.
    #[error("it is not the record of a revocation: {0}")]
    Form(#[from] serde_json::Error),
}

impl Record {
    /// A new record, written at once; without a path it is kept in memory only.
    pub fn begin(mut object: KeyRevocation, path: Option<PathBuf>) -> Result<Record, Trouble> {
        object.metadata.resource_version = Some("1".to_owned());
        let record = Record { shared: Arc::new(Shared { object: Mutex::new(object), path }) };
        record.shared.keep(&record.object())?;
        Ok(record)
    }

    /// The record in the file, or None if there is no such file.
    pub fn read(path: &FilePath) -> Result<Option<KeyRevocation>, Trouble> {
        match std::fs::read(path) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The object as it stands.
    pub fn object(&self) -> KeyRevocation {
        self.shared.object.lock().unwrap_or_else(PoisonError::into_inner).clone()
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
        let mut beside = path.clone().into_os_string();
        beside.push(".new");
        let mut file = std::fs::File::create(&beside)?;
        file.write_all(&text)?;
        file.sync_all()?;
        Ok(std::fs::rename(&beside, path)?)
    }
}

async fn list_all(State(record): State<Record>) -> Response {
    let kind = format!("{}List", KeyRevocation::kind(&()));
    let version = KeyRevocation::api_version(&());
    Json(json!({ "apiVersion": version, "kind": kind, "metadata": {}, "items": [record.object()] }))
        .into_response()
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
    let mut object = record.shared.object.lock().unwrap_or_else(PoisonError::into_inner);
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
