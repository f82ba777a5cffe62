//! How answers are written: JSON or XML, and the damage that faults do to them.
//!
//! Deliberately a minimal XML: the same fields in the same nesting, without namespaces and attributes.

use axum::body::{Body, Bytes};
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use serde_json::Value;

use super::faults;

/// Bytes of the body that the fault `huge` sends.
const HUGE_BYTES: usize = 6 * 1024 * 1024;

/// An answer before it is written.
#[derive(Clone, Debug)]
pub struct Envelope {
    /// The HTTP status.
    pub status: u16,
    /// The whole body, `RequestId` included.
    pub body: Value,
    /// The name of the XML root element.
    pub root: String,
    /// JSON if true, XML otherwise.
    pub json: bool,
    /// The request id, which also goes into a header.
    pub request_id: String,
    /// `x-acs-retry-after` in milliseconds.
    pub retry_after_milliseconds: Option<u64>,
}

/// Writes an answer, with or without damage.
pub fn write(envelope: &Envelope, damage: Option<faults::Body>) -> Response {
    let (mut kind, text) = if envelope.json {
        ("application/json;charset=utf-8", envelope.body.to_string())
    } else {
        ("text/xml;charset=utf-8", to_xml(&envelope.root, &envelope.body))
    };
    let text = match damage {
        None => text,
        Some(faults::Body::Html) => {
            kind = "text/html; charset=utf-8";
            "<html><head><title>502 Bad Gateway</title></head><body>upstream is away</body></html>"
                .to_string()
        }
        Some(faults::Body::Truncated) => text.chars().take(text.chars().count() / 2).collect(),
        Some(faults::Body::Empty) => String::new(),
        Some(faults::Body::EmptyList) => with_empty_lists(envelope.body.clone()).to_string(),
        Some(faults::Body::Array) => "[1, 2, 3]".to_string(),
        Some(faults::Body::Text) => "service is busy, come back later".to_string(),
        Some(faults::Body::Huge) => format!("{{\"Padding\": \"{}\"}}", "x".repeat(HUGE_BYTES)),
        Some(faults::Body::UnknownStatus) => with_unknown_status(envelope.body.clone()).to_string(),
    };
    let mut response = Response::new(Body::from(text));
    *response.status_mut() =
        StatusCode::from_u16(envelope.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    if let Ok(id) = HeaderValue::from_str(&envelope.request_id) {
        headers.insert("x-acs-request-id", id);
    }
    if let Some(milliseconds) = envelope.retry_after_milliseconds {
        headers.insert("x-acs-retry-after", HeaderValue::from(milliseconds));
    }
    response
}

/// An answer that breaks off: the headers promise a body, and the connection ends before it.
pub fn broken_off() -> Response {
    let failure =
        std::io::Error::new(std::io::ErrorKind::ConnectionReset, "the connection was dropped on purpose");
    let stream = futures::stream::once(async { Err::<Bytes, std::io::Error>(failure) });
    let mut response = Response::new(Body::from_stream(stream));
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from_static("4096"));
    response
}

fn with_empty_lists(value: Value) -> Value {
    match value {
        Value::Array(_) => Value::Array(Vec::new()),
        Value::Object(fields) => {
            Value::Object(fields.into_iter().map(|(key, value)| (key, with_empty_lists(value))).collect())
        }
        other => other,
    }
}

fn with_unknown_status(value: Value) -> Value {
    match value {
        Value::Array(items) => Value::Array(items.into_iter().map(with_unknown_status).collect()),
        Value::Object(fields) => Value::Object(
            fields
                .into_iter()
                .map(|(key, value)| match key.as_str() {
                    "Status" | "KeyState" => (key, Value::String("Hibernating".into())),
                    _ => (key, with_unknown_status(value)),
                })
                .collect(),
        ),
        other => other,
    }
}

/// The fields of `value` as XML elements under `root`; a list repeats its element.
pub fn to_xml(root: &str, value: &Value) -> String {
    let mut text = String::from("<?xml version='1.0' encoding='UTF-8'?>");
    element(&mut text, root, value);
    text
}

fn element(text: &mut String, name: &str, value: &Value) {
    if let Value::Array(items) = value {
        items.iter().for_each(|item| element(text, name, item));
        return;
    }
    text.push_str(&format!("<{name}>"));
    match value {
        Value::Object(fields) => fields.iter().for_each(|(key, field)| element(text, key, field)),
        Value::String(content) => text.push_str(&escaped(content)),
        Value::Null => {}
        other => text.push_str(&other.to_string()),
    }
    text.push_str(&format!("</{name}>"));
}

fn escaped(content: &str) -> String {
    content.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn xml_repeats_list_elements_and_escapes() {
        let text = to_xml("Reply", &json!({"Disks": {"Disk": [{"Id": "a&b"}, {"Id": "c"}]}, "N": 1}));
        assert_eq!(
            text,
            "<?xml version='1.0' encoding='UTF-8'?><Reply><Disks><Disk><Id>a&amp;b</Id></Disk>\
             <Disk><Id>c</Id></Disk></Disks><N>1</N></Reply>"
        );
    }
}
