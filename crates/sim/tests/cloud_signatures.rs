//! The cloud's verification of signatures: against recorded requests of the official SDK, and against
//! everything that is wrong with one.

mod cloud_client;

use axum::body::Body;
use cloud_client::{KEY, REGION, client};
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use sim::cloud::names::hex;
use sim::cloud::verify::{Caller, Credential, Nonces, Signed, canonical_request, string_to_sign, verify};

const VECTORS: &str = include_str!("vectors/acs3.json");

/// One recorded request in one of its two signed forms.
struct Recorded {
    name: String,
    query: Vec<(String, String)>,
    headers: HeaderMap,
    expected: Value,
    vector: Value,
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_string()
}

fn recorded() -> Vec<Recorded> {
    let all: Value = serde_json::from_str(VECTORS).expect("vectors");
    let mut found = Vec::new();
    for vector in all["vectors"].as_array().expect("a list") {
        for form in ["minimal", "sdk_full"] {
            let expected = vector[form].clone();
            let Some(fields) = expected["headers"].as_object() else { continue };
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
                headers.insert(name, HeaderValue::from_str(&text(value)).expect("a value"));
            }
            let line = HeaderValue::from_str(&text(&expected["authorization"])).expect("a value");
            headers.insert("authorization", line);
            let query = vector["query"].as_object().into_iter().flatten();
            found.push(Recorded {
                name: format!("{} {form}", text(&vector["name"])),
                query: query.map(|(key, value)| (key.clone(), text(value))).collect(),
                headers,
                expected,
                vector: vector.clone(),
            });
        }
    }
    assert!(found.len() >= 12, "only {} recorded requests", found.len());
    found
}

impl Recorded {
    fn signed<'a>(&'a self, body: &'a [u8], method: &'a str, path: &'a str) -> Signed<'a> {
        Signed { method, path, query: &self.query, headers: &self.headers, body }
    }

    fn now(&self) -> i64 {
        text(&self.vector["date"]).parse::<jiff::Timestamp>().expect("a date").as_millisecond()
    }

    fn verify(&self, secret: &str, now: i64, nonces: &mut Nonces) -> Result<Caller, String> {
        let body = text(&self.vector["body"]);
        let (method, path) = (text(&self.vector["method"]), text(&self.vector["path"]));
        let credential = Credential {
            caller: Caller::Administrator,
            secret: secret.to_string(),
            security_token: self.vector["security_token"].as_str().map(str::to_string),
            expires: None,
        };
        let find = |key_id: &str| (key_id == text(&self.vector["access_key_id"])).then(|| credential.clone());
        let signed = self.signed(body.as_bytes(), &method, &path);
        verify(&signed, find, nonces, now).map_err(|refusal| refusal.code)
    }
}

#[test]
fn every_recorded_request_has_the_canonical_form_that_the_sdk_signed() {
    for one in recorded() {
        let body = text(&one.vector["body"]);
        let (method, path) = (text(&one.vector["method"]), text(&one.vector["path"]));
        let names: Vec<String> =
            text(&one.expected["signed_headers"]).split(';').map(str::to_string).collect();
        let payload = hex(&Sha256::digest(&body));
        let canonical = canonical_request(&one.signed(body.as_bytes(), &method, &path), &names, &payload);
        assert_eq!(canonical, text(&one.expected["canonical_request"]), "{}", one.name);
        let digest = text(&one.expected["canonical_request_sha256"]);
        assert_eq!(string_to_sign(&canonical), format!("ACS3-HMAC-SHA256\n{digest}"), "{}", one.name);
    }
}

#[test]
fn every_recorded_request_is_accepted_once_and_only_with_its_secret() {
    for one in recorded() {
        let secret = text(&one.vector["access_key_secret"]);
        let mut nonces = Nonces::default();
        assert_eq!(
            one.verify(&format!("{secret}x"), one.now(), &mut nonces),
            Err("SignatureDoesNotMatch".into()),
            "{}",
            one.name
        );
        assert_eq!(one.verify(&secret, one.now(), &mut nonces), Ok(Caller::Administrator), "{}", one.name);
        assert_eq!(
            one.verify(&secret, one.now(), &mut nonces),
            Err("SignatureNonceUsed".into()),
            "{}",
            one.name
        );
    }
}

#[test]
fn dates_are_accepted_for_fifteen_minutes_in_both_directions() {
    for (seconds, accepted) in [(0, true), (899, true), (901, false), (-899, true), (-901, false)] {
        let all = recorded();
        let one = &all[0];
        let secret = text(&one.vector["access_key_secret"]);
        let seen = one.verify(&secret, one.now() + seconds * 1000, &mut Nonces::default());
        let wanted =
            if accepted { Ok(Caller::Administrator) } else { Err("InvalidTimeStamp.Expired".to_string()) };
        assert_eq!(seen, wanted, "{seconds} seconds");
    }
}

#[test]
fn any_changed_part_breaks_the_signature() {
    for one in recorded() {
        let secret = text(&one.vector["access_key_secret"]);
        let now = one.now();
        let mut query = one.query.clone();
        query.push(("Extra".into(), "1".into()));
        let changed = Recorded { query, ..clone(&one) };
        assert_eq!(
            changed.verify(&secret, now, &mut Nonces::default()),
            Err("SignatureDoesNotMatch".into()),
            "{}",
            one.name
        );
        let mut changed = clone(&one);
        changed.headers.insert("x-acs-action", HeaderValue::from_static("DeleteDisk"));
        assert_eq!(
            changed.verify(&secret, now, &mut Nonces::default()),
            Err("SignatureDoesNotMatch".into()),
            "{}",
            one.name
        );
        let mut changed = clone(&one);
        changed.vector["body"] = json!("other body");
        assert_eq!(
            changed.verify(&secret, now, &mut Nonces::default()),
            Err("SignatureDoesNotMatch".into()),
            "{}",
            one.name
        );
        let mut changed = clone(&one);
        changed.headers.insert("x-acs-smuggled", HeaderValue::from_static("1"));
        assert_eq!(
            changed.verify(&secret, now, &mut Nonces::default()),
            Err("IncompleteSignature".into()),
            "{}",
            one.name
        );
    }
}

fn clone(one: &Recorded) -> Recorded {
    Recorded {
        name: one.name.clone(),
        query: one.query.clone(),
        headers: one.headers.clone(),
        expected: one.expected.clone(),
        vector: one.vector.clone(),
    }
}

#[tokio::test]
async fn wrong_credentials_are_refused_each_in_its_own_way() {
    let good = client();
    let me = good.ok("sts:GetCallerIdentity", &[]).await;
    assert_eq!(me["IdentityType"], "RAMUser");
    let mut other = good.clone();
    other.secret = "not-the-secret".into();
    let body = other.refused(400, "SignatureDoesNotMatch", "DescribeRegions", &[]).await;
    assert!(body["Message"].as_str().expect("a message").contains("server string to sign"));
    other.key_id = "nobody".into();
    other.refused(404, "InvalidAccessKeyId.NotFound", "DescribeRegions", &[]).await;
    let mut tokened = good.clone();
    tokened.token = Some("a-token".into());
    tokened.refused(400, "InvalidSecurityToken.MismatchWithAccessKey", "DescribeRegions", &[]).await;
}

#[tokio::test]
async fn a_request_cannot_be_replayed_and_a_stale_one_is_refused() {
    let client = client();
    let date = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let request = || client.request_at("DescribeRegions", &[], &date, "the-same-nonce");
    assert_eq!(client.send(request()).await.status, 200);
    assert_eq!(client.send(request()).await.body["Code"], "SignatureNonceUsed");
    let stale = client.request_at("DescribeRegions", &[], "2020-01-01T00:00:00Z", "n1");
    assert_eq!(client.send(stale).await.body["Code"], "InvalidTimeStamp.Expired");
    let nonsense = client.request_at("DescribeRegions", &[], "yesterday", "n2");
    assert_eq!(client.send(nonsense).await.body["Code"], "IllegalTimestamp");
    client.settings(json!({"clockSkewSeconds": 1000})).await;
    client.refused(400, "InvalidTimeStamp.Expired", "DescribeRegions", &[]).await;
}

#[tokio::test]
async fn unsigned_requests_get_nothing_but_an_oidc_session() {
    let client = client();
    let request =
        Request::post("/?Action=DescribeRegions&Version=2014-05-26&Format=JSON").body(Body::empty());
    let reply = client.send(request.expect("a request")).await;
    assert_eq!((reply.status, reply.body["Code"].as_str()), (400, Some("IncompleteSignature")));
}

#[tokio::test]
async fn a_session_ends_with_its_token() {
    let client = client();
    let role = [("RoleArn", "acs:ram::1234567890123456:role/ecskms-operator"), ("RoleSessionName", "one")];
    let given = client.ok("sts:AssumeRole", &role).await["Credentials"].clone();
    let mut session = client.clone();
    session.key_id = text(&given["AccessKeyId"]);
    session.secret = text(&given["AccessKeySecret"]);
    session.refused(400, "MissingSecurityToken", "DescribeRegions", &[]).await;
    session.token = Some(text(&given["SecurityToken"]));
    session.ok("kms:DescribeKey", &[("RegionId", REGION), ("KeyId", KEY)]).await;
    session.refused(403, "Forbidden.NoPermission", "kms:DisableKey", &[("KeyId", KEY)]).await;
    client.control("DELETE", "sessions", Value::Null).await;
    session.refused(400, "InvalidSecurityToken.Expired", "DescribeRegions", &[]).await;
}

#[tokio::test]
async fn errors_are_xml_unless_json_is_asked_for() {
    let client = client();
    let mut request = client.request("DescribeDisks", &[]);
    request.headers_mut().remove("accept");
    let reply = client.send(request).await;
    assert_eq!(reply.headers["content-type"], "text/xml;charset=utf-8");
    assert!(
        reply.text.contains("<Error>") && reply.text.contains("<Code>MissingParameter</Code>"),
        "{}",
        reply.text
    );
    let body = client.refused(400, "MissingParameter", "DescribeDisks", &[]).await;
    for field in ["RequestId", "HostId", "Code", "Message", "Recommend"] {
        assert!(body[field].is_string(), "{field} is missing in {body}");
    }
}

#[tokio::test]
async fn neither_secrets_nor_tokens_reach_the_request_log() {
    let client = client();
    let parameters = [
        ("InstanceId", "i-none"),
        ("Password", "Sesame-1"),
        ("UserData", "c2VjcmV0"),
        ("ClientToken", "ct-77"),
    ];
    client.call("ModifyInstanceAttribute", &parameters).await;
    let mut wrong = client.clone();
    wrong.secret = "wrong-secret-9".into();
    wrong.call("DescribeRegions", &[]).await;
    let log = client.control("GET", "log", Value::Null).await;
    let shown = log.to_string();
    for secret in ["Sesame-1", "c2VjcmV0", "ct-77", "wrong-secret-9", "pretend-access-key-secret"] {
        assert!(!shown.contains(secret), "{secret} is in the log");
    }
    assert_eq!(log[0]["clientTokenHash"].as_str().expect("a hash").len(), 12);
    let counters = client.control("GET", "counters", Value::Null).await;
    assert_eq!(counters["ecs:DescribeRegions"]["SignatureDoesNotMatch"], 1);
    let state = client.control("GET", "state", Value::Null).await.to_string();
    assert!(!state.contains("pretend-access-key-secret") && !state.contains("pretended-session"));
}
