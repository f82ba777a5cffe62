//! What stands between a call and its effect: ClientTokens, quotas, faults, permissions, pages and the lag of
//! listings.

mod cloud_client;

use std::time::Duration;

use cloud_client::{
    ALL, APP, Client, KEY, REGION, SECOND_KEY, WEB, client, client_of, copy_of, disk_of, pass,
};
use serde_json::{Value, json};
use sim::cloud::Options;

async fn disks(client: &Client) -> usize {
    let state = client.control("GET", "state", Value::Null).await;
    state["disks"].as_object().expect("a map").len()
}

#[tokio::test(start_paused = true)]
async fn a_token_gives_the_same_answer_until_it_is_forgotten() {
    let client = client();
    let before = disks(&client).await;
    let first = client.ok("CreateDisk", &disk_of("t", &[])).await;
    let second = client.ok("CreateDisk", &disk_of("t", &[])).await;
    assert_eq!(first["DiskId"], second["DiskId"]);
    assert_ne!(first["RequestId"], second["RequestId"]);
    assert_eq!(disks(&client).await, before + 1);
    client.refused(400, "IdempotentParameterMismatch", "CreateDisk", &disk_of("t", &[("Size", "30")])).await;
    // Letters count.
    assert_ne!(client.ok("CreateDisk", &disk_of("T", &[])).await["DiskId"], first["DiskId"]);
    // Even a deleted disk is still the answer.
    pass(10).await;
    client.ok("DeleteDisk", &[("DiskId", first["DiskId"].as_str().expect("an id"))]).await;
    assert_eq!(client.ok("CreateDisk", &disk_of("t", &[])).await["DiskId"], first["DiskId"]);
    client.settings(json!({"tokenLifetimeSeconds": 60})).await;
    let short = client.ok("CreateDisk", &disk_of("u", &[])).await;
    pass(61).await;
    assert_ne!(client.ok("CreateDisk", &disk_of("u", &[])).await["DiskId"], short["DiskId"]);
}

#[tokio::test(start_paused = true)]
async fn failures_are_remembered_under_their_token_and_dry_runs_are_not() {
    let client = client();
    let code = "InvalidParameter.KMSKeyId.CMKNotEnabled";
    client.ok("kms:DisableKey", &[("RegionId", REGION), ("KeyId", KEY)]).await;
    client.refused(403, code, "CreateDisk", &disk_of("t", &[])).await;
    client.ok("kms:EnableKey", &[("RegionId", REGION), ("KeyId", KEY)]).await;
    client.refused(403, code, "CreateDisk", &disk_of("t", &[])).await;
    client.ok("CreateDisk", &disk_of("t2", &[])).await;
    client.settings(json!({"tokenRemembersFailures": false})).await;
    client.refused(404, "InvalidZoneId.NotFound", "CreateDisk", &disk_of("t3", &[("ZoneId", "none")])).await;
    client.ok("CreateDisk", &disk_of("t3", &[])).await;
    let mut dry = copy_of(APP, "copy", "t4");
    dry.push(("DryRun", "true"));
    client.refused(400, "DryRunOperation", "CopyImage", &dry).await;
    client.ok("CopyImage", &copy_of(APP, "copy", "t4")).await;
}

#[tokio::test(start_paused = true)]
async fn mismatches_carry_the_code_of_their_action() {
    let client = client();
    let machine = ("InstanceId", "i-bp1web000000000000a1");
    client
        .ok("CreateImage", &[("RegionId", REGION), machine, ("ClientToken", "t"), ("ImageName", "one")])
        .await;
    let other = [("RegionId", REGION), machine, ("ClientToken", "t"), ("ImageName", "two")];
    client.refused(400, "IdempotenceParamNotMatch", "CreateImage", &other).await;
    client.ok("CreateSnapshot", &[("DiskId", "d-bp1archive0000000001"), ("ClientToken", "t")]).await;
    let other = [("DiskId", "d-bp1archive0000000001"), ("ClientToken", "t"), ("RetentionDays", "3")];
    client.refused(403, "IdempotentParameterMismatch", "CreateSnapshot", &other).await;
    let long = "x".repeat(65);
    let bad = [("DiskId", "d-bp1archive0000000001"), ("ClientToken", long.as_str())];
    client.refused(403, "InvalidClientToken.Malformed", "CreateSnapshot", &bad).await;
}

#[tokio::test(start_paused = true)]
async fn a_full_minute_refuses_until_the_next_begins() {
    let client = client();
    client.settings(json!({"quotas": {"DescribeRegions": 3}})).await;
    // To the beginning of a minute, so that the window is known.
    let now = client.control("GET", "clock", Value::Null).await["now"].as_str().expect("text").to_string();
    let second: u64 = now[17..19].parse().expect("seconds");
    pass(60 - second).await;
    for _ in 0..3 {
        client.ok("DescribeRegions", &[]).await;
    }
    let reply = client.call("DescribeRegions", &[]).await;
    assert_eq!((reply.status, reply.body["Code"].as_str()), (400, Some("Throttling.User")));
    let wait: u64 = reply.headers["x-acs-retry-after"].to_str().expect("text").parse().expect("a number");
    assert!((50_000..=60_000).contains(&wait), "{wait}");
    pass(30).await;
    client.refused(400, "Throttling.User", "DescribeRegions", &[]).await;
    client.ok("DescribeZones", &[("RegionId", REGION)]).await;
    pass(31).await;
    client.ok("DescribeRegions", &[]).await;
    let counters = client.control("GET", "counters", Value::Null).await;
    assert_eq!(counters["ecs:DescribeRegions"], json!({"OK": 4, "Throttling.User": 2}));
}

#[tokio::test(start_paused = true)]
async fn kms_counts_writes_by_the_second() {
    let client = client();
    let named = [("RegionId", REGION), ("KeyId", SECOND_KEY)];
    pass(1).await;
    let mut codes = Vec::new();
    for _ in 0..12 {
        codes.push(client.call("kms:EnableKey", &named).await.status);
    }
    assert_eq!(codes.iter().filter(|status| **status == 429).count(), 2, "{codes:?}");
    client.ok("kms:DescribeKey", &named).await;
    pass(1).await;
    client.ok("kms:EnableKey", &named).await;
}

#[tokio::test(start_paused = true)]
async fn a_fault_before_the_effect_leaves_none_and_one_after_it_leaves_it() {
    let client = client();
    let before = disks(&client).await;
    client
        .faults(json!([{"action": "CreateDisk", "nth": 1, "status": 503, "code": "ServiceUnavailable"}]))
        .await;
    client.refused(503, "ServiceUnavailable", "CreateDisk", &disk_of("t", &[])).await;
    assert_eq!(disks(&client).await, before);
    let lost = json!([
        {"action": "CreateDisk", "times": 1, "when": "after", "status": 500, "code": "InternalError"}]);
    client.faults(lost).await;
    client.refused(500, "InternalError", "CreateDisk", &disk_of("t", &[])).await;
    assert_eq!(disks(&client).await, before + 1);
    client.ok("CreateDisk", &disk_of("t", &[])).await;
    assert_eq!(disks(&client).await, before + 1, "the replay finds what the lost answer had made");
    let log = client.control("GET", "log", Value::Null).await;
    let seen: Vec<(bool, &str)> = log
        .as_array()
        .expect("a list")
        .iter()
        .map(|entry| (entry["performed"].as_bool().expect("a flag"), entry["code"].as_str().expect("a code")))
        .collect();
    assert_eq!(seen, [(false, "ServiceUnavailable"), (true, "InternalError"), (true, "OK")]);
}

#[tokio::test(start_paused = true)]
async fn faults_damage_bodies_break_connections_and_delay() {
    let client = client();
    let all = [("RegionId", REGION)];
    let damaged = async |body: &str| {
        client.faults(json!([{"action": "DescribeDisks", "when": "after", "body": body}])).await;
        client.call("DescribeDisks", &all).await
    };
    let html = damaged("html").await;
    assert!(html.status == 200 && html.text.starts_with("<html>") && html.body.is_null());
    assert_eq!(damaged("truncated").await.body, Value::Null);
    assert_eq!(damaged("empty").await.text, "");
    assert_eq!(damaged("array").await.body, json!([1, 2, 3]));
    assert_eq!(damaged("empty-list").await.body["Disks"]["Disk"], json!([]));
    assert_eq!(damaged("unknown-status").await.body["Disks"]["Disk"][0]["Status"], "Hibernating");
    assert!(damaged("huge").await.text.len() > 4 * 1024 * 1024);
    client.faults(json!([{"action": "ecs:*", "dropConnection": true}])).await;
    let dropped = client.call("DescribeDisks", &all).await;
    assert_eq!((dropped.text.as_str(), dropped.headers["content-length"].as_bytes()), ("", &b"4096"[..]));
    client.faults(json!([{"action": "*", "delayMs": 5000}])).await;
    let start = tokio::time::Instant::now();
    client.ok("DescribeDisks", &all).await;
    assert!(start.elapsed() >= Duration::from_secs(5));
    let planned = client.control("GET", "faults", Value::Null).await;
    assert_eq!((&planned[0]["seen"], &planned[0]["struck"]), (&json!(1), &json!(1)));
    client.control("DELETE", "faults", Value::Null).await;
    client
        .faults(json!([{"action": "CopyImage", "status": 400, "code": "Throttling", "retryAfterMs": 1500}]))
        .await;
    let throttled = client.call("CopyImage", &copy_of(APP, "copy", "t")).await;
    assert_eq!(throttled.headers["x-acs-retry-after"], "1500");
    let misspelt = json!([{"action": "CopyImage", "statsu": 400}]);
    assert_eq!(client.control_reply("PUT", "faults", misspelt).await.status, 422);
}

#[tokio::test]
async fn a_dropped_connection_is_an_error_on_a_real_socket() {
    let cloud = sim::cloud::Cloud::new(Options::default());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = tokio::spawn(cloud.clone().serve(listener, async {
        let _ = stopped.await;
    }));
    let inside = Client { router: cloud.router(), ..client() };
    inside.faults(json!([{"action": "*", "dropConnection": true}])).await;
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("a connection");
    let request = b"POST /?Action=X HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut stream, request).await.expect("written");
    let mut answer = Vec::new();
    let _ = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut answer).await;
    let text = String::from_utf8_lossy(&answer).into_owned();
    let body = text.split_once("\r\n\r\n").map(|(_, body)| body.len()).unwrap_or(0);
    assert_eq!(body, 0, "no byte of a body arrives: {text}");
    drop(stream);
    let _ = stop.send(());
    server.await.expect("no panic").expect("served");
}

#[tokio::test]
async fn denials_name_the_action() {
    let client = client();
    let limited = client.limited();
    limited.ok("DescribeDisks", &[("RegionId", REGION)]).await;
    for (action, code, name) in [
        ("RunInstances", "Forbidden.RAM", "ecs:RunInstances"),
        ("kms:DisableKey", "Forbidden.NoPermission", "kms:DisableKey"),
        ("ram:DeleteRole", "NoPermission", "ram:DeleteRole"),
        ("sts:AssumeRole", "NoPermission", "sts:AssumeRole"),
    ] {
        let body = limited.refused(403, code, action, &[("RegionId", REGION), ("KeyId", KEY)]).await;
        assert_eq!(body["AccessDeniedDetail"]["AuthAction"], name);
    }
    let narrow = json!({"limitedPolicy": {"Version": "1", "Statement": [
        {"Effect": "Allow", "Action": "ecs:DeleteDisk", "Resource": "acs:ecs:*:*:disk/d-bp1archive*"}]}});
    client.settings(narrow).await;
    limited.refused(403, "Forbidden.RAM", "DeleteDisk", &[("DiskId", "d-bp1service0000000008")]).await;
    limited.ok("DeleteDisk", &[("DiskId", "d-bp1archive0000000001")]).await;
}

#[tokio::test(start_paused = true)]
async fn a_new_resource_stays_out_of_listings_while_they_lag() {
    let client = client();
    client.settings(json!({"listLagSeconds": 30})).await;
    pass(31).await;
    let made = client.ok("CreateDisk", &disk_of("t", &[("Tag.1.Key", "own"), ("Tag.1.Value", "1")])).await;
    let id = made["DiskId"].as_str().expect("an id");
    let tagged = [("RegionId", REGION), ("Tag.1.Key", "own")];
    pass(20).await;
    assert!(client.disk(id).await.is_none());
    assert_eq!(client.ok("DescribeDisks", &tagged).await["TotalCount"], 0);
    pass(11).await;
    assert!(client.disk(id).await.is_some());
    assert_eq!(client.ok("DescribeDisks", &tagged).await["TotalCount"], 1);
}

#[tokio::test]
async fn pages_hold_every_item_once() {
    let client = client();
    for number in 0..25 {
        let fields = json!({"sizeGib": 20, "tags": {"n": number.to_string(), "batch": "b"}});
        client.make("disk", fields).await;
    }
    let mut seen = Vec::new();
    let mut token = String::new();
    for _ in 0..10 {
        let asked = [
            ("RegionId", REGION),
            ("Tag.1.Key", "batch"),
            ("MaxResults", "3"),
            ("NextToken", token.as_str()),
        ];
        let page = client.ok("DescribeDisks", &asked).await;
        let items = page["Disks"]["Disk"].as_array().expect("a list").clone();
        assert!(items.len() <= 10, "fewer than ten are raised to ten");
        seen.extend(items.iter().map(|disk| disk["DiskId"].as_str().expect("an id").to_string()));
        token = page["NextToken"].as_str().expect("text").to_string();
        if token.is_empty() {
            break;
        }
    }
    let count = seen.len();
    seen.dedup();
    assert_eq!((count, seen.len()), (25, 25));
    let exact = [("RegionId", REGION), ("Tag.1.Key", "n"), ("Tag.1.Value", "7"), ("Tag.2.Key", "batch")];
    assert_eq!(client.ok("DescribeDisks", &exact).await["TotalCount"], 1);
    client
        .refused(400, "InvalidNextToken", "DescribeDisks", &[("RegionId", REGION), ("NextToken", "x")])
        .await;
    let numbered = [("RegionId", REGION), ("Status", ALL), ("PageSize", "4"), ("PageNumber", "3")];
    let page = client.ok("DescribeImages", &numbered).await;
    assert_eq!((&page["TotalCount"], page["Images"]["Image"].as_array().map(Vec::len)), (&json!(9), Some(1)));
    let many = serde_json::to_string(&vec!["d-x"; 101]).expect("JSON");
    client
        .refused(
            403,
            "InvalidDiskIds.Malformed",
            "DescribeDisks",
            &[("RegionId", REGION), ("DiskIds", &many)],
        )
        .await;
    client
        .refused(
            400,
            "InvalidDiskIds.Malformed",
            "DescribeDisks",
            &[("RegionId", REGION), ("DiskIds", "d-x")],
        )
        .await;
    let none = client.ok("DescribeDisks", &[("RegionId", REGION), ("DiskIds", "[]")]).await;
    assert_eq!(none["Disks"]["Disk"], json!([]));
}

#[tokio::test(start_paused = true)]
async fn the_clock_can_be_scaled_stopped_and_advanced() {
    let client = client_of(Options { time_scale: 60.0, ..Options::default() });
    let copy = client.ok("CopyImage", &copy_of(WEB, "copy", "t")).await["ImageId"]
        .as_str()
        .expect("an id")
        .to_string();
    pass(4).await;
    assert_eq!(client.image(&copy).await.expect("there")["Status"], "Available");
    client.control("PUT", "clock", json!({"scale": 0})).await;
    let before = client.control("GET", "clock", Value::Null).await;
    pass(600).await;
    assert_eq!(client.control("GET", "clock", Value::Null).await, before);
    let disk =
        client.ok("CreateDisk", &disk_of("t", &[])).await["DiskId"].as_str().expect("an id").to_string();
    client.control("PUT", "clock", json!({"advanceSeconds": 10})).await;
    assert_eq!(client.disk(&disk).await.expect("there")["Status"], "Available");
}

#[tokio::test(start_paused = true)]
async fn tests_can_make_change_and_remove_anything() {
    let client = client();
    let image = client
        .make("image", json!({"sizeGib": 480, "dataSizesGib": [10, 20], "keyId": KEY, "status": "Creating"}))
        .await;
    let seen = client.image(&image).await.expect("there");
    assert_eq!(seen["DiskDeviceMappings"]["DiskDeviceMapping"].as_array().map(Vec::len), Some(3));
    assert_eq!(seen["DiskDeviceMappings"]["DiskDeviceMapping"][2]["Encrypted"], true);
    let disk =
        client.ok("CreateDisk", &disk_of("t", &[])).await["DiskId"].as_str().expect("an id").to_string();
    let set = |fields: Value| json!({"do": "set", "kind": "disk", "id": disk, "fields": fields});
    client.control("POST", "resources", set(json!({"tags": {"a": "b"}}))).await;
    pass(5).await;
    assert_eq!(client.disk(&disk).await.expect("there")["Status"], "Available", "tags do not stop its life");
    client.control("POST", "resources", set(json!({"status": "Hibernating"}))).await;
    pass(100).await;
    assert_eq!(client.disk(&disk).await.expect("there")["Status"], "Hibernating");
    assert_eq!(client.control_reply("POST", "resources", set(json!({"statsu": "x"}))).await.status, 400);
    client.control("POST", "resources", json!({"do": "delete", "kind": "disk", "id": disk})).await;
    assert!(client.disk(&disk).await.is_none());
    client.control("POST", "reset", Value::Null).await;
    assert!(client.image(&image).await.is_none());
}
