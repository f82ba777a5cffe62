//! Discovery: `/version`, `/api`, `/apis` and below, in the legacy and the aggregated form.
//!
//! Describes the registry; OpenAPI documents are in `openapi`.

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::kinds::{GroupVersion, Registry, Resource, api_version};

/// Version of Kubernetes whose behaviour this server follows.
pub const GIT_VERSION: &str = "v1.36.2+ecskms";

/// `/version`. The build belongs to this server, the version to the API that it follows.
pub fn version() -> Value {
    json!({
        "major": "1", "minor": "36", "gitVersion": GIT_VERSION, "gitCommit": "", "gitTreeState": "clean",
        "buildDate": "2026-01-01T00:00:00Z", "goVersion": "none", "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
    })
}

/// A legacy discovery document for a path, or nothing if the path is none of theirs.
pub fn legacy(registry: &Registry, path: &str, address: &str) -> Option<Value> {
    let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
    match segments.as_slice() {
        ["api"] => Some(json!({
            "kind": "APIVersions", "versions": ["v1"],
            "serverAddressByClientCIDRs": [{ "clientCIDR": "0.0.0.0/0", "serverAddress": address }],
        })),
        ["apis"] => {
            let groups: Vec<Value> = groups(registry).map(|group| api_group(registry, group)).collect();
            Some(json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups }))
        }
        ["api", version] => resource_list(registry, "", version),
        ["apis", group] if !registry.versions(group).is_empty() => {
            let mut document = api_group(registry, group);
            document["kind"] = json!("APIGroup");
            document["apiVersion"] = json!("v1");
            Some(document)
        }
        ["apis", group, version] => resource_list(registry, group, version),
        _ => None,
    }
}

/// The aggregated document of `/api` (`core`) or `/apis`.
pub fn aggregated(registry: &Registry, core: bool) -> Value {
    let names: Vec<&str> = if core { vec![""] } else { groups(registry).collect() };
    let items: Vec<Value> = names.into_iter().map(|group| aggregated_group(registry, group)).collect();
    let version = "apidiscovery.k8s.io/v2";
    json!({ "kind": "APIGroupDiscoveryList", "apiVersion": version, "metadata": {}, "items": items })
}

/// An entity tag of a document.
pub fn tag(document: &Value) -> String {
    let digest = Sha256::digest(document.to_string().as_bytes());
    digest.iter().map(|byte| format!("{byte:02X}")).collect()
}

fn groups(registry: &Registry) -> impl Iterator<Item = &str> {
    registry.groups().filter(|group| !group.is_empty())
}

fn api_group(registry: &Registry, group: &str) -> Value {
    let entry = |version: &GroupVersion| {
        let name = &version.version;
        json!({ "groupVersion": api_version(group, name), "version": name })
    };
    let versions: Vec<Value> = registry.versions(group).iter().map(entry).collect();
    json!({ "name": group, "preferredVersion": versions.first(), "versions": versions })
}

fn resource_list(registry: &Registry, group: &str, version: &str) -> Option<Value> {
    let found = registry.versions(group).iter().find(|one| one.version == version)?;
    let mut resources = Vec::new();
    for resource in found.resources.values() {
        resources.push(legacy_resource(resource));
        for (name, verbs) in subresources(resource) {
            resources.push(json!({
                "name": format!("{}/{name}", resource.plural), "singularName": "",
                "namespaced": resource.namespaced, "kind": resource.kind, "verbs": verbs,
            }));
        }
    }
    let group_version = api_version(group, version);
    let mut document =
        json!({ "kind": "APIResourceList", "groupVersion": group_version, "resources": resources });
    if !group.is_empty() {
        document["apiVersion"] = json!("v1");
    }
    Some(document)
}

fn legacy_resource(resource: &Resource) -> Value {
    let mut entry = json!({
        "name": resource.plural, "singularName": resource.singular, "namespaced": resource.namespaced,
        "kind": resource.kind, "verbs": resource.verbs,
    });
    if resource.verbs.contains(&"get") {
        let digest = Sha256::digest(resource.store.as_bytes());
        use base64::Engine;
        entry["storageVersionHash"] = json!(base64::engine::general_purpose::STANDARD.encode(&digest[..8]));
    }
    add_names(resource, &mut entry);
    entry
}

fn add_names(resource: &Resource, entry: &mut Value) {
    if !resource.short_names.is_empty() {
        entry["shortNames"] = json!(resource.short_names);
    }
    if !resource.categories.is_empty() {
        entry["categories"] = json!(resource.categories);
    }
}

/// Subresources of a kind with their verbs, in the order of the real server.
pub fn subresources(resource: &Resource) -> Vec<(&'static str, &'static [&'static str])> {
    let mut list: Vec<(&'static str, &'static [&'static str])> = Vec::new();
    if resource.is("", "Namespace") {
        list.push(("finalize", &["update"]));
    }
    if resource.has_status {
        list.push(("status", &["get", "patch", "update"]));
    }
    list
}

fn aggregated_group(registry: &Registry, group: &str) -> Value {
    let mut metadata = Map::new();
    if !group.is_empty() {
        metadata.insert("name".to_owned(), json!(group));
    }
    let version = |version: &GroupVersion| {
        let resources: Vec<Value> = version.resources.values().map(|one| aggregated_resource(one)).collect();
        json!({ "version": version.version, "resources": resources, "freshness": "Current" })
    };
    let versions: Vec<Value> = registry.versions(group).iter().map(version).collect();
    json!({ "metadata": metadata, "versions": versions })
}

fn aggregated_resource(resource: &Resource) -> Value {
    // Built-in kinds leave group and version to the place in the document, custom kinds repeat them.
    let kind = match resource.custom {
        true => json!({ "group": resource.group, "version": resource.version, "kind": resource.kind }),
        false => json!({ "group": "", "version": "", "kind": resource.kind }),
    };
    let mut entry = json!({
        "resource": resource.plural, "responseKind": kind, "singularResource": resource.singular,
        "scope": if resource.namespaced { "Namespaced" } else { "Cluster" }, "verbs": resource.verbs,
    });
    add_names(resource, &mut entry);
    let one = |(name, verbs)| json!({ "subresource": name, "responseKind": kind, "verbs": verbs });
    let list: Vec<Value> = subresources(resource).into_iter().map(one).collect();
    if !list.is_empty() {
        entry["subresources"] = json!(list);
    }
    entry
}
