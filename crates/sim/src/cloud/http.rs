//! The face of the cloud: one path that speaks RPC for four services, and `/_sim/` beside it.
//!
//! Deliberately thin: it reads requests, asks `Inner` for an answer and writes it. Only fault delays wait
//! here, and never under the lock.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::response::Response;
use http::request::Parts;

use super::actions::{self, Action, Service};
use super::clock::real_now;
use super::envelope::{self, Envelope};
use super::faults::{Fault, When};
use super::journal::{Entry, token_hash};
use super::parameters::Parameters;
use super::refusal::{Answer, Refusal};
use super::verify::{self, Caller, Credential, Signed, header};
use super::world::{Call, iso};
use super::{Cloud, Inner, account, control, metadata, permissions, topology};

/// The largest request body in bytes.
const BODY_BYTES_MAX: usize = 1024 * 1024;
/// The host name in error envelopes when the request has none.
const HOST_FALLBACK: &str = "localhost";

/// The router of a cloud.
pub fn router(cloud: Cloud) -> Router {
    Router::new()
        .nest("/_sim", control::router())
        .nest("/latest", metadata::router())
        .fallback(serve_call)
        .with_state(cloud)
}

/// A request, taken apart.
struct Arrival {
    parts: Parts,
    query: Vec<(String, String)>,
    body: Bytes,
    parameters: Parameters,
    action_name: String,
    service: Option<Service>,
    region: Option<String>,
    host: String,
    json: bool,
}

async fn serve_call(State(cloud): State<Cloud>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, BODY_BYTES_MAX).await.unwrap_or_default();
    let arrival = Arrival::read(parts, body);
    let (number, request_id, before) = cloud.lock().arrive(&arrival);
    if let Some(fault) = &before {
        tokio::time::sleep(Duration::from_millis(fault.delay_ms)).await;
        if fault.replies() {
            return finish(&cloud, &arrival, number, &request_id, Ok(serde_json::json!({})), Some(fault));
        }
    }
    let (answer, after) = cloud.lock().judge(&arrival, number);
    if let Some(fault) = &after {
        tokio::time::sleep(Duration::from_millis(fault.delay_ms)).await;
    }
    let striking = after.as_ref().or(before.as_ref());
    finish(&cloud, &arrival, number, &request_id, answer, striking)
}

/// Writes the answer, or what a fault makes of it, and completes the record.
fn finish(
    cloud: &Cloud,
    arrival: &Arrival,
    number: u64,
    request_id: &str,
    answer: Answer,
    fault: Option<&Fault>,
) -> Response {
    let answer = match fault.and_then(fault_refusal) {
        Some(refusal) => Err(refusal),
        None => answer,
    };
    let mut envelope = arrival.envelope(request_id, &answer);
    if let Some(status) = fault.and_then(|fault| fault.status) {
        envelope.status = status;
    }
    if let Some(milliseconds) = fault.and_then(|fault| fault.retry_after_ms) {
        envelope.retry_after_milliseconds = Some(milliseconds);
    }
    let dropped = fault.is_some_and(|fault| fault.drop_connection);
    let damage = fault.and_then(|fault| fault.body);
    let code = match (&answer, dropped, damage) {
        (_, true, _) => "(connection dropped)".to_string(),
        (_, _, Some(damage)) => format!("(body {damage:?})"),
        (Ok(_), _, None) => "OK".to_string(),
        (Err(refusal), _, None) => refusal.code.clone(),
    };
    let mut inner = cloud.lock();
    let now = inner.clock.running_milliseconds();
    inner.journal.close(number, |entry| {
        entry.took_milliseconds = Some(now - entry.arrived_milliseconds);
        entry.status = (!dropped).then_some(envelope.status);
        entry.code = code;
        entry.fault = fault.is_some();
    });
    drop(inner);
    if dropped { envelope::broken_off() } else { envelope::write(&envelope, damage) }
}

/// The error that a fault pretends; `None` if it only damages, delays or drops.
fn fault_refusal(fault: &Fault) -> Option<Refusal> {
    if fault.code.is_none() && !(fault.status.is_some() && fault.body.is_none()) {
        return None;
    }
    let code = fault.code.clone().unwrap_or_else(|| "InternalError".into());
    let message = fault.message.clone().unwrap_or_else(|| "The request processing has failed.".into());
    Some(Refusal::new(fault.status.unwrap_or(500), code, message))
}

impl Arrival {
    fn read(parts: Parts, body: Bytes) -> Arrival {
        let query = decode_pairs(parts.uri.query().unwrap_or_default());
        let mut all: BTreeMap<String, String> = query.iter().cloned().collect();
        let form =
            header(&parts.headers, "content-type").is_some_and(|kind| kind.contains("form-urlencoded"));
        if form && let Ok(text) = std::str::from_utf8(&body) {
            all.extend(decode_pairs(text));
        }
        let named = |name: &str, parameter: &str| {
            let found =
                header(&parts.headers, name).map(str::to_string).or_else(|| all.get(parameter).cloned());
            found.unwrap_or_default()
        };
        let action_name = named("x-acs-action", "Action");
        let service = Service::of_version(&named("x-acs-version", "Version"));
        let accepts = header(&parts.headers, "accept").is_some_and(|kind| kind.contains("json"));
        let json = accepts || all.get("Format").is_some_and(|format| format.eq_ignore_ascii_case("json"));
        let authority = parts.uri.authority().map(ToString::to_string);
        let host = header(&parts.headers, "host").map(str::to_string).or(authority);
        let host = host.unwrap_or_else(|| HOST_FALLBACK.into());
        let region = region_of(&all, &parts.headers, &host);
        for name in ["Action", "Version", "Format", "Timestamp", "SignatureNonce"] {
            all.remove(name);
        }
        Arrival { parts, query, body, parameters: Parameters(all), action_name, service, region, host, json }
    }

    fn action(&self) -> Result<&'static Action, Refusal> {
        // assumption: unknown-action-codes
        let service = self
            .service
            .ok_or_else(|| Refusal::new(400, "InvalidVersion", "Specified API version is not known."))?;
        let text = "Specified api is not found, please check your url and method.";
        actions::find(service, &self.action_name)
            .filter(|_| self.parts.uri.path() == "/")
            .filter(|_| matches!(self.parts.method.as_str(), "POST" | "GET"))
            .ok_or_else(|| Refusal::new(404, "InvalidAction.NotFound", text))
    }

    fn envelope(&self, request_id: &str, answer: &Answer) -> Envelope {
        let (status, body, root, retry_after_milliseconds) = match answer {
            Ok(body) => {
                let mut body = body.clone();
                body["RequestId"] = request_id.into();
                (200, body, format!("{}Response", self.action_name), None)
            }
            Err(refusal) => {
                let body = refusal.envelope(request_id, &self.host);
                (refusal.status, body, "Error".to_string(), refusal.retry_after_milliseconds)
            }
        };
        // A root element must be a name, whatever was asked for.
        let named = root.chars().all(|sign| sign.is_ascii_alphanumeric());
        let root = if named { root } else { "Error".to_string() };
        let request_id = request_id.to_string();
        Envelope { status, body, root, json: self.json, request_id, retry_after_milliseconds }
    }
}

/// The region that a call names: by parameter, by header, or by a label of its host.
fn region_of(all: &BTreeMap<String, String>, headers: &http::HeaderMap, host: &str) -> Option<String> {
    if let Some(region) = all.get("RegionId").filter(|region| !region.is_empty()) {
        return Some(region.clone());
    }
    if let Some(region) = header(headers, "x-acs-region-id").filter(|region| !region.is_empty()) {
        return Some(region.to_string());
    }
    // assumption: region-of-a-call
    let labels = host.split(['.', ':']);
    let mut known =
        labels.map(|label| label.trim_start_matches("ecs-")).filter(|label| topology::region_exists(label));
    known.next().map(str::to_string)
}

/// Decodes `a=b&c=d`; a plus sign is a space, as form encoders write it.
fn decode_pairs(text: &str) -> Vec<(String, String)> {
    let pair = |piece: &str| {
        let (key, value) = piece.split_once('=').unwrap_or((piece, ""));
        (decode(key), decode(value))
    };
    text.split('&').filter(|piece| !piece.is_empty()).map(pair).collect()
}

fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = bytes.get(at + 1..at + 3).and_then(|pair| std::str::from_utf8(pair).ok());
        match (bytes[at], escaped.and_then(|pair| u8::from_str_radix(pair, 16).ok())) {
            (b'%', Some(byte)) => {
                decoded.push(byte);
                at += 2;
            }
            (b'+', _) => decoded.push(b' '),
            (byte, _) => decoded.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

impl Inner {
    /// Records the arrival and looks for a fault that strikes before anything else.
    fn arrive(&mut self, arrival: &Arrival) -> (u64, String, Option<Fault>) {
        self.advance();
        let service = arrival.service.map_or("", Service::name);
        let request_id = self.world.names.request_id();
        let number = self.journal.open(Entry {
            time: iso(self.world.now),
            arrived_milliseconds: self.clock.running_milliseconds(),
            service: service.to_string(),
            action: arrival.action_name.clone(),
            region: arrival.region.clone().unwrap_or_default(),
            parameters: arrival.parameters.redacted(),
            client_token_hash: arrival.parameters.text("ClientToken").map(token_hash),
            request_id: request_id.clone(),
            ..Entry::default()
        });
        let fault = self.faults.strike(service, &arrival.action_name, When::Before);
        (number, request_id, fault)
    }

    /// Verifies, counts and performs a call, and looks for a fault that strikes afterwards.
    fn judge(&mut self, arrival: &Arrival, number: u64) -> (Answer, Option<Fault>) {
        self.advance();
        let answer = self.perform(arrival, number);
        if answer.is_ok() {
            self.journal.mark_performed(number);
        }
        let service = arrival.service.map_or("", Service::name);
        let fault = self.faults.strike(service, &arrival.action_name, When::After);
        (answer, fault)
    }

    fn perform(&mut self, arrival: &Arrival, number: u64) -> Answer {
        let action = arrival.action()?;
        let mut second = false;
        let real_now = real_now() + self.world.settings.clock_skew_seconds * 1000;
        let caller = if action.name == "AssumeRoleWithOIDC" {
            Caller::Anonymous
        } else {
            let signed = Signed {
                method: arrival.parts.method.as_str(),
                path: arrival.parts.uri.path(),
                query: &arrival.query,
                headers: &arrival.parts.headers,
                body: &arrival.body,
            };
            let (caller, of_second) = self.verified(&signed, real_now)?;
            second = of_second;
            caller
        };
        let region = match &arrival.region {
            Some(region) => region.clone(),
            None => self.located(second, &arrival.parameters),
        };
        let scale = self.clock.scale();
        let own = if second { &self.second } else { &self.world };
        let account = own.account.clone();
        self.quotas[usize::from(second)].count(&own.settings, action, &region, own.now, scale)?;
        self.journal.mark_account(number, &account);
        let parameters = &arrival.parameters;
        let call = Call {
            action: action.name,
            region: &region,
            parameters,
            caller: &caller,
            account: &account,
            real_now,
        };
        if action.name.starts_with("AssumeRole") {
            // Allowed by the caller's account, performed in the role's.
            permissions::check(own, action, &call)?;
            let named = parameters.text("RoleArn").and_then(|arn| arn.split(':').nth(3)).map(str::to_string);
            let target = self.account(named.as_deref()).map(|world| (action.handler)(world, &call));
            let text = "The role does not exist.";
            return target.unwrap_or_else(|| Err(Refusal::new(404, "EntityNotExist.Role", text)));
        }
        actions::perform(if second { &mut self.second } else { &mut self.world }, action, &call)
    }

    /// Who signed, and whether that is somebody of the second account.
    fn verified(&mut self, signed: &Signed, real_now: i64) -> Result<(Caller, bool), Refusal> {
        let second = std::cell::Cell::new(false);
        let find = |key_id: &str| {
            if let Some(found) = credential(&self.world.sessions, key_id) {
                return Some(found);
            }
            second.set(true);
            match key_id {
                account::SECOND_ACCESS_KEY_ID => {
                    Some(lasting(Caller::Administrator, account::SECOND_ACCESS_KEY_SECRET))
                }
                _ => self.second.sessions.get(key_id).cloned(),
            }
        };
        let caller = verify::verify(signed, find, &mut self.nonces, real_now)?;
        Ok((caller, second.get()))
    }

    /// The region of the resource that a call without a region names; ids are unique over all regions.
    fn located(&self, second: bool, parameters: &Parameters) -> String {
        let world = if second { &self.second } else { &self.world };
        let disk = parameters.text("DiskId").and_then(|id| world.disks.get(id)).map(|found| &found.region);
        let instance =
            parameters.text("InstanceId").and_then(|id| world.instances.get(id)).map(|found| &found.region);
        let snapshot =
            parameters.text("SnapshotId").and_then(|id| world.snapshots.get(id)).map(|found| &found.region);
        disk.or(instance).or(snapshot).unwrap_or(&world.settings.home_region).clone()
    }
}

fn credential(sessions: &BTreeMap<String, Credential>, key_id: &str) -> Option<Credential> {
    match key_id {
        account::ACCESS_KEY_ID => Some(lasting(Caller::Administrator, account::ACCESS_KEY_SECRET)),
        account::LIMITED_ACCESS_KEY_ID => Some(lasting(Caller::Limited, account::LIMITED_ACCESS_KEY_SECRET)),
        _ => sessions.get(key_id).cloned(),
    }
}

fn lasting(caller: Caller, secret: &str) -> Credential {
    Credential { caller, secret: secret.to_string(), security_token: None, expires: None }
}
