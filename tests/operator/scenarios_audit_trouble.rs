//! Audits in trouble: what they say once they can look no more, and that what could not be read is neither passed nor blamed.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::Api;
use kube::api::{Patch, PostParams};
use serde_json::{Value, json};

use crate::auditing::*;
use crate::revocation::calls;
use crate::stage::{KEY, Stage, condition, message};

/// Of a region in which everything is as required.
const CLEAN: &[&str] = &["cn-beijing"];
const MINUTE: Duration = Duration::from_secs(60);

fn short() -> Value {
    json!({"accountDefault": "Ignore", "interval": "10m"})
}

fn error_of_classes(object: &Value) -> &str {
    object["status"]["storageClassesError"].as_str().unwrap_or_default()
}

/// Waits until Compliant is not known for want of a look.
async fn doubted(stage: &Stage, name: &str, limit: Duration) -> Value {
    let holds =
        |object: &Value| condition(object, "Compliant") == ("Unknown".into(), "InventoryIncomplete".into());
    stage.until(KIND, name, limit, holds).await
}

#[tokio::test(start_paused = true)]
async fn an_audit_that_may_look_no_more_is_compliant_no_longer_once_a_look_is_due() {
    let stage = Stage::new().await;
    allow(&stage, &["ecs:Describe*", "kms:DescribeKey"], CLEAN).await;
    let process = limited(&stage).await;
    stage.apply(audit("clean", CLEAN, short())).await;
    let object = scanned(&stage, "clean").await;
    assert_eq!(condition(&object, "Compliant").0, "True");
    allow(&stage, &["ecs:Describe*", "kms:DescribeKey"], &["cn-shanghai"]).await;
    let object = doubted(&stage, "clean", 12 * MINUTE).await;
    assert_eq!(condition(&object, "Ready"), ("False".into(), "AccessDenied".into()));
    assert_eq!(condition(&object, "PartialScan").0, "True");
    assert!(message(&object, "Compliant").contains("that was due at"), "{}", message(&object, "Compliant"));
    let wrote = writes(&stage).await;
    tokio::time::sleep(HOUR).await;
    assert_eq!(writes(&stage).await, wrote, "it is said once");
    allow(&stage, &["ecs:Describe*", "kms:DescribeKey"], CLEAN).await;
    let object = next_scan(&stage, &object, HOUR).await;
    assert_eq!(
        (condition(&object, "Compliant").0.as_str(), condition(&object, "PartialScan").0.as_str()),
        ("True", "")
    );
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_cloud_that_does_not_answer_for_long_takes_ready_and_compliant_away_also_over_a_restart() {
    let stage = Stage::new().await;
    let first = stage.start().await;
    stage.apply(audit("clean", CLEAN, short())).await;
    scanned(&stage, "clean").await;
    let outage = json!([{"action": "ecs:*", "status": 503, "code": "ServiceUnavailable"}]);
    stage.order("PUT", "faults", outage).await;
    tokio::time::sleep(15 * MINUTE).await;
    let object = stage.get(KIND, "clean").await;
    assert_eq!(condition(&object, "Compliant").0, "True", "what passes may pass");
    let object = doubted(&stage, "clean", 15 * MINUTE).await;
    assert_eq!(condition(&object, "Ready"), ("Unknown".into(), "CloudUnavailable".into()));
    first.kill().await;
    let second = stage.start().await;
    for _ in 0..600 {
        let object = stage.get(KIND, "clean").await;
        assert_ne!(condition(&object, "Ready").0, "True", "{object:#}");
        assert_ne!(condition(&object, "Compliant").0, "True");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    stage.order("DELETE", "faults", Value::Null).await;
    let object = next_scan(&stage, &object, HOUR).await;
    assert_eq!(condition(&object, "Compliant").0, "True");
    second.kill().await;
}

#[tokio::test(start_paused = true)]
async fn findings_stay_findings_while_nothing_can_be_read() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    stage.apply(audit("found", &["cn-shanghai"], short())).await;
    let before = scanned(&stage, "found").await;
    let outage = json!([{"action": "ecs:*", "status": 503, "code": "ServiceUnavailable"}]);
    stage.order("PUT", "faults", outage).await;
    let partial = |object: &Value| condition(object, "PartialScan").0 == "True";
    let object = stage.until(KIND, "found", HOUR, partial).await;
    assert_eq!(condition(&object, "Compliant"), condition(&before, "Compliant"));
    assert_eq!(condition(&object, "Compliant").0, "False");
    assert_eq!(object["status"]["findings"], before["status"]["findings"]);
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn an_account_that_is_shut_takes_compliant_away_once_a_look_is_due() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    let namespace = json!({"metadata": {"name": "ecskms-system"}});
    create::<Namespace>(Api::all(stage.client.clone()), namespace).await;
    let data = json!({"ALIBABA_CLOUD_ACCESS_KEY_ID": sim::cloud::SECOND_ACCESS_KEY_ID,
        "ALIBABA_CLOUD_ACCESS_KEY_SECRET": sim::cloud::SECOND_ACCESS_KEY_SECRET});
    let secret =
        serde_json::from_value(json!({"metadata": {"name": "keys"}, "stringData": data})).expect("a Secret");
    let secrets = Api::<Secret>::namespaced(stage.client.clone(), "ecskms-system");
    secrets.create(&PostParams::default(), &secret).await.expect("it is accepted");
    let account = |suspend| {
        json!({"apiVersion": "ecskms.dev/v1alpha1", "kind": "CloudAccount", "metadata": {"name": "second"},
            "spec": {"credentials": {"secretRef": {"name": "keys"}}, "suspend": suspend}})
    };
    stage.apply(account(false)).await;
    let mut fields = short();
    fields["accountRef"] = json!({"name": "second"});
    stage.apply(audit("second", CLEAN, fields)).await;
    let object = scanned(&stage, "second").await;
    assert_eq!(condition(&object, "Compliant").0, "True", "it is empty");
    stage.apply(account(true)).await;
    let object = doubted(&stage, "second", 25 * MINUTE).await;
    assert_ne!(condition(&object, "Ready").0, "True", "{object:#}");
    stage.apply(account(false)).await;
    let object = next_scan(&stage, &object, HOUR).await;
    assert_eq!(condition(&object, "Compliant").0, "True");
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn who_may_read_nothing_is_told_so_also_where_an_exemption_goes_by_tag() {
    let stage = Stage::new().await;
    allow(&stage, &["ecs:Describe*"], &["cn-shanghai"]).await;
    let process = limited(&stage).await;
    let exemption = json!({"tag": {"key": "audit", "value": "off"}, "reason": "a legacy machine", "expiresAt": "2099-01-01T00:00:00Z"});
    stage.apply(audit("nothing", &["cn-hangzhou"], json!({"exemptions": [exemption]}))).await;
    let object = stage.until_reason(KIND, "nothing", "AccessDenied").await;
    assert_eq!(condition(&object, "Ready").0, "False");
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn keys_of_classes_are_known_by_alias_and_arn_and_a_long_name_stops_no_audit() {
    let stage = Stage::new().await;
    node(&stage).await;
    let by = |key: &str| json!({"encrypted": "true", "kmsKeyId": key});
    let arn = |key: &str| format!("acs:kms:cn-hangzhou:1234567890123456:key/{key}");
    class(&stage, "by-arn", by(&arn(KEY))).await;
    class(&stage, "by-alias", by("alias/ecskms-demo")).await;
    class(&stage, "gone", by(&arn("key-hzz000000000000000gone"))).await;
    class(&stage, "no-alias", by(&format!("alias/{}", "x".repeat(90)))).await;
    let process = stage.start().await;
    let fields = json!({"allowedKeyIds": [KEY], "accountDefault": "Ignore"});
    stage.apply(audit("classes", CLEAN, fields)).await;
    let object = scanned(&stage, "classes").await;
    let found: Vec<_> = findings(&object).into_iter().map(|(_, id, reason)| (id, reason)).collect();
    // Neither is on the list, and neither exists.
    let told = |id: &str| (id.to_owned(), "KeyNotFound".to_owned());
    assert_eq!(found, [told("gone"), told("no-alias")], "{object:#}");
    assert_eq!(object["status"]["findings"][0]["keyId"], "key-hzz000000000000000gone");
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn why_the_keys_of_classes_are_not_known_is_told_as_it_is() {
    let stage = Stage::new().await;
    class(&stage, "good", json!({"encrypted": "true", "kmsKeyId": KEY})).await;
    class(&stage, "plain", json!({})).await;
    allow(&stage, &["ecs:Describe*"], &["cn-beijing", "cn-hangzhou"]).await;
    let process = limited(&stage).await;
    stage.apply(audit("classes", CLEAN, json!({"accountDefault": "Ignore"}))).await;
    let object = scanned(&stage, "classes").await;
    assert!(error_of_classes(&object).contains("--region"), "{object:#}");
    assert_eq!((reason(&object, "good").as_str(), reason(&object, "plain").as_str()), ("", "NotEncrypted"));
    assert_eq!(condition(&object, "PartialScan").0, "True");

    node(&stage).await;
    stage.kube_faults(json!([{"verb": "list", "resource": "nodes", "status": 500}])).await;
    let object = ask(&stage, &object, "nodes").await;
    assert!(error_of_classes(&object).starts_with("Nodes: "), "{object:#}");
    assert_eq!(reason(&object, "good"), "");

    stage.kube_faults(json!([])).await;
    let object = ask(&stage, &object, "denied").await;
    assert!(error_of_classes(&object).contains("kms:DescribeKey"), "{object:#}");
    assert_eq!(reason(&object, "good"), "KeyUnknown");
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_gap_of_the_cluster_alone_brings_no_region_to_be_read_again() {
    let stage = Stage::new().await;
    class(&stage, "plain", json!({})).await;
    let process = stage.start().await;
    let broken = json!([{"verb": "list", "resource": "storageclasses.storage.k8s.io", "status": 500}]);
    stage.kube_faults(broken).await;
    stage.apply(audit("half", CLEAN, json!({"accountDefault": "Ignore"}))).await;
    let object = scanned(&stage, "half").await;
    assert_eq!(condition(&object, "Compliant").0, "Unknown");
    let read = reads(&stage).await;
    stage.kube_faults(json!([])).await;
    let object = next_scan(&stage, &object, 15 * MINUTE).await;
    assert_eq!(reason(&object, "plain"), "NotEncrypted");
    assert_eq!((error_of_classes(&object), reads(&stage).await), ("", read));
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_page_that_is_throttled_is_waited_for_and_the_list_goes_on_where_it_was() {
    let stage = Stage::new().await;
    for number in 0..600 {
        let id = format!("d-bp1many{number:04}");
        set(&stage, "create", "disk", &id, "cn-hangzhou", json!({"sizeGib": 20})).await;
    }
    let process = stage.start().await;
    let fault = json!([{"action": "DescribeDisks", "nth": 2, "status": 400, "code": "Throttling.User"}]);
    stage.order("PUT", "faults", fault).await;
    stage.apply(audit("pages", &["cn-hangzhou"], json!({}))).await;
    let object = scanned(&stage, "pages").await;
    assert_eq!(tally(&object, "Disk")["total"], 608);
    assert_eq!(calls(&stage, "ecs:DescribeDisks").await, 3, "the first page once, the second twice");
    assert_eq!(calls(&stage, "ecs:DescribeImages").await, 1, "and the region once");
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn the_echo_of_a_request_comes_with_its_outcome_and_not_before() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    stage.apply(audit("echo", CLEAN, json!({}))).await;
    let before = scanned(&stage, "echo").await;
    stage.order("PUT", "faults", json!([{"action": "DescribeDisks", "delayMs": 20_000}])).await;
    set(&stage, "create", "disk", "d-2zenew", "cn-beijing", json!({"sizeGib": 20})).await;
    let patch = json!({"metadata": {"annotations": {"ecskms.dev/reconcile-requested-at": "now"}}});
    stage
        .objects(KIND)
        .patch("echo", &Default::default(), &Patch::Merge(patch))
        .await
        .expect("it is accepted");
    let echoed = |object: &Value| object["status"]["lastHandledReconcileAt"] == "now";
    let object = stage.until(KIND, "echo", 2 * MINUTE, echoed).await;
    assert_eq!(object["status"]["scannedRequest"], "now", "{object:#}");
    assert_ne!(object["status"]["lastScanTime"], before["status"]["lastScanTime"]);
    assert_eq!(reason(&object, "d-2zenew"), "NotEncrypted");
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_judged_before_it_is_known_which_keys_are_held() {
    let stage = Stage::new().await;
    let broken = |verb: &str| json!({"verb": verb, "resource": "keyrevocations.ecskms.dev", "status": 500});
    stage.kube_faults(json!([broken("list"), broken("watch")])).await;
    let process = stage.start().await;
    stage.apply(audit("early", CLEAN, json!({}))).await;
    tokio::time::sleep(2 * MINUTE).await;
    let object = stage.get(KIND, "early").await;
    assert_eq!(object["status"]["lastScanTime"], Value::Null, "{object:#}");
    assert_eq!(reads(&stage).await, 0);
    stage.kube_faults(json!([])).await;
    scanned(&stage, "early").await;
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn an_image_that_is_made_while_lists_are_read_is_no_finding() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    stage.apply(audit("old", &["cn-hangzhou"], json!({}))).await;
    let old = tally(&scanned(&stage, "old").await, "Image")["total"].as_u64().expect("a number");
    stage.order("PUT", "faults", json!([{"action": "DescribeImages", "delayMs": 20_000}])).await;
    stage.apply(audit("new", &["cn-hangzhou"], json!({}))).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(calls(&stage, "ecs:DescribeDisks").await, 2, "the scan is under way");
    set(&stage, "create", "image", "m-bp1new", "cn-hangzhou", json!({"keyId": KEY})).await;
    let object = scanned(&stage, "new").await;
    assert_eq!(tally(&object, "Image")["total"], old + 1, "it is in the list");
    assert_eq!(reason(&object, "m-bp1new"), "", "{object:#}");
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn what_an_image_lets_off_is_not_blamed_while_images_cannot_be_read() {
    let stage = Stage::new().await;
    set(&stage, "create", "image", "m-2zeold", "cn-beijing", json!({})).await;
    let process = stage.start().await;
    let exemption =
        json!({"resourceId": "m-2zeold", "reason": "a legacy image", "expiresAt": "2099-01-01T00:00:00Z"});
    let fields = json!({"accountDefault": "Ignore", "exemptions": [exemption]});
    stage.apply(audit("let-off", CLEAN, fields)).await;
    let object = scanned(&stage, "let-off").await;
    assert_eq!(condition(&object, "Compliant").0, "True", "{object:#}");
    stage
        .order("PUT", "faults", json!([{"action": "DescribeImages", "status": 403, "code": "Forbidden.RAM"}]))
        .await;
    let object = ask(&stage, &object, "blind").await;
    assert_eq!(
        condition(&object, "Compliant"),
        ("Unknown".into(), "InventoryIncomplete".into()),
        "{object:#}"
    );
    assert_eq!(tally(&object, "Snapshot")["unencrypted"], 1);
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn the_scan_of_an_audit_that_is_gone_ends_with_the_regions_that_it_is_at() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    stage.order("PUT", "faults", json!([{"action": "DescribeDisks", "delayMs": 10_000}])).await;
    stage.apply(audit("gone", &[], json!({}))).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    stage.delete(KIND, "gone").await;
    stage.until_gone(KIND, "gone").await;
    tokio::time::sleep(HOUR).await;
    assert_eq!(
        calls(&stage, "ecs:DescribeSnapshots").await,
        2,
        "two regions at a time, and no more of the four"
    );
    process.kill().await;
}
