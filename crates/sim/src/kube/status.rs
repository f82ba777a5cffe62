//! Refusals: every answer that is not a success, as `metav1.Status` in the wording of kube-apiserver.
//!
//! It words and renders; it decides nothing. Wording follows apimachinery's `pkg/api/errors` of Kubernetes
//! 1.36.

use serde_json::{Map, Value, json};

use super::kinds::Resource;
use super::schema::Cause;

/// A refused request. `code` is the HTTP status, `reason` one of `metav1.StatusReason` (empty where the
/// server gives none), `details` the `details` object of the Status.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// HTTP status code.
    pub code: u16,
    /// `metav1.StatusReason`, empty where the real server gives none.
    pub reason: &'static str,
    /// The whole message.
    pub message: String,
    /// The `details` object, if there is one.
    pub details: Option<Value>,
    /// Seconds of the `Retry-After` header.
    pub retry_after_seconds: Option<u64>,
}

/// Message of every stale write.
pub const MODIFIED: &str =
    "the object has been modified; please apply your changes to the latest version and try again";

/// Message about a path that names nothing.
const NO_RESOURCE: &str = "the server could not find the requested resource";

impl Refusal {
    /// A refusal without details.
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Refusal {
        Refusal { code, reason, message: message.into(), details: None, retry_after_seconds: None }
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Refusal {
        Refusal::new(400, "BadRequest", message)
    }

    /// 500 without a reason, as the real server answers for errors that it did not expect.
    pub fn unexpected(message: impl Into<String>) -> Refusal {
        Refusal::new(500, "", message)
    }

    /// 404 of one object.
    pub fn not_found(resource: &Resource, name: &str) -> Refusal {
        let message = format!("{} \"{name}\" not found", resource.qualified());
        Refusal {
            details: Some(details(&resource.group, &resource.plural, name)),
            ..Refusal::new(404, "NotFound", message)
        }
    }

    /// 404 of a path of the built-in groups that names no resource.
    pub fn no_such_path() -> Refusal {
        Refusal { details: Some(json!({})), ..Refusal::new(404, "NotFound", NO_RESOURCE) }
    }

    /// 409 on create. `prefix` comes before the usual words.
    pub fn already_exists(resource: &Resource, name: &str, prefix: &str) -> Refusal {
        let message = format!("{prefix}{} \"{name}\" already exists", resource.qualified());
        let details = Some(details(&resource.group, &resource.plural, name));
        Refusal { details, ..Refusal::new(409, "AlreadyExists", message) }
    }

    /// 409 on write; `kind` is the plural or, for preconditions, the kind.
    pub fn conflict(group: &str, kind: &str, name: &str, why: &str) -> Refusal {
        let message =
            format!("Operation cannot be fulfilled on {} \"{name}\": {why}", qualified(group, kind));
        Refusal { details: Some(details(group, kind, name)), ..Refusal::new(409, "Conflict", message) }
    }

    /// 403.
    pub fn forbidden(resource: &Resource, name: &str, why: &str) -> Refusal {
        let message = format!("{} \"{name}\" is forbidden: {why}", resource.qualified());
        let details = Some(details(&resource.group, &resource.plural, name));
        Refusal { details, ..Refusal::new(403, "Forbidden", message) }
    }

    /// 405.
    pub fn method_not_allowed(resource: &Resource, action: &str) -> Refusal {
        let message = format!("{action} is not supported on resources of kind \"{}\"", resource.qualified());
        let details = Some(details(&resource.group, &resource.plural, ""));
        Refusal { details, ..Refusal::new(405, "MethodNotAllowed", message) }
    }

    /// 422 with causes; `kind` is a kind (or, from storage, a plural).
    pub fn invalid(group: &str, kind: &str, name: &str, causes: &[Cause]) -> Refusal {
        let parts: Vec<String> =
            causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
        let list = if parts.len() == 1 { parts.concat() } else { format!("[{}]", parts.join(", ")) };
        let message = format!("{} \"{name}\" is invalid: {list}", qualified(group, kind));
        let mut details = details(group, kind, name);
        details["causes"] = causes_json(causes);
        Refusal { details: Some(details), ..Refusal::new(422, "Invalid", message) }
    }

    /// 422 about the query parameters, whose kind is `ListOptions`, `CreateOptions` and so on.
    pub fn invalid_options(kind: &str, causes: &[Cause]) -> Refusal {
        Refusal::invalid("meta.k8s.io", kind, "", causes)
    }

    /// 409 of server-side apply.
    pub fn apply_conflict(causes: &[Cause], message: String) -> Refusal {
        Refusal {
            details: Some(json!({ "causes": causes_json(causes) })),
            ..Refusal::new(409, "Conflict", message)
        }
    }

    /// 410 for a revision that has been compacted away.
    pub fn expired(message: impl Into<String>) -> Refusal {
        Refusal::new(410, "Expired", message)
    }

    /// 504 for a revision that has not happened yet.
    pub fn too_large_version(asked: u64, current: u64) -> Refusal {
        let cause = json!({ "reason": "ResourceVersionTooLarge", "message": "Too large resource version" });
        let message = format!("Timeout: Too large resource version: {asked}, current: {current}");
        Refusal {
            details: Some(json!({ "causes": [cause], "retryAfterSeconds": 1 })),
            retry_after_seconds: Some(1),
            ..Refusal::new(504, "Timeout", message)
        }
    }

    /// 406.
    pub fn not_acceptable() -> Refusal {
        let accepted = "application/json, application/yaml, application/vnd.kubernetes.protobuf";
        Refusal::new(406, "NotAcceptable", format!("only the following media types are accepted: {accepted}"))
    }

    /// 415; `accepted` lists the media types that would do.
    pub fn unsupported_media_type(accepted: &str) -> Refusal {
        let words = "the body of the request was in an unknown format - accepted media types include";
        Refusal::new(415, "UnsupportedMediaType", format!("{words}: {accepted}"))
    }

    /// The `metav1.Status` object.
    pub fn to_json(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "code": self.code,
        });
        if !self.reason.is_empty() {
            status["reason"] = json!(self.reason);
        }
        if let Some(details) = &self.details {
            status["details"] = details.clone();
        }
        status
    }
}

/// The Status of a successful delete.
pub fn deleted(resource: &Resource, name: &str, uid: &str) -> Value {
    let mut details = details(&resource.group, &resource.plural, name);
    details["uid"] = json!(uid);
    json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details })
}

/// `field.Invalid`: the value is printed as Go prints it with `%q` or as JSON.
pub fn invalid_value(field: &str, value: &str, why: &str) -> Cause {
    cause("FieldValueInvalid", field, format!("Invalid value: {value}: {why}"))
}

/// `field.Forbidden`.
pub fn forbidden_value(field: &str, why: &str) -> Cause {
    cause("FieldValueForbidden", field, format!("Forbidden: {why}"))
}

/// `field.NotSupported`; `value` and `supported` are already quoted.
pub fn unsupported_value(field: &str, value: &str, supported: &[&str]) -> Cause {
    let list = supported.iter().map(|one| go_quoted(one)).collect::<Vec<_>>().join(", ");
    cause("FieldValueNotSupported", field, format!("Unsupported value: {value}: supported values: {list}"))
}

/// `field.Required`.
pub fn required_value(field: &str, why: &str) -> Cause {
    let message = if why.is_empty() { "Required value".to_owned() } else { format!("Required value: {why}") };
    cause("FieldValueRequired", field, message)
}

/// `field.TooLong`, in bytes.
pub fn too_long(field: &str, bytes_max: usize) -> Cause {
    cause("FieldValueTooLong", field, format!("Too long: may not be more than {bytes_max} bytes"))
}

/// A cause of any reason.
pub fn cause(reason: &'static str, field: &str, message: String) -> Cause {
    Cause { reason, message, field: field.to_owned() }
}

/// A string as Go's `%q` prints it.
pub fn go_quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => out.push_str(&format!("\\x{:02x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// `plural.group`, or the plural alone in the core group.
pub fn qualified(group: &str, kind: &str) -> String {
    if group.is_empty() { kind.to_owned() } else { format!("{kind}.{group}") }
}

fn details(group: &str, kind: &str, name: &str) -> Value {
    let mut map = Map::new();
    for (key, value) in [("name", name), ("group", group), ("kind", kind)] {
        if !value.is_empty() {
            map.insert(key.to_owned(), json!(value));
        }
    }
    Value::Object(map)
}

fn causes_json(causes: &[Cause]) -> Value {
    let one =
        |cause: &Cause| json!({ "reason": cause.reason, "message": cause.message, "field": cause.field });
    Value::Array(causes.iter().map(one).collect())
}
