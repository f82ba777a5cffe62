//! Two accounts behind one address, and what hands out credentials: who is taken for whom, and who gets nothing.

mod cloud_client;

use axum::body::Body;
use cloud_client::{Client, KEY, REGION, client};
use http::Request;
use serde_json::{Value, json};
use sim::cloud::{EXTERNAL_ID, SECOND_ACCESS_KEY_ID, SECOND_ACCESS_KEY_SECRET, SECOND_ACCOUNT};

const FIRST_ACCOUNT: &str = "1234567890123456";
const SECOND_KEY: &str = "key-hzz65f0a1b2c3d4e5f6a9z9";
const GUEST: &str = "acs:ram::2345678901234567:role/ecskms-guest";

fn second(first: &Client) -> Client {
    let (key_id, secret) = (SECOND_ACCESS_KEY_ID.into(), SECOND_ACCESS_KEY_SECRET.into());
    Client { key_id, secret, ..first.clone() }
}

fn session(first: &Client, lent: &Value) -> Client {
    let text = |name: &str| lent[name].as_str().expect("text").to_string();
    Client {
        key_id: text("AccessKeyId"),
        secret: text("AccessKeySecret"),
        token: Some(text("SecurityToken")),
        ..first.clone()
    }
}

async fn account_of(client: &Client) -> String {
    client.ok("sts:GetCallerIdentity", &[]).await["AccountId"].as_str().expect("text").to_string()
}

async fn plain(client: &Client, method: &str, path: &str, header: Option<(&str, &str)>) -> (u16, String) {
    let mut request = Request::builder().method(method).uri(path);
    if let Some((name, value)) = header {
        request = request.header(name, value);
    }
    let reply = client.send(request.body(Body::empty()).expect("a request")).await;
    (reply.status, reply.text)
}

#[tokio::test]
async fn an_access_key_reaches_its_own_account_and_nothing_of_the_other() {
    let first = client();
    let second = second(&first);
    assert_eq!(
        (account_of(&first).await.as_str(), account_of(&second).await.as_str()),
        (FIRST_ACCOUNT, SECOND_ACCOUNT)
    );
    let alias = [("RegionId", REGION), ("KeyId", "alias/ecskms-demo")];
    assert_eq!(first.ok("kms:DescribeKey", &alias).await["KeyMetadata"]["KeyId"], KEY);
    let key = second.ok("kms:DescribeKey", &alias).await;
    assert_eq!(key["KeyMetadata"]["KeyId"], SECOND_KEY);
    assert!(key["KeyMetadata"]["Arn"].as_str().is_some_and(|arn| arn.contains(SECOND_ACCOUNT)), "{key}");
    second
        .refused(404, "Forbidden.KeyNotFound", "kms:DescribeKey", &[("RegionId", REGION), ("KeyId", KEY)])
        .await;
    let role = [("RoleName", "AliyunECSDiskEncryptDefaultRole")];
    first.ok("ram:GetRole", &role).await;
    second.refused(404, "EntityNotExist.Role", "ram:GetRole", &role).await;
    assert_eq!(second.ok("DescribeDisks", &[("RegionId", REGION)]).await["Disks"]["Disk"], json!([]));
    let wrong = Client { secret: "pretend-access-key-secret".into(), ..second };
    wrong.refused(400, "SignatureDoesNotMatch", "sts:GetCallerIdentity", &[]).await;
}

#[tokio::test]
async fn a_role_of_the_other_account_is_lent_only_to_who_knows_the_external_id() {
    let first = client();
    let asked = |external: Option<&'static str>| {
        let mut asked = vec![("RoleArn", GUEST), ("RoleSessionName", "visit")];
        asked.extend(external.map(|id| ("ExternalId", id)));
        asked
    };
    let reply = first.ok("sts:AssumeRole", &asked(Some(EXTERNAL_ID))).await;
    let guest = session(&first, &reply["Credentials"]);
    let me = guest.ok("sts:GetCallerIdentity", &[]).await;
    assert_eq!(
        (me["AccountId"].as_str(), me["IdentityType"].as_str()),
        (Some(SECOND_ACCOUNT), Some("AssumedRoleUser"))
    );
    for wrong in [None, Some("another")] {
        first.refused(403, "NoPermission", "sts:AssumeRole", &asked(wrong)).await;
    }
    second(&first).refused(403, "NoPermission", "sts:AssumeRole", &asked(Some(EXTERNAL_ID))).await;
    let nowhere = [("RoleArn", "acs:ram::9:role/x"), ("RoleSessionName", "visit")];
    first.refused(404, "EntityNotExist.Role", "sts:AssumeRole", &nowhere).await;
}

#[tokio::test]
async fn the_metadata_service_lends_its_role_to_who_shows_a_token_of_its_own() {
    let client = client();
    let path = "/latest/meta-data/ram/security-credentials/";
    assert_eq!(plain(&client, "GET", path, None).await.0, 403);
    assert_eq!(plain(&client, "GET", path, Some(("x-aliyun-ecs-metadata-token", "made-up"))).await.0, 403);
    let life = "x-aliyun-ecs-metadata-token-ttl-seconds";
    for wrong in [None, Some((life, "0")), Some((life, "21601")), Some((life, "long"))] {
        assert_eq!(plain(&client, "PUT", "/latest/api/token", wrong).await.0, 400);
    }
    let (status, token) = plain(&client, "PUT", "/latest/api/token", Some((life, "60"))).await;
    assert_eq!(status, 200);
    let shown = Some(("x-aliyun-ecs-metadata-token", token.as_str()));
    assert_eq!(plain(&client, "GET", path, shown).await, (200, "ecskms-operator".to_string()));
    assert_eq!(plain(&client, "GET", &format!("{path}another"), shown).await.0, 404);
    let (status, body) = plain(&client, "GET", &format!("{path}ecskms-operator"), shown).await;
    let lent: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!((status, lent["Code"].as_str()), (200, Some("Success")));
    assert_eq!(account_of(&session(&client, &lent)).await, FIRST_ACCOUNT);
}

#[tokio::test]
async fn the_credentials_uri_lends_for_as_long_as_it_is_asked_to() {
    let client = client();
    let (status, body) = plain(&client, "GET", "/_sim/credentials?seconds=900", None).await;
    let lent: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!((status, lent["Code"].as_str()), (200, Some("Success")));
    assert_eq!(account_of(&session(&client, &lent)).await, FIRST_ACCOUNT);
    let (_, body) = plain(&client, "GET", "/_sim/credentials?seconds=-1", None).await;
    let stale = session(&client, &serde_json::from_str(&body).expect("JSON"));
    stale.refused(400, "InvalidSecurityToken.Expired", "sts:GetCallerIdentity", &[]).await;
    assert_eq!(plain(&client, "GET", "/_sim/credentials?role=nobody", None).await.0, 404);
}
