//! Images: the life of a copy, its queue, what is refused, and the starting account's images.

mod cloud_client;

use cloud_client::{ALL, APP, KEY, REGION, SHANGHAI_KEY, WEB, client, client_of, copy_of, pass};
use serde_json::{Value, json};
use sim::cloud::Options;

/// A status, a code, and the parameters that lead to them.
type Case<'a> = (u16, &'a str, Vec<(&'a str, &'a str)>);

fn id(body: &Value) -> String {
    body["ImageId"].as_str().expect("an image id").to_string()
}

#[tokio::test(start_paused = true)]
async fn a_copy_goes_from_creating_to_available_with_every_snapshot_under_the_key() {
    let client = client();
    let copy = id(&client.ok("CopyImage", &copy_of(WEB, "copy", "t")).await);
    let young = client.image(&copy).await.expect("visible at once");
    assert_eq!((young["Status"].as_str(), young["Progress"].as_str()), (Some("Creating"), Some("0%")));
    pass(90).await;
    let half = client.image(&copy).await.expect("there");
    let progress: u32 =
        half["Progress"].as_str().expect("text").trim_end_matches('%').parse().expect("a number");
    assert!((30..=70).contains(&progress), "{progress}");
    let behind = half["DiskDeviceMappings"]["DiskDeviceMapping"].clone();
    let first = client.snapshot(behind[0]["SnapshotId"].as_str().expect("an id")).await.expect("a snapshot");
    assert_eq!((first["Status"].as_str(), first["Available"].as_bool()), (Some("progressing"), Some(false)));
    // 60 GiB at 3 seconds each, varied by at most a fifth.
    pass(130).await;
    let done = client.image(&copy).await.expect("there");
    assert_eq!((done["Status"].as_str(), done["IsCopied"].as_bool()), (Some("Available"), Some(true)));
    let mappings = done["DiskDeviceMappings"]["DiskDeviceMapping"].as_array().expect("a list").clone();
    assert_eq!(mappings.len(), 2);
    for mapping in mappings {
        let snapshot =
            client.snapshot(mapping["SnapshotId"].as_str().expect("an id")).await.expect("a snapshot");
        assert_eq!((snapshot["Encrypted"].as_bool(), snapshot["KMSKeyId"].as_str()), (Some(true), Some(KEY)));
        assert_eq!(snapshot["Status"], "accomplished");
    }
}

#[tokio::test(start_paused = true)]
async fn five_copies_run_and_the_others_wait_in_order() {
    let client = client();
    let mut copies = Vec::new();
    for number in 0..8 {
        let source = client.make("image", json!({"sizeGib": 20})).await;
        let (name, token) = (format!("copy-{number}"), format!("t-{number}"));
        copies.push(id(&client.ok("CopyImage", &copy_of(&source, &name, &token)).await));
    }
    let mut statuses = Vec::new();
    for copy in &copies {
        let image = client.image(copy).await.expect("there");
        let mappings = image["DiskDeviceMappings"]["DiskDeviceMapping"].as_array().expect("a list").len();
        statuses.push((image["Status"].as_str().expect("text").to_string(), mappings));
    }
    let wanted = |status: &str, mappings: usize| (status.to_string(), mappings);
    assert_eq!(statuses[..5], vec![wanted("Creating", 1); 5]);
    assert_eq!(statuses[5..], vec![wanted("Waiting", 0); 3]);
    // Cancelling a running copy frees a place for the first that waits.
    client.ok("CancelCopyImage", &[("RegionId", REGION), ("ImageId", &copies[0])]).await;
    assert!(client.image(&copies[0]).await.is_none());
    assert_eq!(client.image(&copies[5]).await.expect("there")["Status"], "Creating");
    assert_eq!(client.image(&copies[6]).await.expect("there")["Status"], "Waiting");
    pass(80).await;
    assert_eq!(client.image(&copies[7]).await.expect("there")["Status"], "Creating");
    pass(80).await;
    for copy in &copies[1..] {
        assert_eq!(client.image(copy).await.expect("there")["Status"], "Available");
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_copy_takes_its_snapshots_along() {
    let client = client();
    let copy = id(&client.ok("CopyImage", &copy_of(WEB, "copy", "t")).await);
    let image = client.image(&copy).await.expect("there");
    let snapshot = image["DiskDeviceMappings"]["DiskDeviceMapping"][0]["SnapshotId"].clone();
    let cancel = [("RegionId", REGION), ("ImageId", copy.as_str())];
    client.ok("CancelCopyImage", &cancel).await;
    assert!(client.snapshot(snapshot.as_str().expect("an id")).await.is_none());
    client.refused(404, "InvalidImageId.NotFound", "CancelCopyImage", &cancel).await;
    // The source is free again.
    let second = id(&client.ok("CopyImage", &copy_of(WEB, "copy", "t2")).await);
    pass(300).await;
    let cancel = [("RegionId", REGION), ("ImageId", second.as_str())];
    client.refused(403, "IncorrectImageStatus", "CancelCopyImage", &cancel).await;
    client
        .refused(400, "ImageCreatedNotFromCopy", "CancelCopyImage", &[("RegionId", REGION), ("ImageId", APP)])
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_copy_whose_key_is_lost_on_the_way_fails() {
    let client = client();
    let copy = id(&client.ok("CopyImage", &copy_of(APP, "copy", "t")).await);
    client.ok("kms:DisableKey", &[("RegionId", REGION), ("KeyId", KEY)]).await;
    pass(100).await;
    assert_eq!(client.image(&copy).await.expect("there")["Status"], "CreateFailed");
    client.ok("DeleteImage", &[("RegionId", REGION), ("ImageId", &copy)]).await;
}

/// A copy of `APP` with some parameters replaced; an empty value removes one.
fn copy_with<'a>(changes: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut all = copy_of(APP, "copy", "");
    for (name, value) in changes {
        all.retain(|(present, _)| present != name);
        all.push((name, value));
    }
    all.retain(|(_, value)| !value.is_empty());
    all
}

#[tokio::test(start_paused = true)]
async fn copies_are_refused_each_with_its_code() {
    let client = client();
    let long = "x".repeat(129);
    let cases: Vec<Case> = vec![
        (400, "MissingParameter", vec![("RegionId", "")]),
        (400, "MissingParameter", vec![("ImageId", "")]),
        (404, "InvalidRegionId.NotFound", vec![("RegionId", "cn-nowhere")]),
        (400, "IncorrectDestinationRegion", vec![("DestinationRegionId", "cn-nowhere")]),
        (404, "InvalidImageId.NotFound", vec![("ImageId", "m-none")]),
        (404, "InvalidImageId.NotFound", vec![("ImageId", "aliyun_3_x64_20G_alibase_20250117.vhd")]),
        (403, "IncorrectImageStatus", vec![("ImageId", "m-bp1broken00000000004")]),
        (403, "IncorrectImageStatus", vec![("ImageId", "m-bp1stuck000000000005")]),
        (403, "IncorrectImageStatus", vec![("ImageId", "m-bp1old10g00000000006")]),
        (403, "SizeExceed.Image", vec![("ImageId", "m-bp1big600g0000000003")]),
        (400, "InvalidEncrypted.NotMatchKmsKeyId", vec![("Encrypted", "false")]),
        (
            403,
            "OperationDeined.EncryptedSnapshot",
            vec![("ImageId", "m-bp1vault40g000000007"), ("Encrypted", "false"), ("KMSKeyId", "")],
        ),
        (
            403,
            "OperationDenied.EncryptSnapshotAcrossRegion",
            vec![("DestinationRegionId", "cn-shanghai"), ("KMSKeyId", SHANGHAI_KEY)],
        ),
        (400, "IncorrectDestinationRegion", vec![("Encrypted", "false"), ("KMSKeyId", "")]),
        (400, "InvalidImageName.Duplicated", vec![("DestinationImageName", "ecskms-demo-web")]),
        (400, "InvalidImageName.Malformed", vec![("DestinationImageName", "1st")]),
        (400, "InvalidImageName.Malformed", vec![("DestinationImageName", "acs:x")]),
        (400, "InvalidImageName.Malformed", vec![("DestinationImageName", &long)]),
        (400, "InvalidImageName.Malformed", vec![("DestinationImageName", "bell\u{7}")]),
        (400, "InvalidParameter.Encrypted", vec![("Encrypted", "yes")]),
        (400, "Duplicate.TagKey", vec![("Tag.1.Key", "a"), ("Tag.2.Key", "a")]),
        (400, "InvalidTagKey.Malformed", vec![("Tag.1.Key", "acs:a")]),
        (400, "InvalidClientToken.ValueNotSupported", vec![("ClientToken", &long)]),
        (400, "DryRunOperation", vec![("DryRun", "true")]),
    ];
    for (status, code, changes) in cases {
        client.refused(status, code, "CopyImage", &copy_with(&changes)).await;
    }
    client.settings(json!({"arrears": true})).await;
    client.refused(400, "Account.Arrearage", "CopyImage", &copy_with(&[])).await;
    client.settings(json!({"arrears": false, "imageQuota": 7})).await;
    client.refused(403, "QuotaExceed.Image", "CopyImage", &copy_with(&[])).await;
    // Nothing of all this has made anything.
    let state = client.control("GET", "state", Value::Null).await;
    let own =
        state["images"].as_object().expect("images").values().filter(|image| image["ownerAlias"] == "self");
    assert_eq!(own.count(), 8);
}

#[tokio::test(start_paused = true)]
async fn a_plain_copy_crosses_regions_and_is_encrypted_there_in_a_second_step() {
    let client = client();
    let across = [("DestinationRegionId", "cn-shanghai"), ("Encrypted", "false"), ("KMSKeyId", "")];
    let copy = id(&client.ok("CopyImage", &copy_with(&across)).await);
    assert!(copy.starts_with("m-uf6"));
    pass(200).await;
    let there = [("RegionId", "cn-shanghai"), ("ImageId", copy.as_str())];
    assert_eq!(client.ok("DescribeImages", &there).await["TotalCount"], 1);
    let second = [
        ("RegionId", "cn-shanghai"),
        ("DestinationRegionId", "cn-shanghai"),
        ("ImageId", copy.as_str()),
        ("KMSKeyId", SHANGHAI_KEY),
        ("DestinationImageName", "second"),
    ];
    client.ok("CopyImage", &copy_with(&second)).await;
}

#[tokio::test]
async fn listings_show_available_images_alone_unless_asked() {
    let client = client();
    let own = [("RegionId", REGION), ("ImageOwnerAlias", "self"), ("PageSize", "100")];
    let listed = client.ok("DescribeImages", &own).await;
    assert_eq!(listed["TotalCount"], 4);
    let every = [("RegionId", REGION), ("ImageOwnerAlias", "self"), ("Status", ALL)];
    assert_eq!(client.ok("DescribeImages", &every).await["TotalCount"], 7);
    let all = [("RegionId", REGION), ("Status", "ALL")];
    assert_eq!(client.ok("DescribeImages", &all).await["TotalCount"], 9);
    let named = [("RegionId", REGION), ("ImageName", "ecskms-demo-web")];
    assert_eq!(client.ok("DescribeImages", &named).await["Images"]["Image"][0]["ImageId"], WEB);
    let elsewhere = [("RegionId", "cn-shanghai"), ("ImageId", WEB)];
    assert_eq!(client.ok("DescribeImages", &elsewhere).await["TotalCount"], 0);
}

#[tokio::test]
async fn every_id_of_the_starting_account_looks_like_a_real_one() {
    let state = client().control("GET", "state", Value::Null).await;
    for (kind, prefix) in [("images", "m"), ("disks", "d"), ("snapshots", "s"), ("instances", "i")] {
        let pattern = regex::Regex::new(&format!("^{prefix}-(bp1|uf6)[0-9a-z]{{17}}$")).expect("a pattern");
        for (id, resource) in state[kind].as_object().expect("a map") {
            assert!(pattern.is_match(id) || resource["ownerAlias"] == "system", "{id}");
        }
    }
    let keys = regex::Regex::new("^(key-hzz[0-9a-z]{20}|[0-9a-f-]{36})$").expect("a pattern");
    assert!(state["keys"].as_object().expect("a map").keys().all(|id| keys.is_match(id)));
}

#[tokio::test]
async fn an_empty_account_is_empty_and_a_seed_repeats_itself() {
    let empty = client_of(Options { start_account: false, ..Options::default() });
    assert_eq!(empty.control("GET", "state", Value::Null).await["images"], json!({}));
    let mut made = Vec::new();
    for seed in [5, 5, 6] {
        let client = client_of(Options { seed, ..Options::default() });
        made.push(id(&client.ok("CopyImage", &copy_of(APP, "copy", "t")).await));
    }
    assert_eq!(made[0], made[1]);
    assert_ne!(made[0], made[2]);
}

#[tokio::test]
async fn names_descriptions_and_tags_of_an_image_change_and_its_name_stays_unique() {
    let client = client();
    let amend =
        |field: &'static str, value: &'static str| [("RegionId", REGION), ("ImageId", APP), (field, value)];
    client.ok("ModifyImageAttribute", &amend("ImageName", "shop-base")).await;
    client.ok("ModifyImageAttribute", &amend("Description", "of the shop")).await;
    client
        .refused(
            400,
            "InvalidImageName.Duplicated",
            "ModifyImageAttribute",
            &amend("ImageName", "ecskms-demo-web"),
        )
        .await;
    client
        .refused(400, "InvalidDescription.Malformed", "ModifyImageAttribute", &amend("Description", "x"))
        .await;
    let old = [("RegionId", REGION), ("ImageId", "m-bp1old10g00000000006"), ("ImageName", "older")];
    client.ok("ModifyImageAttribute", &old).await;
    let tag = [
        ("RegionId", REGION),
        ("ResourceType", "image"),
        ("ResourceId.1", APP),
        ("Tag.1.Key", "team"),
        ("Tag.1.Value", "shop"),
    ];
    client.ok("TagResources", &tag).await;
    let image = client.image(APP).await.expect("there");
    assert_eq!((&image["ImageName"], &image["Description"]), (&json!("shop-base"), &json!("of the shop")));
    assert_eq!(image["Tags"]["Tag"][0], json!({"TagKey": "team", "TagValue": "shop"}));
}
