//! Every way to credentials against a scripted wire: what is asked, how often, and what is said when it fails.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::alibaba::transport::{Handler, TOTAL_TIMEOUT, URGENT_TIMEOUT};
use crate::alibaba::{Class, Clock, Cloud, Settings, Wire};

mod instance;

const HOUR: u64 = 3600;

/// One request as a test sees it.
#[derive(Clone, Debug)]
struct Asked {
    method: String,
    path: String,
    action: String,
    query: BTreeMap<String, String>,
    headers: BTreeMap<String, String>,
}

/// Status, body, and how long it takes.
type Answer = (u16, String, Duration);

/// A cloud whose wire is a function, and the log of what it was asked.
struct Script {
    cloud: Cloud,
    log: Arc<Mutex<Vec<Asked>>>,
}

impl Script {
    fn new(source: Source, answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Script {
        Script::with(false, source, answer)
    }

    fn with(
        urgent: bool,
        source: Source,
        answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static,
    ) -> Script {
        let log = Arc::new(Mutex::new(Vec::new()));
        let entries = log.clone();
        let handler: Handler = Arc::new(move |request| {
            let url = reqwest::Url::parse(&request.uri().to_string()).expect("an address");
            let headers = request.headers().iter();
            let asked = Asked {
                method: request.method().to_string(),
                path: url.path().to_owned(),
                action: request
                    .headers()
                    .get("x-acs-action")
                    .map_or("", |value| value.to_str().expect("text"))
                    .to_owned(),
                query: url.query_pairs().into_owned().collect(),
                headers: headers
                    .map(|(name, value)| (name.to_string(), value.to_str().expect("text").to_owned()))
                    .collect(),
            };
            let (status, body, delay) = answer(&asked);
            entries.lock().expect("unpoisoned").push(asked);
            Box::pin(async move {
                tokio::time::sleep(delay).await;
                http::Response::builder().status(status).body(body.into_bytes()).expect("a reply")
            })
        });
        let settings = Settings {
            clock: Clock::runtime(start()),
            wire: Wire::InProcess(handler),
            metadata_endpoint: Some("http://127.0.0.1:1".to_owned()),
            urgent,
            ..Settings::default()
        };
        Script { cloud: Cloud::new(settings, source).expect("valid settings"), log }
    }

    fn asked(&self, action: &str) -> Vec<Asked> {
        let log = self.log.lock().expect("unpoisoned");
        log.iter().filter(|asked| asked.action == action || asked.path == action).cloned().collect()
    }

    async fn call(&self) -> Result<(), Error> {
        self.cloud.caller_identity().await.map(drop)
    }
}

fn start() -> Timestamp {
    "2026-01-02T03:04:05Z".parse().expect("a time")
}

fn at(seconds: u64) -> String {
    (start() + Duration::from_secs(seconds)).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn soon(status: u16, body: Value) -> Answer {
    (status, body.to_string(), Duration::from_millis(20))
}

fn identity() -> Answer {
    soon(200, json!({ "RequestId": "A-1", "AccountId": "1" }))
}

fn lent(number: u32, expires: u64) -> Value {
    json!({
        "AccessKeyId": format!("STS.{number}"), "AccessKeySecret": format!("secret-{number}"),
        "SecurityToken": format!("token-{number}"), "Expiration": at(expires),
    })
}

/// Credentials that live an hour from now on, numbered.
fn session(number: u32, now: u64) -> Answer {
    soon(200, json!({ "RequestId": "A-2", "Credentials": lent(number, now + HOUR) }))
}

fn refused(code: &str) -> Answer {
    soon(400, json!({ "RequestId": "A-9", "Code": code, "Message": "no" }))
}

/// A token file that goes with its test.
struct TokenFile(PathBuf);

impl TokenFile {
    fn path(&self) -> &std::path::Path {
        &self.0
    }
}

impl Drop for TokenFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn token_file(content: &str) -> TokenFile {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::SeqCst);
    let path = std::env::temp_dir().join(format!("ecskms-token-{}-{number}", std::process::id()));
    std::fs::write(&path, content).expect("written");
    TokenFile(path)
}

fn rrsa(file: &std::path::Path) -> Source {
    Source::Rrsa(Rrsa {
        role_arn: "acs:ram::1:role/operator".to_owned(),
        provider_arn: "acs:ram::1:oidc-provider/cluster".to_owned(),
        token_file: Some(file.to_owned()),
        session_name: None,
    })
}

/// Answers each AssumeRoleWithOIDC with the next session, everything else with an identity.
fn numbered(began: tokio::time::Instant) -> impl Fn(&Asked) -> Answer + Send + Sync + 'static {
    let count = AtomicU32::new(0);
    move |asked| match asked.action.as_str() {
        "AssumeRoleWithOIDC" => session(count.fetch_add(1, Ordering::SeqCst) + 1, began.elapsed().as_secs()),
        _ => identity(),
    }
}

#[tokio::test(start_paused = true)]
async fn rrsa_asks_unsigned_with_the_token_as_it_stands_in_the_file_now() {
    let file = token_file("token-of-yesterday\n");
    let script = Script::new(rrsa(file.path()), numbered(tokio::time::Instant::now()));
    script.call().await.expect("an identity");
    std::fs::write(file.path(), "token-of-today").expect("written");
    tokio::time::sleep(Duration::from_secs(HOUR)).await;
    script.call().await.expect("an identity");
    let asked = script.asked("AssumeRoleWithOIDC");
    let tokens: Vec<_> = asked.iter().map(|asked| asked.query["OIDCToken"].as_str()).collect();
    assert_eq!(tokens, ["token-of-yesterday", "token-of-today"]);
    assert!(!asked[0].headers.contains_key("authorization"), "{asked:?}");
    for (name, value) in [
        ("Action", "AssumeRoleWithOIDC"),
        ("Version", "2015-04-01"),
        ("Format", "JSON"),
        ("Timestamp", "2026-01-02T03:04:05Z"),
        ("RoleArn", "acs:ram::1:role/operator"),
        ("OIDCProviderArn", "acs:ram::1:oidc-provider/cluster"),
        ("RoleSessionName", "ecskms"),
        ("DurationSeconds", "3600"),
    ] {
        assert_eq!(asked[0].query[name], value, "{name}");
    }
    assert_ne!(asked[0].query["SignatureNonce"], asked[1].query["SignatureNonce"]);
    let own = script.asked("GetCallerIdentity");
    assert_eq!(own[0].headers["x-acs-security-token"], "token-1");
    assert!(own[1].headers["authorization"].contains("Credential=STS.2"), "{own:?}");
}

#[tokio::test(start_paused = true)]
async fn a_thousand_callers_share_one_renewal_and_it_comes_a_quarter_of_an_hour_early() {
    let file = token_file("a-token");
    let script = Script::new(rrsa(file.path()), numbered(tokio::time::Instant::now()));
    let all = || futures::future::join_all((0..1000).map(|_| script.call()));
    assert!(all().await.iter().all(Result::is_ok));
    assert_eq!(script.asked("AssumeRoleWithOIDC").len(), 1);
    tokio::time::sleep(Duration::from_secs(44 * 60)).await;
    assert!(all().await.iter().all(Result::is_ok));
    assert_eq!(script.asked("AssumeRoleWithOIDC").len(), 1, "a quarter of an hour is not reached");
    tokio::time::sleep(Duration::from_secs(2 * 60)).await;
    assert!(all().await.iter().all(Result::is_ok));
    assert_eq!(script.asked("AssumeRoleWithOIDC").len(), 2);
    for _ in 0..48 {
        tokio::time::sleep(Duration::from_secs(10 * 60)).await;
        assert!(all().await.iter().all(Result::is_ok));
    }
    let counters = script.cloud.counters();
    let renewals = counters[&("sts", "AssumeRoleWithOIDC", "ok")];
    println!("a thousand objects, eight hours: {renewals} renewals");
    assert!((10..=12).contains(&renewals), "the metrics show {renewals}");
}

#[tokio::test(start_paused = true)]
async fn short_lives_are_renewed_in_their_last_quarter() {
    let count = AtomicU32::new(0);
    let began = tokio::time::Instant::now();
    let script = Script::new(Source::Uri("http://127.0.0.1:1/lend".to_owned()), move |asked| {
        match asked.path.as_str() {
            "/lend" => {
                soon(200, lent(count.fetch_add(1, Ordering::SeqCst) + 1, began.elapsed().as_secs() + 400))
            }
            _ => identity(),
        }
    });
    for (wait, expected) in [(0, 1), (298, 1), (3, 2)] {
        tokio::time::sleep(Duration::from_secs(wait)).await;
        script.call().await.expect("an identity");
        assert_eq!(script.asked("/lend").len(), expected, "after {wait}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failing_renewal_goes_on_with_what_is_valid_and_ends_in_a_clear_error() {
    let file = token_file("a-token");
    let count = AtomicU32::new(0);
    let script = Script::new(rrsa(file.path()), move |asked| match asked.action.as_str() {
        "AssumeRoleWithOIDC" if count.fetch_add(1, Ordering::SeqCst) == 0 => session(1, 0),
        "AssumeRoleWithOIDC" => soon(503, json!({})),
        _ => identity(),
    });
    script.call().await.expect("an identity");
    tokio::time::sleep(Duration::from_secs(50 * 60)).await;
    for _ in 0..10 {
        script.call().await.expect("what is held is still valid");
    }
    assert_eq!(script.asked("AssumeRoleWithOIDC").len(), 2, "a failure is left alone for a while");
    tokio::time::sleep(Duration::from_secs(11 * 60)).await;
    let error = script.call().await.expect_err("expired");
    assert_eq!((error.class, error.code.as_str()), (Class::Credentials, local::CREDENTIALS_REFUSED));
    assert!(error.definite() && error.message.contains("valid until 2026-01-02T04:04:05Z"), "{error}");
    assert!(error.message.contains("Http503"), "{error}");
    let sent = script.asked("GetCallerIdentity").len();
    assert!(script.call().await.is_err());
    assert_eq!(script.asked("GetCallerIdentity").len(), sent, "nothing is sent with expired credentials");
    assert_eq!(script.asked("AssumeRoleWithOIDC").len(), 3, "the failure is shared for a moment");
}

#[tokio::test(start_paused = true)]
async fn a_source_that_is_out_of_reach_at_first_is_waited_for() {
    let file = token_file("a-token");
    let count = AtomicU32::new(0);
    let script = Script::new(rrsa(file.path()), move |asked| match asked.action.as_str() {
        "AssumeRoleWithOIDC" if count.fetch_add(1, Ordering::SeqCst) == 0 => soon(503, json!({})),
        "AssumeRoleWithOIDC" => session(1, 0),
        _ => identity(),
    });
    let error = script.call().await.expect_err("out of reach");
    assert_eq!((error.class, error.definite()), (Class::Transient, true), "{error}");
    tokio::time::sleep(Duration::from_secs(5)).await;
    script.call().await.expect("it heals");
}

#[tokio::test(start_paused = true)]
async fn what_cuts_a_key_waits_briefly_for_sts_and_asks_again_at_once() {
    let file = token_file("a-token");
    let count = AtomicU32::new(0);
    let script = Script::with(true, rrsa(file.path()), move |asked| match asked.action.as_str() {
        "AssumeRoleWithOIDC" if count.fetch_add(1, Ordering::SeqCst) == 0 => {
            (200, String::new(), TOTAL_TIMEOUT * 100)
        }
        "AssumeRoleWithOIDC" => session(1, 0),
        _ => identity(),
    });
    let began = tokio::time::Instant::now();
    let all = futures::future::join_all((0..50).map(|_| script.call())).await;
    assert!(all.iter().all(|result| result.as_ref().is_err_and(|error| error.class == Class::Transient)));
    assert_eq!(script.asked("AssumeRoleWithOIDC").len(), 1, "all of them waited for this one");
    script.call().await.expect("it is asked again at once");
    assert!(began.elapsed() <= URGENT_TIMEOUT + Duration::from_millis(100), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_token_that_the_cloud_calls_expired_is_replaced_once_and_then_it_is_said() {
    let file = token_file("a-token");
    let count = AtomicU32::new(0);
    let script = Script::new(rrsa(file.path()), move |asked| match asked.action.as_str() {
        "AssumeRoleWithOIDC" => session(count.fetch_add(1, Ordering::SeqCst) + 1, 0),
        _ if asked.headers["x-acs-security-token"] == "token-2" => identity(),
        _ => refused("InvalidSecurityToken.Expired"),
    });
    script.call().await.expect("the second token is good");
    assert_eq!(script.asked("AssumeRoleWithOIDC").len(), 2);

    let count = AtomicU32::new(0);
    let script = Script::new(rrsa(file.path()), move |asked| match asked.action.as_str() {
        "AssumeRoleWithOIDC" => session(count.fetch_add(1, Ordering::SeqCst) + 1, 0),
        _ => refused("InvalidSecurityToken.Expired"),
    });
    for _ in 0..20 {
        let error = script.call().await.expect_err("no token is good");
        assert_eq!((error.class, error.definite()), (Class::Credentials, true), "{error}");
    }
    assert_eq!(script.asked("AssumeRoleWithOIDC").len(), 2, "one forced renewal, not one for each call");

    let given = Source::Static(Credentials::new("id", "secret", Some("given-token")));
    let script = Script::new(given, |_| refused("InvalidSecurityToken.Expired"));
    assert_eq!(script.call().await.expect_err("expired").class, Class::Credentials);
    assert_eq!(script.asked("GetCallerIdentity").len(), 1, "what was given cannot be renewed");
}

#[tokio::test(start_paused = true)]
async fn refusals_of_sts_are_failures_of_credentials_whatever_their_code() {
    let file = token_file("a-token");
    for code in ["EntityNotExist.Role", "AuthenticationFail.OIDCToken.Expired", "NoPermission", "NeverSeen"] {
        let script = Script::new(rrsa(file.path()), move |_| refused(code));
        let error = script.call().await.expect_err(code);
        assert_eq!(
            (error.class, error.code.as_str()),
            (Class::Credentials, local::CREDENTIALS_REFUSED),
            "{code}"
        );
        assert!(error.definite() && error.message.contains(code), "{error}");
        assert_eq!(error.request_id.as_deref(), Some("A-9"));
    }
    let echo = |_: &Asked| soon(400, json!({ "Code": "NeverSeen", "Message": "look: a-secret-token" }));
    let file = token_file("a-secret-token");
    let error = Script::new(rrsa(file.path()), echo).call().await.expect_err("refused");
    assert!(!format!("{error} {error:?}").contains("a-secret-token"), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_token_file_that_is_missing_empty_or_strange_sends_nothing() {
    let none = Script::new(rrsa(std::path::Path::new("/nowhere/token")), |_| identity());
    let error = none.call().await.expect_err("missing");
    assert_eq!(error.code, local::CREDENTIALS_MISSING);
    assert!(error.message.contains("/nowhere/token") && error.message.contains("RRSA"), "{error}");
    for content in ["", "\n", "two words", "kü\u{202e}", &"x".repeat(20_001)] {
        let file = token_file(content);
        let script = Script::new(rrsa(file.path()), |_| identity());
        let error = script.call().await.expect_err("malformed");
        assert_eq!((error.code.as_str(), error.class), (local::CREDENTIALS_MALFORMED, Class::Credentials));
        assert!(script.log.lock().expect("unpoisoned").is_empty());
    }
    let file = token_file("a-token");
    let Source::Rrsa(good) = rrsa(file.path()) else { unreachable!() };
    for bad in [
        Rrsa { role_arn: "operator".to_owned(), ..good.clone() },
        Rrsa { provider_arn: "acs:ram::1:role/x".to_owned(), ..good },
    ] {
        let script = Script::new(Source::Rrsa(bad), |_| identity());
        assert_eq!(script.call().await.expect_err("no ARN").code, local::CREDENTIALS_MALFORMED);
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_holds_no_credentials_is_named_and_not_shown() {
    let good = lent(1, HOUR);
    let without = |name: &str| {
        let mut value = good.clone();
        value.as_object_mut().expect("an object").remove(name);
        value
    };
    let with = |name: &str, text: &str| {
        let mut value = good.clone();
        value[name] = text.into();
        value
    };
    for (body, word) in [
        (json!("secret-1"), "JSON"),
        (json!([]), "JSON"),
        (without("AccessKeyId"), "AccessKeyId"),
        (without("AccessKeySecret"), "AccessKeySecret"),
        (without("SecurityToken"), "SecurityToken"),
        (without("Expiration"), "Expiration"),
        (with("Expiration", "tomorrow"), "Expiration"),
        (with("AccessKeySecret", "secret-1\nhost: evil"), "AccessKeySecret"),
        (with("Code", "Failed"), "code"),
        (with("Expiration", &at(0)), "expired"),
    ] {
        let uri = Source::Uri("http://127.0.0.1:1/lend".to_owned());
        let text = body.to_string();
        let script = Script::new(uri, move |_| (200, text.clone(), Duration::ZERO));
        let error = script.call().await.expect_err(word);
        assert_eq!(error.class, Class::Credentials, "{error}");
        assert!(error.message.contains(word) && !format!("{error:?}").contains("secret-1"), "{error:?}");
    }
    for uri in ["ftp://a/", "http://u:p@a/", "nonsense", "http://"] {
        let script = Script::new(Source::Uri(uri.to_owned()), |_| identity());
        assert_eq!(script.call().await.expect_err(uri).code, local::CREDENTIALS_MALFORMED);
    }
}

#[tokio::test(start_paused = true)]
async fn a_role_is_taken_on_with_the_credentials_below_and_its_external_id() {
    let file = token_file("a-token");
    let role = AssumedRole {
        arn: "acs:ram::2:role/guest".to_owned(),
        external_id: Some("agreed".to_owned()),
        session_name: Some("cluster-a".to_owned()),
    };
    let source = Source::Assumed { base: Box::new(rrsa(file.path())), role };
    let script = Script::new(source, |asked| match asked.action.as_str() {
        "AssumeRoleWithOIDC" => session(1, 0),
        "AssumeRole" => session(2, 0),
        _ => identity(),
    });
    let all = futures::future::join_all((0..50).map(|_| script.call())).await;
    assert!(all.iter().all(Result::is_ok));
    let asked = script.asked("AssumeRole");
    assert_eq!((asked.len(), script.asked("AssumeRoleWithOIDC").len()), (1, 1));
    assert_eq!(asked[0].headers["x-acs-security-token"], "token-1");
    assert_eq!(
        (asked[0].query["ExternalId"].as_str(), asked[0].query["RoleSessionName"].as_str()),
        ("agreed", "cluster-a")
    );
    assert_eq!(script.asked("GetCallerIdentity")[0].headers["x-acs-security-token"], "token-2");
}

#[test]
fn debug_output_shows_nothing() {
    let credentials = Credentials::new("the-id", "the-secret", Some("the-token"));
    let shown = format!("{credentials:?} {:?}", Source::Static(credentials.clone()));
    assert!(!shown.contains("the-"), "{shown}");
    assert!(credentials.leaks_into("… the-token …") && credentials.leaks_into("the-secret"));
    assert!(!credentials.leaks_into("the-id"));
}
