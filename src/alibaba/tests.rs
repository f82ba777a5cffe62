//! The typed calls against scripted answers in this process: what they ask, and how they read what comes
//! back.
//!
//! Signatures and broken wires are the business of `tests/wire.rs`.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use reqwest::Url;
use serde_json::{Value, json};

use super::ecs::PAGES_MAX;
use super::error::local;
use super::request::parameters;
use super::transport::Handler;
use super::*;

const REGION: &str = "cn-hangzhou";

/// A cloud whose answers are a function of action and parameters, and the log of what it was asked.
struct Script {
    cloud: Cloud,
    log: Arc<Mutex<Vec<(String, Parameters)>>>,
}

impl Script {
    fn new(answer: impl Fn(&str, &Parameters) -> (u16, Value) + Send + Sync + 'static) -> Script {
        let log = Arc::new(Mutex::new(Vec::new()));
        let entries = log.clone();
        let handler: Handler = Arc::new(move |request| {
            let action = request.headers()["x-acs-action"].to_str().expect("text").to_owned();
            let url = Url::parse(&request.uri().to_string()).expect("an address");
            let asked: Parameters = url.query_pairs().into_owned().collect();
            let (status, body) = answer(&action, &asked);
            entries.lock().expect("unpoisoned").push((action, asked));
            let body = body.to_string().into_bytes();
            let reply = http::Response::builder().status(status).body(body).expect("a reply");
            Box::pin(async move {
                tokio::time::sleep(Duration::from_millis(20)).await;
                reply
            })
        });
        let clock = Clock::runtime(Timestamp::UNIX_EPOCH);
        let settings = Settings { clock, wire: Wire::InProcess(handler), ..Settings::default() };
        let cloud = Cloud::new(settings, Source::Static(Credentials::new("id", "secret", None)));
        Script { cloud: cloud.expect("valid settings"), log }
    }

    fn asked(&self) -> Vec<(String, Parameters)> {
        self.log.lock().expect("unpoisoned").clone()
    }

    fn actions(&self) -> Vec<String> {
        self.asked().into_iter().map(|(action, _)| action).collect()
    }
}

fn refusal(status: u16, code: &str) -> (u16, Value) {
    (status, json!({"RequestId": "A-1", "Code": code, "Message": "no"}))
}

fn image(id: &str, name: &str) -> Value {
    let tags = json!({"Tag": [{"TagKey": "owner", "TagValue": "uid-1"}]});
    json!({"ImageId": id, "ImageName": name, "Status": "Creating", "Tags": tags})
}

#[tokio::test(start_paused = true)]
async fn an_image_is_looked_for_in_every_state_and_only_by_its_id() {
    let script = Script::new(|_, asked| {
        let images =
            if asked["ImageId"] == "m-1" { vec![image("m-0", "a"), image("m-1", "b")] } else { vec![] };
        (200, json!({"TotalCount": images.len(), "Images": {"Image": images}}))
    });
    let found = script.cloud.image(REGION, "m-1").await.expect("an answer").expect("an image");
    assert_eq!((found.id.as_str(), found.status), ("m-1", ImageStatus::Creating));
    assert_eq!(script.cloud.image(REGION, "m-2").await, Ok(None));
    let (action, asked) = script.asked().remove(0);
    assert_eq!((action.as_str(), asked["RegionId"].as_str()), ("DescribeImages", REGION));
    assert_eq!(asked["Status"], "Creating,Waiting,Available,UnAvailable,CreateFailed,Deprecated");
    assert!(!asked.contains_key("ImageOwnerAlias"), "public images must be seen too");
    assert!(script.cloud.image(REGION, "m-1\n").await.expect_err("no id").definite());
    assert!(script.cloud.image("evil.example", "m-1").await.expect_err("no region").definite());
    assert_eq!(script.actions().len(), 2, "nothing is sent for what cannot be an id or a region");
}

#[tokio::test(start_paused = true)]
async fn a_list_of_images_that_changes_while_it_is_read_is_read_anew_and_a_short_one_is_no_list() {
    // What the pages show, reading by reading, and how many images there are said to be.
    let list = |pages: Vec<(Vec<&'static str>, u32)>| {
        let turn = std::sync::atomic::AtomicUsize::new(0);
        move |_: &str, _: &Parameters| {
            let at = turn.fetch_add(1, std::sync::atomic::Ordering::SeqCst).min(pages.len() - 1);
            let (ids, total) = &pages[at];
            let images: Vec<Value> = ids.iter().map(|id| image(id, "n")).collect();
            (200, json!({"TotalCount": total, "PageSize": 2, "Images": {"Image": images}}))
        }
    };
    let cases = [
        // One goes between the pages, and another moves up from the second page to the first.
        (vec![(vec!["m-1", "m-2"], 3), (vec![], 2), (vec!["m-2", "m-3"], 2)], Ok(vec!["m-2", "m-3"])),
        // One comes and one goes.
        (
            vec![(vec!["m-1", "m-2"], 3), (vec!["m-2"], 3), (vec!["m-0", "m-1"], 3), (vec!["m-2"], 3)],
            Ok(vec!["m-0", "m-1", "m-2"]),
        ),
        (vec![(vec!["m-1", "m-2"], 3), (vec![], 3)], Err(())),
        (vec![(vec![], 1)], Err(())),
        (vec![(vec![], 0)], Ok(vec![])),
    ];
    for (pages, expected) in cases {
        let script = Script::new(list(pages));
        let found = script.cloud.images_by_name(REGION, "n").await;
        let ids = found.as_ref().map(|found| found.iter().map(|image| image.id.as_str()).collect());
        assert_eq!(ids.map_err(|error| assert!(!error.definite(), "{error}")), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_of_images_is_read_to_its_end_even_if_the_page_is_clamped() {
    let script = Script::new(|_, asked| {
        let page: usize = asked["PageNumber"].parse().expect("a number");
        let all: Vec<Value> = (0..45).map(|number| image(&format!("m-{number}"), "n")).collect();
        let listed: Vec<Value> = all.into_iter().skip((page - 1) * 20).take(20).collect();
        let total = if asked.contains_key("ImageName") { Value::Null } else { json!(45) };
        (200, json!({"PageSize": 20, "TotalCount": total, "Images": {"Image": listed}}))
    });
    let by_tags = script.cloud.images_by_tags(REGION, &[("owner", "uid-1")]).await.expect("a list");
    assert_eq!((by_tags.len(), script.actions().len()), (45, 3));
    let asked = script.asked().remove(0).1;
    assert_eq!((asked["Tag.1.Key"].as_str(), asked["Tag.1.Value"].as_str()), ("owner", "uid-1"));
    assert_eq!(asked["ImageOwnerAlias"], "self");
    let by_name = script.cloud.images_by_name(REGION, "n").await.expect("a list");
    assert_eq!((by_name.len(), script.actions().len()), (45, 6), "without a total, a short page is the last");
    assert!(script.cloud.images_by_name(REGION, "").await.expect_err("everything").definite());
}

#[tokio::test(start_paused = true)]
async fn names_are_compared_exactly_because_the_filter_may_be_fuzzy() {
    let script = Script::new(|_, _| {
        let images = [image("m-1", "base"), image("m-2", "base-2"), image("m-1", "base")];
        (200, json!({"TotalCount": 3, "Images": {"Image": images}}))
    });
    let found = script.cloud.images_by_name(REGION, "base").await.expect("a list");
    assert_eq!(found.iter().map(|image| image.id.as_str()).collect::<Vec<_>>(), ["m-1"]);
}

#[tokio::test(start_paused = true)]
async fn a_list_that_ignores_the_tags_is_not_believed() {
    let script = Script::new(|action, _| match action {
        "DescribeImages" => (200, json!({"TotalCount": 1, "Images": {"Image": [image("m-1", "n")]}})),
        _ => (200, json!({"Disks": {"Disk": [{"DiskId": "d-1"}]}})),
    });
    for result in [
        script.cloud.images_by_tags(REGION, &[("owner", "uid-2")]).await.map(drop),
        script.cloud.disks_by_tags(REGION, &[("owner", "uid-1")]).await.map(drop),
    ] {
        assert_eq!(result.expect_err("a defect").class, Class::Defect);
    }
    let none: &[(&str, &str)] = &[];
    assert!(script.cloud.disks_by_tags(REGION, none).await.expect_err("everything").definite());
    assert_eq!(script.actions().len(), 2);
}

fn tagged_disk(number: usize) -> Value {
    let tags = json!({"Tag": [{"TagKey": "owner", "TagValue": "uid-1"}]});
    json!({"DiskId": format!("d-{number}"), "Status": "Available", "Tags": tags})
}

#[tokio::test(start_paused = true)]
async fn disks_are_listed_along_the_tokens_and_a_repeated_token_is_a_defect() {
    let script = Script::new(|_, asked| {
        let page = asked.get("NextToken").map_or(0, |token| token.parse().expect("a number"));
        let repeats = asked["RegionId"] == "cn-beijing";
        let next = if page == 2 { if repeats { "1" } else { "" }.to_owned() } else { (page + 1).to_string() };
        (200, json!({"NextToken": next, "Disks": {"Disk": [tagged_disk(page), tagged_disk(9)]}}))
    });
    let tags = [("owner", "uid-1")];
    let disks = script.cloud.disks_by_tags(REGION, &tags).await.expect("a list");
    let ids: Vec<&str> = disks.iter().map(|disk| disk.id.as_str()).collect();
    assert_eq!(ids, ["d-0", "d-9", "d-1", "d-2"], "no disk twice");
    assert_eq!(script.asked()[0].1["MaxResults"], "500");
    let error = script.cloud.disks_by_tags("cn-beijing", &tags).await.expect_err("endless");
    assert_eq!((error.class, script.actions().len()), (Class::Defect, 6));
}

#[tokio::test(start_paused = true)]
async fn lists_end_at_the_limit_with_an_error_and_not_with_a_part() {
    let script = Script::new(|action, asked| {
        if action == "DescribeImages" {
            let page = &asked["PageNumber"];
            return (
                200,
                json!({"TotalCount": 9999, "Images": {"Image": [image(&format!("m-{page}"), "n")]}}),
            );
        }
        let page: u32 = asked.get("NextToken").map_or(0, |token| token.parse().expect("a number"));
        (200, json!({"NextToken": (page + 1).to_string(), "Disks": {"Disk": []}}))
    });
    let tags = [("owner", "uid-1")];
    let disks = script.cloud.disks_by_tags(REGION, &tags).await.expect_err("too long");
    let images = script.cloud.images_by_tags(REGION, &tags).await.expect_err("too long");
    assert_eq!((disks.code.as_str(), images.code.as_str()), (local::TOO_MANY_PAGES, local::TOO_MANY_PAGES));
    assert_eq!(script.actions().len(), 2 * PAGES_MAX as usize);
}

#[tokio::test(start_paused = true)]
async fn creations_send_what_was_recorded_and_nothing_else() {
    let script = Script::new(|action, _| match action {
        "CopyImage" => (200, json!({"RequestId": "A-1", "ImageId": "m-new"})),
        _ => (200, json!({"RequestId": "A-2", "DiskId": "d/../x"})),
    });
    let recorded =
        parameters([("RegionId", REGION), ("ImageId", "m-1"), ("ClientToken", "t"), ("Encrypted", "true")]);
    let created = script.cloud.copy_image(REGION, &recorded).await.expect("created");
    assert_eq!(created, Created { id: "m-new".to_owned(), request_id: Some("A-1".to_owned()) });
    assert_eq!(script.asked(), [("CopyImage".to_owned(), recorded.clone())]);
    let error = script.cloud.create_disk(REGION, &recorded).await.expect_err("a strange id");
    assert_eq!((error.class, error.definite()), (Class::Defect, false), "the disk may exist");
    let elsewhere = script.cloud.copy_image("cn-beijing", &recorded).await.expect_err("another region");
    let attached = parameters([("RegionId", REGION), ("InstanceId", "i-1")]);
    let attached = script.cloud.create_disk(REGION, &attached).await.expect_err("a disk without key");
    assert!(elsewhere.definite() && attached.definite());
    assert_eq!(script.actions().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn deletions_name_the_resource_and_leave_not_found_to_the_caller() {
    let script = Script::new(|action, _| match action {
        "DeleteSnapshot" => refusal(404, "InvalidSnapshotId.NotFound"),
        _ => (200, json!({"RequestId": "A-1"})),
    });
    let cloud = &script.cloud;
    cloud.cancel_copy_image(REGION, "m-1").await.expect("cancelled");
    cloud.delete_image(REGION, "m-1").await.expect("deleted");
    cloud.delete_disk(REGION, "d-1").await.expect("deleted");
    assert_eq!(cloud.delete_snapshot(REGION, "s-1").await.expect_err("gone").class, Class::NotFound);
    let expected = [
        ("CancelCopyImage", "ImageId", "m-1"),
        ("DeleteImage", "ImageId", "m-1"),
        ("DeleteDisk", "DiskId", "d-1"),
        ("DeleteSnapshot", "SnapshotId", "s-1"),
    ];
    for ((action, asked), (name, parameter, id)) in script.asked().into_iter().zip(expected) {
        assert_eq!((action.as_str(), asked), (name, parameters([("RegionId", REGION), (parameter, id)])));
    }
}

#[tokio::test(start_paused = true)]
async fn snapshots_come_in_the_order_asked_and_share_one_call() {
    let script = Script::new(|_, asked| {
        let ids: Vec<String> = serde_json::from_str(&asked["SnapshotIds"]).expect("a list of ids");
        let known = ids.iter().filter(|id| *id != "s-2");
        let snapshots: Vec<Value> = known
            .map(|id| json!({"SnapshotId": id, "Status": "accomplished", "SourceDiskSize": "40"}))
            .collect();
        (200, json!({"Snapshots": {"Snapshot": snapshots}}))
    });
    let ids = ["s-3", "s-2", "s-1"].map(str::to_owned);
    let (first, second) =
        tokio::join!(script.cloud.snapshots(REGION, &ids), script.cloud.snapshots(REGION, &ids));
    let first = first.expect("a list");
    assert_eq!(first.iter().map(|snapshot| snapshot.id.as_str()).collect::<Vec<_>>(), ["s-3", "s-1"]);
    assert_eq!((first[0].source_disk_size_gib, &first[0].status), (40, &SnapshotStatus::Accomplished));
    assert_eq!(second.expect("a list"), first);
    assert_eq!(script.actions().len(), 1);
    assert_eq!(script.cloud.snapshots(REGION, &[]).await, Ok(Vec::new()));
    assert_eq!(script.actions().len(), 1, "an empty question is not asked");
}

#[tokio::test(start_paused = true)]
async fn a_failed_list_fails_all_who_asked_and_each_reading_is_new() {
    let script = Script::new(|_, _| refusal(403, "Forbidden.RAM"));
    let (first, second) = tokio::join!(script.cloud.disk(REGION, "d-1"), script.cloud.disk(REGION, "d-2"));
    for result in [first, second] {
        assert_eq!(result.expect_err("denied").ram_action.as_deref(), Some("ecs:DescribeDisks"));
    }
    assert_eq!(script.actions().len(), 1);
    assert!(script.cloud.disk(REGION, "d-1").await.is_err());
    assert_eq!(script.actions().len(), 2, "nothing of a disk is remembered");
}

#[tokio::test(start_paused = true)]
async fn a_key_is_read_once_for_all_its_objects_and_absence_is_no_error() {
    let script = Script::new(|_, asked| match asked["KeyId"].as_str() {
        "alias/gone" => refusal(404, "Forbidden.AliasNotFound"),
        "key-gone" => refusal(404, "Forbidden.KeyNotFound"),
        "key-hidden" => refusal(403, "Forbidden.NoPermission"),
        "key-odd" => (200, json!({"RequestId": "A-1"})),
        _ => {
            let key = json!({
                "KeyId": "key-1", "Arn": "acs:kms:cn-hangzhou:1:key/key-1", "KeyState": "PendingDeletion",
                "KeySpec": "Aliyun_AES_256", "KeyUsage": "ENCRYPT/DECRYPT", "Origin": "Aliyun_KMS",
                "Creator": "1", "DeleteDate": "2026-03-01T00:00:00Z",
            });
            (200, json!({"RequestId": "A-1", "KeyMetadata": key}))
        }
    });
    let readings = (0..100).map(|_| script.cloud.key(REGION, "alias/main"));
    for key in futures::future::join_all(readings).await {
        let key = key.expect("an answer").expect("a key");
        assert_eq!(
            (key.id.as_str(), key.state, key.is_service_key),
            ("key-1", KeyState::PendingDeletion, false)
        );
    }
    assert_eq!(script.actions(), ["DescribeKey"]);
    assert_eq!(script.cloud.key(REGION, "alias/gone").await, Ok(None));
    assert_eq!(script.cloud.key(REGION, "key-gone").await, Ok(None));
    let hidden = script.cloud.key(REGION, "key-hidden").await.expect_err("denied");
    assert_eq!(hidden.ram_action.as_deref(), Some("kms:DescribeKey"));
    assert_eq!(script.cloud.key(REGION, "key-odd").await.expect_err("a defect").class, Class::Defect);
}

#[tokio::test(start_paused = true)]
async fn calls_to_kms_are_paced_and_those_to_ecs_are_not() {
    let script = Script::new(|action, _| match action {
        "DescribeKey" => refusal(404, "Forbidden.KeyNotFound"),
        _ => (200, json!({"RequestId": "A-1"})),
    });
    let began = tokio::time::Instant::now();
    let ids: Vec<String> = (0..30).map(|number| format!("d-{number}")).collect();
    futures::future::join_all(ids.iter().map(|id| script.cloud.delete_disk(REGION, id))).await;
    assert!(began.elapsed() < Duration::from_millis(100));
    let began = tokio::time::Instant::now();
    futures::future::join_all(ids.iter().map(|id| script.cloud.key(REGION, id))).await;
    let elapsed = began.elapsed();
    assert!(elapsed >= Duration::from_millis(2000) && elapsed < Duration::from_millis(2200), "{elapsed:?}");
}

#[tokio::test(start_paused = true)]
async fn the_role_counts_only_with_the_system_policy() {
    let role = |policies: Value| {
        Script::new(move |action, asked| {
            assert_eq!(asked["RoleName"], "AliyunECSDiskEncryptDefaultRole");
            match action {
                "GetRole" if policies.is_null() => refusal(404, "EntityNotExist.Role"),
                "GetRole" => {
                    (200, json!({"Role": {"Arn": "acs:ram::1:role/aliyunecsdiskencryptdefaultrole"}}))
                }
                _ => (200, json!({"Policies": {"Policy": policies}})),
            }
        })
    };
    let policy = |name: &str, kind: &str| json!([{"PolicyName": name, "PolicyType": kind}]);
    let complete = role(policy("AliyunECSDiskEncryptRolePolicy", "System"));
    let found = complete.cloud.ecs_role().await.expect("an answer");
    assert!(found.exists && found.policy_attached && found.arn.is_some());
    complete.cloud.ecs_role().await.expect("an answer");
    assert_eq!(complete.actions(), ["GetRole", "ListPoliciesForRole"]);
    for policies in [json!([]), policy("AliyunECSDiskEncryptRolePolicy", "Custom"), policy("Other", "System")]
    {
        let found = role(policies).cloud.ecs_role().await.expect("an answer");
        assert!(found.exists && !found.policy_attached);
    }
    let absent = role(Value::Null).cloud.ecs_role().await.expect("an answer");
    assert!(!absent.exists && !absent.policy_attached && absent.arn.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_change_of_the_role_is_seen_at_once_and_what_is_there_already_is_no_error() {
    let script = Script::new(|action, asked| match action {
        "CreateRole" => {
            let trust: Value = serde_json::from_str(&asked["AssumeRolePolicyDocument"]).expect("JSON");
            assert_eq!(trust["Statement"][0]["Principal"], json!({"Service": ["ecs.aliyuncs.com"]}));
            refusal(409, "EntityAlreadyExists.Role")
        }
        "AttachPolicyToRole" => {
            assert_eq!(asked["PolicyType"], "System");
            refusal(409, "EntityAlreadyExists.Role.Policy")
        }
        _ => refusal(404, "EntityNotExist.Role"),
    });
    script.cloud.ecs_role().await.expect("an answer");
    script.cloud.create_ecs_role().await.expect("it is there already");
    script.cloud.ecs_role().await.expect("an answer");
    script.cloud.attach_ecs_policy().await.expect("it is attached already");
    script.cloud.ecs_role().await.expect("an answer");
    assert_eq!(script.actions(), ["GetRole", "CreateRole", "GetRole", "AttachPolicyToRole", "GetRole"]);
}

#[tokio::test(start_paused = true)]
async fn the_callers_identity_needs_an_account() {
    let script = Script::new(|_, _| {
        (200, json!({"AccountId": "123456789012", "Arn": "acs:ram::1:user/a", "IdentityType": "RAMUser"}))
    });
    let identity = script.cloud.caller_identity().await.expect("an identity");
    assert_eq!((identity.account_id.as_str(), identity.identity_type.as_str()), ("123456789012", "RAMUser"));
    let empty = Script::new(|_, _| (200, json!({"RequestId": "A-1"})));
    assert_eq!(empty.cloud.caller_identity().await.expect_err("a defect").class, Class::Defect);
}

#[tokio::test]
async fn settings_that_lead_nowhere_are_refused_at_once() {
    let source = || Source::Static(Credentials::new("id", "secret", None));
    let broken = Settings { endpoint_override: Some("not an address".to_owned()), ..Settings::default() };
    assert_eq!(Cloud::new(broken, source()).expect_err("refused").code, local::INVALID_ENDPOINT);
    let broken = Settings { sts_region: Some("evil.example".to_owned()), ..Settings::default() };
    assert_eq!(Cloud::new(broken, source()).expect_err("refused").code, local::INVALID_REGION);
}

#[tokio::test(start_paused = true)]
async fn instances_are_read_by_id_a_hundred_in_a_call_and_by_tag_to_the_last_page() {
    let script = Script::new(|_, asked| {
        let instance =
            |id: &str| json!({"InstanceId": id, "Tags": {"Tag": [{"TagKey": "owner", "TagValue": "u"}]}});
        let (list, next) = match (asked.get("InstanceIds"), asked.get("NextToken")) {
            (Some(ids), _) => {
                let ids: Vec<String> = serde_json::from_str(ids).expect("a JSON array");
                (ids.iter().map(|id| instance(id)).collect(), "")
            }
            (None, None) => (vec![instance("i-1")], "more"),
            (None, Some(_)) => (vec![instance("i-2"), instance("i-1")], ""),
        };
        (200, json!({"Instances": {"Instance": list}, "NextToken": next}))
    });
    let ids: Vec<String> = (0..150).map(|number| format!("i-{number}")).collect();
    let found = script.cloud.instances(REGION, &ids).await.expect("a list");
    assert_eq!(found.iter().map(|instance| instance.id.clone()).collect::<Vec<_>>(), ids);
    assert_eq!(script.actions(), ["DescribeInstances", "DescribeInstances"]);
    assert!(script.asked().iter().all(|(_, asked)| asked["MaxResults"] == "100"));
    let tagged = script.cloud.instances_by_tags(REGION, &[("owner", "u")]).await.expect("a list");
    assert_eq!(tagged.iter().map(|instance| &*instance.id).collect::<Vec<_>>(), ["i-1", "i-2"]);
    assert!(script.cloud.instances_by_tags(REGION, &[("owner", "other")]).await.is_err(), "not filtered");
    assert!(script.cloud.instances_by_tags(REGION, &[]).await.expect_err("everything").definite());
}

#[tokio::test(start_paused = true)]
async fn one_creation_makes_one_instance_or_is_not_believed() {
    let script = Script::new(|_, asked| match asked["ImageId"].as_str() {
        "m-two" => (200, json!({"InstanceIdSets": {"InstanceIdSet": ["i-1", "i-2"]}})),
        "m-none" => (200, json!({"InstanceIdSets": {"InstanceIdSet": []}})),
        "m-odd" => (200, json!({"InstanceIdSets": {"InstanceIdSet": ["i 1"]}})),
        _ => (200, json!({"RequestId": "A-1", "InstanceIdSets": {"InstanceIdSet": ["i-1"]}})),
    });
    let run = |image: &str, amount: &str| {
        parameters([("RegionId", REGION), ("ImageId", image), ("Amount", amount)])
    };
    let made = script.cloud.run_instances(REGION, &run("m-1", "1")).await.expect("made");
    assert_eq!((made.id.as_str(), made.request_id.as_deref()), ("i-1", Some("A-1")));
    for image in ["m-two", "m-none", "m-odd"] {
        let error = script.cloud.run_instances(REGION, &run(image, "1")).await.expect_err(image);
        assert!(!error.definite(), "{image}: something may have been made");
    }
    let sent = script.actions().len();
    assert!(script.cloud.run_instances(REGION, &run("m-1", "2")).await.expect_err("two").definite());
    assert!(
        script.cloud.run_instances("cn-beijing", &run("m-1", "1")).await.expect_err("elsewhere").definite()
    );
    assert_eq!(script.actions().len(), sent, "neither was sent");
}

#[tokio::test(start_paused = true)]
async fn a_batch_answers_for_each_instance_and_silence_is_no_success() {
    let script = Script::new(|_, _| {
        let answers = json!([
            {"InstanceId": "i-1", "Code": 200, "PreviousStatus": "Running", "CurrentStatus": "Stopping"},
            {"InstanceId": "i-2", "Code": "InvalidParameter.KMSKeyId.CMKNotEnabled", "Message": "disabled"},
        ]);
        (200, json!({"RequestId": "A-1", "InstanceResponses": {"InstanceResponse": answers}}))
    });
    let ids = ["i-1", "i-2", "i-3"].map(str::to_owned);
    let outcomes = script.cloud.stop_instances(REGION, &ids, true).await.expect("an answer");
    assert_eq!((&outcomes[0].after, &outcomes[0].result), (&Some(InstanceStatus::Stopping), &Ok(())));
    let refused = outcomes[1].result.clone().expect_err("refused");
    assert_eq!((refused.class, refused.request_id.as_deref()), (Class::KeyUnusable, Some("A-1")));
    assert!(!outcomes[2].result.clone().expect_err("left out").definite());
    let (action, asked) = script.asked().remove(0);
    assert_eq!((action.as_str(), asked["BatchOptimization"].as_str()), ("StopInstances", "SuccessFirst"));
    assert_eq!((asked["InstanceId.3"].as_str(), asked["ForceStop"].as_str()), ("i-3", "true"));
    assert_eq!(asked["StoppedMode"], "KeepCharging");
    assert!(script.cloud.start_instances(REGION, &[]).await.expect_err("none").definite());
    let many: Vec<String> = (0..101).map(|number| format!("i-{number}")).collect();
    assert!(script.cloud.start_instances(REGION, &many).await.expect_err("too many").definite());
}

#[tokio::test(start_paused = true)]
async fn disks_are_listed_by_any_filter_to_the_last_page_and_never_by_none() {
    let script = Script::new(|_, asked| {
        let disk = |id: &str, of: &str| json!({"DiskId": id, "InstanceId": of});
        let (list, next) = match (asked.get("InstanceId").map(String::as_str), asked.get("NextToken")) {
            (Some("i-2"), _) => (vec![disk("d-9", "i-1")], ""),
            (_, None) => (vec![disk("d-1", "i-1")], "more"),
            (_, Some(_)) => (vec![disk("d-2", "i-1")], ""),
        };
        (200, json!({"Disks": {"Disk": list}, "NextToken": next}))
    });
    assert_eq!(script.cloud.disks_of_instance(REGION, "i-1").await.expect("a list").len(), 2);
    let found = script.cloud.disks_where(REGION, &[("KMSKeyId", "key-1"), ("Status", "In_use")]).await;
    assert_eq!(found.expect("a list").len(), 2);
    assert_eq!(script.asked()[2].1["KMSKeyId"], "key-1");
    let foreign = script.cloud.disks_of_instance(REGION, "i-2").await.expect_err("not filtered");
    assert_eq!(foreign.code, local::REPLY_NOT_UNDERSTOOD);
    for wrong in [&[][..], &[("KMSKeyId", "")], &[("NextToken", "x")]] {
        assert!(script.cloud.disks_where(REGION, wrong).await.expect_err("everything").definite());
    }
}
