//! Sends one request once and makes a value or a classified error of the reply.
//!
//! Every attempt has its own nonce and date. There is no second attempt here, not even for a broken
//! connection: whether a request may be repeated depends on what it asks, and only the reconciler can look at
//! the world first. Redirects are not followed, since they would carry a signed request to another host.
//! Neither parameters nor headers are ever logged.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use jiff::Timestamp;
use reqwest::Url;
use serde_json::Value;

use super::credentials::Credentials;
use super::error::{Error, Refusal, local};
use super::request::{Request, Service};
use super::sign::{self, Stamp};

/// How long a connection may take to open.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a request may take in total, its reply included.
pub const TOTAL_TIMEOUT: Duration = Duration::from_secs(30);
/// The same for KMS, RAM and STS in the lane that revokes keys: a lost answer must not cost half a minute, and their calls may
/// be repeated.
pub const URGENT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long an idle connection is kept. Servers close idle ones too, and a request that meets such an end is
/// ambiguous, so this side closes first.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(15);
/// The largest reply that is read; a page of 500 disks has about 1 MiB.
pub const REPLY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The longest wait that a server may ask for; more than that is taken for a mistake.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

mod plain;

pub(crate) use plain::OIDC_TOKEN;
use plain::unsigned;

const USER_AGENT: &str = concat!("ecskms/", env!("CARGO_PKG_VERSION"));

/// The time of day and the source of nonces, so that tests can hold both still.
#[derive(Clone)]
pub struct Clock {
    now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    nonce: Arc<dyn Fn() -> String + Send + Sync>,
}

impl Clock {
    /// This machine's clock, and 128 random bits as 32 hex digits per nonce.
    pub fn system() -> Self {
        Clock::new(Timestamp::now, || format!("{:032x}", rand::random::<u128>()))
    }

    /// A time of the caller's own, with random nonces unless they are given too.
    pub fn new(
        now: impl Fn() -> Timestamp + Send + Sync + 'static,
        nonce: impl Fn() -> String + Send + Sync + 'static,
    ) -> Self {
        Clock { now: Arc::new(now), nonce: Arc::new(nonce) }
    }

    /// The time of the runtime, which starts at `start` now and stands still when the runtime's time does.
    pub fn runtime(start: Timestamp) -> Self {
        let origin = tokio::time::Instant::now();
        let now = move || start.checked_add(origin.elapsed()).unwrap_or(Timestamp::MAX);
        Clock::new(now, || format!("{:032x}", rand::random::<u128>()))
    }

    /// The current time.
    pub fn now(&self) -> Timestamp {
        (self.now)()
    }

    /// A date and a nonce for one attempt.
    pub fn stamp(&self) -> Stamp {
        Stamp { date: self.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(), nonce: (self.nonce)() }
    }
}

impl Default for Clock {
    fn default() -> Self {
        Clock::system()
    }
}

/// Answers requests in this process; the answer's body is complete.
///
/// The request has the full address of the endpoint, every header and an empty body, so a tower service such as an
/// axum router can be called with it.
pub type Handler =
    Arc<dyn Fn(http::Request<String>) -> BoxFuture<'static, http::Response<Vec<u8>>> + Send + Sync>;

/// What carries requests.
#[derive(Clone, Default)]
pub enum Wire {
    /// TCP and, for https addresses, TLS.
    #[default]
    Network,
    /// A function in this process, for worlds whose time is paused: a paused clock must not meet a real
    /// socket.
    InProcess(Handler),
}

/// A successful reply.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) value: Value,
    pub(crate) request_id: Option<String>,
}

/// The one shared HTTP client of an operator.
#[derive(Clone)]
pub(crate) struct Transport {
    carrier: Carrier,
    clock: Clock,
    switch_timeout: Duration,
}

#[derive(Clone)]
enum Carrier {
    Network {
        client: reqwest::Client,
        /// Never asks a proxy: for what hands out credentials.
        direct: reqwest::Client,
    },
    InProcess(Handler),
}

/// A reply as it came, body complete.
struct Raw {
    status: u16,
    retry_after: Option<Duration>,
    request_id: Option<String>,
    body: Vec<u8>,
}

impl Transport {
    /// Builds the client; `bypass_proxy` ignores the proxy of the environment. KMS and RAM, where keys and
    /// grants are switched, and STS, without which nothing is, have `switch_timeout` for a reply.
    ///
    /// Errors: class Defect, `Local.Client`, if this machine offers no usable TLS roots.
    pub(crate) fn new(
        wire: Wire,
        clock: Clock,
        bypass_proxy: bool,
        switch_timeout: Duration,
    ) -> Result<Transport, Error> {
        let carrier = match wire {
            Wire::Network => Carrier::Network { client: client(bypass_proxy)?, direct: client(true)? },
            Wire::InProcess(handler) => Carrier::InProcess(handler),
        };
        Ok(Transport { carrier, clock, switch_timeout })
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Signs and sends `request` to `endpoint`, exactly once. Without credentials it goes unsigned, as
    /// AssumeRoleWithOIDC demands.
    pub(crate) async fn send(
        &self,
        request: &Request,
        endpoint: &Url,
        credentials: Option<&Credentials>,
    ) -> Result<Reply, Error> {
        let message = match credentials {
            Some(credentials) => self.message(request, endpoint, credentials)?,
            None => unsigned(request, endpoint, &self.clock.stamp())?,
        };
        let exchange = async {
            match &self.carrier {
                Carrier::Network { client, .. } => over_network(client, message, request).await,
                Carrier::InProcess(handler) => in_process(handler, message, request).await,
            }
        };
        let limit = match request.service {
            Service::Kms | Service::Ram | Service::Sts => self.switch_timeout,
            Service::Ecs => TOTAL_TIMEOUT,
        };
        let raw = tokio::time::timeout(limit, exchange).await.unwrap_or_else(|_| {
            Err(failure(request, local::TIMEOUT, &format!("no complete reply within {limit:?}")))
        })?;
        interpret(request, credentials, raw)
    }

    fn message(
        &self,
        request: &Request,
        endpoint: &Url,
        credentials: &Credentials,
    ) -> Result<http::Request<String>, Error> {
        let host = match (endpoint.host_str(), endpoint.port()) {
            (Some(host), Some(port)) => format!("{host}:{port}"),
            (host, _) => host.unwrap_or_default().to_owned(),
        };
        let signed = sign::sign(
            &sign::Message {
                method: "POST",
                host: &host,
                path: "/",
                action: request.action,
                version: request.service.version(),
                query: &request.parameters,
                headers: &[("accept", "application/json"), ("user-agent", USER_AGENT)],
                body: b"",
            },
            credentials,
            &self.clock.stamp(),
        );
        let mut address = endpoint.clone();
        address.set_query((!signed.canonical_query.is_empty()).then_some(signed.canonical_query.as_str()));
        let mut builder = http::Request::post(address.as_str());
        let authorization = (AUTHORIZATION.as_str(), &signed.authorization);
        for (name, value) in
            signed.headers.iter().map(|(name, value)| (name.as_str(), value)).chain([authorization])
        {
            let mut value = HeaderValue::from_str(value).map_err(|_| unsendable(request))?;
            value.set_sensitive(true);
            builder = builder
                .header(HeaderName::from_bytes(name.as_bytes()).map_err(|_| unsendable(request))?, value);
        }
        builder.body(String::new()).map_err(|_| unsendable(request))
    }
}

fn client(bypass_proxy: bool) -> Result<reqwest::Client, Error> {
    // Fails only if a provider is installed already, which serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = reqwest::Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(TOTAL_TIMEOUT)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never());
    let builder = if bypass_proxy { builder.no_proxy() } else { builder };
    builder.build().map_err(|error| {
        let text = format!("the HTTP client cannot be built: {}", innermost(&error));
        Error::local(None, "Configure", local::CLIENT, &text)
    })
}

async fn over_network(
    client: &reqwest::Client,
    message: http::Request<String>,
    request: &Request,
) -> Result<Raw, Error> {
    let message = reqwest::Request::try_from(message).map_err(|_| unsendable(request))?;
    let mut response = client.execute(message).await.map_err(|error| broken(request, &error))?;
    let mut raw = head(response.status(), response.headers());
    if response.content_length().is_some_and(|length| length > REPLY_BYTES_MAX as u64) {
        return Err(too_large(request, &raw));
    }
    while let Some(chunk) = response.chunk().await.map_err(|error| broken(request, &error))? {
        if raw.body.len() + chunk.len() > REPLY_BYTES_MAX {
            return Err(too_large(request, &raw));
        }
        raw.body.extend_from_slice(&chunk);
    }
    Ok(raw)
}

async fn in_process(
    handler: &Handler,
    message: http::Request<String>,
    request: &Request,
) -> Result<Raw, Error> {
    let response = handler(message).await;
    let mut raw = head(response.status(), response.headers());
    raw.body = response.into_body();
    if raw.body.len() > REPLY_BYTES_MAX { Err(too_large(request, &raw)) } else { Ok(raw) }
}

fn head(status: http::StatusCode, headers: &http::HeaderMap) -> Raw {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let retry_after = text("x-acs-retry-after")
        .and_then(|milliseconds| milliseconds.trim().parse().ok())
        .map(|milliseconds| Duration::from_millis(milliseconds).min(RETRY_AFTER_MAX));
    let request_id = text("x-acs-request-id").map(str::to_owned);
    Raw { status: status.as_u16(), retry_after, request_id, body: Vec::new() }
}

/// What a reply means. Only 2xx with a complete JSON object is a success.
fn interpret(request: &Request, credentials: Option<&Credentials>, raw: Raw) -> Result<Reply, Error> {
    let parsed: Option<Value> = serde_json::from_slice(&raw.body).ok().filter(Value::is_object);
    let request_id =
        parsed.as_ref().and_then(|value| text(value, "RequestId")).or_else(|| raw.request_id.clone());
    match (raw.status, parsed) {
        (200..300, Some(value)) => Ok(Reply { value, request_id }),
        (400.., Some(value)) if value.get("Code").is_some() => {
            Err(refusal(request, credentials, &raw, &value, request_id))
        }
        (300..400, _) => {
            let text = "the endpoint answered with a redirect, which is not followed";
            Err(failure(request, local::REDIRECT, text).with_reply(raw.status, request_id))
        }
        (status @ (429 | 500..), _) => {
            // Without a code the status is all there is; it never makes an error definite.
            let refusal = Refusal {
                http_status: status,
                code: format!("Http{status}"),
                message: "the reply has no error code; a proxy or a gateway may have sent it".to_owned(),
                request_id,
                retry_after: raw.retry_after,
                ram_action: None,
            };
            Err(Error::from_refusal(request.service, request.action, refusal))
        }
        (status, _) => {
            let text = "the reply is not the JSON of this API; a proxy or a wrong endpoint may have sent it";
            Err(failure(request, local::REPLY_NOT_UNDERSTOOD, text).with_reply(status, request_id))
        }
    }
}

fn refusal(
    request: &Request,
    credentials: Option<&Credentials>,
    raw: &Raw,
    value: &Value,
    request_id: Option<String>,
) -> Error {
    let message = text(value, "Message").unwrap_or_default();
    let token = request.parameters.get(OIDC_TOKEN).is_some_and(|token| message.contains(token.as_str()));
    let leaks = token || credentials.is_some_and(|credentials| credentials.leaks_into(&message));
    let detail = value.get("AccessDeniedDetail").or_else(|| value.get("accessDeniedDetail"));
    let refusal = Refusal {
        http_status: raw.status,
        code: text(value, "Code").unwrap_or_default(),
        message: if leaks { "the text is withheld".to_owned() } else { message },
        request_id,
        retry_after: raw.retry_after,
        ram_action: detail.and_then(|detail| text(detail, "AuthAction")),
    };
    Error::from_refusal(request.service, request.action, refusal)
}

/// Text or a number as text: some replies write codes as numbers.
fn text(value: &Value, name: &str) -> Option<String> {
    match value.get(name)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn failure(request: &Request, code: &'static str, text: &str) -> Error {
    Error::local(request.service, request.action, code, text)
}

fn unsendable(request: &Request) -> Error {
    failure(request, local::INVALID_PARAMETERS, "the request cannot be written as HTTP")
}

fn too_large(request: &Request, raw: &Raw) -> Error {
    let text = format!("the reply exceeds {REPLY_BYTES_MAX} bytes");
    failure(request, local::REPLY_TOO_LARGE, &text).with_reply(raw.status, raw.request_id.clone())
}

/// A request that got no complete reply. Where no connection came about, nothing was sent; a broken one is ambiguous.
fn broken(request: &Request, error: &reqwest::Error) -> Error {
    if error.is_timeout() {
        return failure(request, local::TIMEOUT, "no complete reply in time");
    }
    let (code, what) = match error.is_connect() {
        true => (local::NOT_CONNECTED, "no connection"),
        false => (local::CONNECTION, "the connection broke before the reply was complete"),
    };
    failure(request, code, &format!("{what}: {}", innermost(error)))
}

/// The text of the first cause. The outer ones name the address with its query, so they must not be shown.
fn innermost(error: &reqwest::Error) -> String {
    const DEPTH_MAX: usize = 16;
    let first: Option<&dyn std::error::Error> = std::error::Error::source(error);
    let causes = std::iter::successors(first, |cause| cause.source());
    match causes.take(DEPTH_MAX).last() {
        Some(cause) => cause.to_string(),
        None => "no further reason is known".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alibaba::Class;
    use crate::alibaba::request::{Service, parameters};

    fn request() -> Request {
        let parameters = parameters([("RegionId", "cn-hangzhou")]);
        Request {
            service: Service::Ecs,
            region: "cn-hangzhou".to_owned(),
            action: "DescribeDisks",
            parameters,
        }
    }

    fn read(status: u16, body: &str) -> Result<Reply, Error> {
        let raw =
            Raw { status, retry_after: None, request_id: Some("from-header".to_owned()), body: body.into() };
        interpret(&request(), Some(&Credentials::new("id", "the-secret", Some("the-token"))), raw)
    }

    #[test]
    fn only_a_complete_json_object_with_2xx_is_a_success() {
        assert_eq!(read(200, r#"{"RequestId":"A-1"}"#).expect("success").request_id.as_deref(), Some("A-1"));
        assert_eq!(read(200, "{}").expect("success").request_id.as_deref(), Some("from-header"));
        for (status, body) in
            [(200, ""), (200, "<html>"), (200, r#"{"Disks":"#), (200, "[]"), (404, "<html>"), (400, "{}")]
        {
            let error = read(status, body).expect_err(body);
            assert_eq!((error.class, error.definite()), (Class::Defect, false), "{status} {body}");
            assert_eq!(error.http_status, Some(status));
        }
    }

    #[test]
    fn a_reply_without_code_is_judged_by_status_and_never_definite() {
        for (status, class) in
            [(429, Class::Throttled), (500, Class::Transient), (503, Class::Transient), (302, Class::Defect)]
        {
            let error = read(status, "<html>").expect_err("refused");
            assert_eq!((error.class, error.definite()), (class, false), "{status}");
        }
    }

    #[test]
    fn a_refusal_is_read_with_its_details() {
        let detail = r#"{"AuthAction":"ecs:CopyImage"}"#;
        let head = r#"{"RequestId":"A-2","Code":"Forbidden.RAM","Message":"no","AccessDeniedDetail":"#;
        let body = format!("{head}{detail}}}");
        let error = read(403, &body).expect_err("refused");
        assert_eq!((error.class, error.definite()), (Class::Denied, true));
        assert_eq!(error.ram_action.as_deref(), Some("ecs:CopyImage"));
        assert_eq!(error.request_id.as_deref(), Some("A-2"));
        assert_eq!(read(400, r#"{"Code":400}"#).expect_err("refused").code, "400");
    }

    #[test]
    fn a_message_that_repeats_a_secret_is_withheld() {
        for leak in ["the-secret", "the-token"] {
            let body = format!(r#"{{"Code":"SizeExceed.Image","Message":"look: {leak}"}}"#);
            let error = read(400, &body).expect_err("refused");
            assert!(!format!("{error} {error:?}").contains(leak), "{error:?}");
        }
    }

    #[test]
    fn stamps_have_the_documented_form_and_nonces_differ() {
        let clock = Clock::system();
        let (first, second) = (clock.stamp(), clock.stamp());
        assert_ne!(first.nonce, second.nonce);
        assert_eq!((first.nonce.len(), first.date.len()), (32, 20));
        let fixed =
            Clock::new(|| Timestamp::from_second(1_698_315_752).expect("in range"), || "n".to_owned());
        assert_eq!(fixed.stamp(), Stamp { date: "2023-10-26T10:22:32Z".to_owned(), nonce: "n".to_owned() });
    }

    #[tokio::test(start_paused = true)]
    async fn a_reply_that_never_comes_is_an_ambiguous_timeout() {
        let handler: Handler = Arc::new(|_| Box::pin(std::future::pending()));
        let (wire, clock) = (Wire::InProcess(handler), Clock::runtime(Timestamp::UNIX_EPOCH));
        let transport = Transport::new(wire, clock, false, URGENT_TIMEOUT).expect("built");
        let endpoint = Url::parse("http://127.0.0.1:1/").expect("an address");
        let credentials = Credentials::new("id", "s", None);
        for (service, limit) in [
            (Service::Ecs, TOTAL_TIMEOUT),
            (Service::Kms, URGENT_TIMEOUT),
            (Service::Ram, URGENT_TIMEOUT),
            (Service::Sts, URGENT_TIMEOUT),
        ] {
            let began = tokio::time::Instant::now();
            let request = Request { service, ..request() };
            let error = transport.send(&request, &endpoint, Some(&credentials)).await.expect_err("late");
            assert_eq!(
                (error.code.as_str(), error.class, error.definite()),
                (local::TIMEOUT, Class::Transient, false)
            );
            assert_eq!(began.elapsed(), limit, "{service:?}");
        }
    }
}
