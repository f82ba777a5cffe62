//! Credentials that are lent, over real sockets: the operator's client against the simulated STS, metadata service and
//! credentials URI, and against a service that hangs.
//!
//! Goal: what works against a scripted wire works against a real one. Time is real here, so nothing waits for long.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ecskms::alibaba::{AssumedRole, Class, Cloud, Rrsa, Service, Settings, Source};
use serde_json::json;
use tokio::io::AsyncReadExt;

const ROLE: &str = "acs:ram::1234567890123456:role/ecskms-operator";
const GUEST: &str = "acs:ram::2345678901234567:role/ecskms-guest";

/// A simulated cloud on a port of its own; it ends with the test.
async fn simulated() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(
        sim::cloud::Cloud::new(sim::cloud::Options::default()).serve(listener, std::future::pending()),
    );
    format!("http://{address}")
}

fn client(address: &str, source: Source) -> Cloud {
    let settings = Settings {
        endpoint_override: Some(address.to_owned()),
        metadata_endpoint: Some(address.to_owned()),
        ..Settings::default()
    };
    Cloud::new(settings, source).expect("valid settings")
}

async fn account(cloud: &Cloud) -> String {
    let identity = cloud.caller_identity().await.expect("an identity");
    assert_eq!(identity.identity_type, "AssumedRoleUser");
    identity.account_id
}

/// A token file that goes with its test.
struct TokenFile(PathBuf);

impl TokenFile {
    fn new(name: &str) -> TokenFile {
        let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let expires = jiff::Timestamp::now().as_second() + 600;
        let claims =
            json!({ "iss": "https://pretend", "aud": "sts.aliyuncs.com", "sub": "a", "exp": expires });
        let token = format!("{}.{}.c2ln", part(json!({ "alg": "none" })), part(claims));
        let path = std::env::temp_dir().join(format!("ecskms-lent-{}-{name}", std::process::id()));
        std::fs::write(&path, token).expect("written");
        TokenFile(path)
    }

    fn source(&self) -> Source {
        Source::Rrsa(Rrsa {
            role_arn: ROLE.to_owned(),
            provider_arn: sim::cloud::OIDC_PROVIDER_ARN.to_owned(),
            token_file: Some(self.0.clone()),
            session_name: Some("lent".to_owned()),
        })
    }
}

impl Drop for TokenFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[tokio::test]
async fn every_lender_lends_over_the_network() {
    let address = simulated().await;
    let file = TokenFile::new("every");
    let instance = |role_name: Option<&str>| Source::EcsRamRole {
        role_name: role_name.map(str::to_owned),
        token_required: true,
    };
    for source in [
        file.source(),
        Source::Uri(format!("{address}/_sim/credentials?seconds=900")),
        instance(None),
        instance(Some("ecskms-operator")),
    ] {
        assert_eq!(account(&client(&address, source.clone())).await, "1234567890123456", "{source:?}");
    }
    let administrator =
        ecskms::alibaba::Credentials::new(sim::cloud::ACCESS_KEY_ID, sim::cloud::ACCESS_KEY_SECRET, None);
    let role = AssumedRole {
        arn: GUEST.to_owned(),
        external_id: Some(sim::cloud::EXTERNAL_ID.to_owned()),
        session_name: None,
    };
    let guest = Source::Assumed { base: Box::new(Source::Static(administrator)), role };
    assert_eq!(account(&client(&address, guest)).await, sim::cloud::SECOND_ACCOUNT);
}

#[tokio::test]
async fn a_session_that_the_cloud_ends_early_is_replaced_without_anybody_noticing() {
    let address = simulated().await;
    let file = TokenFile::new("early");
    let cloud = client(&address, file.source());
    account(&cloud).await;
    let control = reqwest::Client::builder().no_proxy().build().expect("a client");
    control.delete(format!("{address}/_sim/sessions")).send().await.expect("an answer");
    account(&cloud).await;
    let counters = cloud.counters();
    assert_eq!(counters[&("sts", "AssumeRoleWithOIDC", "ok")], 2);
    assert_eq!(counters[&("sts", "GetCallerIdentity", "ok")], 2);
}

/// Accepts connections and never answers.
async fn silent() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((socket, _)) = listener.accept().await {
            open.push(socket);
        }
    });
    address
}

/// Where nothing is configured, a metadata service is only guessed at. One slow moment of it must not end a command for good.
#[tokio::test]
async fn a_metadata_service_that_nobody_named_is_given_up_when_it_is_not_there_or_stays_silent() {
    if std::env::vars_os().any(|(name, _)| name.to_string_lossy().starts_with("ALIBABA_CLOUD_")) {
        eprintln!("skipped: this environment has credentials");
        return;
    }
    let guess = |address: &str| {
        let settings = Settings {
            endpoint_override: Some(address.to_owned()),
            metadata_endpoint: Some(address.to_owned()),
            urgent: true,
            ..Settings::default()
        };
        Cloud::new(settings, Source::Chain).expect("valid settings")
    };
    let cloud = guess(&silent().await);
    for expected in [Class::Transient, Class::Transient, Class::Credentials] {
        let error = cloud.caller_identity().await.expect_err("nobody answers");
        assert_eq!((error.class, error.definite()), (expected, true), "{error}");
    }
    let error = guess("http://127.0.0.1:1").caller_identity().await.expect_err("nobody listens");
    assert_eq!(error.class, Class::Credentials, "{error}");
    assert!(error.message.contains("ALIBABA_CLOUD_ACCESS_KEY_ID"), "{error}");
}

#[tokio::test]
async fn a_lender_that_accepts_and_says_nothing_costs_one_second() {
    let address = silent().await;
    let cloud = client(&address, Source::EcsRamRole { role_name: None, token_required: false });
    let began = Instant::now();
    let error = cloud.caller_identity().await.expect_err("nobody answers");
    assert!(
        (Duration::from_millis(900)..Duration::from_secs(3)).contains(&began.elapsed()),
        "{:?}",
        began.elapsed()
    );
    assert_eq!((error.class, error.definite()), (Class::Transient, true), "{error}");
    let nobody = client("http://127.0.0.1:1", Source::Uri("http://127.0.0.1:1/lend".to_owned()));
    let error = nobody.caller_identity().await.expect_err("nobody listens");
    assert!(error.definite() && error.message.contains("did not answer"), "{error}");
}

/// Whoever may write a CloudAccount names its endpoints, and must not be handed the operator's own identity by that.
#[tokio::test]
async fn the_pods_token_goes_to_the_operators_own_sts_whatever_an_account_names() {
    let home = simulated().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let elsewhere = format!("http://{}", listener.local_addr().expect("an address"));
    let heard = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.expect("a connection");
        let mut bytes = vec![0; 64 * 1024];
        let mut length = 0;
        while !bytes[..length].windows(4).any(|end| end == b"\r\n\r\n") {
            length += socket.read(&mut bytes[length..]).await.expect("a request");
        }
        String::from_utf8_lossy(&bytes[..length]).to_lowercase()
    });
    let file = TokenFile::new("elsewhere");
    let own = client(&home, Source::Static(ecskms::alibaba::Credentials::new("id", "secret", None)));
    let endpoints = BTreeMap::from([(Service::Sts, elsewhere)]);
    let account = own.sibling(file.source(), &endpoints).expect("good endpoints");
    account.caller_identity().await.expect_err("it answers nothing");
    let heard = heard.await.expect("a request came");
    assert!(heard.contains("getcalleridentity"), "only what the lent credentials sign: {heard}");
    assert!(!heard.contains("oidc"), "{heard}");
    let exchanged = own.counters().get(&("sts", "AssumeRoleWithOIDC", "ok")).copied();
    assert_eq!(exchanged, Some(1), "{:?}", own.counters());
}
