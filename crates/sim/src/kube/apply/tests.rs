//! Server-side apply and the record of managers, case by case.
//!
//! Deliberately without a server: values in, values out.

use serde_json::{Value, json};

use super::*;

fn schema() -> Schema {
    let string = json!({"type": "string"});
    Schema::compile(&json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {
            "size": {"type": "integer"}, "note": string, "color": string,
            "labels": {"type": "object", "additionalProperties": string},
            "selector": {"type": "object", "x-kubernetes-map-type": "atomic", "additionalProperties": string},
            "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": string},
            "args": {"type": "array", "items": string},
            "nested": {"type": "object", "properties": {"name": string, "level": {"type": "integer"}}},
            "raw": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "ports": {"type": "array", "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["port", "protocol"],
                "items": {"type": "object", "required": ["port"], "properties": {"port": {"type": "integer"},
                    "protocol": {"type": "string", "default": "TCP"}, "name": string}}}
        }},
        "status": {"type": "object", "properties": {"phase": string}}
    }}))
    .unwrap()
    .with_status_subresource(true)
}

fn manager(name: &str) -> Manager<'_> {
    Manager {
        name,
        operation: Operation::Apply,
        subresource: "",
        api_version: "g.example/v1",
        time: "2026-01-01T00:00:00Z",
    }
}

fn widget(spec: Value) -> Value {
    json!({"apiVersion": "g.example/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": spec})
}

fn applied(live: Option<&Value>, spec: Value, name: &str) -> Value {
    apply(&schema(), live, &widget(spec), &manager(name), false).unwrap()
}

fn owned(object: &Value, name: &str) -> Value {
    let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    entries
        .into_iter()
        .find(|entry| entry["manager"] == name)
        .map_or(Value::Null, |entry| entry["fieldsV1"]["f:spec"].clone())
}

fn conflict(live: &Value, spec: Value, name: &str) -> String {
    match apply(&schema(), Some(live), &widget(spec), &manager(name), false) {
        Err(ApplyError::Conflict(_, message)) => message,
        other => panic!("no conflict but {other:?}"),
    }
}

fn refusal(spec: Value) -> String {
    match apply(&schema(), None, &widget(spec), &manager("a"), false) {
        Err(ApplyError::Bad(500, message)) => message,
        other => panic!("no refusal but {other:?}"),
    }
}

#[test]
fn a_create_owns_what_it_names_and_nothing_of_the_server() {
    let object =
        applied(None, json!({"size": 1, "tags": ["a"], "nested": {"name": "x"}, "labels": {}}), "alpha");
    let entry = &object["metadata"]["managedFields"][0];
    assert_eq!(
        entry["fieldsV1"],
        json!({"f:spec": {"f:size": {}, "f:tags": {"v:\"a\"": {}}, "f:nested": {"f:name": {}},
            "f:labels": {}}})
    );
    assert_eq!(entry["time"], "2026-01-01T00:00:00Z");
}

#[test]
fn what_is_no_longer_applied_goes_away_unless_somebody_else_owns_it() {
    let one = applied(None, json!({"size": 1, "note": "x", "labels": {"a": "1", "b": "2"}}), "alpha");
    let two = applied(Some(&one), json!({"note": "x"}), "beta");
    assert_eq!(
        two["metadata"]["managedFields"][0].get("time"),
        None,
        "an apply that changes nothing has no time"
    );
    let three = applied(Some(&two), json!({"size": 1, "labels": {"b": "2"}}), "alpha");
    assert_eq!(three["spec"], json!({"size": 1, "note": "x", "labels": {"b": "2"}}));
    let four = applied(Some(&three), json!({}), "beta");
    assert_eq!(four["spec"], json!({"size": 1, "labels": {"b": "2"}}));
}

#[test]
fn conflicts_name_managers_and_fields() {
    let one = applied(
        None,
        json!({"size": 3, "nested": {"name": "x"}, "ports": [{"port": 1, "name": "one"}]}),
        "alpha",
    );
    assert_eq!(
        conflict(&one, json!({"size": 4}), "beta"),
        "Apply failed with 1 conflict: conflict with \"alpha\": .spec.size"
    );
    let spec = json!({"size": 4, "nested": {"name": "y"}, "ports": [{"port": 1, "name": "uno"}]});
    assert_eq!(
        conflict(&one, spec.clone(), "beta"),
        "Apply failed with 3 conflicts: conflicts with \"alpha\":\n- .spec.size\n- .spec.nested.name\n\
         - .spec.ports[port=1,protocol=\"TCP\"].name"
    );
    let forced = apply(&schema(), Some(&one), &widget(spec), &manager("beta"), true).unwrap();
    assert_eq!(forced["spec"]["size"], 4);
    let key = "k:{\"port\":1,\"protocol\":\"TCP\"}";
    assert_eq!(owned(&forced, "alpha"), json!({"f:ports": {key: {".": {}, "f:port": {}}}}));
}

#[test]
fn keyed_lists_merge_item_by_item_in_a_stable_order() {
    let ports = |numbers: &[i64]| {
        json!({"ports": numbers.iter().map(|port|
        json!({"port": port})).collect::<Vec<_>>()})
    };
    let order = |object: &Value| -> Vec<i64> {
        object["spec"]["ports"].as_array().unwrap().iter().filter_map(|item| item["port"].as_i64()).collect()
    };
    let one = applied(None, ports(&[1, 3, 5]), "alpha");
    let two = applied(Some(&one), ports(&[2, 3, 4]), "beta");
    assert_eq!(order(&two), [1, 2, 3, 5, 4]);
    let three = applied(Some(&two), ports(&[5, 1, 6]), "alpha");
    assert_eq!(order(&three), [2, 3, 5, 4, 1, 6]);
    let four = applied(Some(&three), ports(&[4, 2]), "beta");
    assert_eq!(order(&four), [5, 4, 1, 6, 2]);
}

#[test]
fn sets_union_and_atomic_values_are_owned_whole() {
    let one = applied(None, json!({"tags": ["a", "b"], "args": ["x"], "selector": {"k": "v"}}), "alpha");
    let two = applied(Some(&one), json!({"tags": ["c", "b"]}), "beta");
    assert_eq!(two["spec"]["tags"], json!(["a", "c", "b"]));
    assert_eq!(
        conflict(&two, json!({"args": ["x", "y"], "selector": {"k": "v", "m": "n"}}), "beta"),
        "Apply failed with 2 conflicts: conflicts with \"alpha\":\n- .spec.args\n- .spec.selector"
    );
    assert_eq!(
        owned(&two, "alpha"),
        json!({"f:tags": {"v:\"a\"": {}, "v:\"b\"": {}}, "f:args": {}, "f:selector": {}})
    );
}

#[test]
fn values_of_the_wrong_type_are_refused_in_its_own_words() {
    let head = "failed to create typed patch object (/w; g.example/v1, Kind=Widget): ";
    for (spec, words) in [
        (json!({"size": "x"}), ".spec.size: expected numeric (int or float), got string"),
        (json!({"nested": "x"}), ".spec.nested: expected map, got &{x}"),
        (json!({"ports": {"a": 1}}), ".spec.ports: expected list, got &{map[a:1]}"),
        (json!({"bogus": 1}), ".spec.bogus: field not declared in schema"),
        (
            json!({"ports": [{"port": 1}, {"port": 1}]}),
            ".spec.ports: duplicate entries for key [port=1,protocol=\"TCP\"]",
        ),
        (json!({"tags": ["a", "a"]}), ".spec.tags: duplicate entries for key [=\"a\"]"),
        (
            json!({"ports": [null]}),
            ".spec.ports: element 0: associative list with keys may not have a null element",
        ),
    ] {
        assert_eq!(refusal(spec), format!("{head}{words}"));
    }
}

#[test]
fn unknown_parts_merge_key_by_key_and_lists_in_them_whole() {
    let one = applied(None, json!({"raw": {"free": {"x": [1], "z": {"q": true}}}}), "alpha");
    assert_eq!(
        owned(&one, "alpha"),
        json!({"f:raw": {"f:free": {".": {}, "f:x": {}, "f:z": {".": {}, "f:q": {}}}}})
    );
    let two = applied(Some(&one), json!({"raw": {"free": {"z": {"r": 1}}}}), "beta");
    assert_eq!(two["spec"]["raw"], json!({"free": {"x": [1], "z": {"q": true, "r": 1}}}));
    assert!(
        conflict(&two, json!({"raw": {"free": {"x": [2]}}}), "beta").ends_with("\"alpha\": .spec.raw.free.x")
    );
}

#[test]
fn other_writes_are_tracked_and_then_conflict() {
    let schema = schema();
    let one = applied(None, json!({"size": 1, "tags": ["a"]}), "alpha");
    let mut new = one.clone();
    new["spec"] = json!({"size": 2, "tags": ["a", "b"], "color": "red"});
    new["status"] = json!({"phase": "x"});
    let putter = Manager { operation: Operation::Update, ..manager("putter") };
    track_update(&schema, Some(&one), &mut new, &putter);
    assert_eq!(owned(&new, "alpha"), json!({"f:tags": {"v:\"a\"": {}}}));
    assert_eq!(owned(&new, "putter"), json!({"f:size": {}, "f:color": {}, "f:tags": {"v:\"b\"": {}}}));
    assert!(new["metadata"]["managedFields"][1]["fieldsV1"].get("f:status").is_none());
    assert!(
        conflict(&new, json!({"size": 1}), "alpha").contains("\"putter\" using g.example/v1: .spec.size")
    );
}

#[test]
fn creates_by_other_writes_own_parents_too() {
    let mut new = widget(json!({"nested": {"level": 3}, "labels": {}}));
    track_update(&schema(), None, &mut new, &Manager { operation: Operation::Update, ..manager("poster") });
    assert_eq!(owned(&new, "poster"), json!({".": {}, "f:nested": {".": {}, "f:level": {}}, "f:labels": {}}));
}

#[test]
fn clients_may_edit_and_clear_the_list() {
    let schema = schema();
    let one = applied(None, json!({"size": 1}), "alpha");
    let editor = Manager { operation: Operation::Update, ..manager("editor") };
    let run = |fields: Value| {
        let mut new = one.clone();
        new["metadata"]["managedFields"] = fields;
        track_update(&schema, Some(&one), &mut new, &editor);
        new["metadata"].get("managedFields").cloned()
    };
    let kept = one["metadata"]["managedFields"].clone();
    assert_eq!(run(json!([])), Some(kept.clone()));
    assert_eq!(run(json!([{}])), None);
    let mut renamed = kept.clone();
    renamed[0]["manager"] = json!("renamed");
    assert_eq!(run(renamed.clone()), Some(renamed));
    let mut wrong = kept.clone();
    wrong[0]["operation"] = json!("Sideways");
    assert_eq!(run(wrong), Some(kept.clone()));
    let mut unknown = kept;
    unknown[0]["fieldsV1"] = json!({"x:spec": {}});
    assert_eq!(run(unknown), None);
}

#[test]
fn what_was_there_before_belongs_to_a_manager_of_its_own() {
    let live = widget(json!({"size": 1, "nested": {"level": 3}}));
    let same = applied(Some(&live), json!({"size": 1}), "beta");
    let expected = json!({".": {}, "f:size": {}, "f:nested": {".": {}, "f:level": {}}});
    assert_eq!(owned(&same, "before-first-apply"), expected);
    assert!(
        conflict(&live, json!({"size": 2}), "beta").contains("\"before-first-apply\" using g.example/v1")
    );
}

#[test]
fn kubectl_takes_over_from_its_own_client_side_apply() {
    let schema = schema();
    let mut live = widget(json!({"size": 1, "note": "x"}));
    let last = widget(json!({"size": 1})).to_string();
    live["metadata"]["annotations"] = json!({"kubectl.kubernetes.io/last-applied-configuration": last});
    track_update(
        &schema,
        None,
        &mut live,
        &Manager { operation: Operation::Update, ..manager("kubectl-client-side-apply") },
    );
    let merged = applied(Some(&live), json!({"size": 2}), "kubectl");
    assert_eq!(merged["spec"]["size"], 2);
    let note = merged["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"]
        .as_str()
        .unwrap();
    assert!(note.contains("\"size\":2") && note.ends_with('\n'));
    assert!(conflict(&live, json!({"note": "y"}), "kubectl").contains(".spec.note"));
}

#[test]
fn many_update_managers_are_put_together() {
    let schema = schema();
    let mut object = widget(json!({}));
    track_update(&schema, None, &mut object, &Manager { operation: Operation::Update, ..manager("m0") });
    for number in 1..14 {
        let live = object.clone();
        object["spec"]["labels"][format!("k{number}")] = json!("v");
        let time = format!("2026-01-01T00:00:{number:02}Z");
        let name = format!("m{number}");
        let manager = Manager { operation: Operation::Update, time: &time, ..manager(&name) };
        track_update(&schema, Some(&live), &mut object, &manager);
    }
    let names: Vec<&str> = object["metadata"]["managedFields"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|entry| entry["manager"].as_str())
        .collect();
    assert_eq!(names.len(), 10);
    assert_eq!(names[0], "ancient-changes");
}

#[test]
fn numbers_of_equal_value_do_not_conflict() {
    let one = applied(None, json!({"raw": {"n": 1}}), "alpha");
    let two = applied(Some(&one), json!({"raw": {"n": 1.0}}), "beta");
    assert_eq!(owned(&two, "beta"), json!({"f:raw": {"f:n": {}}}));
}
