//! The CEL rules of the CRDs: they compile, they are cheap, and they refuse what they are for.
//!
//! Runs them with the same library as the embedded API server; a real cluster's cost budget is only
//! estimated.

use kube_cel::{CompiledSchema, Validator, compile_schema, estimate_rule_cost};
use serde_json::{Value, json};

use crate::schemas::schemas;

#[test]
fn every_rule_compiles_and_stays_within_the_estimated_budget() {
    let mut count = 0;
    for (plural, schema) in schemas() {
        walk(&plural, &schema, &compile_schema(&schema), &mut |path, rule, compiled| {
            count += 1;
            let warnings = estimate_rule_cost(rule, compiled);
            assert!(warnings.is_empty(), "{path}: {warnings:?}");
        });
    }
    assert!(count > 20, "only {count} rules were looked at");
}

#[test]
fn every_rule_has_a_message() {
    for (plural, schema) in schemas() {
        walk_rules(&plural, &schema, &mut |path, rule| {
            let told = rule["message"]
                .as_str()
                .is_some_and(|message| !message.contains('\n') && message.len() <= 2_048);
            assert!(told, "{path}: {rule}");
        });
    }
}

#[test]
fn a_field_that_says_it_cannot_change_can_be_neither_changed_nor_removed_nor_added() {
    let mut checked = Vec::new();
    for (plural, schema) in schemas() {
        let spec = &schema["properties"]["spec"];
        let fields = spec["properties"].as_object().expect("a spec has fields");
        let frozen =
            fields.iter().filter(|(_, field)| field["description"].as_str().is_some_and(says_frozen));
        for (name, field) in frozen {
            let full = example(&plural);
            let before = with(&full, name, Some(sample(field, 0)));
            let refused = |after: &Value, before: &Value| {
                let all = refusals(&schema, after, Some(before));
                all.iter().any(|refusal| refusal.contains(name.as_str()) && refusal.contains("immutable"))
            };
            assert!(
                refused(&with(&before, name, Some(sample(field, 1))), &before),
                "{plural}.{name} can be changed"
            );
            assert!(!refused(&before, &before), "{plural}.{name} is refused though it did not change");
            let required = spec["required"].as_array().is_some_and(|list| list.contains(&json!(name)));
            if !required {
                let without = with(&before, name, None);
                assert!(refused(&without, &before), "{plural}.{name} can be removed");
                assert!(refused(&before, &without), "{plural}.{name} can be added later");
            }
            checked.push(format!("{plural}.{name}"));
        }
    }
    for field in
        ["encrypteddisks.source", "encrypteddisks.adopt", "encryptedimages.accountRef", "encryptedimages.key"]
    {
        assert!(checked.iter().any(|name| name == field), "{field} is not among {checked:?}");
    }
}

#[test]
fn a_part_of_a_field_that_says_it_is_fixed_can_be_neither_changed_nor_removed_nor_added() {
    let mut checked = Vec::new();
    for (plural, schema) in schemas() {
        let groups = schema["properties"]["spec"]["properties"].as_object().expect("a spec has fields");
        for (group, parts) in groups {
            let parts = parts["properties"].as_object().into_iter().flatten();
            for (name, part) in parts.filter(|(_, part)| part["description"].as_str().is_some_and(says_fixed))
            {
                let holding = |value: Option<Value>| {
                    let inner = value.map_or(json!({}), |value| json!({ name: value }));
                    with(&example(&plural), group, Some(inner))
                };
                let [first, second, none] = [Some(sample(part, 0)), Some(sample(part, 1)), None].map(holding);
                let refused = |after: &Value, before: &Value| {
                    let all = refusals(&schema, after, Some(before));
                    all.iter().any(|refusal| refusal.contains(&format!("{group}.{name} is immutable")))
                };
                assert!(refused(&second, &first), "{plural}.{group}.{name} can be changed");
                assert!(refused(&none, &first), "{plural}.{group}.{name} can be removed");
                assert!(refused(&first, &none), "{plural}.{group}.{name} can be added later");
                assert!(
                    !refused(&first, &first),
                    "{plural}.{group}.{name} is refused though it did not change"
                );
                checked.push(name.clone());
            }
        }
    }
    let expected =
        ["acknowledgeAccountWide", "allowSelfLockout", "inventoryTimeoutSeconds", "maxAffectedInstances"];
    assert_eq!(checked, expected, "all of safety but the digest, which may be set later");
}

#[test]
fn exactly_one_way_to_sign_in_is_accepted() {
    let (plural, schema) =
        schemas().into_iter().find(|(plural, _)| plural == "cloudaccounts").expect("accounts");
    let accepted = |credentials: Value| {
        refusals(&schema, &with(&example(&plural), "credentials", Some(credentials)), None).is_empty()
    };
    let rrsa = json!({"roleArn": "acs:ram::1:role/r", "oidcProviderArn": "acs:ram::1:oidc-provider/p"});
    assert!(accepted(json!({"secretRef": {"name": "a"}})));
    assert!(accepted(json!({"rrsa": rrsa})));
    assert!(accepted(json!({"ecsRamRole": {}})));
    for wrong in [
        json!({}),
        json!({"secretRef": {"name": "a"}, "ecsRamRole": {}}),
        json!({"rrsa": rrsa, "ecsRamRole": {}}),
    ] {
        assert!(!accepted(wrong.clone()), "{wrong}");
    }
}

/// The schemas whose spec has this field.
fn schemas_with(field: &str) -> impl Iterator<Item = (String, Value)> {
    let has = move |schema: &Value| schema["properties"]["spec"]["properties"].get(field).is_some();
    schemas().into_iter().filter(move |(_, schema)| has(schema))
}

#[test]
fn exactly_one_form_of_key_is_accepted() {
    for (plural, schema) in schemas_with("key") {
        let accepted =
            |key: Value| refusals(&schema, &with(&example(&plural), "key", Some(key)), None).is_empty();
        assert!(accepted(json!({"id": "key-a"})));
        assert!(accepted(json!({"alias": "alias/payments"})));
        assert!(accepted(json!({"service": true})));
        for wrong in [
            json!({}),
            json!({"service": false}),
            json!({"id": "key-a", "alias": "alias/payments"}),
            json!({"id": "key-a", "service": true}),
            json!({"alias": "alias/acs/ecs"}),
        ] {
            assert!(!accepted(wrong.clone()), "{plural}: {wrong}");
        }
    }
}

#[test]
fn a_disk_can_only_grow_and_a_blank_one_needs_a_size() {
    let (plural, schema) =
        schemas().into_iter().find(|(plural, _)| plural == "encrypteddisks").expect("disks");
    let sized = |size: Option<u32>| with(&example(&plural), "sizeGiB", size.map(|size| json!(size)));
    let accepted = |after: &Value, before: Option<&Value>| refusals(&schema, after, before).is_empty();
    assert!(accepted(&sized(Some(80)), Some(&sized(Some(40)))));
    assert!(!accepted(&sized(Some(20)), Some(&sized(Some(40)))));
    assert!(!accepted(&sized(None), Some(&sized(Some(40)))), "leaving the size out would be a way around");
    assert!(!accepted(&sized(None), None));
    assert!(accepted(&with(&sized(None), "source", Some(json!({"snapshotId": "s-1"}))), None));
}

#[test]
fn a_disk_has_one_source_one_instance_and_a_cutover_only_with_a_disk_to_replace() {
    let (plural, schema) =
        schemas().into_iter().find(|(plural, _)| plural == "encrypteddisks").expect("disks");
    let accepted = |fields: &[(&str, Value)]| {
        let object = fields
            .iter()
            .fold(example(&plural), |object, (name, value)| with(&object, name, Some(value.clone())));
        refusals(&schema, &object, None).is_empty()
    };
    let of = |id: &str| ("source", json!({ "diskId": id }));
    assert!(accepted(&[of("d-1")]));
    assert!(accepted(&[of("d-1"), ("cutover", json!("Now")), ("retireSource", json!(true))]));
    assert!(accepted(&[("retireSource", json!(false))]), "what says nothing is no contradiction");
    assert!(accepted(&[("attachment", json!({"instanceId": "i-1"}))]));
    assert!(accepted(&[("attachment", json!({"instanceRef": {"name": "web"}, "deleteWithInstance": true}))]));
    for wrong in [
        vec![("source", json!({}))],
        vec![("source", json!({"diskId": "d-1", "snapshotId": "s-1"}))],
        vec![("cutover", json!("Manual"))],
        vec![("cutover", json!("Now")), ("source", json!({"snapshotId": "s-1"}))],
        vec![("retireSource", json!(true))],
        vec![("retireSource", json!(true)), ("source", json!({"snapshotId": "s-1"}))],
        vec![of("d-1"), ("adopt", json!({"externalId": "d-2"}))],
        vec![("attachment", json!({}))],
        vec![("attachment", json!({"instanceId": "i-1", "instanceRef": {"name": "web"}}))],
    ] {
        assert!(!accepted(&wrong), "{wrong:?}");
    }
}

#[test]
fn tags_of_others_are_refused() {
    for (plural, schema) in schemas_with("tags") {
        let accepted = |key: &str| {
            refusals(&schema, &with(&example(&plural), "tags", Some(json!({key: "v"}))), None).is_empty()
        };
        assert!(accepted("team") && accepted("成本"), "{plural}");
        for wrong in ["", "aliyun-x", "acs:x", "ecskms:uid", "https://x"] {
            assert!(!accepted(wrong), "{plural}: {wrong:?}");
        }
        assert!(!accepted(&"x".repeat(129)));
    }
}

#[test]
fn a_revocation_goes_forward_only_and_nobody_approves_their_own() {
    let (plural, schema) =
        schemas().into_iter().find(|(plural, _)| plural == "keyrevocations").expect("revocations");
    let object = |fields: Value| {
        let mut object = example(&plural);
        for (name, value) in fields.as_object().expect("fields") {
            object["spec"][name] = value.clone();
        }
        object
    };
    let accepted =
        |after: Value, before: Value| refusals(&schema, &object(after), Some(&object(before))).is_empty();
    let state = |word: &str| json!({"desiredState": word});
    let running = |word: &str| json!({"runningInstances": word});
    let approved = |names: &[&str]| json!({"approvals": names.iter().map(|name| json!({"approver": name})).collect::<Vec<_>>()});
    let states = ["Planned", "Revoked", "Restored"];
    let modes = ["Leave", "PerInstance", "Stop", "ForceStop"];
    for (from, before) in states.iter().enumerate() {
        for (to, after) in states.iter().enumerate() {
            let allowed = to == from || to == from + 1;
            assert_eq!(accepted(state(after), state(before)), allowed, "{before} to {after}");
        }
    }
    for (from, before) in modes.iter().enumerate() {
        for (to, after) in modes.iter().enumerate() {
            assert_eq!(accepted(running(after), running(before)), to >= from, "{before} to {after}");
        }
    }
    assert!(accepted(approved(&["bob", "eve"]), approved(&["bob"])));
    assert!(!accepted(approved(&["eve"]), approved(&["bob"])), "an approval cannot be taken back");
    assert!(!accepted(approved(&["alice"]), json!({})), "alice asked for it");
    let safety = |fields: Value| json!({"safety": fields});
    assert!(accepted(safety(json!({"acknowledgedDigest": "ab12"})), safety(json!({}))));
    let wide = |safety: Value| object(json!({"method": "DetachEcsRole", "safety": safety}));
    assert!(!refusals(&schema, &wide(json!({})), None).is_empty(), "it needs its own opt-in");
    assert!(refusals(&schema, &wide(json!({"acknowledgeAccountWide": true})), None).is_empty());
    for by_list in [json!({"maxAffectedInstances": 1}), json!({"acknowledgedDigest": "ab12"})] {
        let mut held = by_list;
        held["acknowledgeAccountWide"] = json!(true);
        assert!(!refusals(&schema, &wide(held.clone()), None).is_empty(), "not all is listed: {held}");
    }
}

fn says_frozen(description: &str) -> bool {
    description.contains("Cannot change")
}

fn says_fixed(description: &str) -> bool {
    description.contains("Fixed when the object is created")
}

/// A whole object that every rule accepts.
fn example(plural: &str) -> Value {
    let spec = match plural {
        "cloudaccounts" => json!({"credentials": {"secretRef": {"name": "a"}}}),
        "encryptedimages" => json!({"region": "cn-a", "source": {"imageId": "m-1"}, "key": {"id": "key-a"}}),
        "encrypteddisks" => {
            let place = json!({"region": "cn-a", "zoneId": "cn-a-b", "key": {"id": "key-a"}, "sizeGiB": 40});
            return with(&json!({ "spec": place }), "category", Some(json!("cloud_essd")));
        }
        "encryptedinstances" => json!({
            "region": "cn-a", "zoneId": "cn-a-b", "instanceType": "ecs.x", "key": {"id": "key-a"},
            "image": {"imageId": "m-1"}, "systemDisk": {"sizeGiB": 40},
            "network": {"vSwitchId": "vsw-1", "securityGroupIds": ["sg-1"]},
        }),
        "keyrevocations" => json!({
            "region": "cn-a", "keyId": "key-a", "desiredState": "Planned", "runningInstances": "Leave",
            "reason": "a leaked credential", "requestedBy": "alice", "safety": {},
        }),
        "encryptionaudits" => json!({"regions": ["cn-a"], "interval": "6h"}),
        other => unreachable!("give an example of {other}"),
    };
    json!({ "spec": spec })
}

fn with(object: &Value, field: &str, value: Option<Value>) -> Value {
    let mut object = object.clone();
    let spec = object["spec"].as_object_mut().expect("an object has a spec");
    match value {
        Some(value) => spec.insert(field.to_owned(), value),
        None => spec.remove(field),
    };
    object
}

/// One of two different values of a field's type.
fn sample(schema: &Value, which: usize) -> Value {
    if let Some(words) = schema["enum"].as_array() {
        // The default stays apart from both, and cloud_essd is the only category with a performance level.
        return words[words.len() - 1 - which].clone();
    }
    match schema["type"].as_str() {
        Some("string") => json!(format!("value-{which}")),
        Some("integer") => json!(40 + which),
        // The first differs from the default, so that taking it away is a change.
        Some("boolean") => json!((schema["default"] != json!(true)) == (which == 0)),
        Some("array") => json!([sample(&schema["items"], which)]),
        Some("object") => {
            let fields = schema["properties"].as_object().expect("a struct");
            let first = fields.keys().next().expect("a struct has fields");
            let required = schema["required"][0].as_str().unwrap_or(first);
            json!({ required: sample(&fields[required], which) })
        }
        other => unreachable!("no sample of {other:?}"),
    }
}

fn refusals(schema: &Value, object: &Value, old: Option<&Value>) -> Vec<String> {
    match Validator::new().validate(schema, object, old) {
        Ok(()) => Vec::new(),
        Err(errors) => errors.iter().map(ToString::to_string).collect(),
    }
}

fn walk(
    path: &str,
    schema: &Value,
    compiled: &CompiledSchema,
    visit: &mut impl FnMut(&str, &str, &CompiledSchema),
) {
    let errors = compiled.compilation_errors();
    assert!(errors.is_empty(), "{path}: {errors:?}");
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        visit(path, rule["rule"].as_str().expect("a rule has text"), compiled);
    }
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        walk(&format!("{path}.{name}"), field, &compiled.properties[name], visit);
    }
    if let Some(items) = &compiled.items {
        walk(&format!("{path}[]"), &schema["items"], items, visit);
    }
    if let Some(values) = &compiled.additional_properties {
        walk(&format!("{path}[]"), &schema["additionalProperties"], values, visit);
    }
}

fn walk_rules(path: &str, schema: &Value, visit: &mut impl FnMut(&str, &Value)) {
    schema["x-kubernetes-validations"].as_array().into_iter().flatten().for_each(|rule| visit(path, rule));
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        walk_rules(&format!("{path}.{name}"), field, visit);
    }
}
