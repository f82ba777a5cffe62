//! Audits: what they find in a mixed account, what they say of what they may not read, how often they look, and what a look costs.

use std::time::Duration;

use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};

use crate::auditing::*;
use crate::revocation::{calls, revoke};
use crate::stage::{KEY, Stage, condition, message};

#[tokio::test(start_paused = true)]
async fn a_mixed_account_in_every_region_is_counted_once_and_told_worst_first() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    stage.apply(audit("all", &[], json!({}))).await;
    let object = scanned(&stage, "all").await;
    let status = &object["status"];
    assert_eq!(condition(&object, "Ready").0, "True", "{object:#}");
    assert_eq!(condition(&object, "Compliant"), ("False".into(), "NotEncrypted".into()));
    assert_eq!(condition(&object, "PartialScan").0, "");
    for name in ["Stalled", "Reconciling"] {
        assert_eq!(condition(&object, name).0, "", "not being compliant turns no pipeline red");
    }
    let disks = tally(&object, "Disk");
    let of = |name: &str| disks[name].as_u64().expect("a number");
    assert_eq!(
        (of("total"), of("unencrypted"), of("customerKey"), of("serviceKey")),
        (9, 5, 3, 1),
        "{disks}"
    );
    let instances = tally(&object, "Instance");
    assert_eq!((&instances["total"], &instances["violations"]), (&json!(4), &json!(3)), "{instances}");
    let summary = &status["summary"];
    let sum = |name: &str| {
        tally(&object, "Disk")[name].as_u64().unwrap_or_default()
            + tally(&object, "Snapshot")[name].as_u64().unwrap_or_default()
    };
    for part in ["total", "unencrypted", "customerKey", "serviceKey", "unknown", "violations"] {
        assert_eq!(summary[part].as_u64(), Some(sum(part)), "{part}: nothing is counted twice");
    }
    assert_eq!(reason(&object, WEB), "NotEncrypted");
    let web = status["findings"]
        .as_array()
        .expect("findings")
        .iter()
        .find(|one| one["id"] == WEB)
        .expect("the machine");
    assert_eq!(web["parts"], json!(["d-bp1webdata0000000003", "d-bp1websys00000000002"]));
    for disk in ["d-bp1websys00000000002", "d-bp1webdata0000000003"] {
        assert_eq!(reason(&object, disk), "", "it is told with its machine");
    }
    assert_eq!(reason(&object, "i-bp1lost00000000000d4"), "KeyDisabled");
    assert_eq!(reason(&object, "d-bp1service0000000008"), "ServiceKey");
    assert_eq!(reason(&object, "d-uf6data0000000000001"), "NotEncrypted");
    assert_eq!(reason(&object, "m-bp1web40g00000000001"), "NotEncrypted");
    assert_eq!(reason(&object, "m-bp1vault40g000000007"), "");
    assert_eq!(reason(&object, "cn-beijing"), "DefaultOff");
    let regions: Vec<_> =
        status["regions"].as_array().expect("regions").iter().map(|one| one["name"].clone()).collect();
    assert_eq!(regions, ["ap-southeast-1", "cn-beijing", "cn-hangzhou", "cn-shanghai"]);
    let order: Vec<String> = findings(&object).into_iter().map(|(.., reason)| reason).collect();
    let first = order.iter().position(|reason| reason == "ServiceKey").expect("one");
    let last = order.iter().rposition(|reason| reason == "NotEncrypted").expect("one");
    assert!(last < first, "{order:?}");
    // One list of each sort for each region, and each key once.
    assert_eq!(calls(&stage, "ecs:DescribeRegions").await, 1);
    assert_eq!(calls(&stage, "ecs:DescribeDisks").await, 4);
    assert_eq!(calls(&stage, "ecs:DescribeInstances").await, 0, "no exemption goes by tag");
    assert_eq!(calls(&stage, "kms:DescribeKey").await, 3);
    // Of mutations, calls to the cloud are known by their action, those to the Kubernetes API by method and path.
    let changes: Vec<String> = process.gate.log().into_iter().filter(|call| !call.contains('/')).collect();
    assert!(changes.is_empty(), "{changes:?}");
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn any_key_is_enough_where_the_spec_says_so_and_one_key_where_it_says_that() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    stage
        .apply(audit("any", &["cn-hangzhou"], json!({"require": "AnyKey", "accountDefault": "Ignore"})))
        .await;
    let object = scanned(&stage, "any").await;
    assert_eq!(reason(&object, "d-bp1service0000000008"), "");
    assert_eq!(tally(&object, "AccountDefault"), &Value::Null);
    let other = json!({"allowedKeyIds": ["key-hzz65f0a1b2c3d4e5f6a7c9"]});
    stage.apply(audit("one", &["cn-hangzhou"], other)).await;
    let object = scanned(&stage, "one").await;
    assert_eq!(reason(&object, "i-bp1db0000000000000b2"), "KeyMismatch");
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_region_that_refuses_is_told_and_never_counts_as_passed() {
    let stage = Stage::new().await;
    allow(&stage, &["ecs:Describe*", "kms:DescribeKey"], &["cn-hangzhou", "cn-beijing"]).await;
    let process = limited(&stage).await;
    stage.apply(audit("mixed", &["cn-hangzhou", "cn-shanghai"], json!({}))).await;
    let object = scanned(&stage, "mixed").await;
    assert_eq!(condition(&object, "Compliant").0, "False", "there are findings in the other one");
    assert_eq!(condition(&object, "PartialScan"), ("True".into(), "InventoryIncomplete".into()));
    let regions = object["status"]["regions"].as_array().expect("regions");
    assert_eq!(regions[0]["error"], Value::Null);
    let error = regions[1]["error"].as_str().expect("an error");
    assert!(error.contains("ecs:DescribeDisks") && error.contains("ecs:DescribeSnapshots"), "{error}");
    assert_eq!(regions[1]["lastScanTime"], Value::Null);

    // Where all that is read is as required, the rest makes the difference.
    let fields = json!({"accountDefault": "Ignore"});
    stage.apply(audit("clean", &["cn-beijing", "cn-shanghai"], fields)).await;
    let object = scanned(&stage, "clean").await;
    assert_eq!(
        condition(&object, "Compliant"),
        ("Unknown".into(), "InventoryIncomplete".into()),
        "{object:#}"
    );
    assert!(message(&object, "Compliant").contains("cn-shanghai"));
    stage.apply(audit("beijing", &["cn-beijing"], json!({"accountDefault": "Ignore"}))).await;
    let object = scanned(&stage, "beijing").await;
    assert_eq!(condition(&object, "Compliant"), ("True".into(), "Compliant".into()), "{object:#}");

    // Nothing at all is no scan.
    stage.apply(audit("nothing", &["cn-shanghai"], json!({}))).await;
    let object = stage.until_reason(KIND, "nothing", "AccessDenied").await;
    assert_eq!(
        (condition(&object, "Ready").0.as_str(), condition(&object, "Stalled").0.as_str()),
        ("False", "True")
    );
    assert!(message(&object, "Ready").contains("ecs:Describe"), "{}", message(&object, "Ready"));
    allow(&stage, &["ecs:Describe*", "kms:DescribeKey"], &["cn-shanghai"]).await;
    let object = scanned(&stage, "nothing").await;
    assert_eq!(reason(&object, "d-uf6data0000000000001"), "NotEncrypted");
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_key_that_may_not_be_read_is_a_finding_and_says_which_action_is_missing() {
    let stage = Stage::new().await;
    allow(&stage, &["ecs:Describe*"], &["cn-hangzhou"]).await;
    let process = limited(&stage).await;
    stage.apply(audit("keyless", &["cn-hangzhou"], json!({"require": "AnyKey"}))).await;
    let object = scanned(&stage, "keyless").await;
    assert_eq!(reason(&object, "i-bp1db0000000000000b2"), "KeyUnknown");
    assert_eq!(tally(&object, "Disk")["unknown"], 4);
    let error = object["status"]["regions"][0]["keyError"].as_str().expect("why");
    assert!(error.contains("kms:DescribeKey"), "{error}");
    assert_eq!(condition(&object, "PartialScan").0, "", "the region itself was read");
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn instances_that_are_hidden_are_judged_by_their_disks_and_let_off_by_no_tag() {
    let stage = Stage::new().await;
    set(&stage, "set", "instance", WEB, "cn-hangzhou", json!({"tags": {"audit": "off"}})).await;
    let reads = [
        "ecs:DescribeDisks",
        "ecs:DescribeSnapshots",
        "ecs:DescribeImages",
        "ecs:DescribeDiskEncryption*",
        "kms:DescribeKey",
    ];
    allow(&stage, &reads, &["cn-hangzhou"]).await;
    let process = limited(&stage).await;
    let exemption = json!({"tag": {"key": "audit", "value": "off"}, "reason": "a legacy machine", "expiresAt": "2099-01-01T00:00:00Z"});
    stage.apply(audit("hidden", &["cn-hangzhou"], json!({"exemptions": [exemption]}))).await;
    let object = scanned(&stage, "hidden").await;
    assert_eq!(calls(&stage, "ecs:DescribeInstances").await, 1, "the list is empty and no error");
    assert_eq!(reason(&object, WEB), "NotEncrypted");
    assert_eq!(tally(&object, "Instance")["total"], 4);
    process.kill().await;

    let process = stage.start().await;
    let object = ask(&stage, &object, "now").await;
    assert_eq!(reason(&object, WEB), "");
    assert_eq!(tally(&object, "Disk")["exempt"], 2);
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn an_exemption_holds_until_its_date() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    let until =
        |seconds: i64| (jiff::Timestamp::now() + jiff::SignedDuration::from_secs(seconds)).to_string();
    let exemption = |id: &str, seconds| json!({"resourceId": id, "reason": "a legacy machine", "expiresAt": until(seconds)});
    let exemptions = json!([exemption(WEB, 1_800), exemption("d-uf6data0000000000001", -60)]);
    let fields = json!({"exemptions": exemptions, "interval": "1h"});
    stage.apply(audit("one", &["cn-hangzhou", "cn-shanghai"], fields)).await;
    let object = scanned(&stage, "one").await;
    assert_eq!(
        (reason(&object, WEB).as_str(), reason(&object, "d-uf6data0000000000001").as_str()),
        ("", "ExemptionExpired")
    );
    // It ends in the middle of the interval.
    let object = next_scan(&stage, &object, Duration::from_secs(1_860)).await;
    assert_eq!(reason(&object, WEB), "ExemptionExpired");
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_off_is_a_finding_unless_a_revocation_holds_it() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    crate::revocation::set_key(&stage, "Disabled").await;
    stage.apply(audit("keys", &["cn-hangzhou"], json!({}))).await;
    let object = scanned(&stage, "keys").await;
    assert_eq!(reason(&object, "i-bp1db0000000000000b2"), "KeyDisabled");
    crate::revocation::set_key(&stage, "Enabled").await;
    stage.apply(crate::revocation::revocation("leak", json!({}))).await;
    revoke(&stage, "leak").await;
    // A key is remembered for five seconds.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let object = ask(&stage, &object, "held").await;
    assert_eq!(reason(&object, "i-bp1db0000000000000b2"), "", "{object:#}");
    set(&stage, "set", "key", KEY, "cn-hangzhou", json!({"state": "PendingDeletion"})).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let object = ask(&stage, &object, "doomed").await;
    assert_eq!(reason(&object, "i-bp1db0000000000000b2"), "KeyPendingDeletion");
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn the_default_of_a_region_is_judged_by_its_key_and_not_where_there_is_none() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    set(&stage, "create", "encryptionDefault", "cn-hangzhou", "cn-hangzhou", json!({"on": true})).await;
    set(&stage, "create", "encryptionDefault", "cn-beijing", "cn-beijing", json!({"on": true, "keyId": KEY}))
        .await;
    stage.apply(audit("default", &["cn-hangzhou", "cn-shanghai"], json!({}))).await;
    let object = scanned(&stage, "default").await;
    assert_eq!(reason(&object, "cn-hangzhou"), "ServiceKey");
    assert_eq!(reason(&object, "cn-shanghai"), "DefaultOff");
    let hangzhou = &object["status"]["regions"][0];
    assert_eq!(
        (hangzhou["defaultEncryption"].as_str(), hangzhou["defaultKeyId"].is_string()),
        (Some("On"), true)
    );
    set(&stage, "set", "encryptionDefault", "cn-hangzhou", "cn-hangzhou", json!({"keyId": KEY})).await;
    let fault = json!([{"action": "DescribeDiskEncryptionByDefaultStatus", "nth": 2, "status": 403, "code": "Abs.InvalidAction.RegionNotSupport"}]);
    stage.order("PUT", "faults", fault).await;
    let object = ask(&stage, &object, "again").await;
    let regions = object["status"]["regions"].as_array().expect("regions");
    let words: Vec<_> = regions.iter().filter_map(|region| region["defaultEncryption"].as_str()).collect();
    assert!(words.contains(&"Unavailable"), "{words:?}");
    assert_eq!(condition(&object, "PartialScan").0, "", "it is told and no failure");
    assert_eq!(tally(&object, "AccountDefault")["total"], 1);
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_thousand_disks_are_pages_and_not_a_call_for_each() {
    let stage = Stage::new().await;
    for number in 0..1_000 {
        let fields =
            if number % 2 == 0 { json!({"sizeGib": 20}) } else { json!({"sizeGib": 20, "keyId": KEY}) };
        set(&stage, "create", "disk", &format!("d-bp1many{number:04}"), "cn-hangzhou", fields).await;
    }
    let process = stage.start().await;
    let before = writes(&stage).await;
    stage.apply(audit("many", &["cn-hangzhou"], json!({}))).await;
    let object = scanned(&stage, "many").await;
    assert_eq!(
        (&tally(&object, "Disk")["total"], &tally(&object, "Disk")["unencrypted"]),
        (&json!(1_008), &json!(504))
    );
    assert_eq!(
        (object["status"]["findings"].as_array().map(Vec::len), &object["status"]["truncated"]),
        (Some(100), &json!(true))
    );
    assert!(object["status"]["summary"]["findings"].as_u64().is_some_and(|count| count > 500));
    assert_eq!(calls(&stage, "ecs:DescribeDisks").await, 3, "pages of five hundred");
    let all = reads(&stage).await;
    assert!(all <= 8, "{all} calls");
    // The test's own apply, that the scan is under way, and its outcome.
    assert_eq!(writes(&stage).await - before, 3, "{:?}", process.gate.log());
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_list_that_breaks_off_is_read_anew_from_the_start_and_counted_once() {
    let stage = Stage::new().await;
    for number in 0..600 {
        set(
            &stage,
            "create",
            "disk",
            &format!("d-bp1many{number:04}"),
            "cn-hangzhou",
            json!({"sizeGib": 20}),
        )
        .await;
    }
    let process = stage.start().await;
    let fault = json!([{"action": "DescribeDisks", "nth": 2, "status": 503, "code": "ServiceUnavailable"}]);
    stage.order("PUT", "faults", fault).await;
    stage.apply(audit("broken", &["cn-beijing", "cn-hangzhou"], json!({}))).await;
    let object = scanned(&stage, "broken").await;
    assert_eq!(tally(&object, "Disk")["total"], 608, "{object:#}");
    assert_eq!(condition(&object, "PartialScan").0, "");
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_throttled_region_is_read_alone_again_and_costs_the_others_nothing() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    let fault = json!([{"action": "DescribeSnapshots", "nth": 2, "status": 400, "code": "Throttling.User"}]);
    stage.order("PUT", "faults", fault).await;
    stage.apply(audit("slow", &["cn-beijing", "cn-shanghai", "ap-southeast-1"], json!({}))).await;
    let begun = tokio::time::Instant::now();
    let object = scanned(&stage, "slow").await;
    assert!(begun.elapsed() < Duration::from_secs(150), "{:?}", begun.elapsed());
    assert_eq!(condition(&object, "PartialScan").0, "", "{object:#}");
    assert_eq!(object["status"]["regions"].as_array().map(Vec::len), Some(3));
    let disks = calls(&stage, "ecs:DescribeDisks").await;
    assert_eq!(disks, 4, "three regions, and one of them once more");
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_region_that_goes_on_failing_is_left_out_and_tried_again_before_the_interval() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    let fault = json!([{"action": "DescribeImages", "status": 503, "code": "ServiceUnavailable"}]);
    stage.order("PUT", "faults", fault).await;
    stage.apply(audit("dark", &["cn-hangzhou"], json!({}))).await;
    let object = scanned(&stage, "dark").await;
    assert_eq!(
        (condition(&object, "PartialScan").0.as_str(), condition(&object, "Compliant").0.as_str()),
        ("True", "False")
    );
    assert_eq!(tally(&object, "Disk")["total"], 8, "what could be read is counted");
    stage.order("DELETE", "faults", Value::Null).await;
    let object = next_scan(&stage, &object, Duration::from_secs(900)).await;
    assert_eq!(condition(&object, "PartialScan").0, "");
    assert_eq!(reason(&object, "m-bp1web40g00000000001"), "NotEncrypted");
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn one_scan_in_an_interval_also_after_a_restart_and_nothing_is_written_between() {
    let stage = Stage::new().await;
    let first = stage.start().await;
    stage.apply(audit("calm", &["cn-hangzhou"], json!({"interval": "2h"}))).await;
    let object = scanned(&stage, "calm").await;
    let (wrote, read) = (writes(&stage).await, reads(&stage).await);
    tokio::time::sleep(HOUR).await;
    assert_eq!((writes(&stage).await, reads(&stage).await), (wrote, read), "nothing between two scans");
    first.kill().await;
    let second = stage.start().await;
    tokio::time::sleep(HOUR / 2).await;
    assert_eq!((writes(&stage).await, reads(&stage).await), (wrote, read), "a restart scans nothing");
    let later = next_scan(&stage, &object, HOUR).await;
    let time = |object: &Value, field: &str| {
        object["status"][field].as_str().expect("a time").parse::<jiff::Timestamp>().expect("a time")
    };
    let between = time(&later, "lastScanTime").duration_since(time(&object, "lastScanTime")).as_secs();
    assert!((7_200..7_260).contains(&between), "{between} seconds");
    assert_eq!(writes(&stage).await, wrote + 1, "one write for one scan");
    second.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_changed_spec_is_scanned_at_once_and_says_so_until_then() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    stage.apply(audit("moving", &["cn-hangzhou"], json!({}))).await;
    let before = scanned(&stage, "moving").await;
    stage.apply(audit("moving", &["cn-shanghai"], json!({}))).await;
    let after = next_scan(&stage, &before, Duration::from_secs(60)).await;
    assert_eq!(after["status"]["scannedGeneration"], after["metadata"]["generation"]);
    assert_eq!(tally(&after, "Disk")["total"], 1);
    let again = ask(&stage, &after, "today").await;
    assert_eq!(again["status"]["lastHandledReconcileAt"], "today");
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_suspended_audit_looks_at_nothing_and_keeps_what_it_found() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    stage.apply(audit("still", &["cn-hangzhou"], json!({"interval": "10m"}))).await;
    let before = scanned(&stage, "still").await;
    stage.apply(audit("still", &["cn-hangzhou"], json!({"interval": "10m", "suspend": true}))).await;
    let object = stage.until_reason(KIND, "still", "Suspended").await;
    assert_eq!(
        (condition(&object, "Ready").0.as_str(), condition(&object, "Stalled").0.as_str()),
        ("False", "")
    );
    let read = reads(&stage).await;
    tokio::time::sleep(HOUR).await;
    assert_eq!(reads(&stage).await, read);
    assert_eq!(stage.get(KIND, "still").await["status"]["findings"], before["status"]["findings"]);
    stage.apply(audit("still", &["cn-hangzhou"], json!({"interval": "10m", "suspend": false}))).await;
    next_scan(&stage, &before, Duration::from_secs(60)).await;
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_finding_keeps_the_time_at_which_it_was_first_seen_over_scans_and_restarts() {
    let stage = Stage::new().await;
    let first = stage.start().await;
    stage.apply(audit("time", &["cn-hangzhou"], json!({"interval": "10m"}))).await;
    let before = scanned(&stage, "time").await;
    let seen = |object: &Value, id: &str| {
        let all = object["status"]["findings"].as_array().cloned().unwrap_or_default();
        all.into_iter().find(|one| one["id"] == id).map(|one| one["firstSeen"].clone())
    };
    tokio::time::sleep(Duration::from_secs(90)).await;
    set(&stage, "create", "disk", "d-bp1new", "cn-hangzhou", json!({"sizeGib": 20})).await;
    first.kill().await;
    let second = stage.start().await;
    let after = next_scan(&stage, &before, HOUR).await;
    assert_eq!(seen(&after, WEB), seen(&before, WEB));
    assert!(seen(&after, WEB).is_some() && seen(&after, "d-bp1new").is_some());
    assert_ne!(seen(&after, "d-bp1new"), seen(&after, WEB));
    // Mended: it goes.
    set(&stage, "delete", "disk", "d-bp1new", "cn-hangzhou", json!({})).await;
    let mended = next_scan(&stage, &after, HOUR).await;
    assert_eq!(seen(&mended, "d-bp1new"), None);
    second.kill().await;
}

#[tokio::test(start_paused = true)]
async fn disks_of_teams_and_classes_of_the_cluster_are_told_and_who_hides_them_too() {
    let stage = Stage::new().await;
    cluster(&stage).await;
    let process = stage.start().await;
    stage.apply(audit("teams", &["cn-hangzhou"], json!({}))).await;
    let object = scanned(&stage, "teams").await;
    assert_eq!(
        object["status"]["byNamespace"],
        json!([{"namespace": "payments", "total": 2, "customerKey": 1, "serviceKey": 0, "unencrypted": 1, "unknown": 0,
            "exempt": 0, "violations": 1}])
    );
    let disk = object["status"]["findings"]
        .as_array()
        .expect("findings")
        .iter()
        .find(|one| one["id"] == "d-bp1webdata0000000003");
    let disk = disk.expect("the team's disk has a finding of its own");
    assert_eq!((disk["namespace"].as_str(), disk["instanceId"].as_str()), (Some("payments"), Some(WEB)));
    assert_eq!(reason(&object, "plain"), "NotEncrypted");
    assert_eq!(reason(&object, "service"), "ServiceKey");
    assert_eq!(reason(&object, "good"), "", "{object:#}");
    assert_eq!(tally(&object, "StorageClass")["total"], 3);

    // What cannot be listed now has not gone away.
    let broken = |resource: &str| json!({"verb": "list", "resource": resource, "status": 500});
    stage.kube_faults(json!([broken("persistentvolumes"), broken("storageclasses.storage.k8s.io")])).await;
    let object = ask(&stage, &object, "hidden").await;
    assert_eq!(object["status"]["byNamespace"], Value::Null);
    assert!(
        object["status"]["namespacesError"].as_str().is_some_and(|text| text.contains("PersistentVolumes")),
        "{object:#}"
    );
    assert!(object["status"]["storageClassesError"].is_string());
    assert_eq!(condition(&object, "PartialScan").0, "True");
    assert_eq!(reason(&object, "plain"), "NotEncrypted", "it has not gone away");
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn another_account_is_looked_at_with_its_own_credentials_and_without_the_classes_of_this_cluster() {
    use k8s_openapi::api::core::v1::{Namespace, Secret};
    let stage = Stage::new().await;
    cluster(&stage).await;
    let process = stage.start().await;
    stage.apply(audit("second", &["cn-hangzhou"], json!({"accountRef": {"name": "second"}}))).await;
    stage.until_reason(KIND, "second", "AccountNotFound").await;
    let namespace = json!({"metadata": {"name": "ecskms-system"}});
    let namespace = serde_json::from_value(namespace).expect("a namespace");
    let namespaces = Api::<Namespace>::all(stage.client.clone());
    namespaces.create(&PostParams::default(), &namespace).await.expect("it is accepted");
    let data = json!({"ALIBABA_CLOUD_ACCESS_KEY_ID": sim::cloud::SECOND_ACCESS_KEY_ID,
        "ALIBABA_CLOUD_ACCESS_KEY_SECRET": sim::cloud::SECOND_ACCESS_KEY_SECRET});
    let secret =
        serde_json::from_value(json!({"metadata": {"name": "keys"}, "stringData": data})).expect("a Secret");
    let secrets = Api::<Secret>::namespaced(stage.client.clone(), "ecskms-system");
    secrets.create(&PostParams::default(), &secret).await.expect("it is accepted");
    let spec = json!({"credentials": {"secretRef": {"name": "keys"}}});
    let account = json!({"apiVersion": "ecskms.dev/v1alpha1", "kind": "CloudAccount", "metadata": {"name": "second"}, "spec": spec});
    stage.apply(account).await;
    let object = scanned(&stage, "second").await;
    assert_eq!(object["status"]["summary"]["total"], 0, "the other account is empty: {object:#}");
    assert_eq!(object["status"]["summary"]["coveragePercent"], Value::Null);
    assert_eq!(tally(&object, "StorageClass"), &Value::Null);
    assert_eq!(findings(&object), [("AccountDefault".into(), "cn-hangzhou".into(), "DefaultOff".into())]);
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_spec_that_cannot_work_is_refused_by_the_api_server() {
    let stage = Stage::new().await;
    let exemption = |fields: Value| {
        let mut one =
            json!({"resourceId": "d-1", "reason": "a legacy machine", "expiresAt": "2099-01-01T00:00:00Z"});
        for (name, value) in fields.as_object().expect("fields") {
            if value.is_null() {
                one.as_object_mut().expect("fields").remove(name);
            } else {
                one[name] = value.clone();
            }
        }
        json!({"exemptions": [one]})
    };
    for (fields, words) in [
        (json!({"interval": "9m"}), "interval must be between 10m and 168h"),
        (json!({"require": "Encrypted"}), "require"),
        (json!({"regions": ["cn-hangzhou", "cn-hangzhou"]}), "regions"),
        (exemption(json!({"reason": null})), "reason"),
        (exemption(json!({"expiresAt": null})), "expiresAt"),
        (exemption(json!({"tag": {"key": "a"}})), "exactly one of resourceId and tag"),
        (exemption(json!({"resourceId": null})), "exactly one of resourceId and tag"),
        (json!({"allowedKeyIds": ["alias/payments"]}), "allowedKeyIds"),
    ] {
        let refused = stage.try_apply(audit("wrong", &[], fields.clone())).await.expect_err("it is refused");
        assert!(refused.to_string().contains(words), "{fields}: {refused}");
    }
}
