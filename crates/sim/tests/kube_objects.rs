//! Objects of the embedded Kubernetes API: create, change, delete, collect. In process, through the router.
//!
//! Wording and fine points are compared with a recorded kube-apiserver by the conformance suite, not here.

mod kube_client;

use kube_client::{CONFIG_MAPS, Client, definition};
use serde_json::{Value, json};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const GEARS: &str = "/apis/tests.example/v1/namespaces/default/gears";

fn gear(name: &str, spec: Value) -> Value {
    json!({ "apiVersion": "tests.example/v1", "kind": "Gear", "metadata": { "name": name }, "spec": spec })
}

async fn with_gears() -> Client {
    let client = Client::new();
    let made = client.post(DEFINITIONS, definition("gears", "Gear")).await;
    assert_eq!(made.code, 201, "{}", made.text);
    client
}

#[tokio::test]
async fn an_object_is_created_once_and_found_again() {
    let client = Client::new();
    let made = client.config_map("one", json!({})).await;
    assert_eq!(client.get(&format!("{CONFIG_MAPS}/one")).await.body, made);
    let again = client.post(CONFIG_MAPS, json!({ "metadata": { "name": "one" } })).await;
    assert_eq!((again.code, &again.body["reason"]), (409, &json!("AlreadyExists")));
    assert_eq!(client.get(&format!("{CONFIG_MAPS}/two")).await.code, 404);
}

#[tokio::test]
async fn a_stale_update_is_a_conflict_and_changes_nothing() {
    let client = Client::new();
    let old = client.config_map("one", json!({})).await;
    let path = format!("{CONFIG_MAPS}/one");
    assert_eq!(client.merge(&path, json!({ "data": { "key": "new" } })).await.code, 200);
    let stale = client.put(&path, old).await;
    assert_eq!((stale.code, &stale.body["reason"]), (409, &json!("Conflict")));
    assert_eq!(client.get(&path).await.body["data"]["key"], "new");
}

#[tokio::test]
async fn a_patch_with_a_resource_version_is_a_compare_and_swap() {
    let client = with_gears().await;
    let made = client.post(GEARS, gear("one", json!({ "size": 1 }))).await.body;
    let patch = json!({
        "metadata": { "resourceVersion": made["metadata"]["resourceVersion"] },
        "status": { "phase": "Ready" },
    });
    let status = format!("{GEARS}/one/status");
    let first = client.merge(&status, patch.clone()).await;
    assert_eq!((first.code, &first.body["status"]["phase"]), (200, &json!("Ready")));
    assert_eq!(client.merge(&status, json!({ "status": { "phase": "Other" } })).await.code, 200);
    assert_eq!(client.merge(&status, patch).await.code, 409);
}

#[tokio::test]
async fn status_and_spec_are_kept_apart() {
    let client = with_gears().await;
    let mut object = gear("one", json!({ "size": 1 }));
    object["status"] = json!({ "phase": "Ready" });
    let made = client.post(GEARS, object).await.body;
    assert_eq!(made["status"], Value::Null);
    let both = json!({ "spec": { "size": 2 }, "status": { "phase": "Ready" } });
    let by_status = client.merge(&format!("{GEARS}/one/status"), both.clone()).await.body;
    assert_eq!((&by_status["spec"]["size"], &by_status["status"]["phase"]), (&json!(1), &json!("Ready")));
    assert_eq!(by_status["metadata"]["generation"], 1);
    let by_main =
        client.merge(&format!("{GEARS}/one"), json!({ "spec": { "size": 2 }, "status": null })).await.body;
    assert_eq!((&by_main["spec"]["size"], &by_main["status"]["phase"]), (&json!(2), &json!("Ready")));
    assert_eq!(by_main["metadata"]["generation"], 2);
}

#[tokio::test]
async fn a_write_that_changes_nothing_keeps_the_version_and_is_counted() {
    let client = Client::new();
    let made = client.config_map("one", json!({})).await;
    let again = client.merge(&format!("{CONFIG_MAPS}/one"), json!({ "data": { "key": "value" } })).await.body;
    assert_eq!(again["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"]);
    let stats = client.get("/_kube/stats").await.body;
    assert_eq!((&stats["writes"], &stats["writesUnchanged"]), (&json!(2), &json!(1)));
    let patch = stats["requests"].as_array().unwrap().iter().find(|one| one["verb"] == "patch").unwrap();
    assert_eq!((&patch["agent"], &patch["resource"]), (&json!("tests/1.0"), &json!("configmaps")));
}

#[tokio::test]
async fn finalizers_hold_a_deleted_object_until_they_are_gone() {
    let client = Client::new();
    client.config_map("one", json!({ "finalizers": ["tests.example/hold"] })).await;
    let path = format!("{CONFIG_MAPS}/one");
    let deleted = client.delete(&path).await.body;
    assert!(deleted["metadata"]["deletionTimestamp"].is_string());
    let again = client.post(CONFIG_MAPS, json!({ "metadata": { "name": "one" } })).await;
    assert_eq!(again.code, 409);
    let swap = client.merge(&path, json!({ "metadata": { "finalizers": ["tests.example/new"] } })).await;
    assert_eq!(swap.code, 422);
    assert_eq!(client.merge(&path, json!({ "metadata": { "finalizers": null } })).await.code, 200);
    assert_eq!(client.get(&path).await.code, 404);
}

#[tokio::test]
async fn dependents_follow_their_owner_or_are_orphaned() {
    let client = Client::new();
    let owner_of = |owner: &Value| {
        let meta = &owner["metadata"];
        json!({ "ownerReferences": [{
            "apiVersion": "v1", "kind": "ConfigMap", "name": meta["name"], "uid": meta["uid"],
            "blockOwnerDeletion": true,
        }] })
    };
    for (policy, code) in [("Background", 404), ("Foreground", 404), ("Orphan", 200)] {
        let owner = client.config_map("owner", json!({})).await;
        client.config_map("child", owner_of(&owner)).await;
        let child = client.get(&format!("{CONFIG_MAPS}/child")).await.body;
        client.config_map("grandchild", owner_of(&child)).await;
        client.delete_with(&format!("{CONFIG_MAPS}/owner"), json!({ "propagationPolicy": policy })).await;
        client.until(&format!("{CONFIG_MAPS}/owner"), 404).await;
        client.until(&format!("{CONFIG_MAPS}/child"), code).await;
        client.until(&format!("{CONFIG_MAPS}/grandchild"), code).await;
    }
    let child = client.get(&format!("{CONFIG_MAPS}/child")).await.body;
    assert_eq!(child["metadata"]["ownerReferences"], Value::Null);
}

#[tokio::test]
async fn a_namespace_takes_its_content_along_and_waits_for_finalizers() {
    let client = Client::new();
    assert_eq!(client.post("/api/v1/namespaces", json!({ "metadata": { "name": "home" } })).await.code, 201);
    let inside = "/api/v1/namespaces/home/configmaps";
    assert_eq!(client.post(inside, json!({ "metadata": { "name": "plain" } })).await.code, 201);
    let held = json!({ "metadata": { "name": "held", "finalizers": ["tests.example/hold"] } });
    assert_eq!(client.post(inside, held).await.code, 201);
    let going = client.delete("/api/v1/namespaces/home").await.body;
    assert_eq!(going["status"]["phase"], "Terminating");
    client.until(&format!("{inside}/plain"), 404).await;
    let late = client.post(inside, json!({ "metadata": { "name": "late" } })).await;
    assert_eq!(
        (late.code, &late.body["details"]["causes"][0]["reason"]),
        (403, &json!("NamespaceTerminating"))
    );
    assert_eq!(
        client.merge(&format!("{inside}/held"), json!({ "metadata": { "finalizers": null } })).await.code,
        200
    );
    client.until("/api/v1/namespaces/home", 404).await;
    assert_eq!(client.post(inside, json!({ "metadata": { "name": "late" } })).await.code, 404);
}

#[tokio::test]
async fn the_first_namespaces_cannot_be_deleted() {
    let client = Client::new();
    for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
        assert_eq!(client.delete(&format!("/api/v1/namespaces/{name}")).await.code, 403, "{name}");
    }
}

#[tokio::test]
async fn a_definition_is_established_at_once_and_takes_its_objects_along() {
    let client = with_gears().await;
    let path = format!("{DEFINITIONS}/gears.tests.example");
    let conditions = client.get(&path).await.body["status"]["conditions"].clone();
    for kind in ["NamesAccepted", "Established"] {
        let found = conditions.as_array().unwrap().iter().find(|one| one["type"] == kind).unwrap();
        assert_eq!(found["status"], "True", "{kind}");
    }
    assert_eq!(client.post(GEARS, gear("one", json!({}))).await.code, 201);
    client.delete(&path).await;
    client.until(&path, 404).await;
    assert_eq!(client.get(GEARS).await.code, 404);
    assert_eq!(client.post(DEFINITIONS, definition("gears", "Gear")).await.code, 201);
    assert_eq!(client.get(GEARS).await.body["items"], json!([]));
}

#[tokio::test]
async fn a_definition_whose_kind_is_taken_is_not_established() {
    let client = with_gears().await;
    let made = client.post(DEFINITIONS, definition("cogs", "Gear")).await;
    assert_eq!(made.code, 201, "{}", made.text);
    let found = client.get(&format!("{DEFINITIONS}/cogs.tests.example")).await.body;
    let accepted =
        found["status"]["conditions"].as_array().unwrap().iter().find(|one| one["type"] == "NamesAccepted");
    assert_eq!(accepted.unwrap()["reason"], "ListKindConflict");
    assert_eq!(client.get("/apis/tests.example/v1/namespaces/default/cogs").await.code, 404);
}

#[tokio::test]
async fn an_event_of_the_new_api_is_found_in_the_old_one() {
    let client = Client::new();
    let path = "/apis/events.k8s.io/v1/namespaces/default/events";
    let made = client
        .post(
            path,
            json!({
                "metadata": { "name": "one" }, "eventTime": "2026-01-01T00:00:00.000000Z", "note": "hello",
                "reason": "Made", "action": "Make", "type": "Normal", "reportingController": "tests",
                "reportingInstance": "tests-1",
                "regarding": { "kind": "ConfigMap", "name": "c", "namespace": "default" },
            }),
        )
        .await;
    assert_eq!(made.code, 201, "{}", made.text);
    let patch = json!({ "series": { "count": 2, "lastObservedTime": "2026-01-01T00:00:05.000000Z" } });
    assert_eq!(client.merge(&format!("{path}/one"), patch).await.code, 200);
    let old = "/api/v1/namespaces/default/events?fieldSelector=involvedObject.name%3Dc";
    let items = client.get(old).await.body["items"].clone();
    assert_eq!(items.as_array().unwrap().len(), 1);
    assert_eq!((&items[0]["message"], &items[0]["series"]["count"]), (&json!("hello"), &json!(2)));
    let new = client.get(&format!("{path}/one")).await.body;
    assert_eq!((&new["note"], &new["regarding"]["name"]), (&json!("hello"), &json!("c")));
}

#[tokio::test]
async fn a_lease_is_created_by_put_and_then_guarded_by_its_version() {
    let client = Client::new();
    let path = "/apis/coordination.k8s.io/v1/namespaces/default/leases/leader";
    let lease = |version: &Value, holder: &str| {
        json!({
            "metadata": { "name": "leader", "resourceVersion": version },
            "spec": { "holderIdentity": holder, "leaseDurationSeconds": 15 },
        })
    };
    let made = client.put(path, lease(&Value::Null, "a")).await;
    assert_eq!(made.code, 201, "{}", made.text);
    let version = made.body["metadata"]["resourceVersion"].clone();
    assert_eq!(client.put(path, lease(&version, "b")).await.code, 200);
    assert_eq!(client.put(path, lease(&version, "c")).await.code, 409);
    assert_eq!(client.put(path, lease(&Value::Null, "c")).await.code, 422);
}

#[tokio::test]
async fn a_body_above_the_limit_is_refused() {
    let client = Client::new();
    let body = json!({ "metadata": { "name": "big" }, "data": { "key": "x".repeat(3 * 1024 * 1024) } });
    assert_eq!(client.post(CONFIG_MAPS, body).await.code, 413);
}

#[tokio::test]
async fn a_definition_is_checked_before_it_is_stored() {
    let client = with_gears().await;
    let path = format!("{DEFINITIONS}/gears.tests.example");
    let scope = client.merge(&path, json!({ "spec": { "scope": "Cluster" } })).await;
    assert_eq!((scope.code, &scope.body["details"]["causes"][0]["field"]), (422, &json!("spec.scope")));
    let schema = "/spec/versions/0/schema/openAPIV3Schema/properties";
    let broken_rule = json!([{ "rule": "self.nothing ==" }]);
    for (value, field) in [
        (json!({ "spec": { "properties": {} } }), "spec.validation.openAPIV3Schema.properties[spec].type"),
        (
            json!({ "spec": { "type": "object", "x-kubernetes-validations": broken_rule } }),
            "spec.validation.openAPIV3Schema.properties[spec].x-kubernetes-validations[0].rule",
        ),
    ] {
        let patch = json!([{ "op": "replace", "path": schema, "value": value }]).to_string();
        let answer = client.send("PATCH", &path, "application/json-patch+json", patch).await;
        let fields: Vec<&Value> = answer.body["details"]["causes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|cause| &cause["field"])
            .collect();
        assert!(answer.code == 422 && fields.contains(&&json!(field)), "{}", answer.text);
    }
    let mut wrong = definition("cogs", "Cog");
    wrong["metadata"]["name"] = json!("wheels.tests.example");
    assert_eq!(client.post(DEFINITIONS, wrong).await.code, 422);
}

#[tokio::test]
async fn every_served_version_shows_the_same_objects() {
    let client = Client::new();
    let mut two = definition("gears", "Gear");
    let mut beta = two["spec"]["versions"][0].clone();
    beta["name"] = json!("v1beta1");
    beta["storage"] = json!(false);
    two["spec"]["versions"].as_array_mut().unwrap().push(beta);
    assert_eq!(client.post(DEFINITIONS, two).await.code, 201);
    assert_eq!(client.post(GEARS, gear("one", json!({ "size": 1 }))).await.code, 201);
    let old = "/apis/tests.example/v1beta1/namespaces/default/gears/one";
    let found = client.get(old).await.body;
    assert_eq!((&found["apiVersion"], &found["spec"]["size"]), (&json!("tests.example/v1beta1"), &json!(1)));
    let patched = client.merge(old, json!({ "spec": { "size": 2 } })).await;
    assert_eq!(patched.code, 200, "{}", patched.text);
    let new = client.get(&format!("{GEARS}/one")).await.body;
    assert_eq!((&new["apiVersion"], &new["spec"]["size"]), (&json!("tests.example/v1"), &json!(2)));
    let group = client.get("/apis/tests.example").await.body;
    assert_eq!(group["preferredVersion"]["version"], "v1");
}

#[tokio::test]
async fn an_applied_field_conflicts_until_it_is_forced_and_goes_when_it_is_dropped() {
    let client = with_gears().await;
    let apply = |manager: &str, query: &str, spec: Value| {
        let path = format!("{GEARS}/one?fieldManager={manager}{query}");
        let (client, body) = (client.clone(), gear("one", spec).to_string());
        async move { client.send("PATCH", &path, "application/apply-patch+yaml", body).await }
    };
    assert_eq!(apply("alpha", "", json!({ "size": 1, "color": "red" })).await.code, 201);
    let refused = apply("beta", "", json!({ "size": 2 })).await;
    assert_eq!((refused.code, &refused.body["reason"]), (409, &json!("Conflict")));
    assert_eq!(refused.body["details"]["causes"][0]["field"], ".spec.size");
    assert_eq!(apply("beta", "&force=true", json!({ "size": 2 })).await.body["spec"]["size"], 2);
    let dropped = apply("alpha", "", json!({})).await.body;
    assert_eq!(dropped["spec"], json!({ "size": 2 }));
}

#[tokio::test]
async fn writers_at_the_same_time_never_share_a_revision() {
    let client = Client::new();
    client.config_map("one", json!({})).await;
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..20 {
        let client = client.clone();
        tasks.spawn(async move {
            let path = format!("{CONFIG_MAPS}/one");
            let done = client.merge(&path, json!({ "data": { format!("w{writer}"): "x" } })).await;
            done.body["metadata"]["resourceVersion"].as_str().unwrap().to_owned()
        });
    }
    let versions: std::collections::BTreeSet<String> = tasks.join_all().await.into_iter().collect();
    assert_eq!(versions.len(), 20);
    let data = client.get(&format!("{CONFIG_MAPS}/one")).await.body["data"].clone();
    assert_eq!(data.as_object().unwrap().len(), 21);
}
