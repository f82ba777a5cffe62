//! Disks and snapshots: their states, the trap of CreateDisk with an instance, and what is refused.

mod cloud_client;

use cloud_client::{KEY, REGION, SECOND_KEY, SERVICE_KEY, ZONE, client, disk_of, pass};
use serde_json::{Value, json};

/// A status, a code, and the parameters that lead to them.
type Case<'a> = (u16, &'a str, &'a [(&'a str, &'a str)]);

const MACHINE: &str = "i-bp1web000000000000a1";
const IDLE: &str = "i-bp1idle00000000000c3";
const PLAIN_SNAPSHOT: &str = "s-bp1plain20g000000001";
const VAULT_SNAPSHOT: &str = "s-bp1vault50g000000002";

fn id(body: &Value) -> String {
    body["DiskId"].as_str().expect("a disk id").to_string()
}

#[tokio::test(start_paused = true)]
async fn a_disk_is_created_attached_detached_and_deleted() {
    let client = client();
    let disk = id(&client.ok("CreateDisk", &disk_of("t", &[])).await);
    assert_eq!(client.disk(&disk).await.expect("there")["Status"], "Creating");
    let attach = [("InstanceId", MACHINE), ("DiskId", disk.as_str())];
    client.refused(403, "IncorrectDiskStatus.Initializing", "AttachDisk", &attach).await;
    client.refused(403, "IncorrectDiskStatus.Initializing", "DeleteDisk", &attach[1..]).await;
    pass(4).await;
    let seen = client.disk(&disk).await.expect("there");
    assert_eq!((seen["Status"].as_str(), seen["KMSKeyId"].as_str()), (Some("Available"), Some(KEY)));
    client.refused(403, "IncorrectDiskStatus.NeverAttached", "CreateSnapshot", &attach[1..]).await;
    client.ok("AttachDisk", &attach).await;
    assert_eq!(client.disk(&disk).await.expect("there")["Status"], "Attaching");
    client.refused(403, "InvalidDisk.InUse", "AttachDisk", &attach).await;
    pass(7).await;
    let held = client.disk(&disk).await.expect("there");
    assert_eq!((held["Status"].as_str(), held["Device"].as_str()), (Some("In_use"), Some("/dev/xvdc")));
    client.refused(403, "IncorrectDiskStatus", "DeleteDisk", &attach[1..]).await;
    let elsewhere = [("InstanceId", IDLE), ("DiskId", disk.as_str())];
    client.refused(403, "DependencyViolation", "DetachDisk", &elsewhere).await;
    client.ok("DetachDisk", &attach).await;
    client.refused(403, "InvalidOperation.DiskDetachingFromThisEcs", "DetachDisk", &attach).await;
    pass(73).await;
    assert_eq!(client.disk(&disk).await.expect("there")["InstanceId"], "");
    client.refused(404, "InvalidDisk.AlreadyDetached", "DetachDisk", &attach).await;
    client.ok("DeleteDisk", &attach[1..]).await;
    assert!(client.disk(&disk).await.is_none());
    client.refused(404, "InvalidDiskId.NotFound", "DeleteDisk", &attach[1..]).await;
}

#[tokio::test(start_paused = true)]
async fn with_an_instance_key_tags_and_token_are_dropped_without_a_word() {
    let client = client();
    let trap =
        disk_of("t", &[("ZoneId", ""), ("InstanceId", MACHINE), ("Tag.1.Key", "a"), ("Tag.1.Value", "b")]);
    let first = id(&client.ok("CreateDisk", &trap).await);
    let second = id(&client.ok("CreateDisk", &trap).await);
    assert_ne!(first, second, "the token must have been forgotten");
    pass(5).await;
    let disk = client.disk(&first).await.expect("there");
    assert_eq!((disk["Status"].as_str(), disk["InstanceId"].as_str()), (Some("In_use"), Some(MACHINE)));
    assert_eq!((disk["Encrypted"].as_bool(), disk["KMSKeyId"].as_str()), (Some(true), Some(SERVICE_KEY)));
    assert_eq!(disk["Tags"]["Tag"], json!([]));
}

#[tokio::test(start_paused = true)]
async fn the_key_of_an_unnamed_key_disk_follows_the_snapshot_the_default_and_the_service_key() {
    let client = client();
    let key_of = async |changes: &[(&'static str, &'static str)]| {
        let mut parameters = disk_of("", changes);
        parameters.retain(|(name, _)| *name != "KMSKeyId");
        let disk = id(&client.ok("CreateDisk", &parameters).await);
        client.disk(&disk).await.expect("there")["KMSKeyId"].as_str().expect("text").to_string()
    };
    assert_eq!(key_of(&[]).await, SERVICE_KEY);
    assert_eq!(key_of(&[("SnapshotId", VAULT_SNAPSHOT), ("Size", "50")]).await, KEY);
    assert_eq!(key_of(&[("SnapshotId", PLAIN_SNAPSHOT)]).await, SERVICE_KEY);
    client.ok("EnableDiskEncryptionByDefault", &[("RegionId", REGION)]).await;
    assert_eq!(key_of(&[]).await, SERVICE_KEY);
    client.ok("ModifyDiskDefaultKMSKeyId", &[("RegionId", REGION), ("KMSKeyId", SECOND_KEY)]).await;
    assert_eq!(key_of(&[]).await, SECOND_KEY);
    let plain = disk_of("", &[("Encrypted", ""), ("KMSKeyId", "")]);
    client.refused(403, "InvalidEncrypted.NotMatchDiskDefaultEncryption", "CreateDisk", &plain).await;
}

#[tokio::test(start_paused = true)]
async fn disks_are_refused_each_with_its_code() {
    let client = client();
    let cases: &[Case] = &[
        (400, "MissingParameter", &[("ZoneId", "")]),
        (400, "MissingParameter", &[("Size", "")]),
        (400, "InvalidParameter.Conflict", &[("InstanceId", MACHINE)]),
        (404, "InvalidZoneId.NotFound", &[("ZoneId", "cn-hangzhou-zz")]),
        (404, "InvalidZoneId.NotFound", &[("ZoneId", "cn-shanghai-b")]),
        (403, "Zone.NotOnSale", &[("ZoneId", "cn-hangzhou-b")]),
        (400, "InvalidDiskCategory.NotSupported", &[("DiskCategory", "cloud_marble")]),
        (400, "InvalidDiskCategory.NotSupported", &[("PerformanceLevel", "PL9")]),
        (400, "InvalidDiskSize.NotSupported", &[("Size", "5")]),
        (400, "InvalidDiskSize.NotSupported", &[("PerformanceLevel", "PL2"), ("Size", "460")]),
        (400, "InvalidDiskSize.NotSupported", &[("Size", "65537")]),
        (400, "InvalidParameter.Size", &[("Size", "many")]),
        (400, "InvalidParameter.Size", &[("Size", "-1")]),
        (400, "InvalidDiskName.Malformed", &[("DiskName", "1st")]),
        (400, "InvalidEncrypted.NotMatchKmsKeyId", &[("Encrypted", "")]),
        (404, "InvalidSnapshotId.NotFound", &[("SnapshotId", "s-none")]),
        (403, "InvalidDiskSize.TooSmall", &[("SnapshotId", VAULT_SNAPSHOT)]),
        (
            403,
            "InvalidEncrypted.NotMatchSnapshot",
            &[("SnapshotId", VAULT_SNAPSHOT), ("Size", "50"), ("Encrypted", "false"), ("KMSKeyId", "")],
        ),
        (
            403,
            "NotSupportSnapshotEncrypted.DiskCategory",
            &[("SnapshotId", PLAIN_SNAPSHOT), ("DiskCategory", "cloud_efficiency")],
        ),
        (
            400,
            "InvalidParameter.EncryptedNotSupported",
            &[("DiskCategory", "elastic_ephemeral_disk_standard"), ("Size", "64")],
        ),
    ];
    for (status, code, changes) in cases {
        client.refused(*status, code, "CreateDisk", &disk_of("", changes)).await;
    }
    client.settings(json!({"arrears": true})).await;
    client.refused(403, "Account.Arrearage", "CreateDisk", &disk_of("", &[])).await;
}

#[tokio::test(start_paused = true)]
async fn a_disk_from_a_snapshot_takes_longer_and_its_size() {
    let client = client();
    let disk =
        id(&client.ok("CreateDisk", &disk_of("t", &[("SnapshotId", VAULT_SNAPSHOT), ("Size", "")])).await);
    pass(10).await;
    let seen = client.disk(&disk).await.expect("there");
    assert_eq!((seen["Status"].as_str(), seen["Size"].as_i64()), (Some("Creating"), Some(50)));
    pass(15).await;
    assert_eq!(client.disk(&disk).await.expect("there")["Status"], "Available");
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_inherits_the_key_and_blocks_a_second_one() {
    let client = client();
    let of = [("DiskId", "d-bp1dbdata00000000004"), ("SnapshotName", "evidence")];
    let made = client.ok("CreateSnapshot", &of).await;
    client.refused(403, "IncorrectDiskStatus.CreatingSnapshot", "CreateSnapshot", &of).await;
    let id = made["SnapshotId"].as_str().expect("an id");
    let young = client.snapshot(id).await.expect("there");
    assert_eq!((young["Status"].as_str(), young["KMSKeyId"].as_str()), (Some("progressing"), Some(KEY)));
    pass(61).await;
    let done = client.snapshot(id).await.expect("there");
    assert_eq!((done["Status"].as_str(), done["Progress"].as_str()), (Some("accomplished"), Some("100%")));
    client.ok("DeleteSnapshot", &[("SnapshotId", id)]).await;
    client.refused(404, "InvalidSnapshotId.NotFound", "DeleteSnapshot", &[("SnapshotId", id)]).await;
    let archive = [("DiskId", "d-bp1archive0000000001"), ("SnapshotName", "auto-1")];
    client.refused(400, "InvalidSnapshotName.Malformed", "CreateSnapshot", &archive).await;
}

#[tokio::test(start_paused = true)]
async fn snapshots_of_images_stay_until_the_image_is_gone() {
    let client = client();
    let state = client.control("GET", "state", Value::Null).await;
    let snapshot = state["images"]["m-bp1app20g00000000002"]["mappings"][0]["snapshotId"]
        .as_str()
        .expect("an id")
        .to_string();
    let named = [("SnapshotId", snapshot.as_str())];
    client.refused(403, "SnapshotCreatedImage", "DeleteSnapshot", &named).await;
    client.ok("DeleteImage", &[("RegionId", REGION), ("ImageId", "m-bp1app20g00000000002")]).await;
    client.ok("DeleteSnapshot", &named).await;
}

#[tokio::test(start_paused = true)]
async fn attachments_respect_zone_and_status() {
    let client = client();
    let far = client.make("disk", json!({"sizeGib": 20, "zone": "cn-hangzhou-j"})).await;
    let near = client.make("disk", json!({"sizeGib": 20, "zone": ZONE})).await;
    client
        .refused(403, "ResourcesNotInSameZone", "AttachDisk", &[("InstanceId", MACHINE), ("DiskId", &far)])
        .await;
    let locked = json!({"do": "set", "kind": "instance", "id": IDLE, "fields": {"locks": ["security"]}});
    client.control("POST", "resources", locked).await;
    client
        .refused(403, "InstanceLockedForSecurity", "AttachDisk", &[("InstanceId", IDLE), ("DiskId", &near)])
        .await;
    let system = [("InstanceId", MACHINE), ("DiskId", "d-bp1websys00000000002")];
    client.refused(403, "IncorrectInstanceStatus", "DetachDisk", &system).await;
    client
        .refused(404, "InvalidInstanceId.NotFound", "AttachDisk", &[("InstanceId", "i-x"), ("DiskId", &near)])
        .await;
}

#[tokio::test(start_paused = true)]
async fn sizes_only_grow() {
    let client = client();
    let disk = "d-bp1archive0000000001";
    client
        .refused(403, "InvalidDiskSize.TooSmall", "ResizeDisk", &[("DiskId", disk), ("NewSize", "20")])
        .await;
    client.ok("ResizeDisk", &[("DiskId", disk), ("NewSize", "21")]).await;
    assert_eq!(client.disk(disk).await.expect("there")["Size"], 21);
}

#[tokio::test(start_paused = true)]
async fn a_disk_tells_when_it_was_attached_and_detached_last() {
    let client = client();
    let disk = "d-bp1webdata0000000003";
    let pair = [("InstanceId", MACHINE), ("DiskId", disk)];
    let times = async || {
        let seen = client.disk(disk).await.expect("there");
        let text = |name: &str| seen[name].as_str().expect("text").to_string();
        (text("AttachedTime"), text("DetachedTime"))
    };
    let (born, never) = times().await;
    assert_eq!(never, "", "it was never detached");
    pass(60).await;
    client.ok("DetachDisk", &pair).await;
    pass(73).await;
    let (attached, detached) = times().await;
    assert_eq!(attached, born);
    // A disk that was attached once can be snapshotted while it is free, and the snapshot is younger than the detachment.
    pass(10).await;
    let made = client.ok("CreateSnapshot", &pair[1..]).await;
    let snapshot = client.snapshot(made["SnapshotId"].as_str().expect("an id")).await.expect("there");
    assert!(snapshot["CreationTime"].as_str() > Some(&detached), "{snapshot} {detached}");
    client.refused(403, "IncorrectDiskStatus.CreatingSnapshot", "CreateSnapshot", &pair[1..]).await;
    client.refused(403, "DiskCreatingSnapshot", "DeleteDisk", &pair[1..]).await;
    client.ok("AttachDisk", &pair).await;
    pass(7).await;
    let (again, kept) = times().await;
    assert!(again > detached && kept == detached, "{again} {kept}");
}

#[tokio::test(start_paused = true)]
async fn tags_are_permitted_by_the_sort_of_what_is_tagged() {
    let client = client();
    let policy = json!({"Version": "1", "Statement": [
        {"Effect": "Allow", "Action": "ecs:TagResources", "Resource": "acs:ecs:*:*:disk/*"}]});
    client.settings(json!({ "limitedPolicy": policy })).await;
    let limited = client.limited();
    let tag = |sort: &'static str, id: &'static str| {
        [
            ("RegionId", REGION),
            ("ResourceType", sort),
            ("ResourceId.1", id),
            ("Tag.1.Key", "team"),
            ("Tag.1.Value", "a"),
        ]
    };
    limited.ok("TagResources", &tag("disk", "d-bp1archive0000000001")).await;
    limited.refused(403, "Forbidden.RAM", "TagResources", &tag("instance", MACHINE)).await;
}

#[tokio::test(start_paused = true)]
async fn what_runs_at_once_is_limited_where_the_settings_say_so() {
    let client = client();
    let limits = json!({"concurrentSnapshots": 1, "concurrentAttachments": 1, "concurrentDetachments": 1});
    client.settings(limits).await;
    let mut disks = Vec::new();
    for token in ["a", "b"] {
        disks.push(id(&client.ok("CreateDisk", &disk_of(token, &[])).await));
    }
    pass(10).await;
    let pair = |disk: &str| [("InstanceId", MACHINE.to_string()), ("DiskId", disk.to_string())];
    let call = async |action: &str, disk: &str| {
        let given = pair(disk);
        let given: Vec<(&str, &str)> = given.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let reply = client.call(action, &given).await;
        reply.body["Code"].as_str().unwrap_or("OK").to_string()
    };
    assert_eq!(call("AttachDisk", &disks[0]).await, "OK");
    assert_eq!(call("AttachDisk", &disks[1]).await, "OperationConflict.DisksAttachingParallellyExceed");
    pass(10).await;
    assert_eq!(call("AttachDisk", &disks[1]).await, "OK");
    pass(10).await;
    assert_eq!(call("CreateSnapshot", &disks[0]).await, "OK");
    assert_eq!(call("CreateSnapshot", &disks[1]).await, "QuotaExceed.ConcurrentSnapshotQuota");
    pass(60).await;
    assert_eq!(call("CreateSnapshot", &disks[1]).await, "OK");
    assert_eq!(call("DetachDisk", &disks[0]).await, "OK");
    assert_eq!(call("DetachDisk", &disks[1]).await, "DisksDetachingOnEcsExceeded");
    pass(73).await;
    assert_eq!(call("DetachDisk", &disks[1]).await, "OK");
}

#[tokio::test(start_paused = true)]
async fn a_disk_has_so_many_manual_snapshots_and_no_more() {
    let client = client();
    let disk = "d-bp1archive0000000001";
    for number in 0..256 {
        let fields = json!({"status": "accomplished", "sourceDiskId": disk, "snapshotType": "user", "name": number.to_string()});
        client.make("snapshot", fields).await;
    }
    client.refused(403, "QuotaExceed.Snapshot", "CreateSnapshot", &[("DiskId", disk)]).await;
}
