//! Columns and cells of built-in kinds.
//!
//! Deliberately covers the kinds that this server stores and people look at; every other kind shows name and
//! age.

use jiff::Timestamp;
use serde_json::Value;

use super::{Column, age, name_column, object_age};

/// The columns of a built-in kind; `None` for a kind that has no own columns here.
pub fn builtin_columns(group: &str, kind: &str) -> Option<Vec<Column>> {
    let described: &[(&str, &str, i64)] = match (group, kind) {
        ("", "Namespace") => &[("Status", "string", 0)],
        ("", "Secret") => &[("Type", "string", 0), ("Data", "string", 0)],
        ("", "ConfigMap") => &[("Data", "string", 0)],
        ("", "ServiceAccount") => &[("Secrets", "string", 0)],
        ("coordination.k8s.io", "Lease") => &[("Holder", "string", 0)],
        ("", "Service") => &[
            ("Type", "string", 0),
            ("Cluster-IP", "string", 0),
            ("External-IP", "string", 0),
            ("Port(s)", "string", 0),
            ("Selector", "string", 1),
        ],
        ("", "Pod") => &[
            ("Ready", "string", 0),
            ("Status", "string", 0),
            ("Restarts", "string", 0),
            ("IP", "string", 1),
            ("Node", "string", 1),
        ],
        ("apps", "Deployment") => &[
            ("Ready", "string", 0),
            ("Up-to-date", "string", 0),
            ("Available", "string", 0),
            ("Containers", "string", 1),
            ("Images", "string", 1),
            ("Selector", "string", 1),
        ],
        ("apps", "ReplicaSet") => {
            &[("Desired", "integer", 0), ("Current", "integer", 0), ("Ready", "integer", 0)]
        }
        ("apps", "StatefulSet") => &[("Ready", "string", 0)],
        ("apiextensions.k8s.io", "CustomResourceDefinition") => return Some(definition_columns()),
        ("" | "events.k8s.io", "Event") => return Some(event_columns()),
        _ => return None,
    };
    let mut columns = vec![name_column()];
    columns.extend(described.iter().map(|(name, kind, priority)| column(name, kind, *priority)));
    // kubectl shows the age after the narrow columns.
    let wide = columns.iter().position(|column| column.priority > 0).unwrap_or(columns.len());
    columns.insert(wide, column("Age", "string", 0));
    Some(columns)
}

/// The cell of a computed column.
pub(super) fn cell(group: &str, kind: &str, column: &str, object: &Value, now: Timestamp) -> Value {
    let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default();
    let count = |path: &str| object.pointer(path).and_then(Value::as_i64).unwrap_or(0);
    let size = |path: &str| {
        object.pointer(path).map_or(0, |value| match value {
            Value::Object(fields) => fields.len(),
            Value::Array(items) => items.len(),
            _ => 0,
        })
    };
    match (group, kind, column) {
        (_, "Event", _) => event_cell(column, object, now),
        (_, _, "Age") => Value::from(object_age(object, now)),
        ("", "Namespace", "Status") => Value::from(text("/status/phase")),
        ("", "Secret" | "Service", "Type") if kind == "Secret" => Value::from(text("/type")),
        ("", "Secret", "Data") => Value::from(size("/data")),
        ("", "ConfigMap", "Data") => Value::from(size("/data") + size("/binaryData")),
        ("", "ServiceAccount", "Secrets") => Value::from(size("/secrets")),
        (_, "Lease", "Holder") => Value::from(text("/spec/holderIdentity")),
        ("", "Service", _) => service_cell(column, object),
        ("", "Pod", _) => pod_cell(column, object),
        ("apps", "Deployment" | "StatefulSet", "Ready") => {
            Value::from(format!("{}/{}", count("/status/readyReplicas"), count("/spec/replicas")))
        }
        ("apps", "Deployment", "Up-to-date") => Value::from(count("/status/updatedReplicas")),
        ("apps", "Deployment", "Available") => Value::from(count("/status/availableReplicas")),
        ("apps", "Deployment", "Containers") => Value::from(containers(object, "name")),
        ("apps", "Deployment", "Images") => Value::from(containers(object, "image")),
        ("apps", "Deployment", "Selector") => {
            Value::from(pairs(object.pointer("/spec/selector/matchLabels")))
        }
        ("apps", "ReplicaSet", "Desired") => Value::from(count("/spec/replicas")),
        ("apps", "ReplicaSet", "Current") => Value::from(count("/status/replicas")),
        // The printer of definitions gives the time itself, not an age.
        ("apiextensions.k8s.io", "CustomResourceDefinition", "Created At") => {
            object["metadata"]["creationTimestamp"].clone()
        }
        ("apps", "ReplicaSet", "Ready") => Value::from(count("/status/readyReplicas")),
        _ => Value::Null,
    }
}

fn column(name: &str, kind: &str, priority: i64) -> Column {
    Column { name: name.to_owned(), kind: kind.to_owned(), priority, ..Column::default() }
}

fn definition_columns() -> Vec<Column> {
    vec![name_column(), column("Created At", "date", 0)]
}

fn event_columns() -> Vec<Column> {
    let mut columns = vec![
        column("Last Seen", "string", 0),
        column("Type", "string", 0),
        column("Reason", "string", 0),
        column("Object", "string", 0),
        column("Subobject", "string", 1),
        column("Source", "string", 1),
        column("Message", "string", 0),
        column("First Seen", "string", 1),
        column("Count", "string", 1),
    ];
    columns.push(Column { priority: 1, ..name_column() });
    columns
}

fn event_cell(column: &str, object: &Value, now: Timestamp) -> Value {
    let first = |paths: &[&str]| {
        paths
            .iter()
            .find_map(|path| object.pointer(path).and_then(Value::as_str).filter(|text| !text.is_empty()))
    };
    let since = |paths: &[&str]| {
        let time = first(paths).and_then(|text| text.parse::<Timestamp>().ok());
        Value::from(time.map_or_else(|| "<unknown>".to_owned(), |time| age(time, now)))
    };
    let text = |paths: &[&str]| Value::from(first(paths).unwrap_or_default());
    match column {
        "Last Seen" => since(&[
            "/series/lastObservedTime",
            "/lastTimestamp",
            "/deprecatedLastTimestamp",
            "/firstTimestamp",
            "/eventTime",
        ]),
        "First Seen" => since(&["/firstTimestamp", "/deprecatedFirstTimestamp", "/eventTime"]),
        "Type" => text(&["/type"]),
        "Reason" => text(&["/reason"]),
        "Message" => Value::from(first(&["/message", "/note"]).unwrap_or_default().trim()),
        "Source" => text(&["/source/component", "/reportingComponent", "/reportingController"]),
        "Subobject" => text(&["/involvedObject/fieldPath", "/regarding/fieldPath"]),
        "Object" => {
            let kind = first(&["/involvedObject/kind", "/regarding/kind"]).unwrap_or_default().to_lowercase();
            let name = first(&["/involvedObject/name", "/regarding/name"]).unwrap_or_default();
            Value::from(if kind.is_empty() { name.to_owned() } else { format!("{kind}/{name}") })
        }
        "Count" => {
            let counts = ["/series/count", "/count", "/deprecatedCount"];
            Value::from(counts.iter().find_map(|path| object.pointer(path)?.as_i64()).unwrap_or(1))
        }
        _ => Value::Null,
    }
}

fn service_cell(column: &str, object: &Value) -> Value {
    let text = |path: &str, missing: &str| {
        let found = object.pointer(path).and_then(Value::as_str).filter(|text| !text.is_empty());
        Value::from(found.unwrap_or(missing))
    };
    match column {
        "Type" => text("/spec/type", "ClusterIP"),
        "Cluster-IP" => text("/spec/clusterIP", "<none>"),
        "External-IP" => Value::from("<none>"),
        "Selector" => Value::from(pairs(object.pointer("/spec/selector"))),
        "Port(s)" => {
            let ports = object.pointer("/spec/ports").and_then(Value::as_array).into_iter().flatten();
            let shown: Vec<String> = ports
                .map(|port| {
                    let protocol = port.get("protocol").and_then(Value::as_str).unwrap_or("TCP");
                    format!("{}/{protocol}", port.get("port").and_then(Value::as_i64).unwrap_or(0))
                })
                .collect();
            Value::from(if shown.is_empty() { "<none>".to_owned() } else { shown.join(",") })
        }
        _ => Value::Null,
    }
}

fn pod_cell(column: &str, object: &Value) -> Value {
    let statuses =
        || object.pointer("/status/containerStatuses").and_then(Value::as_array).into_iter().flatten();
    let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or("<none>");
    match column {
        "Ready" => {
            let total = object.pointer("/spec/containers").and_then(Value::as_array).map_or(0, Vec::len);
            let ready = statuses().filter(|status| status.get("ready") == Some(&Value::Bool(true))).count();
            Value::from(format!("{ready}/{total}"))
        }
        "Status" if object.pointer("/metadata/deletionTimestamp").is_some() => Value::from("Terminating"),
        "Status" => Value::from(object.pointer("/status/phase").and_then(Value::as_str).unwrap_or_default()),
        "Restarts" => {
            let restarts = statuses().filter_map(|status| status.get("restartCount")?.as_i64()).sum::<i64>();
            Value::from(restarts.to_string())
        }
        "IP" => Value::from(text("/status/podIP")),
        "Node" => Value::from(text("/spec/nodeName")),
        _ => Value::Null,
    }
}

fn containers(object: &Value, field: &str) -> String {
    let list =
        object.pointer("/spec/template/spec/containers").and_then(Value::as_array).into_iter().flatten();
    list.filter_map(|item| item.get(field)?.as_str()).collect::<Vec<_>>().join(",")
}

fn pairs(labels: Option<&Value>) -> String {
    let shown: Vec<String> = labels
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    if shown.is_empty() { "<none>".to_owned() } else { shown.join(",") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::row_cells;
    use super::*;

    #[test]
    fn built_in_kinds_have_their_cells() {
        let now = "2026-01-01T00:01:00Z".parse().unwrap();
        let metadata = json!({"name": "x", "creationTimestamp": "2026-01-01T00:00:00Z"});
        for (group, kind, rest, cells) in [
            (
                "",
                "Secret",
                json!({"type": "Opaque", "data": {"k": "dg=="}}),
                json!(["x", "Opaque", 1, "60s"]),
            ),
            ("", "ConfigMap", json!({"data": {"a": "1", "b": "2"}}), json!(["x", 2, "60s"])),
            ("", "Namespace", json!({"status": {"phase": "Active"}}), json!(["x", "Active", "60s"])),
            (
                "coordination.k8s.io",
                "Lease",
                json!({"spec": {"holderIdentity": "me"}}),
                json!(["x", "me", "60s"]),
            ),
        ] {
            let mut object = rest;
            object["metadata"] = metadata.clone();
            let columns = builtin_columns(group, kind).unwrap();
            assert_eq!(Value::from(row_cells(&columns, group, kind, &object, now)), cells);
        }
        assert!(builtin_columns("rbac.authorization.k8s.io", "Role").is_none());
    }

    #[test]
    fn events_read_alike_in_both_forms() {
        let now = "2026-01-01T00:01:00Z".parse().unwrap();
        let core = json!({"involvedObject": {"kind": "Widget", "name": "w"}, "message": "m",
            "lastTimestamp": "2026-01-01T00:00:30Z", "reason": "R", "type": "Normal"});
        let new = json!({"regarding": {"kind": "Widget", "name": "w"}, "note": "m",
            "deprecatedLastTimestamp": "2026-01-01T00:00:30Z", "reason": "R", "type": "Normal"});
        let columns = builtin_columns("", "Event").unwrap();
        let shown = row_cells(&columns, "", "Event", &core, now);
        assert_eq!(shown[0], "30s");
        assert_eq!(shown[3], "widget/w");
        assert_eq!(shown[..5], row_cells(&columns, "events.k8s.io", "Event", &new, now)[..5]);
    }
}
