//! `/_sim/`: what only a simulation has. State, request log, counters, clock, faults, settings, and resources out
//! of thin air.
//!
//! | Call | What it does |
//! |---|---|
//! | `GET state` | every resource and every setting; `?account=N` for the second account |
//! | `GET log?after=N`, `DELETE log` | the requests after number N, oldest first; forgets them and the counters |
//! | `GET counters` | answers by `service:Action` and code |
//! | `GET clock`, `PUT clock` | `{"scale": 60, "advanceSeconds": 10}`, both optional |
//! | `GET faults`, `PUT faults`, `DELETE faults` | the whole list of `faults::Fault` |
//! | `GET settings`, `PUT settings` | any of the fields of `settings::Settings` |
//! | `POST resources` | one `resources::Order`; `?account=N` for the second account |
//! | `DELETE sessions` | expires every role session |
//! | `GET credentials` | a credentials URI: a session of `?role=ecskms-operator` for `?seconds=3600` |
//! | `POST reset` | back to the start, at the current time |
//! | `GET assumptions` | what of all this is our reading or a guess |
//!
//! Deliberately unsigned and therefore for loopback only.

use axum::extract::{Query, State};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::faults::{Fault, Faults};
use super::world::iso;
use super::{Cloud, assumptions, resources};

type Reply = Result<Json<Value>, (StatusCode, Json<Value>)>;

/// The routes under `/_sim`.
pub fn router() -> Router<Cloud> {
    Router::new()
        .route("/state", get(state))
        .route("/log", get(log).delete(forget))
        .route("/counters", get(counters))
        .route("/clock", get(clock).put(set_clock))
        .route("/faults", get(faults).put(set_faults).delete(clear_faults))
        .route("/settings", get(settings).put(set_settings))
        .route("/assumptions", get(list_assumptions))
        .route("/reset", post(reset))
        .route("/resources", post(change_resource))
        .route("/sessions", delete(expire_sessions))
        .route("/credentials", get(super::metadata::lend_to_anybody))
}

/// Which account; the first where none is named.
#[derive(Deserialize)]
struct Of {
    account: Option<String>,
}

async fn state(State(cloud): State<Cloud>, Query(of): Query<Of>) -> Reply {
    let mut inner = cloud.lock();
    inner.advance();
    let world = inner.account(of.account.as_deref()).ok_or_else(|| bad("there is no such account"))?;
    serde_json::to_value(&*world).map(Json).map_err(|error| bad(&error.to_string()))
}

#[derive(Deserialize)]
struct Since {
    #[serde(default)]
    after: u64,
}

async fn log(State(cloud): State<Cloud>, Query(since): Query<Since>) -> Json<Value> {
    Json(json!(cloud.lock().journal.since(since.after)))
}

async fn forget(State(cloud): State<Cloud>) -> Json<Value> {
    cloud.lock().journal = Default::default();
    Json(json!({}))
}

async fn counters(State(cloud): State<Cloud>) -> Json<Value> {
    Json(json!(cloud.lock().journal.counters))
}

async fn clock(State(cloud): State<Cloud>) -> Json<Value> {
    let mut inner = cloud.lock();
    inner.advance();
    Json(json!({"now": iso(inner.world.now), "scale": inner.clock.scale()}))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ClockChange {
    scale: Option<f64>,
    advance_seconds: Option<f64>,
}

async fn set_clock(State(cloud): State<Cloud>, Json(change): Json<ClockChange>) -> Json<Value> {
    {
        let mut inner = cloud.lock();
        inner.advance();
        if let Some(scale) = change.scale {
            inner.clock.set_scale(scale);
        }
        inner.clock.advance(change.advance_seconds.unwrap_or(0.0));
        inner.advance();
    }
    clock(State(cloud)).await
}

async fn faults(State(cloud): State<Cloud>) -> Json<Value> {
    Json(json!(cloud.lock().faults.planned))
}

async fn set_faults(State(cloud): State<Cloud>, Json(planned): Json<Vec<Fault>>) -> Json<Value> {
    cloud.lock().faults = Faults { planned };
    faults(State(cloud)).await
}

async fn clear_faults(State(cloud): State<Cloud>) -> Json<Value> {
    cloud.lock().faults = Faults::default();
    Json(json!([]))
}

async fn settings(State(cloud): State<Cloud>) -> Json<Value> {
    Json(json!(cloud.lock().world.settings))
}

async fn set_settings(State(cloud): State<Cloud>, Json(patch): Json<Value>) -> Reply {
    let mut inner = cloud.lock();
    inner.advance();
    let changed = inner.world.settings.patched(&patch).map_err(|error| bad(&error))?;
    inner.world.settings = changed;
    Ok(Json(json!(inner.world.settings)))
}

async fn list_assumptions() -> Json<Value> {
    Json(json!(assumptions::assumptions()))
}

async fn reset(State(cloud): State<Cloud>) -> Json<Value> {
    cloud.lock().reset();
    Json(json!({}))
}

async fn change_resource(
    State(cloud): State<Cloud>,
    Query(of): Query<Of>,
    Json(order): Json<resources::Order>,
) -> Reply {
    let mut inner = cloud.lock();
    inner.advance();
    let world = inner.account(of.account.as_deref()).ok_or_else(|| bad("there is no such account"))?;
    resources::obey(world, order).map(Json).map_err(|error| bad(&error))
}

/// Every role session is expired from now on.
async fn expire_sessions(State(cloud): State<Cloud>) -> Json<Value> {
    let inner = &mut *cloud.lock();
    for credential in inner.world.sessions.values_mut().chain(inner.second.sessions.values_mut()) {
        credential.expires = Some(0);
    }
    Json(json!({}))
}

fn bad(text: &str) -> (StatusCode, Json<Value>) {
    (StatusCode::BAD_REQUEST, Json(json!({ "error": text })))
}
