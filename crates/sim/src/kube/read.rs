//! `GET` of one object and of a collection: revisions, pages, selectors.
//!
//! Watches are in `watch`; the form of the answer is made in `view`.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::call::{Answer, Call, Outcome};
use super::events;
use super::kinds::Resource;
use super::metadata;
use super::options::{ListOptions, Match, bad_version};
use super::selector::Selector;
use super::state::State;
use super::status::Refusal;
use super::store::{Keyed, Store};

/// Message about a page whose revision is gone.
const CONTINUE_EXPIRED: &str = "The provided continue parameter is too old to display a consistent list \
     result. You can start a new list without the continue parameter, or use the continue token in this \
     response to retrieve the remainder of the results. Continuing with the provided token results in an \
     inconsistent list - objects that were created, modified, or deleted between the time the first chunk \
     was returned and now may show up in the list.";

/// A stored object in the version that this path serves.
pub fn served(resource: &Resource, object: &Value) -> Value {
    let mut object = object.clone();
    object["apiVersion"] = json!(resource.api_version());
    events::to_served(resource, &mut object);
    object
}

/// `GET` of one object.
pub fn one(state: &State, call: &Call) -> Result<Outcome, Refusal> {
    let (resource, name) = (call.resource(), &call.place.name);
    if let Some(text) = call.query.filled("resourceVersion") {
        let asked: u64 = text.parse().map_err(|_| bad_version(text, true))?;
        check_not_future(&state.store, asked)?;
    }
    let key = metadata::key(&call.place.namespace, name);
    let object = state.store.get(&resource.store, &key).ok_or_else(|| Refusal::not_found(resource, name))?;
    Ok(Outcome::object(200, Arc::clone(object), Vec::new()))
}

/// `GET` of a collection.
pub fn list(state: &State, call: &Call) -> Result<Outcome, Refusal> {
    let options = ListOptions::parse(&call.query)?;
    let selector = Selector::parse(&call.query, call.resource())?;
    let (revision, start) = begin(state, &options)?;
    let (store, prefix) = (&call.resource().store, prefix(call));
    let Some(found) = state.store.list_at(store, &prefix, revision) else {
        return Err(expired(state, &options, revision, &start));
    };
    let (found, metadata) = page(found, &start, &options, &selector, revision);
    let objects = found.into_iter().map(|(_, object)| object).collect();
    Ok(Outcome { code: 200, answer: Answer::List(objects, metadata), warnings: Vec::new(), unchanged: false })
}

/// What the keys of the collection begin with.
pub fn prefix(call: &Call) -> String {
    if call.place.namespace.is_empty() { String::new() } else { format!("{}/", call.place.namespace) }
}

/// Refuses a revision that has not happened.
pub fn check_not_future(store: &Store, asked: u64) -> Result<(), Refusal> {
    if asked > store.revision() { Err(Refusal::too_large_version(asked, store.revision())) } else { Ok(()) }
}

/// The revision to read and the key to begin at.
fn begin(state: &State, options: &ListOptions) -> Result<(u64, String), Refusal> {
    let current = state.store.revision();
    if let Some(token) = &options.next {
        let (revision, start) = open_token(token)?;
        return Ok((if revision == 0 { current } else { revision }, start));
    }
    let Some(asked) = options.version else { return Ok((current, String::new())) };
    check_not_future(&state.store, asked)?;
    let exact = options.matching == Match::Exact
        || (options.matching == Match::Unset && options.limit > 0 && asked > 0);
    Ok((if exact { asked } else { current }, String::new()))
}

fn expired(state: &State, options: &ListOptions, revision: u64, start: &str) -> Refusal {
    if options.next.is_none() {
        return Refusal::expired(format!(
            "too old resource version: {revision} ({})",
            state.store.compacted()
        ));
    }
    // The client may go on without consistency: revision 0 stands for whatever is current then.
    Refusal { details: Some(json!({ "continue": token(0, start) })), ..Refusal::expired(CONTINUE_EXPIRED) }
}

/// The matching objects of one page. Like a real store it looks no further than the page is full: there is a
/// next page if any object is left, whether it matches or not, and the number left is told only without
/// selectors.
fn page(
    found: Vec<Keyed>,
    start: &str,
    options: &ListOptions,
    selector: &Selector,
    revision: u64,
) -> (Vec<Keyed>, Value) {
    let mut metadata = json!({ "resourceVersion": revision.to_string() });
    let mut rest = found.into_iter().filter(|(key, _)| key.as_str() >= start).peekable();
    let mut taken: Vec<Keyed> = Vec::new();
    while rest.peek().is_some() && (options.limit == 0 || taken.len() < options.limit) {
        taken.extend(rest.next().filter(|(_, object)| selector.matches(object)));
    }
    if let (Some((last, _)), true) = (taken.last(), rest.peek().is_some()) {
        metadata["continue"] = json!(token(revision, &format!("{last}\0")));
        if selector.is_empty() {
            metadata["remainingItemCount"] = json!(rest.count());
        }
    }
    (taken, metadata)
}

fn token(revision: u64, start: &str) -> String {
    let inner = json!({ "v": "meta.k8s.io/v1", "rv": revision, "start": start });
    URL_SAFE_NO_PAD.encode(inner.to_string())
}

fn open_token(token: &str) -> Result<(u64, String), Refusal> {
    let wrong = |why: String| {
        Refusal::bad_request(format!("invalid continue token: continue key is not valid: {why}"))
    };
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|error| wrong(error.to_string()))?;
    let inner: Value = serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
    match (inner["rv"].as_u64(), inner["start"].as_str()) {
        (Some(revision), Some(start)) => Ok((revision, start.to_owned())),
        _ => Err(wrong("incorrect encoded continue key".to_owned())),
    }
}
