//! What hands out credentials without being asked for a signature: the instance's metadata service under
//! `/latest/`, and a credentials URI under `/_sim/credentials`.
//!
//! Deliberately one instance for everybody who asks, and nothing of its metadata but the role.

use std::collections::BTreeMap;

use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use axum::{Json, Router};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::clock::real_now;
use super::verify::header;
use super::world::{Moment, World};
use super::{Cloud, Inner, sts};

/// The header that shows a token.
const TOKEN: &str = "x-aliyun-ecs-metadata-token";
/// The header that asks for a token's life in seconds.
const LIFE: &str = "x-aliyun-ecs-metadata-token-ttl-seconds";
/// The longest life of a token.
const LIFE_SECONDS_MAX: i64 = 21_600;
/// The instance that the service belongs to.
const INSTANCE: &str = "i-bp1web000000000000a1";
/// How long the credentials of an instance live.
const LENT_SECONDS: i64 = 6 * 3_600;
/// How many tokens are remembered before expired ones are swept out.
const TOKENS_BEFORE_SWEEP: usize = 1_000;

/// The tokens that were handed out, with the real time at which they end.
pub type Tokens = BTreeMap<String, Moment>;

/// The routes under `/latest`.
pub fn router() -> Router<Cloud> {
    Router::new()
        .route("/api/token", put(token))
        .route("/meta-data/ram/security-credentials/", get(roles))
        .route("/meta-data/ram/security-credentials/{role}", get(credentials))
}

// assumption: metadata-answers
async fn token(State(cloud): State<Cloud>, headers: HeaderMap) -> Response {
    let seconds = header(&headers, LIFE).and_then(|text| text.parse::<i64>().ok());
    let Some(seconds) = seconds.filter(|seconds| (1..=LIFE_SECONDS_MAX).contains(seconds)) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let mut inner = cloud.lock();
    let token = inner.world.names.pretended_secret("metadata-token");
    if inner.metadata_tokens.len() >= TOKENS_BEFORE_SWEEP {
        inner.metadata_tokens.retain(|_, end| *end > real_now());
    }
    inner.metadata_tokens.insert(token.clone(), real_now() + seconds * 1000);
    token.into_response()
}

async fn roles(State(cloud): State<Cloud>, headers: HeaderMap) -> Response {
    let inner = cloud.lock();
    match role(&inner, &headers) {
        Ok(role) => role.into_response(),
        Err(status) => status.into_response(),
    }
}

async fn credentials(State(cloud): State<Cloud>, Path(name): Path<String>, headers: HeaderMap) -> Response {
    let mut inner = cloud.lock();
    match role(&inner, &headers) {
        Ok(role) if role == name => Json(lent(&mut inner.world, &role, LENT_SECONDS)).into_response(),
        Ok(_) => StatusCode::NOT_FOUND.into_response(),
        Err(status) => status.into_response(),
    }
}

/// The instance's role, for whoever may ask.
fn role(inner: &Inner, headers: &HeaderMap) -> Result<String, StatusCode> {
    let settings = &inner.world.settings;
    let shown = header(headers, TOKEN).and_then(|token| inner.metadata_tokens.get(token));
    if settings.metadata_token_required && shown.is_none_or(|end| *end <= real_now()) {
        return Err(StatusCode::FORBIDDEN);
    }
    let known = Some(&settings.metadata_role).filter(|role| inner.world.roles.contains_key(*role));
    known.cloned().ok_or(StatusCode::NOT_FOUND)
}

/// What to lend.
#[derive(Deserialize)]
pub struct Wish {
    role: Option<String>,
    seconds: Option<i64>,
}

/// A credentials URI.
pub async fn lend_to_anybody(State(cloud): State<Cloud>, Query(wish): Query<Wish>) -> Response {
    let mut inner = cloud.lock();
    let role = wish.role.unwrap_or_else(|| "ecskms-operator".into());
    if !inner.world.roles.contains_key(&role) {
        return StatusCode::NOT_FOUND.into_response();
    }
    Json(lent(&mut inner.world, &role, wish.seconds.unwrap_or(3_600))).into_response()
}

fn lent(world: &mut World, role: &str, seconds: i64) -> Value {
    let now = real_now();
    let mut lent = sts::lend(world, role, INSTANCE, seconds, now);
    lent["Code"] = json!("Success");
    lent["LastUpdated"] = json!(super::world::iso(now));
    lent
}
