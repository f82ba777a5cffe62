//! The built-in kinds: one row each, and what the real server fills in when one of them is created.
//!
//! It runs no controllers: a Deployment makes no Pods, a Service gets no address.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::kinds::{Registry, Resource, Selectable, VERBS_BUILTIN, VERBS_NAMESPACE, VERBS_REVIEW};
use super::schema::Schema;
use super::status::qualified;
use super::table::{builtin_columns, crd_columns};

/// One row of the table: group, version, plural, kind, short names, categories, flags.
struct Row(
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
    u8,
);

const NAMESPACED: u8 = 1;
const STATUS: u8 = 2;
const GENERATION: u8 = 4;
const ALL: &[&str] = &["all"];
const NONE: &[&str] = &[];
const ADMISSION: &str = "admissionregistration.k8s.io";
const EXTENSIONS: &str = "apiextensions.k8s.io";
const RBAC: &str = "rbac.authorization.k8s.io";

const ROWS: &[Row] = &[
    Row("", "v1", "configmaps", "ConfigMap", &["cm"], NONE, NAMESPACED),
    Row("", "v1", "events", "Event", &["ev"], NONE, NAMESPACED),
    Row("", "v1", "namespaces", "Namespace", &["ns"], NONE, STATUS),
    Row("", "v1", "nodes", "Node", &["no"], NONE, STATUS),
    Row("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim", &["pvc"], NONE, NAMESPACED | STATUS),
    Row("", "v1", "persistentvolumes", "PersistentVolume", &["pv"], NONE, STATUS),
    Row("", "v1", "pods", "Pod", &["po"], ALL, NAMESPACED | STATUS | GENERATION),
    Row("", "v1", "secrets", "Secret", NONE, NONE, NAMESPACED),
    Row("", "v1", "serviceaccounts", "ServiceAccount", &["sa"], NONE, NAMESPACED),
    Row("", "v1", "services", "Service", &["svc"], ALL, NAMESPACED | STATUS),
    Row(
        ADMISSION,
        "v1",
        "validatingadmissionpolicies",
        "ValidatingAdmissionPolicy",
        NONE,
        &["api-extensions"],
        STATUS | GENERATION,
    ),
    Row(
        ADMISSION,
        "v1",
        "validatingadmissionpolicybindings",
        "ValidatingAdmissionPolicyBinding",
        NONE,
        &["api-extensions"],
        GENERATION,
    ),
    Row(
        EXTENSIONS,
        "v1",
        "customresourcedefinitions",
        "CustomResourceDefinition",
        &["crd", "crds"],
        &["api-extensions"],
        STATUS | GENERATION,
    ),
    Row("apps", "v1", "daemonsets", "DaemonSet", &["ds"], ALL, NAMESPACED | STATUS | GENERATION),
    Row("apps", "v1", "deployments", "Deployment", &["deploy"], ALL, NAMESPACED | STATUS | GENERATION),
    Row("apps", "v1", "replicasets", "ReplicaSet", &["rs"], ALL, NAMESPACED | STATUS | GENERATION),
    Row("apps", "v1", "statefulsets", "StatefulSet", &["sts"], ALL, NAMESPACED | STATUS | GENERATION),
    Row("authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", NONE, NONE, 0),
    Row("batch", "v1", "jobs", "Job", NONE, ALL, NAMESPACED | STATUS | GENERATION),
    Row("coordination.k8s.io", "v1", "leases", "Lease", NONE, NONE, NAMESPACED),
    Row("events.k8s.io", "v1", "events", "Event", &["ev"], NONE, NAMESPACED),
    Row(
        "networking.k8s.io",
        "v1",
        "networkpolicies",
        "NetworkPolicy",
        &["netpol"],
        NONE,
        NAMESPACED | GENERATION,
    ),
    Row(
        "policy",
        "v1",
        "poddisruptionbudgets",
        "PodDisruptionBudget",
        &["pdb"],
        NONE,
        NAMESPACED | STATUS | GENERATION,
    ),
    Row(RBAC, "v1", "clusterrolebindings", "ClusterRoleBinding", NONE, NONE, 0),
    Row(RBAC, "v1", "clusterroles", "ClusterRole", NONE, NONE, 0),
    Row(RBAC, "v1", "rolebindings", "RoleBinding", NONE, NONE, NAMESPACED),
    Row(RBAC, "v1", "roles", "Role", NONE, NONE, NAMESPACED),
    Row("scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", &["pc"], NONE, GENERATION),
    Row("storage.k8s.io", "v1", "storageclasses", "StorageClass", &["sc"], NONE, 0),
];

/// Where Events of both APIs are stored.
pub const EVENTS: &str = "events";
/// Where CustomResourceDefinitions are stored.
pub const DEFINITIONS: &str = "customresourcedefinitions.apiextensions.k8s.io";
/// Where Namespaces are stored.
pub const NAMESPACES: &str = "namespaces";

/// The registry of the built-in kinds alone.
pub fn registry() -> Registry {
    let mut registry = Registry::default();
    for row in ROWS {
        registry.add(Arc::new(resource(row)));
    }
    registry
}

/// Fills in what the real server adds to a new object of a built-in kind.
pub fn complete_new(resource: &Resource, object: &mut Value, name: &str) {
    if resource.has_status {
        object.as_object_mut().map(|map| map.remove("status"));
    }
    match (resource.group.as_str(), resource.kind.as_str()) {
        ("", "Namespace") => {
            object["spec"] = json!({ "finalizers": ["kubernetes"] });
            object["status"] = json!({ "phase": "Active" });
            object["metadata"]["labels"]["kubernetes.io/metadata.name"] = json!(name);
        }
        ("", "Pod" | "PersistentVolume" | "PersistentVolumeClaim") => {
            object["status"] = json!({ "phase": "Pending" })
        }
        ("apps", "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet") => object["status"] = json!({}),
        ("", "Service") => object["status"] = json!({ "loadBalancer": {} }),
        _ => {}
    }
    complete(resource, object);
}

/// Fills in what the real server adds at every write of a built-in kind.
pub fn complete(resource: &Resource, object: &mut Value) {
    drop_nulls(object);
    if resource.is("", "Secret") {
        complete_secret(object);
    }
    if resource.is("", "Namespace") {
        let name = object["metadata"]["name"].clone();
        object["metadata"]["labels"]["kubernetes.io/metadata.name"] = name;
    }
    if resource.is(EXTENSIONS, "CustomResourceDefinition") {
        super::definitions::complete(object);
    }
}

fn complete_secret(object: &mut Value) {
    if object["type"].as_str().unwrap_or_default().is_empty() {
        object["type"] = json!("Opaque");
    }
    let Some(plain) = object.as_object_mut().and_then(|map| map.remove("stringData")) else { return };
    for (key, value) in plain.as_object().into_iter().flatten() {
        if let Some(text) = value.as_str() {
            object["data"][key] = json!(STANDARD.encode(text));
        }
    }
}

/// Typed objects cannot hold a null, so the real server drops every one of them.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, inner| !inner.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

fn resource(row: &Row) -> Resource {
    let Row(group, version, plural, kind, short_names, categories, flags) = row;
    let strings = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let verbs = match *plural {
        NAMESPACES => VERBS_NAMESPACE,
        "selfsubjectaccessreviews" => VERBS_REVIEW,
        _ => VERBS_BUILTIN,
    };
    let store = if *plural == EVENTS { EVENTS.to_owned() } else { qualified(group, plural) };
    Resource {
        group: (*group).to_owned(),
        version: (*version).to_owned(),
        plural: (*plural).to_owned(),
        singular: kind.to_lowercase(),
        kind: (*kind).to_owned(),
        list_kind: format!("{kind}List"),
        namespaced: flags & NAMESPACED != 0,
        custom: false,
        short_names: strings(short_names),
        categories: strings(categories),
        verbs,
        has_status: flags & STATUS != 0,
        has_generation: flags & GENERATION != 0,
        store: store.into(),
        columns: builtin_columns(group, kind).unwrap_or_else(|| crd_columns(None)),
        selectable: selectable(group, kind),
        schema: Schema::builtin(group, version, kind).unwrap_or_else(open_schema),
        definition: None,
        terminating: false,
    }
}

/// A kind of which nothing is known may hold anything.
fn open_schema() -> Schema {
    let schema = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    Schema::compile(&schema).expect("the schema of an open object is valid")
}

/// Fields that the real server lets field selectors name, per kind.
fn selectable(group: &str, kind: &str) -> Vec<Selectable> {
    let fields: &[&str] = match (group, kind) {
        ("", "Namespace") => &["status.phase"],
        ("", "Secret") => &["type"],
        ("", "Node") => &["spec.unschedulable"],
        ("", "Pod") => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "status.phase",
            "status.podIP",
        ],
        ("", "Service") => &["spec.clusterIP", "spec.type"],
        ("batch", "Job") => &["status.successful"],
        ("apps", "ReplicaSet") => &["status.replicas"],
        ("" | "events.k8s.io", "Event") => return event_fields(),
        _ => &[],
    };
    fields.iter().map(|field| Selectable { label: (*field).to_owned(), pointer: pointer(field) }).collect()
}

/// Events are selected by the names of the core API in the core API, and by its own names in events.k8s.io.
fn event_fields() -> Vec<Selectable> {
    let inner = ["kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath"];
    let mut fields = Vec::new();
    for field in inner {
        for object in ["involvedObject", "regarding"] {
            fields.push(Selectable {
                label: format!("{object}.{field}"),
                pointer: format!("/involvedObject/{field}"),
            });
        }
    }
    for (label, path) in [
        ("reason", "/reason"),
        ("type", "/type"),
        ("source", "/source/component"),
        ("reportingComponent", "/reportingComponent"),
        ("reportingController", "/reportingComponent"),
    ] {
        fields.push(Selectable { label: label.to_owned(), pointer: path.to_owned() });
    }
    fields
}

/// JSON pointer of a dotted path.
pub fn pointer(path: &str) -> String {
    path.trim_start_matches('.').split('.').map(|step| format!("/{step}")).collect()
}
