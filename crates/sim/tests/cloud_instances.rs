//! Instances: their states, and how they behave when their key is taken away.

mod cloud_client;

use cloud_client::{APP, KEY, REGION, client, pass};
use serde_json::{Value, json};

const VAULTED: &str = "i-bp1db0000000000000b2";
const IDLE: &str = "i-bp1idle00000000000c3";
const LOST: &str = "i-bp1lost00000000000d4";

#[tokio::test(start_paused = true)]
async fn an_instance_walks_through_all_its_states() {
    let client = client();
    let run = [("RegionId", REGION), ("ImageId", APP), ("InstanceType", "ecs.g7.large"), ("Amount", "1")];
    let made = client.ok("RunInstances", &run).await;
    let id = made["InstanceIdSets"]["InstanceIdSet"][0].as_str().expect("an id").to_string();
    let named = [("InstanceId", id.as_str())];
    let mut seen = vec![client.instance_status(&id).await];
    let mut watch = async |seconds: u64| {
        for _ in 0..seconds {
            pass(1).await;
            let status = client.instance_status(&id).await;
            if seen.last() != Some(&status) {
                seen.push(status);
            }
        }
    };
    client.refused(403, "IncorrectInstanceStatus.Initializing", "DeleteInstance", &named).await;
    watch(25).await;
    client.refused(403, "IncorrectInstanceStatus", "StartInstance", &named).await;
    client.ok("StopInstance", &named).await;
    client.refused(403, "IncorrectInstanceStatus", "StopInstance", &named).await;
    watch(15).await;
    client.ok("StartInstance", &named).await;
    watch(20).await;
    client.ok("RebootInstance", &named).await;
    watch(35).await;
    let walked = [
        "Pending", "Starting", "Running", "Stopping", "Stopped", "Starting", "Running", "Stopping",
        "Starting",
    ];
    assert_eq!(seen, [&walked[..], &["Running"]].concat());
    client.refused(403, "IncorrectInstanceStatus", "DeleteInstance", &named).await;
    client.ok("DeleteInstance", &[("InstanceId", id.as_str()), ("Force", "true")]).await;
    assert_eq!(client.instance_status(&id).await, "gone");
}

#[tokio::test(start_paused = true)]
async fn a_running_instance_outlives_its_key_but_can_be_neither_stopped_nor_started() {
    let client = client();
    client.ok("kms:DisableKey", &[("RegionId", REGION), ("KeyId", KEY)]).await;
    pass(3_600).await;
    assert_eq!(client.instance_status(VAULTED).await, "Running");
    let named = [("InstanceId", VAULTED)];
    let code = "InvalidParameter.KMSKeyId.CMKNotEnabled";
    client.refused(403, code, "StopInstance", &named).await;
    client.refused(403, code, "RebootInstance", &named).await;
    client.refused(403, code, "StartInstance", &[("InstanceId", LOST)]).await;
    client.refused(400, code, "StopInstances", &[("RegionId", REGION), ("InstanceId.1", VAULTED)]).await;
    client.settings(json!({"stopChecksKey": false})).await;
    client.ok("StopInstance", &named).await;
    pass(15).await;
    client.refused(403, code, "StartInstance", &named).await;
    client.refused(403, code, "StartInstance", &[("InstanceId", VAULTED), ("DryRun", "true")]).await;
    client.ok("kms:EnableKey", &[("RegionId", REGION), ("KeyId", KEY)]).await;
    client.ok("StartInstance", &named).await;
}

#[tokio::test(start_paused = true)]
async fn batches_are_all_or_nothing_unless_success_comes_first() {
    let client = client();
    let mixed = [("RegionId", REGION), ("InstanceId.1", VAULTED), ("InstanceId.2", IDLE)];
    client.refused(403, "IncorrectInstanceStatus", "StopInstances", &mixed).await;
    assert_eq!(client.instance_status(VAULTED).await, "Running");
    let dry = [("RegionId", REGION), ("InstanceId.1", VAULTED), ("DryRun", "true")];
    client.refused(400, "DRYRUN.SUCCESS", "StopInstances", &dry).await;
    let first = [&mixed[..], &[("BatchOptimization", "SuccessFirst"), ("ForceStop", "true")]].concat();
    let body = client.ok("StopInstances", &first).await;
    let answers = body["InstanceResponses"]["InstanceResponse"].as_array().expect("a list").clone();
    assert_eq!(answers[0]["Code"], "200");
    assert_eq!(
        (&answers[0]["PreviousStatus"], &answers[0]["CurrentStatus"]),
        (&json!("Running"), &json!("Stopping"))
    );
    assert_eq!(answers[1]["Code"], "IncorrectInstanceStatus");
    pass(3).await;
    assert_eq!(client.instance_status(VAULTED).await, "Stopped");
}

#[tokio::test(start_paused = true)]
async fn disks_go_with_their_instance_or_stay() {
    let client = client();
    client.ok("DeleteInstance", &[("InstanceId", VAULTED), ("Force", "true")]).await;
    assert!(client.disk("d-bp1dbsys000000000005").await.is_none());
    let kept = client.disk("d-bp1dbdata00000000004").await.expect("kept");
    assert_eq!((kept["Status"].as_str(), kept["InstanceId"].as_str()), (Some("Available"), Some("")));
}

#[tokio::test(start_paused = true)]
async fn machines_from_encrypted_images_need_explicit_encryption() {
    let client = client();
    let run = [("RegionId", REGION), ("ImageId", "m-bp1vault40g000000007"), ("InstanceType", "ecs.g7.large")];
    client.refused(403, "InvalidEncrypted.NotMatchSnapshot", "RunInstances", &run).await;
    let explicit = [&run[..], &[("SystemDisk.Encrypted", "true")]].concat();
    let made = client.ok("RunInstances", &explicit).await;
    let id = made["InstanceIdSets"]["InstanceIdSet"][0].as_str().expect("an id").to_string();
    let held = client.ok("DescribeDisks", &[("RegionId", REGION), ("InstanceId", &id)]).await;
    assert_eq!(held["Disks"]["Disk"][0]["KMSKeyId"], KEY);
    let unknown = [("RegionId", REGION), ("ImageId", APP), ("InstanceType", "ecs.none")];
    client.refused(404, "InvalidInstanceType.ValueNotSupported", "RunInstances", &unknown).await;
    let dry = [("RegionId", REGION), ("ImageId", APP), ("InstanceType", "ecs.g7.large"), ("DryRun", "true")];
    client.refused(400, "DryRunOperation", "RunInstances", &dry).await;
}

#[tokio::test(start_paused = true)]
async fn a_system_disk_is_replaced_only_while_stopped() {
    let client = client();
    let replace = [("InstanceId", IDLE), ("ImageId", APP), ("Encrypted", "true"), ("KMSKeyId", KEY)];
    let running = [("InstanceId", VAULTED), ("ImageId", APP)];
    client.refused(403, "IncorrectInstanceStatus", "ReplaceSystemDisk", &running).await;
    let body = client.ok("ReplaceSystemDisk", &replace).await;
    let disk = body["DiskId"].as_str().expect("an id").to_string();
    assert!(client.disk("d-bp1idlesys0000000006").await.is_none(), "the old disk is released");
    pass(25).await;
    let seen = client.disk(&disk).await.expect("there");
    assert_eq!((seen["Status"].as_str(), seen["KMSKeyId"].as_str()), (Some("In_use"), Some(KEY)));
}

#[tokio::test]
async fn without_permission_instances_seem_not_to_exist() {
    let client = client();
    let limited = client.limited();
    let all = [("RegionId", REGION)];
    assert_eq!(limited.ok("DescribeInstances", &all).await["TotalCount"], 4);
    client.settings(json!({"limitedPolicy": {"Version": "1", "Statement": []}})).await;
    let empty = limited.ok("DescribeInstances", &all).await;
    assert_eq!(empty["Instances"]["Instance"], json!([]));
    assert_eq!(
        limited.ok("DescribeInstanceStatus", &all).await["InstanceStatuses"]["InstanceStatus"],
        json!([])
    );
    limited.refused(403, "Forbidden.RAM", "DescribeDisks", &all).await;
    client.settings(json!({"emptyWhenDenied": ["DescribeDisks"]})).await;
    assert_eq!(limited.ok("DescribeDisks", &all).await["Disks"]["Disk"], json!([]));
    limited.refused(403, "Forbidden.RAM", "DescribeInstances", &all).await;
    let log = client.control("GET", "log", Value::Null).await;
    assert_eq!(log.as_array().expect("a list").len(), 6);
}

#[tokio::test]
async fn a_role_is_given_to_an_instance_only_by_who_may_pass_it() {
    let client = client();
    let limited = client.limited();
    let policy = |more: Value| {
        let run = json!({"Effect": "Allow", "Action": ["ecs:RunInstances"], "Resource": "*"});
        json!({"limitedPolicy": {"Version": "1", "Statement": [run, more]}})
    };
    let pass = |role: &str| {
        let role = format!("acs:ram:*:*:role/{role}");
        policy(json!({"Effect": "Allow", "Action": ["ram:PassRole"], "Resource": role}))
    };
    let plain = [("RegionId", REGION), ("ImageId", APP), ("InstanceType", "ecs.g7.large")];
    let with_role = [&plain[..], &[("RamRoleName", "web")]].concat();
    client.settings(pass("other")).await;
    limited.ok("RunInstances", &plain).await;
    limited.refused(403, "Forbidden.RAM", "RunInstances", &with_role).await;
    client.settings(pass("web*")).await;
    limited.ok("RunInstances", &with_role).await;
}

#[tokio::test(start_paused = true)]
async fn an_accepted_instance_vanishes_with_its_disks_where_there_is_no_stock() {
    let client = client();
    client.settings(json!({"stockFailures": 1})).await;
    let run = |token: &str| {
        [
            ("RegionId", REGION.to_string()),
            ("ImageId", APP.to_string()),
            ("InstanceType", "ecs.g7.large".to_string()),
            ("ClientToken", token.to_string()),
            ("Tag.1.Key", "owner".to_string()),
            ("Tag.1.Value", "u".to_string()),
        ]
    };
    let send = async |token: &str| {
        let pairs = run(token);
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let made = client.ok("RunInstances", &pairs).await;
        made["InstanceIdSets"]["InstanceIdSet"][0].as_str().expect("an id").to_string()
    };
    let tagged = [("RegionId", REGION), ("Tag.1.Key", "owner"), ("Tag.1.Value", "u")];
    let first = send("a").await;
    assert_eq!(client.instance_status(&first).await, "Pending");
    let disks = client.ok("DescribeDisks", &tagged).await;
    assert_eq!(
        disks["Disks"]["Disk"][0]["InstanceId"],
        first.as_str(),
        "disks carry the tags of their instance"
    );
    pass(5).await;
    assert_eq!(client.instance_status(&first).await, "gone");
    assert_eq!(client.ok("DescribeDisks", &tagged).await["Disks"]["Disk"], json!([]));
    assert_eq!(send("a").await, first, "the token remembers what it made, although that is gone");
    let second = send("b").await;
    pass(25).await;
    assert_eq!(client.instance_status(&second).await, "Running", "one failure was planned");
}

#[tokio::test(start_paused = true)]
async fn an_unknown_vswitch_is_refused_where_the_known_ones_are_named() {
    let client = client();
    let run = |vswitch: &'static str| {
        [("RegionId", REGION), ("ImageId", APP), ("InstanceType", "ecs.g7.large"), ("VSwitchId", vswitch)]
    };
    client.ok("RunInstances", &run("vsw-any")).await;
    client.settings(json!({"vswitches": ["vsw-1"]})).await;
    client.refused(404, "InvalidVSwitchId.NotFound", "RunInstances", &run("vsw-any")).await;
    client.ok("RunInstances", &run("vsw-1")).await;
}
