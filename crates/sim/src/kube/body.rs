//! From the bytes of a request to an object of the right kind: decoding, strictness, types, clean-up.
//!
//! What the object then means for the store is decided in `write`.

use serde_json::Value;

use super::call::Call;
use super::events;
use super::kinds::{Resource, api_version};
use super::metadata;
use super::options::{FieldValidation, WriteOptions};
use super::protobuf;
use super::status::{Refusal, go_quoted, invalid_value};
use super::strict::{self, Decoded};

const ACCEPTED: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";

/// Bytes of a body that are shown in an error about it.
const SHOWN_BYTES_MAX: usize = 256;

/// A body of any of the three encodings.
pub fn decode(call: &Call) -> Result<Decoded, Refusal> {
    let wrong = |why: String| Refusal::bad_request(why);
    match call.content_type.as_str() {
        "" | "application/json" => strict::decode_json(&call.body).map_err(wrong),
        "application/yaml" => strict::decode_yaml(&call.body).map_err(wrong),
        "application/vnd.kubernetes.protobuf" => {
            let value = protobuf::decode(&call.body).map_err(wrong)?;
            Ok(Decoded { value, duplicates: Vec::new() })
        }
        _ => Err(Refusal::unsupported_media_type(ACCEPTED)),
    }
}

/// The object of a create or update, with the warnings that go back to the client.
pub fn object(call: &Call, options: &WriteOptions) -> Result<(Value, Vec<String>), Refusal> {
    let resource = call.resource();
    let decoded = decode(call).map_err(|refusal| unreadable(resource, call, refusal))?;
    let mut object = decoded.value;
    if !object.is_object() {
        return Err(unrecognized(resource, call, "json: cannot unmarshal the body into an object"));
    }
    check_kind(resource, call, &mut object)?;
    admit(resource, &object)?;
    let unknown = clean(resource, &mut object);
    let problems: Vec<String> =
        decoded.duplicates.into_iter().chain(unknown.iter().map(|path| unknown_field(path))).collect();
    match options.field_validation {
        FieldValidation::Strict if !problems.is_empty() => {
            Err(cannot_handle(resource, &format!("strict decoding error: {}", problems.join(", "))))
        }
        FieldValidation::Warn => Ok((object, problems)),
        _ => Ok((object, Vec::new())),
    }
}

/// Checks the types of the metadata.
pub fn admit(resource: &Resource, object: &Value) -> Result<(), Refusal> {
    metadata::check_types(object).map_err(|why| cannot_handle(resource, &why))
}

/// Brings a decoded object to its stored form: known fields only, metadata without blanks, one form of
/// Events. Returns the paths of the fields that it dropped.
pub fn clean(resource: &Resource, object: &mut Value) -> Vec<String> {
    let mut unknown = metadata::prune(object);
    metadata::normalize(object);
    unknown.extend(resource.schema.prune(object));
    events::to_stored(resource, object);
    unknown
}

/// The words about one unknown field.
pub fn unknown_field(path: &str) -> String {
    format!("unknown field {}", go_quoted(path))
}

fn cannot_handle(resource: &Resource, why: &str) -> Refusal {
    let kind = &resource.kind;
    let version = go_quoted(&resource.version);
    Refusal::bad_request(format!("{kind} in version {version} cannot be handled as a {kind}: {why}"))
}

fn unreadable(resource: &Resource, call: &Call, refusal: Refusal) -> Refusal {
    if refusal.code == 400 { unrecognized(resource, call, &refusal.message) } else { refusal }
}

fn unrecognized(resource: &Resource, call: &Call, why: &str) -> Refusal {
    let shown = &call.body[..call.body.len().min(SHOWN_BYTES_MAX)];
    let hex: String = shown.iter().map(|byte| format!("{byte:02x}")).collect();
    let kind = &resource.kind;
    Refusal::bad_request(format!(
        "the object provided is unrecognized (must be of type {kind}): {why} ({hex})"
    ))
}

/// Built-in kinds take a missing kind and version from the path; custom kinds must name both.
fn check_kind(resource: &Resource, call: &Call, object: &mut Value) -> Result<(), Refusal> {
    let expected = resource.api_version();
    let kind = object["kind"].as_str().unwrap_or_default().to_owned();
    let version = object["apiVersion"].as_str().unwrap_or_default().to_owned();
    if !resource.custom {
        let same = (kind.is_empty() || kind == resource.kind) && (version.is_empty() || version == expected);
        if !same {
            return Err(foreign_kind(resource, &kind, &version));
        }
        object["kind"] = resource.kind.clone().into();
        object["apiVersion"] = expected.into();
        return Ok(());
    }
    if kind.is_empty() {
        return Err(unrecognized(resource, call, "Object 'Kind' is missing"));
    }
    if version != expected {
        return Err(Refusal::bad_request(format!(
            "the API version in the data ({version}) does not match the expected API version ({expected})"
        )));
    }
    if kind != resource.kind {
        let why = format!("must be {}", resource.kind);
        let name = metadata::text(object, "name");
        let cause = invalid_value("kind", &go_quoted(&kind), why.as_str());
        return Err(Refusal::invalid(&resource.group, &kind, name, &[cause]));
    }
    Ok(())
}

fn foreign_kind(resource: &Resource, kind: &str, version: &str) -> Refusal {
    let (group, number) = version.split_once('/').unwrap_or(("", version));
    let internal = |group: &str| {
        if group.is_empty() {
            "core".to_owned()
        } else {
            group.split('.').next().unwrap_or_default().to_owned()
        }
    };
    if kind == resource.kind {
        return Refusal::bad_request(format!(
            "the API version in the data ({version}) does not match the expected API version ({})",
            api_version(&resource.group, &resource.version)
        ));
    }
    let package = if group.is_empty() { number.to_owned() } else { format!("{}.{number}", internal(group)) };
    Refusal::bad_request(format!(
        "{kind} in version {} cannot be handled as a {}: \
         converting ({package}.{kind}) to ({}.{}): unknown conversion",
        go_quoted(number),
        resource.kind,
        internal(&resource.group),
        resource.kind
    ))
}
