//! The HTTP face: reads requests, sends them to the right room, writes answers.
//!
//! No rules about objects here; only methods, headers and bodies.

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Query as Parameters, State as Shared};
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri, header};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::accept::{Accept, Encoding, Shape, negotiate};
use super::call::{Call, Outcome};
use super::faults::Plan;
use super::options::Query;
use super::route::{self, Nowhere, Place};
use super::server::Server;
use super::state::State;
use super::statistics::{self, Key};
use super::status::Refusal;
use super::view::View;
use super::watch::Watch;
use super::{delete, discovery, openapi, patches, read, write};

/// Largest body, as in kube-apiserver.
const BODY_BYTES_MAX: usize = 3 * 1024 * 1024;
/// Longest text of one Warning header.
const WARNING_BYTES_MAX: usize = 4096;

type Reply = Response<Body>;

/// The server as a router with one handler for everything, because paths follow from the registry.
pub fn router(server: Server) -> Router {
    Router::new().fallback(handle).with_state(server)
}

async fn handle(Shared(server): Shared<Server>, request: axum::extract::Request) -> Reply {
    let (parts, body) = request.into_parts();
    let body = match axum::body::to_bytes(body, BODY_BYTES_MAX).await {
        Ok(body) => body,
        Err(_) => {
            let words = format!("Request entity too large: limit is {BODY_BYTES_MAX}");
            return refused(&Refusal::new(413, "RequestEntityTooLarge", words));
        }
    };
    let path = decoded_path(&parts.uri);
    if let Some(reply) = fixed(&server, &parts.method, &path, &parts.uri, &parts.headers, &body) {
        return reply;
    }
    let query = query(&parts.uri);
    let registry = server.lock().registry.clone();
    let mut place = match route::find(&registry, &path) {
        Ok(place) => place,
        Err(Nowhere::Page) => return page_not_found(),
        Err(Nowhere::Refused(refusal)) => return refused(&refusal),
    };
    drop(registry);
    let mut query = query;
    if place.watch {
        query.0.push(("watch".to_owned(), "true".to_owned()));
        if !place.name.is_empty() {
            let name = std::mem::take(&mut place.name);
            query.0.push(("fieldSelector".to_owned(), format!("metadata.name={name}")));
        }
    }
    let text = |name: header::HeaderName| {
        parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    };
    let call = Call {
        place,
        query,
        content_type: text(header::CONTENT_TYPE).split(';').next().unwrap_or_default().trim().to_lowercase(),
        body: body.to_vec(),
        agent: text(header::USER_AGENT).to_owned(),
        now: Timestamp::now(),
    };
    resource(server, &parts.method, parts.headers.get(header::ACCEPT), call).await
}

/// Handles a request to a resource.
async fn resource(server: Server, method: &Method, accept: Option<&HeaderValue>, call: Call) -> Reply {
    let key = key(method, &call);
    let suffering = server.lock().faults.strike(&key);
    if !suffering.latency.is_zero() {
        tokio::time::sleep(suffering.latency).await;
    }
    if let Some(refusal) =
        suffering.refusal.as_ref().filter(|_| !suffering.after_effect || key.verb == "watch")
    {
        server.lock().statistics.count(key, true, false);
        return refused(refusal);
    }
    let accept = negotiate(accept.and_then(|value| value.to_str().ok()), |shape| *shape != Shape::Discovery);
    let accept = match accept {
        Ok(accept) => accept,
        Err(refusal) => return refused(&refusal),
    };
    let everywhere = call.resource().namespaced && call.place.namespace.is_empty();
    if everywhere && call.resource().custom && !["get", "list", "watch"].contains(&key.verb.as_str()) {
        return page_not_found();
    }
    let mut state = server.lock();
    let before = state.store.revision();
    let reply = match key.verb.as_str() {
        "watch" => {
            let begun = View::new(call.resource(), accept.shape, &call.query, call.now)
                .and_then(|view| Watch::begin(&server, &state, call, view));
            state.statistics.count(key, begun.is_err(), false);
            begun.map(|watch| streamed(Body::from_stream(watch.into_stream())))
        }
        _ => {
            let done = perform(&mut state, &key.verb, &call, &accept);
            let unchanged = done.as_ref().is_ok_and(|(outcome, _)| outcome.unchanged);
            state.statistics.count(key, done.is_err(), unchanged);
            done.map(|(outcome, value)| encoded(outcome.code, &value, accept.encoding, &outcome.warnings))
        }
    };
    let (moved, work) = (state.store.revision() != before, !state.work.is_empty());
    drop(state);
    if moved || work {
        server.changed(work);
    }
    match suffering.refusal {
        Some(refusal) => refused(&refusal),
        None => reply.unwrap_or_else(|refusal| refused(&refusal)),
    }
}

/// Runs one request and renders its answer.
fn perform(state: &mut State, verb: &str, call: &Call, accept: &Accept) -> Result<(Outcome, Value), Refusal> {
    check_verb(verb, &call.place)?;
    // A view that cannot be given is refused before anything is written.
    let view = View::new(call.resource(), accept.shape.clone(), &call.query, call.now)?;
    let outcome = match verb {
        "get" => read::one(state, call),
        "list" => read::list(state, call),
        "create" => write::create(state, call),
        "update" => write::update(state, call),
        "patch" | "apply" => patches::patch(state, call),
        "delete" => delete::one(state, call),
        _ => delete::collection(state, call),
    }?;
    let value = view.render(&outcome.answer)?;
    Ok((outcome, value))
}

/// Who asks for what, in RBAC's verbs; `apply` is counted apart from other patches.
fn key(method: &Method, call: &Call) -> Key {
    let named = !call.place.name.is_empty();
    let verb = match method.as_str() {
        "GET" | "HEAD" if named => "get",
        "GET" | "HEAD" if call.query.flag("watch") == Some(true) => "watch",
        "GET" | "HEAD" => "list",
        "POST" => "create",
        "PUT" => "update",
        "PATCH" if call.content_type == "application/apply-patch+yaml" => "apply",
        "PATCH" => "patch",
        "DELETE" if named => "delete",
        "DELETE" => "deletecollection",
        other => other,
    };
    Key {
        agent: call.agent.clone(),
        verb: verb.to_owned(),
        resource: call.resource().qualified(),
        subresource: call.place.subresource.clone(),
    }
}

fn check_verb(verb: &str, place: &Place) -> Result<(), Refusal> {
    let resource = &place.resource;
    let asked = if verb == "apply" { "patch" } else { verb };
    let named = !place.name.is_empty();
    let fits = match asked {
        "get" | "update" | "patch" | "delete" => named,
        "create" => !named,
        _ => true,
    };
    if !place.subresource.is_empty() {
        let subresources = discovery::subresources(resource);
        let Some((_, verbs)) = subresources.iter().find(|(name, _)| *name == place.subresource) else {
            return Err(if resource.custom {
                Refusal::not_found(resource, &place.name)
            } else {
                Refusal::no_such_path()
            });
        };
        return if verbs.contains(&asked) {
            Ok(())
        } else {
            Err(Refusal::method_not_allowed(resource, asked))
        };
    }
    if !fits || !resource.verbs.contains(&asked) {
        return Err(Refusal::method_not_allowed(resource, asked));
    }
    if resource.namespaced && place.namespace.is_empty() && matches!(asked, "create" | "deletecollection") {
        return Err(Refusal::method_not_allowed(resource, asked));
    }
    Ok(())
}

/// Paths that name no resource: health, discovery, OpenAPI, and the server's own controls.
fn fixed(
    server: &Server,
    method: &Method,
    path: &str,
    uri: &Uri,
    headers: &HeaderMap,
    body: &Bytes,
) -> Option<Reply> {
    let trimmed = path.trim_end_matches('/');
    match trimmed {
        "/version" => return Some(encoded(200, &discovery::version(), Encoding::Json, &[])),
        "/_kube/stats" => return Some(stats(server, method)),
        "/_kube/faults" => return Some(faults(server, method, body)),
        "" => {
            return Some(encoded(
                200,
                &json!({ "paths": ["/api", "/apis", "/openapi/v3", "/version"] }),
                Encoding::Json,
                &[],
            ));
        }
        _ => {}
    }
    if ["/healthz", "/livez", "/readyz"]
        .iter()
        .any(|base| trimmed == *base || trimmed.strip_prefix(base).is_some_and(|rest| rest.starts_with('/')))
    {
        return Some(plain_text(200, "ok"));
    }
    if trimmed.starts_with("/openapi/") {
        return Some(open_api(server, trimmed, uri, headers));
    }
    let registry = server.lock().registry.clone();
    let discovery = discovery::legacy(&registry, trimmed, "");
    let document = discovery?;
    let top = trimmed == "/api" || trimmed == "/apis";
    let header = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    match negotiate(header, |shape| *shape == Shape::Whole || (top && *shape == Shape::Discovery)) {
        Err(refusal) => Some(refused(&refusal)),
        Ok(Accept { shape: Shape::Discovery, .. }) => {
            Some(tagged(&discovery::aggregated(&registry, trimmed == "/api"), headers))
        }
        Ok(accept) => Some(encoded(200, &document, accept.encoding, &[])),
    }
}

/// The aggregated discovery document with its entity tag.
fn tagged(document: &Value, headers: &HeaderMap) -> Reply {
    let tag = format!("\"{}\"", discovery::tag(document));
    let same = headers.get(header::IF_NONE_MATCH).is_some_and(|value| value.as_bytes() == tag.as_bytes());
    let mut reply =
        if same { Response::new(Body::empty()) } else { encoded(200, document, Encoding::Json, &[]) };
    if same {
        *reply.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let kind = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    set(&mut reply, header::CONTENT_TYPE, kind);
    set(&mut reply, header::ETAG, &tag);
    set(&mut reply, header::VARY, "Accept");
    set(&mut reply, header::CACHE_CONTROL, "public");
    reply
}

fn open_api(server: &Server, path: &str, uri: &Uri, headers: &HeaderMap) -> Reply {
    let registry = server.lock().registry.clone();
    if path == "/openapi/v3" {
        return encoded(200, &openapi::index(&registry), Encoding::Json, &[]);
    }
    if path == "/openapi/v2" {
        let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("*/*");
        // Clients that can read only the protobuf form must see that it is not there.
        let json = accept.split(',').any(|clause| {
            ["application/json", "*/*"].contains(&clause.split(';').next().unwrap_or_default().trim())
        });
        return if json {
            encoded(200, &openapi::document_v2(&registry), Encoding::Json, &[])
        } else {
            page_not_found()
        };
    }
    let Some(name) = path.strip_prefix("/openapi/v3/") else { return page_not_found() };
    let Some(document) = openapi::document(&registry, name) else { return page_not_found() };
    let hash = discovery::tag(&document);
    if query(uri).filled("hash").is_some_and(|asked| asked != hash) {
        let mut reply = plain_text(301, "");
        set(&mut reply, header::LOCATION, &format!("{path}?hash={hash}"));
        return reply;
    }
    encoded(200, &document, Encoding::Json, &[])
}

/// `GET` reads the counters, `DELETE` resets them.
fn stats(server: &Server, method: &Method) -> Reply {
    let mut state = server.lock();
    match method.as_str() {
        "GET" => encoded(200, &statistics::report(&state), Encoding::Json, &[]),
        "DELETE" => {
            state.statistics.reset();
            encoded(200, &json!({}), Encoding::Json, &[])
        }
        _ => plain_text(405, "use GET or DELETE\n"),
    }
}

/// `GET` shows the plan, `PUT` replaces it, `DELETE` clears it.
fn faults(server: &Server, method: &Method, body: &Bytes) -> Reply {
    let plan = match method.as_str() {
        "GET" => return encoded(200, &json!(server.lock().faults.plan()), Encoding::Json, &[]),
        "DELETE" => Ok(Plan::default()),
        "PUT" => serde_json::from_slice::<Plan>(body).map_err(|error| error.to_string()),
        _ => return plain_text(405, "use GET, PUT or DELETE\n"),
    };
    let mut state = server.lock();
    let set = plan.and_then(|plan| {
        let compact = plan.compact;
        state.faults.set(plan).map(|()| compact)
    });
    match set {
        Err(why) => refused(&Refusal::bad_request(why)),
        Ok(compact) => {
            if compact {
                state.store.compact();
            }
            let reply = encoded(200, &json!(state.faults.plan()), Encoding::Json, &[]);
            drop(state);
            server.changed(false);
            reply
        }
    }
}

fn query(uri: &Uri) -> Query {
    Parameters::<Vec<(String, String)>>::try_from_uri(uri)
        .map(|Parameters(pairs)| Query(pairs))
        .unwrap_or_default()
}

/// The path with its percent escapes resolved.
fn decoded_path(uri: &Uri) -> String {
    let bytes = uri.path().as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut place = 0;
    while place < bytes.len() {
        let escape = uri.path().get(place + 1..place + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (bytes[place], escape) {
            (b'%', Some(byte)) => {
                out.push(byte);
                place += 3;
            }
            (byte, _) => {
                out.push(byte);
                place += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn refused(refusal: &Refusal) -> Reply {
    let mut reply = encoded(refusal.code, &refusal.to_json(), Encoding::Json, &[]);
    if let Some(seconds) = refusal.retry_after_seconds {
        set(&mut reply, header::RETRY_AFTER, &seconds.to_string());
    }
    reply
}

fn encoded(code: u16, value: &Value, encoding: Encoding, warnings: &[String]) -> Reply {
    let (text, kind) = match encoding {
        Encoding::Json => (format!("{value}\n"), "application/json"),
        Encoding::Yaml => (serde_saphyr::to_string(value).unwrap_or_default(), "application/yaml"),
    };
    let mut reply = Response::new(Body::from(text));
    *reply.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    set(&mut reply, header::CONTENT_TYPE, kind);
    let mut seen: Vec<&String> = Vec::new();
    for warning in warnings {
        if seen.contains(&warning) {
            continue;
        }
        seen.push(warning);
        let text: String = warning.chars().filter(|c| !c.is_control()).take(WARNING_BYTES_MAX).collect();
        let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::from_bytes(format!("299 - \"{quoted}\"").as_bytes()) {
            reply.headers_mut().append(header::WARNING, value);
        }
    }
    reply
}

fn streamed(body: Body) -> Reply {
    let mut reply = Response::new(body);
    set(&mut reply, header::CONTENT_TYPE, "application/json");
    reply
}

fn plain_text(code: u16, text: &str) -> Reply {
    let mut reply = Response::new(Body::from(text.to_owned()));
    *reply.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    set(&mut reply, header::CONTENT_TYPE, "text/plain; charset=utf-8");
    reply
}

fn page_not_found() -> Reply {
    plain_text(404, "404 page not found\n")
}

fn set(reply: &mut Reply, name: header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        reply.headers_mut().insert(name, value);
    }
}
