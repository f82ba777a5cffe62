//! Bodies in protobuf, which kubectl sends for the few kinds it creates by command, read into JSON.
//!
//! Deliberately decodes those kinds only, and encodes nothing: answers may be JSON. Field numbers:
//! generated.proto of k8s.io/api and k8s.io/apimachinery.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use prost::Message;
use serde_json::{Map, Value, json};

/// The four bytes in front of every body.
const MAGIC: &[u8] = b"k8s\0";

#[derive(Clone, PartialEq, Message)]
struct Unknown {
    #[prost(message, optional, tag = "1")]
    type_meta: Option<TypeMeta>,
    #[prost(bytes = "vec", optional, tag = "2")]
    raw: Option<Vec<u8>>,
    #[prost(string, optional, tag = "4")]
    content_type: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct TypeMeta {
    #[prost(string, optional, tag = "1")]
    api_version: Option<String>,
    #[prost(string, optional, tag = "2")]
    kind: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Time {
    #[prost(int64, optional, tag = "1")]
    seconds: Option<i64>,
    #[prost(int32, optional, tag = "2")]
    nanos: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
struct OwnerReference {
    #[prost(string, optional, tag = "1")]
    kind: Option<String>,
    #[prost(string, optional, tag = "3")]
    name: Option<String>,
    #[prost(string, optional, tag = "4")]
    uid: Option<String>,
    #[prost(string, optional, tag = "5")]
    api_version: Option<String>,
    #[prost(bool, optional, tag = "6")]
    controller: Option<bool>,
    #[prost(bool, optional, tag = "7")]
    block_owner_deletion: Option<bool>,
}

#[derive(Clone, PartialEq, Message)]
struct ObjectMeta {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(string, optional, tag = "2")]
    generate_name: Option<String>,
    #[prost(string, optional, tag = "3")]
    namespace: Option<String>,
    #[prost(string, optional, tag = "5")]
    uid: Option<String>,
    #[prost(string, optional, tag = "6")]
    resource_version: Option<String>,
    #[prost(int64, optional, tag = "7")]
    generation: Option<i64>,
    #[prost(message, optional, tag = "8")]
    creation_timestamp: Option<Time>,
    #[prost(map = "string, string", tag = "11")]
    labels: HashMap<String, String>,
    #[prost(map = "string, string", tag = "12")]
    annotations: HashMap<String, String>,
    #[prost(message, repeated, tag = "13")]
    owner_references: Vec<OwnerReference>,
    #[prost(string, repeated, tag = "14")]
    finalizers: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Namespace {
    #[prost(message, optional, tag = "1")]
    metadata: Option<ObjectMeta>,
    #[prost(message, optional, tag = "2")]
    spec: Option<NamespaceSpec>,
}

#[derive(Clone, PartialEq, Message)]
struct NamespaceSpec {
    #[prost(string, repeated, tag = "1")]
    finalizers: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct ConfigMap {
    #[prost(message, optional, tag = "1")]
    metadata: Option<ObjectMeta>,
    #[prost(map = "string, string", tag = "2")]
    data: HashMap<String, String>,
    #[prost(map = "string, bytes", tag = "3")]
    binary_data: HashMap<String, Vec<u8>>,
    #[prost(bool, optional, tag = "4")]
    immutable: Option<bool>,
}

#[derive(Clone, PartialEq, Message)]
struct Secret {
    #[prost(message, optional, tag = "1")]
    metadata: Option<ObjectMeta>,
    #[prost(map = "string, bytes", tag = "2")]
    data: HashMap<String, Vec<u8>>,
    #[prost(string, optional, tag = "3")]
    kind: Option<String>,
    #[prost(map = "string, string", tag = "4")]
    string_data: HashMap<String, String>,
    #[prost(bool, optional, tag = "5")]
    immutable: Option<bool>,
}

#[derive(Clone, PartialEq, Message)]
struct LocalReference {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct ObjectReference {
    #[prost(string, optional, tag = "3")]
    name: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct ServiceAccount {
    #[prost(message, optional, tag = "1")]
    metadata: Option<ObjectMeta>,
    #[prost(message, repeated, tag = "2")]
    secrets: Vec<ObjectReference>,
    #[prost(message, repeated, tag = "3")]
    image_pull_secrets: Vec<LocalReference>,
    #[prost(bool, optional, tag = "4")]
    automount_service_account_token: Option<bool>,
}

#[derive(Clone, PartialEq, Message)]
struct AccessReview {
    #[prost(message, optional, tag = "1")]
    metadata: Option<ObjectMeta>,
    #[prost(message, optional, tag = "2")]
    spec: Option<AccessReviewSpec>,
}

#[derive(Clone, PartialEq, Message)]
struct AccessReviewSpec {
    #[prost(message, optional, tag = "1")]
    resource: Option<ResourceAttributes>,
    #[prost(message, optional, tag = "2")]
    path: Option<PathAttributes>,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceAttributes {
    #[prost(string, optional, tag = "1")]
    namespace: Option<String>,
    #[prost(string, optional, tag = "2")]
    verb: Option<String>,
    #[prost(string, optional, tag = "3")]
    group: Option<String>,
    #[prost(string, optional, tag = "4")]
    version: Option<String>,
    #[prost(string, optional, tag = "5")]
    resource: Option<String>,
    #[prost(string, optional, tag = "6")]
    subresource: Option<String>,
    #[prost(string, optional, tag = "7")]
    name: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct PathAttributes {
    #[prost(string, optional, tag = "1")]
    path: Option<String>,
    #[prost(string, optional, tag = "2")]
    verb: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct DeleteOptions {
    #[prost(int64, optional, tag = "1")]
    grace_period_seconds: Option<i64>,
    #[prost(message, optional, tag = "2")]
    preconditions: Option<Preconditions>,
    #[prost(bool, optional, tag = "3")]
    orphan_dependents: Option<bool>,
    #[prost(string, optional, tag = "4")]
    propagation_policy: Option<String>,
    #[prost(string, repeated, tag = "5")]
    dry_run: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Preconditions {
    #[prost(string, optional, tag = "1")]
    uid: Option<String>,
    #[prost(string, optional, tag = "2")]
    resource_version: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Lease {
    #[prost(message, optional, tag = "1")]
    metadata: Option<ObjectMeta>,
    #[prost(message, optional, tag = "2")]
    spec: Option<LeaseSpec>,
}

#[derive(Clone, PartialEq, Message)]
struct LeaseSpec {
    #[prost(string, optional, tag = "1")]
    holder_identity: Option<String>,
    #[prost(int32, optional, tag = "2")]
    lease_duration_seconds: Option<i32>,
    #[prost(message, optional, tag = "3")]
    acquire_time: Option<Time>,
    #[prost(message, optional, tag = "4")]
    renew_time: Option<Time>,
    #[prost(int32, optional, tag = "5")]
    lease_transitions: Option<i32>,
}

/// Decodes a body of type `application/vnd.kubernetes.protobuf` into JSON with `apiVersion` and `kind`.
///
/// # Errors
/// A body without the magic bytes, one that is cut off, or a kind that is not decoded here.
pub fn decode(body: &[u8]) -> Result<Value, String> {
    let inner = body.strip_prefix(MAGIC).ok_or("provided data does not appear to be a protobuf message")?;
    let unknown = Unknown::decode(inner).map_err(|error| error.to_string())?;
    let meta = unknown.type_meta.unwrap_or_default();
    let raw = unknown.raw.unwrap_or_default();
    let (api_version, kind) = (meta.api_version.unwrap_or_default(), meta.kind.unwrap_or_default());
    let mut fields = match kind.as_str() {
        "Namespace" => parse(&raw, namespace)?,
        "ConfigMap" => parse(&raw, config_map)?,
        "Secret" => parse(&raw, secret)?,
        "ServiceAccount" => parse(&raw, service_account)?,
        "SelfSubjectAccessReview" => parse(&raw, access_review)?,
        "DeleteOptions" => parse(&raw, delete_options)?,
        "Lease" => parse(&raw, lease)?,
        other => {
            return Err(format!("no protobuf form of {api_version}, Kind={other} is known to this server"));
        }
    };
    fields.insert("apiVersion".to_owned(), api_version.into());
    fields.insert("kind".to_owned(), kind.into());
    Ok(Value::Object(fields))
}

fn parse<M: Message + Default>(
    raw: &[u8],
    form: fn(M) -> Map<String, Value>,
) -> Result<Map<String, Value>, String> {
    M::decode(raw).map(form).map_err(|error| error.to_string())
}

/// Keeps the fields that are set: Go leaves empty ones out of JSON.
fn set<const N: usize>(fields: [(&str, Value); N]) -> Map<String, Value> {
    let present = |value: &Value| match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        _ => true,
    };
    fields
        .into_iter()
        .filter(|(_, value)| present(value))
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

fn time(time: Option<Time>, precise: bool) -> Value {
    let Some(time) = time else { return Value::Null };
    let (seconds, nanos) = (time.seconds.unwrap_or(0), time.nanos.unwrap_or(0));
    match jiff::Timestamp::new(seconds, nanos) {
        Ok(stamp) if precise => Value::from(format!("{stamp:.6}")),
        Ok(stamp) if seconds > 0 => Value::from(format!("{stamp:.0}")),
        _ => Value::Null,
    }
}

fn metadata(meta: Option<ObjectMeta>) -> Value {
    let meta = meta.unwrap_or_default();
    let owners: Vec<Value> = meta
        .owner_references
        .into_iter()
        .map(|owner| {
            Value::Object(set([
                ("apiVersion", json!(owner.api_version)),
                ("kind", json!(owner.kind)),
                ("name", json!(owner.name)),
                ("uid", json!(owner.uid)),
                ("controller", json!(owner.controller)),
                ("blockOwnerDeletion", json!(owner.block_owner_deletion)),
            ]))
        })
        .collect();
    Value::Object(set([
        ("name", json!(meta.name)),
        ("generateName", json!(meta.generate_name)),
        ("namespace", json!(meta.namespace)),
        ("uid", json!(meta.uid)),
        ("resourceVersion", json!(meta.resource_version)),
        ("generation", json!(meta.generation.filter(|generation| *generation != 0))),
        ("creationTimestamp", time(meta.creation_timestamp, false)),
        ("labels", json!(meta.labels)),
        ("annotations", json!(meta.annotations)),
        ("ownerReferences", Value::from(owners)),
        ("finalizers", json!(meta.finalizers)),
    ]))
}

fn base64(data: HashMap<String, Vec<u8>>) -> Value {
    Value::Object(data.into_iter().map(|(key, bytes)| (key, Value::from(STANDARD.encode(bytes)))).collect())
}

fn namespace(namespace: Namespace) -> Map<String, Value> {
    let finalizers = namespace.spec.unwrap_or_default().finalizers;
    set([
        ("metadata", metadata(namespace.metadata)),
        ("spec", Value::Object(set([("finalizers", json!(finalizers))]))),
    ])
}

fn config_map(map: ConfigMap) -> Map<String, Value> {
    set([
        ("metadata", metadata(map.metadata)),
        ("data", json!(map.data)),
        ("binaryData", base64(map.binary_data)),
        ("immutable", json!(map.immutable)),
    ])
}

fn secret(secret: Secret) -> Map<String, Value> {
    set([
        ("metadata", metadata(secret.metadata)),
        ("type", json!(secret.kind)),
        ("data", base64(secret.data)),
        ("stringData", json!(secret.string_data)),
        ("immutable", json!(secret.immutable)),
    ])
}

fn service_account(account: ServiceAccount) -> Map<String, Value> {
    let names = |names: Vec<Option<String>>| {
        Value::from(
            names.into_iter().map(|name| Value::Object(set([("name", json!(name))]))).collect::<Vec<_>>(),
        )
    };
    set([
        ("metadata", metadata(account.metadata)),
        ("secrets", names(account.secrets.into_iter().map(|secret| secret.name).collect())),
        (
            "imagePullSecrets",
            names(account.image_pull_secrets.into_iter().map(|secret| secret.name).collect()),
        ),
        ("automountServiceAccountToken", json!(account.automount_service_account_token)),
    ])
}

fn access_review(review: AccessReview) -> Map<String, Value> {
    let spec = review.spec.unwrap_or_default();
    let resource = spec.resource.map(|resource| {
        Value::Object(set([
            ("namespace", json!(resource.namespace)),
            ("verb", json!(resource.verb)),
            ("group", json!(resource.group)),
            ("version", json!(resource.version)),
            ("resource", json!(resource.resource)),
            ("subresource", json!(resource.subresource)),
            ("name", json!(resource.name)),
        ]))
    });
    let path =
        spec.path.map(|path| Value::Object(set([("path", json!(path.path)), ("verb", json!(path.verb))])));
    let spec = set([
        ("resourceAttributes", resource.unwrap_or_default()),
        ("nonResourceAttributes", path.unwrap_or_default()),
    ]);
    let mut fields = set([("metadata", metadata(review.metadata))]);
    fields.insert("spec".to_owned(), Value::Object(spec));
    fields
}

fn delete_options(options: DeleteOptions) -> Map<String, Value> {
    let preconditions = options.preconditions.unwrap_or_default();
    set([
        ("gracePeriodSeconds", json!(options.grace_period_seconds)),
        (
            "preconditions",
            Value::Object(set([
                ("uid", json!(preconditions.uid)),
                ("resourceVersion", json!(preconditions.resource_version)),
            ])),
        ),
        ("orphanDependents", json!(options.orphan_dependents)),
        ("propagationPolicy", json!(options.propagation_policy)),
        ("dryRun", json!(options.dry_run)),
    ])
}

fn lease(lease: Lease) -> Map<String, Value> {
    let spec = lease.spec.unwrap_or_default();
    set([
        ("metadata", metadata(lease.metadata)),
        (
            "spec",
            Value::Object(set([
                ("holderIdentity", json!(spec.holder_identity)),
                ("leaseDurationSeconds", json!(spec.lease_duration_seconds)),
                ("acquireTime", time(spec.acquire_time, true)),
                ("renewTime", time(spec.renew_time, true)),
                ("leaseTransitions", json!(spec.lease_transitions)),
            ])),
        ),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(api_version: &str, kind: &str, message: &impl Message) -> Vec<u8> {
        let unknown = Unknown {
            type_meta: Some(TypeMeta {
                api_version: Some(api_version.to_owned()),
                kind: Some(kind.to_owned()),
            }),
            raw: Some(message.encode_to_vec()),
            content_type: None,
        };
        [MAGIC, &unknown.encode_to_vec()].concat()
    }

    #[test]
    fn a_secret_becomes_json() {
        let secret = Secret {
            metadata: Some(ObjectMeta { name: Some("s".to_owned()), ..ObjectMeta::default() }),
            data: HashMap::from([("k".to_owned(), b"v".to_vec())]),
            kind: Some("Opaque".to_owned()),
            ..Secret::default()
        };
        let expected = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"},
            "type": "Opaque", "data": {"k": "dg=="}});
        assert_eq!(decode(&body("v1", "Secret", &secret)).unwrap(), expected);
    }

    #[test]
    fn bytes_as_kubectl_sends_them_are_read() {
        // Recorded form of `kubectl create namespace a`: Unknown{typeMeta{v1, Namespace}, raw{metadata{name
        // a}}}.
        let bytes = b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09Namespace\
            \x12\x0b\x0a\x05\x0a\x01a\x12\x00\x12\x00\x1a\x00\x1a\x00\x22\x00";
        let decoded = decode(bytes).unwrap();
        assert_eq!(decoded, json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}}));
    }

    #[test]
    fn foreign_bodies_are_refused() {
        assert!(decode(b"{}").unwrap_err().contains("protobuf"));
        let unknown = body("apps/v1", "Deployment", &Namespace::default());
        assert!(decode(&unknown).unwrap_err().contains("Kind=Deployment"));
        assert!(decode(b"k8s\0\x0a\xff").is_err());
    }
}
