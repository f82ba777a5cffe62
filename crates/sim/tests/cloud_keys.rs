//! Keys: their states in KMS, and the table of key troubles against the actions of ECS that need a key.

mod cloud_client;

use cloud_client::{
    APP, Client, DISABLED_KEY, DOOMED_KEY, KEY, REGION, RSA_KEY, SECOND_KEY, SERVICE_KEY, SHANGHAI_KEY,
    client, pass,
};
use serde_json::{Value, json};

async fn state_of(client: &Client, key: &str) -> String {
    let body = client.ok("kms:DescribeKey", &[("RegionId", REGION), ("KeyId", key)]).await;
    body["KeyMetadata"]["KeyState"].as_str().expect("a state").to_string()
}

#[tokio::test(start_paused = true)]
async fn every_call_in_every_key_state() {
    let calls: [(&str, &[(&str, &str)]); 7] = [
        ("kms:EnableKey", &[]),
        ("kms:DisableKey", &[]),
        ("kms:ScheduleKeyDeletion", &[("PendingWindowInDays", "7")]),
        ("kms:CancelKeyDeletion", &[]),
        ("kms:CreateAlias", &[("AliasName", "alias/table")]),
        ("kms:DescribeKey", &[]),
        ("kms:ListAliasesByKeyId", &[]),
    ];
    // The state afterwards, or "no" for 409 Rejected.StateModifiedFailed.
    let table: [(&str, [&str; 7]); 4] = [
        ("Enabled", ["Enabled", "Disabled", "PendingDeletion", "no", "Enabled", "Enabled", "Enabled"]),
        ("Disabled", ["Enabled", "Disabled", "PendingDeletion", "no", "Disabled", "Disabled", "Disabled"]),
        ("PendingDeletion", ["no", "no", "no", "Enabled", "no", "PendingDeletion", "PendingDeletion"]),
        (
            "PendingImport",
            ["no", "no", "PendingDeletion", "no", "PendingImport", "PendingImport", "PendingImport"],
        ),
    ];
    for (state, outcomes) in table {
        for ((action, more), wanted) in calls.iter().zip(outcomes) {
            let client = client();
            let order = json!({"do": "set", "kind": "key", "id": KEY, "fields": {"state": state}});
            client.control("POST", "resources", order).await;
            let parameters = [&[("RegionId", REGION), ("KeyId", KEY)][..], more].concat();
            if wanted == "no" {
                client.refused(409, "Rejected.StateModifiedFailed", action, &parameters).await;
                assert_eq!(state_of(&client, KEY).await, state);
            } else {
                client.ok(action, &parameters).await;
                assert_eq!(state_of(&client, KEY).await, wanted, "{action} on {state}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_scheduled_deletion_ends_the_key_and_its_aliases() {
    let client = client();
    let named = [("RegionId", REGION), ("KeyId", SECOND_KEY)];
    for days in ["6", "367", "soon"] {
        let reply = client
            .call("kms:ScheduleKeyDeletion", &[&named[..], &[("PendingWindowInDays", days)]].concat())
            .await;
        assert_eq!(reply.status, 400, "{days}");
    }
    client.ok("kms:ScheduleKeyDeletion", &[&named[..], &[("PendingWindowInDays", "7")]].concat()).await;
    pass(7 * 86_400 - 60).await;
    assert_eq!(state_of(&client, SECOND_KEY).await, "PendingDeletion");
    pass(120).await;
    client.refused(404, "Forbidden.KeyNotFound", "kms:DescribeKey", &named).await;
    let alias = [("RegionId", REGION), ("KeyId", "alias/ecskms-second")];
    client.refused(404, "Forbidden.AliasNotFound", "kms:DescribeKey", &alias).await;
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_deletion_leaves_the_key_enabled_and_alive() {
    let client = client();
    let named = [("RegionId", REGION), ("KeyId", DISABLED_KEY)];
    client.ok("kms:ScheduleKeyDeletion", &[&named[..], &[("PendingWindowInDays", "7")]].concat()).await;
    client.ok("kms:CancelKeyDeletion", &named).await;
    pass(30 * 86_400).await;
    assert_eq!(state_of(&client, DISABLED_KEY).await, "Enabled");
}

#[tokio::test]
async fn service_keys_cannot_be_changed() {
    let client = client();
    let named = [("RegionId", REGION), ("KeyId", SERVICE_KEY), ("PendingWindowInDays", "7")];
    for action in ["kms:DisableKey", "kms:EnableKey", "kms:ScheduleKeyDeletion"] {
        client.refused(403, "Forbidden.NoPermission", action, &named).await;
    }
    let alias = [("RegionId", REGION), ("KeyId", "alias/ecskms-demo")];
    client.refused(400, "Unsupported.Alias", "kms:DisableKey", &alias).await;
}

#[tokio::test]
async fn keys_live_in_their_region() {
    let client = client();
    client
        .refused(
            404,
            "Forbidden.KeyNotFound",
            "kms:DescribeKey",
            &[("RegionId", REGION), ("KeyId", SHANGHAI_KEY)],
        )
        .await;
    client.ok("kms:DescribeKey", &[("RegionId", "cn-shanghai"), ("KeyId", SHANGHAI_KEY)]).await;
    let mut request = client.request("kms:DescribeKey", &[("KeyId", SHANGHAI_KEY)]);
    request.headers_mut().insert("x-acs-region-id", "cn-shanghai".parse().expect("a value"));
    // An unsigned region header is refused, as every unsigned header of the gateway is.
    assert_eq!(client.send(request).await.body["Code"], "IncompleteSignature");
    client.refused(404, "Forbidden.KeyNotFound", "kms:DescribeKey", &[("KeyId", SHANGHAI_KEY)]).await;
}

/// What an action of ECS answers when it is asked to use a key in each kind of trouble.
struct Row {
    action: &'static str,
    /// Whether the action can be given a key of choice, or works with the key of its resource.
    names_key: bool,
    parameters: Vec<(&'static str, &'static str)>,
    missing: (u16, &'static str),
    not_enabled: (u16, &'static str),
    wrong_spec: (u16, &'static str),
    unauthorized: (u16, &'static str),
    not_opened: (u16, &'static str),
}

const NOT_ENABLED: (u16, &str) = (403, "InvalidParameter.KMSKeyId.CMKNotEnabled");
const UNAUTHORIZED: (u16, &str) = (403, "InvalidParameter.KMSKeyId.KMSUnauthorized");
const CANNOT_WRAP: (u16, &str) = (403, "InvalidParameter.DataEncryptedKeyCreateFailed");
const NOT_OPENED: (u16, &str) = (400, "InvalidParameter.KmsNotEnabled");
const NOT_FOUND: (u16, &str) = (404, "InvalidParameter.KMSKeyId.NotFound");

const BLANK_DISK: [(&str, &str); 5] = [
    ("RegionId", REGION),
    ("ZoneId", "cn-hangzhou-i"),
    ("DiskCategory", "cloud_essd"),
    ("Size", "20"),
    ("Encrypted", "true"),
];
const IMAGE_COPY: [(&str, &str); 5] = [
    ("RegionId", REGION),
    ("ImageId", APP),
    ("DestinationRegionId", REGION),
    ("DestinationImageName", "copy"),
    ("Encrypted", "true"),
];
const SNAPSHOT_COPY: [(&str, &str); 6] = [
    ("RegionId", REGION),
    ("SnapshotId", "s-bp1plain20g000000001"),
    ("DestinationRegionId", REGION),
    ("DestinationSnapshotName", "copy"),
    ("DestinationSnapshotDescription", "a copy"),
    ("Encrypted", "true"),
];

fn table() -> Vec<Row> {
    let row = |action, names_key, parameters: &[(&'static str, &'static str)]| Row {
        action,
        names_key,
        parameters: parameters.to_vec(),
        missing: NOT_FOUND,
        not_enabled: NOT_ENABLED,
        wrong_spec: CANNOT_WRAP,
        unauthorized: UNAUTHORIZED,
        not_opened: NOT_OPENED,
    };
    let batch = |action, id| Row {
        missing: (400, NOT_FOUND.1),
        not_enabled: (400, NOT_ENABLED.1),
        unauthorized: (400, UNAUTHORIZED.1),
        ..row(action, false, &[("RegionId", REGION), ("InstanceId.1", id)])
    };
    let (vaulted, stopped) = ("i-bp1db0000000000000b2", "i-bp1lost00000000000d4");
    vec![
        row("CopyImage", true, &IMAGE_COPY),
        Row {
            wrong_spec: (400, "InvalidKMSKeyId.NotSymmetric"),
            not_opened: (403, "InvalidParameter.Encrypted.KmsNotEnabled"),
            ..row("CreateDisk", true, &BLANK_DISK)
        },
        Row {
            missing: (403, "InvalidKMSKeyId.NotFound"),
            wrong_spec: (403, "InvalidKMSKeyId.NotSymmetric"),
            ..row("CopySnapshot", true, &SNAPSHOT_COPY)
        },
        Row {
            missing: (400, NOT_FOUND.1),
            ..row("CreateSnapshot", false, &[("DiskId", "d-bp1dbdata00000000004")])
        },
        Row {
            missing: (404, "InvalidKMSKeyId.NotFound"),
            ..row(
                "AttachDisk",
                false,
                &[("DiskId", "d-bp1service0000000008"), ("InstanceId", "i-bp1web000000000000a1")],
            )
        },
        row("CreateImage", false, &[("RegionId", REGION), ("InstanceId", vaulted), ("ImageName", "made")]),
        Row {
            wrong_spec: (400, "InvalidKMSKeyId.NotSymmetric"),
            not_opened: (403, "InvalidParameter.Encrypted.KmsNotEnabled"),
            ..row("ResizeDisk", false, &[("DiskId", "d-bp1dbdata00000000004"), ("NewSize", "60")])
        },
        Row { missing: (403, NOT_FOUND.1), ..row("StartInstance", false, &[("InstanceId", stopped)]) },
        Row {
            missing: (403, "InvalidOperation.KMSKeyIdNotFound"),
            not_opened: (400, "InvalidParameter.Encrypted.KmsNotEnable"),
            ..row("StopInstance", false, &[("InstanceId", vaulted)])
        },
        row("RebootInstance", false, &[("InstanceId", vaulted)]),
        batch("StartInstances", stopped),
        batch("StopInstances", vaulted),
        batch("RebootInstances", vaulted),
        row(
            "ReplaceSystemDisk",
            true,
            &[("InstanceId", "i-bp1idle00000000000c3"), ("ImageId", APP), ("Encrypted", "true")],
        ),
    ]
}

#[tokio::test(start_paused = true)]
async fn every_action_refuses_every_key_trouble_with_its_own_code() {
    for row in table() {
        for (trouble, key, (status, code)) in [
            ("missing", "key-hzz00000000000000none", row.missing),
            ("other region", SHANGHAI_KEY, row.missing),
            ("disabled", DISABLED_KEY, row.not_enabled),
            ("pending deletion", DOOMED_KEY, row.not_enabled),
            ("asymmetric", RSA_KEY, row.wrong_spec),
            ("no grant", KEY, row.unauthorized),
            ("KMS not opened", KEY, row.not_opened),
        ] {
            let client = client();
            prepare(&client, trouble, key).await;
            let mut parameters = row.parameters.clone();
            if row.names_key {
                parameters.push(("KMSKeyId", key));
            }
            let body = client.call(row.action, &parameters).await;
            let seen = (body.status, body.body["Code"].as_str().unwrap_or("OK"));
            assert_eq!(seen, (status, code), "{} with a key in trouble: {trouble}", row.action);
        }
        // Without trouble the same call succeeds, so the refusals above are about the key alone.
        let client = client();
        prepare(&client, "none", KEY).await;
        let mut parameters = row.parameters.clone();
        if row.names_key {
            parameters.push(("KMSKeyId", KEY));
        }
        client.ok(row.action, &parameters).await;
    }
}

/// Puts the disks that the table uses under `key`, and the account into trouble.
async fn prepare(client: &Client, trouble: &str, key: &str) {
    for disk in [
        "d-bp1dbdata00000000004",
        "d-bp1dbsys000000000005",
        "d-bp1service0000000008",
        "d-bp1lostsys0000000007",
    ] {
        let order = json!({"do": "set", "kind": "disk", "id": disk, "fields": {"keyId": key}});
        client.control("POST", "resources", order).await;
    }
    match trouble {
        "no grant" => {
            let grant = [
                ("RoleName", "AliyunECSDiskEncryptDefaultRole"),
                ("PolicyName", "AliyunECSDiskEncryptRolePolicy"),
                ("PolicyType", "System"),
            ];
            client.ok("ram:DetachPolicyFromRole", &grant).await;
        }
        "KMS not opened" => client.settings(json!({"kmsOpened": false})).await,
        _ => {}
    }
}

#[tokio::test]
async fn detaching_deleting_and_looking_need_no_key() {
    let client = client();
    client.ok("kms:DisableKey", &[("RegionId", REGION), ("KeyId", KEY)]).await;
    let under =
        client.ok("DescribeDisks", &[("RegionId", REGION), ("KMSKeyId", KEY), ("MaxResults", "100")]).await;
    assert_eq!(under["Disks"]["Disk"].as_array().expect("a list").len(), 2);
    let data = [("InstanceId", "i-bp1db0000000000000b2"), ("DiskId", "d-bp1dbdata00000000004")];
    client.ok("DetachDisk", &data).await;
    client.ok("DeleteSnapshot", &[("SnapshotId", "s-bp1vault50g000000002")]).await;
    client
        .ok("DeleteImage", &[("RegionId", REGION), ("ImageId", "m-bp1vault40g000000007"), ("Force", "true")])
        .await;
}

#[tokio::test]
async fn the_service_key_needs_no_role_and_appears_where_it_was_never_used() {
    let client = client();
    let delete = json!({"do": "delete", "kind": "role", "id": "AliyunECSDiskEncryptDefaultRole"});
    client.control("POST", "resources", delete).await;
    let shanghai = [
        ("RegionId", "cn-shanghai"),
        ("ZoneId", "cn-shanghai-b"),
        ("DiskCategory", "cloud_essd"),
        ("Size", "20"),
        ("Encrypted", "true"),
    ];
    let alias = [("RegionId", "cn-shanghai"), ("KeyId", "alias/acs/ecs")];
    client.refused(404, "Forbidden.AliasNotFound", "kms:DescribeKey", &alias).await;
    client.ok("CreateDisk", &shanghai).await;
    assert_eq!(client.ok("kms:DescribeKey", &alias).await["KeyMetadata"]["Creator"], "Ecs");
    let named = [&shanghai[..], &[("KMSKeyId", SHANGHAI_KEY)]].concat();
    client.refused(403, "InvalidParameter.KMSKeyId.KMSUnauthorized", "CreateDisk", &named).await;
}

#[tokio::test]
async fn using_a_key_marks_it() {
    let client = client();
    let named = [("RegionId", REGION), ("KeyId", SECOND_KEY)];
    assert_eq!(client.ok("kms:ListResourceTags", &named).await["Tags"]["Tag"], json!([]));
    client.ok("CreateDisk", &cloud_client::disk_of("t", &[("KMSKeyId", SECOND_KEY)])).await;
    let tags: Value = client.ok("kms:ListResourceTags", &named).await["Tags"]["Tag"].clone();
    assert_eq!(tags[0]["TagKey"], "acs:ecs:disk-encryption");
}
