//! Two accounts and one operator: whose account an object lands in, who may use which, and what happens when a Secret or a
//! role is not what it was.
//!
//! Goal: nothing is ever looked for, or made, in an account that the object did not name or may not use.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use sim::cloud::{
    ACCESS_KEY_ID, ACCESS_KEY_SECRET, EXTERNAL_ID, SECOND_ACCESS_KEY_ID, SECOND_ACCESS_KEY_SECRET,
    SECOND_ACCOUNT,
};

use crate::stage::{Mode, Stage, condition, disk, message};

const HOUR: Duration = Duration::from_secs(3600);
const HOME: &str = "ecskms-system";
const SECOND_KEY: &str = "key-hzz65f0a1b2c3d4e5f6a9z9";
const ROLE: &str = "AliyunECSDiskEncryptDefaultRole";
const POLICY: &str = "AliyunECSDiskEncryptRolePolicy";

/// A CloudAccount with the access key in Secret `keys`, open to every namespace.
fn account(name: &str, more: Value) -> Value {
    let mut spec = json!({ "credentials": { "secretRef": { "name": "keys" } }, "allowedNamespaces": {}, "ecsRole": "Ensure" });
    let fields = more.as_object().cloned().unwrap_or_default();
    spec.as_object_mut().expect("an object").extend(fields);
    json!({ "apiVersion": "ecskms.dev/v1alpha1", "kind": "CloudAccount", "metadata": { "name": name }, "spec": spec })
}

/// A disk of that account, under the alias that both accounts have.
fn disk_of(name: &str, account: Option<&str>) -> Value {
    let mut object = disk(name);
    object["spec"]["key"] = json!({ "alias": "alias/ecskms-demo" });
    if let Some(account) = account {
        object["spec"]["accountRef"] = json!({ "name": account });
    }
    object
}

async fn secret(stage: &Stage, id: &str, secret: &str) {
    namespace(stage, HOME, json!({})).await;
    let data = json!({ "ALIBABA_CLOUD_ACCESS_KEY_ID": id, "ALIBABA_CLOUD_ACCESS_KEY_SECRET": secret });
    let body =
        json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "keys" }, "stringData": data });
    let api: Api<Secret> = Api::namespaced(stage.client.clone(), HOME);
    api.patch("keys", &PatchParams::apply("test").force(), &Patch::Apply(body)).await.expect("a Secret");
}

async fn second_secret(stage: &Stage) {
    secret(stage, SECOND_ACCESS_KEY_ID, SECOND_ACCESS_KEY_SECRET).await;
}

async fn namespace(stage: &Stage, name: &str, labels: Value) {
    let body =
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name, "labels": labels } });
    let api: Api<Namespace> = Api::all(stage.client.clone());
    api.patch(name, &PatchParams::apply("test").force(), &Patch::Apply(body)).await.expect("a namespace");
}

async fn second_state(stage: &Stage) -> Value {
    stage.control(&format!("state?account={SECOND_ACCOUNT}")).await
}

async fn second_order(stage: &Stage, order: Value) {
    stage.order("POST", &format!("resources?account={SECOND_ACCOUNT}"), order).await;
}

/// The calls that were made in the second account.
async fn second_calls(stage: &Stage) -> Vec<String> {
    let log = stage.control("log").await;
    let entries = log.as_array().cloned().unwrap_or_default();
    let second = entries.iter().filter(|entry| entry["account"] == SECOND_ACCOUNT);
    second.map(|entry| entry["action"].as_str().unwrap_or_default().to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn an_object_lands_in_the_account_that_it_names_and_the_role_there_is_made_once() {
    let stage = Stage::new().await;
    second_secret(&stage).await;
    let process = stage.start().await;
    stage.apply(account("second", json!({}))).await;
    stage.apply(disk_of("there", Some("second"))).await;
    stage.apply(disk_of("here", None)).await;
    let there = stage.until_ready("EncryptedDisk", "there").await;
    let here = stage.until_ready("EncryptedDisk", "here").await;
    assert_eq!(
        (&there["status"]["keyId"], &here["status"]["keyId"]),
        (&json!(SECOND_KEY), &json!(crate::stage::KEY))
    );
    let second = second_state(&stage).await;
    let id = there["status"]["diskId"].as_str().expect("an id");
    assert_eq!(second["disks"].as_object().map(serde_json::Map::len), Some(1), "{second:#}");
    assert_eq!(second["disks"][id]["keyId"], SECOND_KEY);
    assert!(stage.control("state").await["disks"][id].is_null(), "nothing of it is in the first account");
    let account = stage.until_ready("CloudAccount", "second").await;
    assert_eq!(account["status"]["accountId"], SECOND_ACCOUNT);
    assert_eq!(account["status"]["ecsRole"], json!({ "exists": true, "policyAttached": true }));
    assert_eq!(condition(&account, "EcsRoleAuthorized").0, "True");
    let calls = second_calls(&stage).await;
    for action in ["CreateRole", "AttachPolicyToRole", "CreateDisk"] {
        assert_eq!(calls.iter().filter(|call| *call == action).count(), 1, "{action}: {calls:?}");
    }
    stage.delete("EncryptedDisk", "there").await;
    stage.until_gone("EncryptedDisk", "there").await;
    assert_eq!(second_state(&stage).await["disks"], json!({}));
    stage.delete("CloudAccount", "second").await;
    stage.until_gone("CloudAccount", "second").await;
    let role = &second_state(&stage).await["roles"][ROLE];
    assert!(role["attached"][POLICY].is_number(), "the role stays: {role}");
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn only_the_namespaces_that_an_account_allows_may_use_it() {
    let stage = Stage::new().await;
    second_secret(&stage).await;
    let process = stage.start().await;
    let mut closed = account("closed", json!({}));
    closed["spec"].as_object_mut().expect("an object").remove("allowedNamespaces");
    stage.apply(closed).await;
    let team = json!({ "matchLabels": { "team": "payments" } });
    stage.apply(account("payments", json!({ "allowedNamespaces": team }))).await;
    for name in ["closed", "payments"] {
        stage.until_ready("CloudAccount", name).await;
        stage.apply(disk_of(name, Some(name))).await;
        let object = stage.until_reason("EncryptedDisk", name, "NamespaceNotAllowed").await;
        assert!(message(&object, "Ready").contains("namespace default"), "{object:#}");
        assert_eq!(condition(&object, "Stalled").0, "True");
        assert!(object["metadata"]["finalizers"].is_null(), "nothing was begun");
    }
    tokio::time::sleep(HOUR).await;
    let calls = second_calls(&stage).await;
    assert!(!calls.iter().any(|call| call.contains("Disk")), "{calls:?}");
    namespace(&stage, "default", json!({ "team": "payments" })).await;
    stage.until_ready("EncryptedDisk", "payments").await;
    stage.until_reason("EncryptedDisk", "closed", "NamespaceNotAllowed").await;
    stage.delete("EncryptedDisk", "closed").await;
    stage.until_gone("EncryptedDisk", "closed").await;
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn an_account_that_is_missing_or_not_ready_is_waited_for_and_named() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    stage.apply(disk_of("early", Some("second"))).await;
    let object = stage.until_reason("EncryptedDisk", "early", "AccountNotFound").await;
    assert!(message(&object, "Ready").contains("CloudAccount second does not exist"), "{object:#}");
    stage.apply(account("second", json!({}))).await;
    let broken = stage.until_reason("CloudAccount", "second", "CredentialsInvalid").await;
    assert!(message(&broken, "Ready").contains("Secret ecskms-system/keys"), "{broken:#}");
    assert_eq!(condition(&broken, "Stalled").0, "True");
    let object = stage.until_reason("EncryptedDisk", "early", "CredentialsInvalid").await;
    assert!(message(&object, "Ready").contains("Secret ecskms-system/keys"), "the cause is told: {object:#}");
    assert!(second_calls(&stage).await.is_empty());
    secret(&stage, SECOND_ACCESS_KEY_ID, "").await;
    let half =
        |object: &Value| message(object, "Ready").contains("ALIBABA_CLOUD_ACCESS_KEY_SECRET is missing");
    stage.until("CloudAccount", "second", HOUR, half).await;
    second_secret(&stage).await;
    stage.until_ready("CloudAccount", "second").await;
    stage.until_ready("EncryptedDisk", "early").await;
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_is_deleted_while_in_use_is_noticed_and_its_return_heals() {
    let stage = Stage::new().await;
    second_secret(&stage).await;
    let process = stage.start().await;
    stage.apply(account("second", json!({}))).await;
    stage.apply(disk_of("one", Some("second"))).await;
    stage.until_ready("EncryptedDisk", "one").await;
    let api: Api<Secret> = Api::namespaced(stage.client.clone(), HOME);
    api.delete("keys", &DeleteParams::default()).await.expect("it is there");
    let object = stage.until_reason("EncryptedDisk", "one", "CredentialsInvalid").await;
    assert_eq!(condition(&object, "Encrypted").0, "True", "what was seen stays: {object:#}");
    assert!(object["status"]["diskId"].is_string());
    stage.until_reason("CloudAccount", "second", "CredentialsInvalid").await;
    second_secret(&stage).await;
    stage.until_ready("EncryptedDisk", "one").await;
    let calls = second_calls(&stage).await;
    assert_eq!(calls.iter().filter(|call| *call == "CreateDisk").count(), 1, "{calls:?}");
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn an_account_follows_its_secret_at_once() {
    const AT_ONCE: Duration = Duration::from_secs(5);
    let stage = Stage::new().await;
    let process = stage.start().await;
    stage.apply(account("second", json!({}))).await;
    stage.until_reason("CloudAccount", "second", "CredentialsInvalid").await;
    tokio::time::sleep(HOUR).await;
    let ready = |object: &Value| condition(object, "Ready").0 == "True";
    let broken = |object: &Value| condition(object, "Ready").1 == "CredentialsInvalid";
    let api: Api<Secret> = Api::namespaced(stage.client.clone(), HOME);
    for _ in 0..2 {
        second_secret(&stage).await;
        stage.until("CloudAccount", "second", AT_ONCE, ready).await;
        secret(&stage, SECOND_ACCESS_KEY_ID, "wrong").await;
        stage.until("CloudAccount", "second", AT_ONCE, broken).await;
        second_secret(&stage).await;
        stage.until("CloudAccount", "second", AT_ONCE, ready).await;
        api.delete("keys", &DeleteParams::default()).await.expect("it is there");
        stage.until("CloudAccount", "second", AT_ONCE, broken).await;
    }
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_called_in_a_suspended_account_and_its_objects_wait() {
    let stage = Stage::new().await;
    second_secret(&stage).await;
    let process = stage.start().await;
    stage.apply(account("second", json!({}))).await;
    stage.apply(disk_of("before", Some("second"))).await;
    let ready = stage.until_ready("EncryptedDisk", "before").await;
    stage.apply(account("second", json!({ "suspend": true }))).await;
    let object = stage.until_reason("CloudAccount", "second", "Suspended").await;
    assert_eq!(condition(&object, "Stalled").0, "", "somebody wants it so: {object:#}");
    tokio::time::sleep(Duration::from_secs(60)).await;
    let before = second_calls(&stage).await.len();
    stage.apply(disk_of("meanwhile", Some("second"))).await;
    let waiting = stage.until_reason("EncryptedDisk", "meanwhile", "DependencyNotReady").await;
    assert!(message(&waiting, "Ready").contains("spec.suspend"), "{waiting:#}");
    tokio::time::sleep(HOUR).await;
    assert_eq!(second_calls(&stage).await.len(), before, "an hour without a call");
    let kept = stage.get("EncryptedDisk", "before").await;
    assert_eq!(kept["status"], ready["status"], "what is Ready stays so");
    stage.apply(account("second", json!({ "suspend": false }))).await;
    stage.until_ready("CloudAccount", "second").await;
    stage.until_ready("EncryptedDisk", "meanwhile").await;
    process.kill().await;
}

/// A revocation of the second account's key.
fn revocation(name: &str, desired: &str, restore_to: &str) -> Value {
    json!({ "apiVersion": "ecskms.dev/v1alpha1", "kind": "KeyRevocation", "metadata": { "name": name },
        "spec": { "accountRef": { "name": "second" }, "region": "cn-hangzhou", "keyId": SECOND_KEY,
            "desiredState": desired, "restoreTo": restore_to, "reason": "a leaked credential", "requestedBy": "alice" } })
}

/// How often the second account was asked whose it is.
async fn identity_checks(stage: &Stage) -> usize {
    second_calls(stage).await.iter().filter(|call| *call == "GetCallerIdentity").count()
}

#[tokio::test(start_paused = true)]
async fn a_lost_reading_of_the_account_delays_a_cut_by_no_more_than_another_try() {
    for resource in ["cloudaccounts.ecskms.dev", "secrets"] {
        let stage = Stage::new().await;
        second_secret(&stage).await;
        let process = stage.start().await;
        stage.apply(account("second", json!({}))).await;
        stage.until_ready("CloudAccount", "second").await;
        stage.kube_faults(json!([{ "verb": "get", "resource": resource, "times": 1, "status": 500 }])).await;
        let began = tokio::time::Instant::now();
        stage.apply(revocation("one", "Revoked", "Enabled")).await;
        let revoked = |object: &Value| condition(object, "Revoked").0 == "True";
        stage.until("KeyRevocation", "one", HOUR, revoked).await;
        let took = began.elapsed();
        assert!(took < Duration::from_secs(3), "{resource}: {took:?}");
        process.kill().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_cut_asks_for_no_ready_account_but_for_one_that_may_be_used() {
    let stage = Stage::new().await;
    second_secret(&stage).await;
    let process = stage.start().await;
    stage.apply(account("second", json!({}))).await;
    stage.until_ready("CloudAccount", "second").await;
    process.kill().await;
    // Nobody leads, so that nobody looks at the account's new generation.
    stage.apply(account("second", json!({ "ecsRole": "Report", "suspend": true }))).await;
    let standby = stage.start_standby().await;
    stage.apply(revocation("one", "Revoked", "Recorded")).await;
    let held = stage.until_reason("KeyRevocation", "one", "DependencyNotReady").await;
    assert!(message(&held, "Ready").contains("spec.suspend"), "{held:#}");
    stage.apply(account("second", json!({ "ecsRole": "Report", "suspend": false }))).await;
    stage.until_reason("KeyRevocation", "one", "Revoked").await;
    assert_eq!(second_state(&stage).await["keys"][SECOND_KEY]["state"], "Disabled");
    stage.apply(revocation("one", "Restored", "Recorded")).await;
    stage.until_reason("KeyRevocation", "one", "Restored").await;
    // Neither does anybody look at credentials that are of another account now; the account stays where it is all the same.
    secret(&stage, ACCESS_KEY_ID, ACCESS_KEY_SECRET).await;
    stage.apply(revocation("two", "Revoked", "Enabled")).await;
    stage.until_reason("KeyRevocation", "two", "AccountMismatch").await;
    standby.kill().await;
}

#[tokio::test(start_paused = true)]
async fn whose_an_account_is_was_asked_before_its_key_is_cut() {
    let stage = Stage::new().await;
    second_secret(&stage).await;
    let process = stage.start().await;
    stage.apply(account("second", json!({}))).await;
    stage.until_ready("CloudAccount", "second").await;
    process.kill().await;
    let standby = stage.start_standby().await;
    // What waits for an approval is looked at only when it changes.
    let mut held = revocation("one", "Revoked", "Recorded");
    held["spec"]["approvalsRequired"] = json!(1);
    stage.apply(held.clone()).await;
    stage.until_reason("KeyRevocation", "one", "ApprovalMissing").await;
    let before = identity_checks(&stage).await;
    // Another version of the Secret makes the client anew.
    let api: Api<Secret> = Api::namespaced(stage.client.clone(), HOME);
    let patch = Patch::Merge(json!({ "metadata": { "labels": { "rotated": "yes" } } }));
    api.patch("keys", &PatchParams::default(), &patch).await.expect("it is accepted");
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(identity_checks(&stage).await, before + 1, "without any need");
    held["spec"]["approvals"] = json!([{ "approver": "bob" }]);
    stage.apply(held).await;
    stage.until_reason("KeyRevocation", "one", "Revoked").await;
    assert_eq!(identity_checks(&stage).await, before + 1, "and not on the way to the cut");
    standby.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_key_of_another_account_is_revoked_there_and_comes_back() {
    let stage = Stage::new().await;
    second_secret(&stage).await;
    let process = stage.start().await;
    let keys = async |stage: &Stage| {
        let of = |state: &Value, id: &str| state["keys"][id]["state"].as_str().unwrap_or_default().to_owned();
        (of(&second_state(stage).await, SECOND_KEY), of(&stage.control("state").await, crate::stage::KEY))
    };
    let enabled = || "Enabled".to_owned();
    stage.apply(revocation("early", "Revoked", "Recorded")).await;
    let early = stage.until_reason("KeyRevocation", "early", "AccountNotFound").await;
    assert!(message(&early, "Ready").contains("CloudAccount second does not exist"), "{early:#}");
    stage.delete("KeyRevocation", "early").await;
    stage.apply(account("second", json!({}))).await;
    stage.apply(disk_of("there", Some("second"))).await;
    stage.until_ready("EncryptedDisk", "there").await;
    for restore_to in ["Recorded", "Enabled"] {
        let name = restore_to.to_lowercase();
        stage.apply(revocation(&name, "Revoked", restore_to)).await;
        let object = stage.until_reason("KeyRevocation", &name, "Revoked").await;
        assert_eq!(keys(&stage).await, ("Disabled".to_owned(), enabled()), "{object:#}");
        assert_eq!(object["status"]["blastRadius"]["disks"], 1, "the list is of that account: {object:#}");
        stage.until_reason("EncryptedDisk", "there", "KeyRevoked").await;
        stage.apply(revocation(&name, "Restored", restore_to)).await;
        stage.until_reason("KeyRevocation", &name, "Restored").await;
        assert_eq!(keys(&stage).await, (enabled(), enabled()));
        stage.until_ready("EncryptedDisk", "there").await;
    }
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn credentials_of_another_account_do_not_move_an_account() {
    let stage = Stage::new().await;
    second_secret(&stage).await;
    let process = stage.start().await;
    stage.apply(account("second", json!({}))).await;
    stage.apply(disk_of("one", Some("second"))).await;
    stage.until_ready("EncryptedDisk", "one").await;
    secret(&stage, ACCESS_KEY_ID, ACCESS_KEY_SECRET).await;
    stage.apply(disk_of("two", Some("second"))).await;
    let object = stage.until_reason("EncryptedDisk", "two", "AccountMismatch").await;
    assert!(message(&object, "Ready").contains(SECOND_ACCOUNT), "{object:#}");
    stage.until_reason("EncryptedDisk", "one", "AccountMismatch").await;
    let account = stage.until_reason("CloudAccount", "second", "AccountMismatch").await;
    assert_eq!(account["status"]["accountId"], SECOND_ACCOUNT, "it is pinned");
    assert!(stage.owned("disks").await.is_empty(), "nothing was made in the first account");
    second_secret(&stage).await;
    stage.until_ready("EncryptedDisk", "two").await;
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn another_account_under_the_same_name_is_told_also_on_deletion_and_touched_by_nothing() {
    let stage = Stage::new().await;
    second_secret(&stage).await;
    let process = stage.start().await;
    stage.apply(account("second", json!({}))).await;
    for name in ["kept", "leaving"] {
        stage.apply(disk_of(name, Some("second"))).await;
        let object = stage.until_ready("EncryptedDisk", name).await;
        assert_eq!(object["status"]["accountId"], SECOND_ACCOUNT, "{object:#}");
    }
    let disks = second_state(&stage).await["disks"].clone();
    stage.delete("CloudAccount", "second").await;
    stage.until_gone("CloudAccount", "second").await;
    secret(&stage, ACCESS_KEY_ID, ACCESS_KEY_SECRET).await;
    stage.apply(account("second", json!({}))).await;
    stage.until_ready("CloudAccount", "second").await;
    stage.delete("EncryptedDisk", "leaving").await;
    for name in ["kept", "leaving"] {
        let object = stage.until_reason("EncryptedDisk", name, "AccountMismatch").await;
        assert!(message(&object, "Ready").contains(SECOND_ACCOUNT), "{object:#}");
        assert_eq!(condition(&object, "Stalled").0, "True");
    }
    tokio::time::sleep(HOUR).await;
    assert!(!stage.get("EncryptedDisk", "leaving").await.is_null(), "its disk would be nobody's");
    assert_eq!(second_state(&stage).await["disks"], disks);
    assert!(stage.owned("disks").await.is_empty(), "nothing was made in the other account");
    // What is new lands where the credentials are now.
    stage.apply(disk_of("new", Some("second"))).await;
    stage.until_ready("EncryptedDisk", "new").await;
    assert_eq!(stage.owned("disks").await.len(), 1);
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn an_operator_with_another_accounts_credentials_lets_nothing_go() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    stage.apply(disk_of("one", None)).await;
    let object = stage.until_ready("EncryptedDisk", "one").await;
    // As it was written before accounts were: it takes the account up at the next look.
    let old = json!({"status": {"accountId": null}});
    stage
        .objects("EncryptedDisk")
        .patch_status("one", &PatchParams::default(), &Patch::Merge(old))
        .await
        .expect("it is there");
    let account = object["status"]["accountId"].clone();
    assert!(account.is_string(), "{object:#}");
    stage.until("EncryptedDisk", "one", HOUR, |object| object["status"]["accountId"] == account).await;
    let own = async || {
        let log = stage.control("log").await;
        let asked = |entry: &&Value| entry["action"] == "GetCallerIdentity" && entry["account"] == account;
        log.as_array().expect("a list").iter().filter(asked).count()
    };
    assert_eq!(own().await, 1, "once for each process");
    process.kill().await;
    let process = stage.start_as(SECOND_ACCESS_KEY_ID, SECOND_ACCESS_KEY_SECRET).await;
    stage.delete("EncryptedDisk", "one").await;
    let object = stage.until_reason("EncryptedDisk", "one", "AccountMismatch").await;
    assert!(message(&object, "Ready").contains("operator's own credentials"), "{object:#}");
    tokio::time::sleep(HOUR).await;
    assert!(!stage.get("EncryptedDisk", "one").await.is_null());
    assert!(!second_calls(&stage).await.iter().any(|call| call.contains("Disk")));
    process.kill().await;
    let process = stage.start().await;
    stage.until_gone("EncryptedDisk", "one").await;
    assert!(stage.owned("disks").await.is_empty());
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn an_account_binds_only_what_may_have_been_made_in_it_and_would_be_deleted() {
    let stage = Stage::new().await;
    let process = stage.start().await;
    let mut retained = disk_of("retained", None);
    retained["spec"]["deletionPolicy"] = json!("Retain");
    stage.apply(retained).await;
    stage.until_ready("EncryptedDisk", "retained").await;
    let denied = json!([{"action": "CreateDisk", "status": 403, "code": "Forbidden.RAM"}]);
    stage.order("PUT", "faults", denied).await;
    let mut refused = disk_of("refused", None);
    refused["spec"]["key"] = json!({"service": true});
    stage.apply(refused).await;
    stage.until_reason("EncryptedDisk", "refused", "AccessDenied").await;
    process.kill().await;
    // They were the keys of the wrong account.
    stage.order("DELETE", "faults", Value::Null).await;
    let process = stage.start_as(SECOND_ACCESS_KEY_ID, SECOND_ACCESS_KEY_SECRET).await;
    let moved = |object: &Value| object["status"]["accountId"] == SECOND_ACCOUNT;
    stage.until("EncryptedDisk", "refused", HOUR, moved).await;
    stage.delete("EncryptedDisk", "refused").await;
    stage.until_gone("EncryptedDisk", "refused").await;
    stage.delete("EncryptedDisk", "retained").await;
    stage.until_gone("EncryptedDisk", "retained").await;
    assert_eq!(stage.owned("disks").await.len(), 1, "it stays where it is");
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn who_may_not_use_an_account_is_not_told_what_is_the_matter_with_it() {
    let stage = Stage::new().await;
    second_secret(&stage).await;
    let process = stage.start().await;
    let team = json!({ "matchLabels": { "team": "payments" } });
    stage.apply(account("second", json!({ "allowedNamespaces": team }))).await;
    stage.until_ready("CloudAccount", "second").await;
    tokio::time::sleep(HOUR).await;
    stage.kube_faults(json!([{ "verb": "get", "resource": "secrets", "status": 500 }])).await;
    stage.apply(disk_of("one", Some("second"))).await;
    let told = |object: &Value| !condition(object, "Ready").1.is_empty();
    let object = stage.until("EncryptedDisk", "one", HOUR, told).await;
    assert_eq!(condition(&object, "Ready").1, "NamespaceNotAllowed", "{object:#}");
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_suspended_account_hides_neither_a_deletion_nor_a_change_that_waits_for_it() {
    let stage = Stage::new().await;
    second_secret(&stage).await;
    let process = stage.start().await;
    stage.apply(account("second", json!({}))).await;
    for name in ["leaving", "changed", "resting"] {
        stage.apply(disk_of(name, Some("second"))).await;
        stage.until_ready("EncryptedDisk", name).await;
    }
    stage.apply(account("second", json!({ "suspend": true }))).await;
    stage.until_reason("CloudAccount", "second", "Suspended").await;
    // Longer than a look at the account serves.
    tokio::time::sleep(Duration::from_secs(60)).await;
    stage.delete("EncryptedDisk", "leaving").await;
    let mut larger = disk_of("changed", Some("second"));
    larger["spec"]["sizeGiB"] = json!(50);
    stage.apply(larger).await;
    for name in ["leaving", "changed"] {
        let object = stage.until_reason("EncryptedDisk", name, "DependencyNotReady").await;
        assert!(message(&object, "Ready").contains("spec.suspend"), "{object:#}");
        assert_eq!(condition(&object, "Encrypted").0, "True", "what was seen stays: {object:#}");
    }
    assert_eq!(condition(&stage.get("EncryptedDisk", "resting").await, "Ready").0, "True");
    stage.apply(account("second", json!({ "suspend": false }))).await;
    stage.until_gone("EncryptedDisk", "leaving").await;
    stage.until_ready("EncryptedDisk", "changed").await;
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_at_any_change_still_ends_in_one_role_with_its_policy() {
    for mode in [Mode::Before, Mode::AfterEffect, Mode::AfterAnswer] {
        for number in 1..=6 {
            let stage = Stage::new().await;
            second_secret(&stage).await;
            let process = stage.start_with(|gate| gate.crash_at(number, mode)).await;
            stage.apply(account("second", json!({}))).await;
            let _ = tokio::time::timeout(HOUR, process.gate.crashed()).await;
            process.kill().await;
            let process = stage.start().await;
            let object = stage.until_ready("CloudAccount", "second").await;
            assert_eq!(object["status"]["ecsRole"], json!({ "exists": true, "policyAttached": true }));
            let counters = stage.control("counters").await;
            for action in ["ram:CreateRole", "ram:AttachPolicyToRole"] {
                assert_eq!(counters[action]["OK"], 1, "{mode:?} at {number}: {action} {counters:#}");
            }
            process.kill().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_of_the_account_does_not_take_ready_away_from_what_is_in_it() {
    let stage = Stage::new().await;
    second_secret(&stage).await;
    let process = stage.start().await;
    stage.apply(account("second", json!({}))).await;
    stage.apply(disk_of("one", Some("second"))).await;
    let before = stage.until_ready("EncryptedDisk", "one").await;
    for external in 0..5 {
        let labels = json!({ "matchExpressions": [{ "key": format!("none-{external}"), "operator": "DoesNotExist" }] });
        stage.apply(account("second", json!({ "allowedNamespaces": labels }))).await;
        tokio::time::sleep(Duration::from_secs(700)).await;
    }
    let after = stage.get("EncryptedDisk", "one").await;
    assert_eq!(
        after["metadata"]["resourceVersion"], before["metadata"]["resourceVersion"],
        "nothing was written: {after:#}"
    );
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_role_of_somebody_elses_is_reported_and_never_changed() {
    let foreign = json!({ "Version": "1", "Statement": [
        { "Effect": "Allow", "Action": "sts:AssumeRole", "Principal": { "Service": ["oss.aliyuncs.com"] } }] });
    let ecs = json!({ "Version": "1", "Statement": [
        { "Effect": "Allow", "Action": "sts:AssumeRole", "Principal": { "Service": ["ecs.aliyuncs.com"] } }] });
    for (trust, attached, word) in [
        (foreign, json!({ POLICY: 0 }), "trust policy"),
        (ecs, json!({ "AdministratorAccess": 0 }), "System/AdministratorAccess"),
    ] {
        let stage = Stage::new().await;
        second_secret(&stage).await;
        let fields = json!({ "trust": trust.to_string(), "attached": attached });
        second_order(&stage, json!({ "do": "create", "kind": "role", "id": ROLE, "fields": fields })).await;
        let before = second_state(&stage).await["roles"][ROLE].clone();
        let process = stage.start().await;
        stage.apply(account("second", json!({}))).await;
        let object = stage.until_reason("CloudAccount", "second", "EcsRoleForeign").await;
        assert!(message(&object, "Ready").contains(word), "{object:#}");
        assert_eq!(condition(&object, "EcsRoleAuthorized"), ("False".into(), "EcsRoleForeign".into()));
        tokio::time::sleep(HOUR).await;
        assert_eq!(second_state(&stage).await["roles"][ROLE], before);
        process.kill().await;
    }
}

#[tokio::test(start_paused = true)]
async fn without_ensure_a_missing_role_is_told_with_the_way_to_grant_it_and_nothing_is_made() {
    let stage = Stage::new().await;
    second_secret(&stage).await;
    let process = stage.start().await;
    stage.apply(account("second", json!({ "ecsRole": "Report" }))).await;
    let object = stage.until_ready("CloudAccount", "second").await;
    assert_eq!(condition(&object, "EcsRoleAuthorized"), ("False".into(), "EcsRoleMissing".into()));
    let how = message(&object, "EcsRoleAuthorized");
    assert!(how.contains("AttachPolicyToRole") && how.contains("Ensure"), "{how}");
    stage.apply(disk_of("one", Some("second"))).await;
    stage.until_reason("EncryptedDisk", "one", "EcsRoleMissing").await;
    stage.apply(account("second", json!({}))).await;
    stage.until_ready("EncryptedDisk", "one").await;
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_role_in_another_account_is_taken_on_once_for_all_its_objects() {
    const DISKS: usize = 40;
    let stage = Stage::new().await;
    secret(&stage, ACCESS_KEY_ID, ACCESS_KEY_SECRET).await;
    let process = stage.start().await;
    let arn = format!("acs:ram::{SECOND_ACCOUNT}:role/ecskms-guest");
    stage.apply(account("wrong", json!({ "assumeRole": { "arn": arn, "externalId": "not-agreed" } }))).await;
    stage.apply(account("guest", json!({ "assumeRole": { "arn": arn, "externalId": EXTERNAL_ID } }))).await;
    let object = stage.until_reason("CloudAccount", "wrong", "CredentialsInvalid").await;
    assert!(message(&object, "Ready").contains("AssumeRole answered NoPermission"), "{object:#}");
    assert!(!object.to_string().contains(ACCESS_KEY_SECRET));
    let object = stage.until_ready("CloudAccount", "guest").await;
    assert_eq!(object["status"]["accountId"], SECOND_ACCOUNT);
    stage.delete("CloudAccount", "wrong").await;
    stage.until_gone("CloudAccount", "wrong").await;
    let lent = |counters: &Value| counters["sts:AssumeRole"]["OK"].as_u64().unwrap_or_default();
    assert_eq!(lent(&stage.control("counters").await), 1);
    for number in 0..DISKS {
        stage.apply(disk_of(&format!("d{number}"), Some("guest"))).await;
    }
    for number in 0..DISKS {
        stage.until_ready("EncryptedDisk", &format!("d{number}")).await;
    }
    tokio::time::sleep(HOUR).await;
    assert_eq!(
        lent(&stage.control("counters").await),
        2,
        "once for the account in each lane, not once for each object or call"
    );
    stage.order("DELETE", "sessions", Value::Null).await;
    stage.apply(disk_of("late", Some("guest"))).await;
    stage.until_ready("EncryptedDisk", "late").await;
    let lent = lent(&stage.control("counters").await);
    assert!((3..=4).contains(&lent), "a session that ended early is replaced once in each lane: {lent}");
    process.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_key_is_asked_about_once_a_tick_however_many_objects_it_has() {
    /// One tick a minute, and the looks between two resyncs of the CloudAccount.
    const CALLS_MAX: u64 = 66;
    let disks: usize = std::env::var("DISKS").ok().and_then(|text| text.parse().ok()).unwrap_or(150);
    let stage = Stage::new().await;
    let process = stage.start().await;
    for number in 0..disks {
        stage.apply(disk(&format!("d{number}"))).await;
    }
    for number in 0..disks {
        stage.until_ready("EncryptedDisk", &format!("d{number}")).await;
    }
    tokio::time::sleep(HOUR).await;
    let count = |counters: &Value, action: &str| counters[action]["OK"].as_u64().unwrap_or_default();
    let before = stage.control("counters").await;
    tokio::time::sleep(HOUR).await;
    let after = stage.control("counters").await;
    let calls = |action: &str| count(&after, action) - count(&before, action);
    println!(
        "{disks} disks in an hour: {} DescribeKey, {} GetRole, {} DescribeDisks",
        calls("kms:DescribeKey"),
        calls("ram:GetRole"),
        calls("ecs:DescribeDisks")
    );
    assert!((1..=CALLS_MAX).contains(&calls("kms:DescribeKey")), "{}", calls("kms:DescribeKey"));
    assert!((1..=CALLS_MAX).contains(&calls("ram:GetRole")), "{}", calls("ram:GetRole"));
    process.kill().await;
}
