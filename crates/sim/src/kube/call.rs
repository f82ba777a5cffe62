//! One request as the inner rooms see it: place, parameters, body; and what they give back.
//!
//! No HTTP types here, so that everything below it can be tried without a socket.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use super::kinds::Resource;
use super::options::Query;
use super::route::Place;

/// One request to a resource.
#[derive(Clone, Debug)]
pub struct Call {
    /// What it is about.
    pub place: Place,
    /// Query parameters.
    pub query: Query,
    /// Content-Type without parameters.
    pub content_type: String,
    /// The body.
    pub body: Vec<u8>,
    /// User-Agent.
    pub agent: String,
    /// When it arrived.
    pub now: Timestamp,
}

impl Call {
    /// The kind.
    pub fn resource(&self) -> &Arc<Resource> {
        &self.place.resource
    }

    /// The time as objects carry it: RFC 3339 to the second.
    pub fn time(&self) -> String {
        stamp(self.now)
    }
}

/// RFC 3339 to the second, in UTC.
pub fn stamp(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// What a successful request gives back.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// HTTP status code.
    pub code: u16,
    /// The answer.
    pub answer: Answer,
    /// Texts of `Warning` headers.
    pub warnings: Vec<String>,
    /// Whether a write left everything as it was.
    pub unchanged: bool,
}

/// The kinds of answers.
#[derive(Clone, Debug)]
pub enum Answer {
    /// One object in its stored form.
    Object(Arc<Value>),
    /// Several objects in their stored form, with the list's own metadata.
    List(Vec<Arc<Value>>, Value),
    /// Something that no view applies to, such as the Status of a delete.
    Plain(Value),
}

impl Outcome {
    /// An object under a code.
    pub fn object(code: u16, object: Arc<Value>, warnings: Vec<String>) -> Outcome {
        Outcome { code, answer: Answer::Object(object), warnings, unchanged: false }
    }
}
