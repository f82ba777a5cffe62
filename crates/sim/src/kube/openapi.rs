//! OpenAPI documents: v3 by group and version, as kubectl's apply, explain and validation read them, and a v2
//! in JSON.
//!
//! Custom kinds carry their whole schema; built-in kinds say only what they are and keep unknown fields.

use serde_json::{Map, Value, json};

use super::discovery::tag;
use super::kinds::{Registry, Resource, api_version};

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";
const METADATA_WORDS: &str = "Standard object's metadata. More info: \
     https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";
const VERSION_WORDS: &str = "The versioned schema of this representation of an object. More info: \
     https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources";
const KIND_WORDS: &str = "The REST resource that this object represents. More info: \
     https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";
const EMBEDDED_VERSION_WORDS: &str = "apiVersion defines the versioned schema of this representation of an \
     object. More info: \
     https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources";
const EMBEDDED_KIND_WORDS: &str = "kind is a string value representing the type of this object. In \
     CamelCase. More info: \
     https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";

const CREATE: &[&str] = &["dryRun", "fieldManager", "fieldValidation"];
const PATCH: &[&str] = &["dryRun", "fieldManager", "fieldValidation", "force"];
const GET: &[&str] = &["resourceVersion"];
const DELETE: &[&str] = &[
    "dryRun",
    "gracePeriodSeconds",
    "ignoreStoreReadErrorWithClusterBreakingPotential",
    "orphanDependents",
    "propagationPolicy",
];
const LIST: &[&str] = &[
    "allowWatchBookmarks",
    "continue",
    "fieldSelector",
    "labelSelector",
    "limit",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "timeoutSeconds",
    "watch",
];

/// `/openapi/v3`: every group and version with a URL that changes when its document does.
pub fn index(registry: &Registry) -> Value {
    let mut paths = Map::new();
    for group in registry.groups() {
        for version in registry.versions(group) {
            let path = document_path(group, &version.version);
            let hash = document(registry, &path).map(|document| tag(&document)).unwrap_or_default();
            let url = format!("/openapi/v3/{path}?hash={hash}");
            paths.insert(path, json!({ "serverRelativeURL": url }));
        }
    }
    json!({ "paths": paths })
}

/// The document of one group and version, named as in the index.
pub fn document(registry: &Registry, path: &str) -> Option<Value> {
    let (group, version) = match path.split('/').collect::<Vec<_>>().as_slice() {
        ["api", version] => ("", (*version).to_owned()),
        ["apis", group, version] => (*group, (*version).to_owned()),
        _ => return None,
    };
    let found = registry.versions(group).iter().find(|one| one.version == version)?;
    let (mut paths, mut schemas) = (Map::new(), Map::new());
    schemas.insert(OBJECT_META.to_owned(), object_meta());
    schemas.insert(LIST_META.to_owned(), open_object("ListMeta describes metadata that lists have."));
    for resource in found.resources.values() {
        schemas.insert(schema_name(resource), schema(resource, "#/components/schemas/"));
        schemas
            .insert(format!("{}List", schema_name(resource)), list_schema(resource, "#/components/schemas/"));
        paths.append(&mut resource_paths(resource));
    }
    Some(json!({
        "openapi": "3.0.0",
        "info": { "title": "Kubernetes", "version": super::discovery::GIT_VERSION },
        "paths": paths,
        "components": { "schemas": schemas },
    }))
}

/// The v2 document with the definitions of every kind and no paths.
pub fn document_v2(registry: &Registry) -> Value {
    let mut definitions = Map::new();
    definitions.insert(OBJECT_META.to_owned(), object_meta());
    for resource in registry.all() {
        definitions.insert(schema_name(resource), schema(resource, "#/definitions/"));
    }
    let info = json!({ "title": "Kubernetes", "version": super::discovery::GIT_VERSION });
    json!({ "swagger": "2.0", "info": info, "paths": {}, "definitions": definitions })
}

fn document_path(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

/// Names of schemas: the group reversed, then version and kind; built-in kinds as in the real documents.
fn schema_name(resource: &Resource) -> String {
    let (group, version, kind) = (&resource.group, &resource.version, &resource.kind);
    if resource.custom {
        let reversed: Vec<&str> = group.split('.').rev().collect();
        return format!("{}.{version}.{kind}", reversed.join("."));
    }
    match group.as_str() {
        "apiextensions.k8s.io" => {
            format!("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.{version}.{kind}")
        }
        "" => format!("io.k8s.api.core.{version}.{kind}"),
        group => format!("io.k8s.api.{}.{version}.{kind}", group.split('.').next().unwrap_or_default()),
    }
}

fn schema(resource: &Resource, base: &str) -> Value {
    let mut schema = match &resource.definition {
        Some(definition) => served_schema(definition),
        None => json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true }),
    };
    if !schema["properties"].is_object() {
        schema["properties"] = json!({});
    }
    let reference = json!([{ "$ref": format!("{base}{OBJECT_META}") }]);
    schema["properties"]["apiVersion"] = json!({ "type": "string", "description": VERSION_WORDS });
    schema["properties"]["kind"] = json!({ "type": "string", "description": KIND_WORDS });
    schema["properties"]["metadata"] = json!({ "description": METADATA_WORDS, "allOf": reference });
    schema["x-kubernetes-group-version-kind"] = json!([group_version_kind(resource)]);
    schema
}

/// A custom schema as it is published: int-or-string spelled out for clients that do not know the extension.
fn served_schema(definition: &Value) -> Value {
    let mut schema = definition.clone();
    spell_out(&mut schema);
    schema
}

fn spell_out(schema: &mut Value) {
    if schema["x-kubernetes-int-or-string"] == json!(true) && schema["anyOf"].is_null() {
        schema["anyOf"] = json!([{ "type": "integer" }, { "type": "string" }]);
    }
    if schema["x-kubernetes-embedded-resource"] == json!(true) {
        let metadata = json!([{ "$ref": format!("#/components/schemas/{OBJECT_META}") }]);
        schema["properties"]["apiVersion"] =
            json!({ "type": "string", "description": EMBEDDED_VERSION_WORDS });
        schema["properties"]["kind"] = json!({ "type": "string", "description": EMBEDDED_KIND_WORDS });
        schema["properties"]["metadata"] = json!({ "description": METADATA_WORDS, "allOf": metadata });
        schema["required"] = json!(["kind", "apiVersion"]);
    }
    let Some(map) = schema.as_object_mut() else { return };
    map.retain(|_, value| !value.is_null());
    for (field, value) in map.iter_mut() {
        match field.as_str() {
            "properties" => value.as_object_mut().into_iter().flat_map(Map::values_mut).for_each(spell_out),
            "items" | "additionalProperties" if value.is_object() => spell_out(value),
            _ => {}
        }
    }
}

fn list_schema(resource: &Resource, base: &str) -> Value {
    let mut kind = group_version_kind(resource);
    kind["kind"] = json!(resource.list_kind);
    json!({
        "type": "object",
        "description": format!("{} is a list of {}", resource.list_kind, resource.kind),
        "required": ["items"],
        "properties": {
            "apiVersion": { "type": "string", "description": VERSION_WORDS },
            "kind": { "type": "string", "description": KIND_WORDS },
            "metadata": { "allOf": [{ "$ref": format!("{base}{LIST_META}") }] },
            "items": { "type": "array", "items": { "$ref": format!("{base}{}", schema_name(resource)) } },
        },
        "x-kubernetes-group-version-kind": [kind],
    })
}

fn group_version_kind(resource: &Resource) -> Value {
    json!({ "group": resource.group, "version": resource.version, "kind": resource.kind })
}

fn open_object(words: &str) -> Value {
    json!({ "type": "object", "description": words, "x-kubernetes-preserve-unknown-fields": true })
}

fn object_meta() -> Value {
    let text = json!({ "type": "string" });
    let texts = json!({ "type": "object", "additionalProperties": { "type": "string" } });
    json!({
        "type": "object",
        "description": "ObjectMeta is metadata that all persisted resources must have.",
        "properties": {
            "name": text, "generateName": text, "namespace": text, "uid": text, "resourceVersion": text,
            "selfLink": text, "creationTimestamp": { "type": "string", "format": "date-time" },
            "deletionTimestamp": { "type": "string", "format": "date-time" },
            "generation": { "type": "integer", "format": "int64" },
            "deletionGracePeriodSeconds": { "type": "integer", "format": "int64" },
            "labels": texts, "annotations": texts,
            "finalizers": { "type": "array", "items": text },
            "ownerReferences": { "type": "array", "items": open_object("An owner of this object.") },
            "managedFields": { "type": "array", "items": open_object("Fields of one manager.") },
        },
    })
}

fn resource_paths(resource: &Resource) -> Map<String, Value> {
    let base = match resource.group.as_str() {
        "" => format!("/api/{}", resource.version),
        _ => format!("/apis/{}", api_version(&resource.group, &resource.version)),
    };
    let plural = &resource.plural;
    let mut paths = Map::new();
    let home = if resource.namespaced {
        format!("{base}/namespaces/{{namespace}}/{plural}")
    } else {
        format!("{base}/{plural}")
    };
    let mut collection = Map::new();
    for verb in resource.verbs {
        match *verb {
            "create" => drop(collection.insert("post".to_owned(), operation(resource, "post", CREATE))),
            "list" => drop(collection.insert("get".to_owned(), operation(resource, "list", LIST))),
            "deletecollection" => {
                collection.insert("delete".to_owned(), operation(resource, "deletecollection", DELETE));
            }
            _ => {}
        }
    }
    if resource.namespaced && resource.verbs.contains(&"list") {
        paths.insert(format!("{base}/{plural}"), json!({ "get": operation(resource, "list", LIST) }));
    }
    if resource.verbs.contains(&"get") {
        let item = json!({
            "get": operation(resource, "get", GET), "put": operation(resource, "put", CREATE),
            "patch": patch(resource), "delete": operation(resource, "delete", DELETE),
        });
        paths.insert(format!("{home}/{{name}}"), item);
    }
    if resource.has_status {
        let item = json!({
            "get": operation(resource, "get", GET), "put": operation(resource, "put", CREATE),
            "patch": patch(resource),
        });
        paths.insert(format!("{home}/{{name}}/status"), item);
    }
    paths.insert(home, Value::Object(collection));
    paths
}

fn operation(resource: &Resource, action: &str, parameters: &[&str]) -> Value {
    let flag = |name: &str| {
        ["watch", "force", "allowWatchBookmarks", "sendInitialEvents", "orphanDependents"].contains(&name)
    };
    let number = |name: &str| ["limit", "timeoutSeconds", "gracePeriodSeconds"].contains(&name);
    let parameter = |name: &&str| {
        let kind = if flag(name) {
            "boolean"
        } else if number(name) {
            "integer"
        } else {
            "string"
        };
        json!({ "name": name, "in": "query", "schema": { "type": kind, "uniqueItems": true } })
    };
    let reference = format!("#/components/schemas/{}", schema_name(resource));
    let content = json!({ "application/json": { "schema": { "$ref": reference } } });
    let mut operation = json!({
        "operationId": format!("{action}{}{}", resource.version, resource.kind),
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": group_version_kind(resource),
        "parameters": parameters.iter().map(parameter).collect::<Vec<_>>(),
        "responses": { "200": { "description": "OK", "content": content } },
    });
    if action == "post" || action == "put" {
        operation["requestBody"] = json!({ "content": content });
    }
    operation
}

fn patch(resource: &Resource) -> Value {
    // Strategic merge patches of built-in kinds are served but not published: kubectl would compute them from
    // these documents, which do not name the merge keys, instead of from the types that it knows.
    let types =
        ["application/apply-patch+yaml", "application/json-patch+json", "application/merge-patch+json"];
    let content: Map<String, Value> =
        types.into_iter().map(|kind| (kind.to_owned(), json!({ "schema": {} }))).collect();
    let mut patch = operation(resource, "patch", PATCH);
    patch["requestBody"] = json!({ "required": true, "content": content });
    patch
}
