//! The samples of revocations and the examples for pipelines: valid, guarded against pipelines, and judged as they say.
//!
//! What Argo CD's script says is tested in `tests/clients/argocd.py`.

use std::collections::BTreeMap;

use kube_cel::cel::{Context, Program, Value as Cel, to_value};
use kube_cel::{KubeCelExt, Validator};
use serde_json::{Value, json};

use crate::files::root;
use crate::schemas::schemas;

const SAMPLES: [(&str, &str); 4] =
    [("plan", "Planned"), ("revoke", "Revoked"), ("restore", "Restored"), ("drill", "Revoked")];

#[test]
fn every_sample_is_a_valid_object_that_no_pipeline_prunes() {
    let (_, schema) =
        schemas().into_iter().find(|(plural, _)| plural == "keyrevocations").expect("revocations");
    for (name, state) in SAMPLES {
        let sample = read(&format!("deploy/samples-revocation/{name}.yaml"));
        let refused = Validator::new().validate_with_defaults(&schema, &sample, None);
        assert!(refused.is_ok(), "{name}: {refused:?}");
        unknown_fields(name, &schema["properties"]["spec"], &sample["spec"]);
        assert_eq!(
            (sample["kind"].as_str(), sample["spec"]["desiredState"].as_str()),
            (Some("KeyRevocation"), Some(state))
        );
        assert_eq!(sample["spec"]["drill"].is_null(), name != "drill", "{name}");
        let annotation =
            |key: &str| sample["metadata"]["annotations"][key].as_str().unwrap_or_default().to_owned();
        assert_eq!(annotation("kustomize.toolkit.fluxcd.io/prune"), "disabled", "{name}");
        assert_eq!(annotation("kustomize.toolkit.fluxcd.io/ssa"), "IfNotPresent", "{name}");
        assert_eq!(annotation("argocd.argoproj.io/sync-options"), "Prune=confirm,Delete=confirm", "{name}");
    }
    let count =
        std::fs::read_dir(root().join("deploy/samples-revocation")).expect("the folder is there").count();
    assert_eq!(count, SAMPLES.len(), "a sample is not looked at");
}

#[test]
fn plan_revoke_and_restore_are_one_record_that_goes_forward() {
    let (_, schema) =
        schemas().into_iter().find(|(plural, _)| plural == "keyrevocations").expect("revocations");
    let [plan, revoke, restore] =
        ["plan", "revoke", "restore"].map(|name| read(&format!("deploy/samples-revocation/{name}.yaml")));
    for (before, after) in [(&plan, &revoke), (&revoke, &restore)] {
        assert_eq!(before["metadata"], after["metadata"]);
        let refused = Validator::new().validate_with_defaults(&schema, after, Some(before));
        assert!(refused.is_ok(), "{refused:?}");
    }
    assert!(Validator::new().validate_with_defaults(&schema, &revoke, Some(&restore)).is_err());
}

#[test]
fn the_samples_say_that_the_requester_and_the_approvals_stay_as_in_the_record() {
    let text = |name: &str| {
        std::fs::read_to_string(root().join(format!("deploy/samples-revocation/{name}.yaml")))
            .expect("a sample")
    };
    for name in ["revoke", "restore"] {
        let text = text(name);
        let (above, _) = text.split_once("\n  requestedBy:").expect("it names the requester");
        let comment = above.lines().last().unwrap_or_default();
        assert!(comment.contains("# Exactly as in the record"), "{name}: {comment}");
    }
    let text = text("revoke");
    let (head, _) = text.split_once("apiVersion").expect("a head");
    assert!(
        head.contains("without approvalsRequired"),
        "as a first step the sample's own number would hold it"
    );
}

/// What the operator itself wrote (tests/operator/standings.rs), as the rules of Flux judge it.
#[test]
fn flux_fails_for_what_needs_somebody_and_not_for_what_was_asked_for() {
    let rules = read("deploy/flux/revocations.yaml");
    let rules = &rules["spec"]["healthCheckExprs"][0];
    let text = std::fs::read_to_string(root().join("tests/vectors/standings.json")).expect("the standings");
    let standings: Value = serde_json::from_str(&text).expect("they are JSON");
    let expected = BTreeMap::from([
        ("held by a limit", "failed"),
        ("held for approval", "inProgress"),
        ("journal changed", "failed"),
        ("kept by another", "inProgress"),
        ("one of two", "current"),
        ("planned, not approved", "current"),
        ("reverted", "failed"),
        ("reverted, then restored", "current"),
        ("revoked, machines run", "current"),
    ]);
    let revocations = standings.as_object().into_iter().flatten();
    let judged: BTreeMap<&str, &str> = revocations
        .filter(|(_, object)| object["kind"] == "KeyRevocation")
        .map(|(name, object)| (name.as_str(), judged(rules, object)))
        .collect();
    assert_eq!(judged, expected);
}

#[test]
fn flux_judges_a_revocation_as_its_example_says() {
    let rules = read("deploy/flux/revocations.yaml");
    let rules = &rules["spec"]["healthCheckExprs"][0];
    let condition =
        |name: &str, status: &str| json!({"type": name, "status": status, "reason": "KeyDisabled"});
    let object = |conditions: Value| json!({"metadata": {"name": "a", "generation": 2}, "status": {"observedGeneration": 2, "conditions": conditions}});
    let ready = || condition("Ready", "True");
    let mut deleted = object(json!([ready()]));
    deleted["metadata"]["deletionTimestamp"] = "2026-01-02T03:04:05Z".into();
    let cases = [
        ("ready", object(json!([ready()])), "current"),
        (
            "working",
            object(json!([condition("Ready", "Unknown"), condition("Reconciling", "True")])),
            "inProgress",
        ),
        ("stalled", object(json!([condition("Ready", "False"), condition("Stalled", "True")])), "failed"),
        ("given back by others", object(json!([ready(), condition("RevocationReverted", "True")])), "failed"),
        ("overlapping", object(json!([ready(), condition("OverlappingRevocation", "True")])), "current"),
        ("being deleted", deleted, "inProgress"),
        ("without a word yet", json!({"metadata": {"generation": 1}, "status": {}}), "inProgress"),
    ];
    for (name, object, expected) in cases {
        assert_eq!(judged(rules, &object), expected, "{name}");
    }
}

/// Flux asks the expressions in this order, and waits where none holds.
fn judged(rules: &Value, object: &Value) -> &'static str {
    let mut context = Context::default().with_all();
    for part in ["metadata", "status"] {
        context.add_variable_from_value(part, to_value(&object[part]).expect("JSON becomes a value"));
    }
    let holds = |name: &&str| {
        let program = Program::compile(rules[*name].as_str().expect("an expression")).expect("it compiles");
        match program.execute(&context) {
            Ok(Cel::Bool(answer)) => answer,
            other => unreachable!("{name}: {other:?}"),
        }
    };
    ["inProgress", "failed", "current"].into_iter().find(holds).unwrap_or("inProgress")
}

/// The API server drops fields that the schema does not know; a sample must not rely on one.
fn unknown_fields(path: &str, schema: &Value, value: &Value) {
    for (name, inner) in value.as_object().into_iter().flatten() {
        let known = &schema["properties"][name];
        assert!(!known.is_null(), "{path}.{name} is no field");
        unknown_fields(&format!("{path}.{name}"), known, inner);
    }
}

fn read(file: &str) -> Value {
    let text =
        std::fs::read_to_string(root().join(file)).unwrap_or_else(|error| unreachable!("{file}: {error}"));
    serde_saphyr::from_str(&text).unwrap_or_else(|error| unreachable!("{file}: {error}"))
}
