//! Who calls? Verification of ACS3-HMAC-SHA256 signatures, written from the published rules and from nothing
//! else.
//!
//! Deliberately no older signature versions and no other algorithms: they are refused.

use std::collections::BTreeMap;

use hmac::{Hmac, KeyInit, Mac};
use http::HeaderMap;
use sha2::{Digest, Sha256};

use super::names::hex;
use super::refusal::Refusal;
use super::world::Moment;

/// How far `x-acs-date` may be from the gateway's clock.
const DATE_TOLERANCE_MILLISECONDS: i64 = 15 * 60 * 1000;
/// How many nonces are remembered before expired ones are swept out.
const NONCES_BEFORE_SWEEP: usize = 50_000;
/// The one algorithm.
const ALGORITHM: &str = "ACS3-HMAC-SHA256";

/// A verified caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// The RAM user with full access.
    Administrator,
    /// The RAM user whose policy tests may set.
    Limited,
    /// A role session.
    Session {
        /// The role's name.
        role: String,
        /// The session's name.
        session: String,
    },
    /// Nobody: AssumeRoleWithOIDC alone.
    Anonymous,
}

/// What the gateway knows about an access key.
#[derive(Clone, Debug)]
pub struct Credential {
    /// Who holds it.
    pub caller: Caller,
    /// The secret.
    pub secret: String,
    /// The token that must come with it, for role sessions.
    pub security_token: Option<String>,
    /// When it ceases to be valid, in real milliseconds since the epoch.
    pub expires: Option<Moment>,
}

/// The parts of a request that a signature covers.
#[derive(Clone, Debug)]
pub struct Signed<'a> {
    /// The method in upper case.
    pub method: &'a str,
    /// The path, `/` for all calls of this simulation.
    pub path: &'a str,
    /// The decoded query.
    pub query: &'a [(String, String)],
    /// All headers.
    pub headers: &'a HeaderMap,
    /// The body.
    pub body: &'a [u8],
}

/// Remembers which nonces were used, so that no request can be replayed.
#[derive(Clone, Debug, Default)]
pub struct Nonces {
    used: BTreeMap<String, Moment>,
}

impl Nonces {
    fn is_new(&mut self, nonce: String, now: Moment) -> bool {
        if self.used.len() >= NONCES_BEFORE_SWEEP {
            self.used.retain(|_, until| *until > now);
        }
        // A nonce outlives every date that could still be accepted with it.
        let until = now + 2 * DATE_TOLERANCE_MILLISECONDS;
        self.used.insert(nonce, until).is_none_or(|until| until <= now)
    }
}

struct Authorization {
    key_id: String,
    signed_headers: Vec<String>,
    signature: String,
}

/// Verifies a request. `find` answers what is known about an access key; `now` is real time, which dates are
/// judged by.
pub fn verify(
    signed: &Signed,
    find: impl Fn(&str) -> Option<Credential>,
    nonces: &mut Nonces,
    now: Moment,
) -> Result<Caller, Refusal> {
    let authorization = read_authorization(signed.headers)?;
    check_date(signed.headers, now)?;
    let credential = find(&authorization.key_id).ok_or_else(|| {
        Refusal::new(404, "InvalidAccessKeyId.NotFound", "Specified access key is not found.")
    })?;
    check_token(signed.headers, &credential, now)?;
    check_coverage(signed.headers, &authorization.signed_headers)?;
    let payload = hex(&Sha256::digest(signed.body));
    if header(signed.headers, "x-acs-content-sha256") != Some(payload.as_str()) {
        return Err(mismatch("x-acs-content-sha256 is not the digest of the body"));
    }
    let canonical = canonical_request(signed, &authorization.signed_headers, &payload);
    let to_sign = string_to_sign(&canonical);
    let given = unhex(&authorization.signature).unwrap_or_default();
    let mut mac = Hmac::<Sha256>::new_from_slice(credential.secret.as_bytes())
        .map_err(|_| mismatch("the secret cannot be a key"))?;
    mac.update(to_sign.as_bytes());
    if mac.verify_slice(&given).is_err() {
        // Real gateways echo what they signed, secrets in it and all; clients must not repeat this text
        // anywhere.
        // assumption: signature-message-echoes
        return Err(mismatch(&format!(
            "server string to sign is [{to_sign}] of the canonical request [{canonical}]"
        )));
    }
    let nonce = header(signed.headers, "x-acs-signature-nonce").unwrap_or_default();
    if !nonces.is_new(format!("{} {nonce}", authorization.key_id), now) {
        return Err(Refusal::new(400, "SignatureNonceUsed", "Specified signature nonce was used already."));
    }
    Ok(credential.caller)
}

/// The canonical request: six parts joined by line feeds.
pub fn canonical_request(signed: &Signed, signed_headers: &[String], payload: &str) -> String {
    let mut pairs: Vec<String> =
        signed.query.iter().map(|(key, value)| format!("{}={}", encode(key), encode(value))).collect();
    pairs.sort();
    let mut names = signed_headers.to_vec();
    names.sort();
    let lines: String =
        names.iter().map(|name| format!("{name}:{}\n", joined(signed.headers, name))).collect();
    [signed.method, signed.path, &pairs.join("&"), &lines, &names.join(";"), payload].join("\n")
}

/// The text whose HMAC is the signature.
pub fn string_to_sign(canonical_request: &str) -> String {
    format!("{ALGORITHM}\n{}", hex(&Sha256::digest(canonical_request)))
}

/// RFC 3986: everything but unreserved characters becomes `%XX`.
pub fn encode(text: &str) -> String {
    let sign = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(sign).collect()
}

fn joined(headers: &HeaderMap, name: &str) -> String {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    let mut values: Vec<&str> = values.map(str::trim).collect();
    values.sort_unstable();
    values.join(",")
}

fn read_authorization(headers: &HeaderMap) -> Result<Authorization, Refusal> {
    let refusal = |text: &str| Refusal::new(400, "IncompleteSignature", text);
    // assumption: unsigned-request-code
    let line = header(headers, "authorization").ok_or_else(|| refusal("The request is not signed."))?;
    let fields =
        line.strip_prefix(ALGORITHM).ok_or_else(|| refusal("Only ACS3-HMAC-SHA256 is supported."))?;
    let mut parts = BTreeMap::new();
    for field in fields.split(',') {
        if let Some((name, value)) = field.trim().split_once('=') {
            parts.insert(name, value);
        }
    }
    let part = |name: &str| {
        parts
            .get(name)
            .map(|value| value.to_string())
            .ok_or_else(|| refusal("The authorization is malformed."))
    };
    Ok(Authorization {
        key_id: part("Credential")?,
        signed_headers: part("SignedHeaders")?.split(';').map(str::to_string).collect(),
        signature: part("Signature")?,
    })
}

fn check_date(headers: &HeaderMap, now: Moment) -> Result<(), Refusal> {
    let text = header(headers, "x-acs-date").ok_or_else(|| {
        Refusal::new(400, "IllegalTimestamp", "The input parameter \"Timestamp\" is not supplied.")
    })?;
    let date: jiff::Timestamp = text
        .parse()
        .map_err(|_| Refusal::new(400, "IllegalTimestamp", "The timestamp is not well formed."))?;
    if (date.as_millisecond() - now).abs() > DATE_TOLERANCE_MILLISECONDS {
        let text = "Specified time stamp or date value is expired.";
        return Err(Refusal::new(400, "InvalidTimeStamp.Expired", text));
    }
    Ok(())
}

fn check_token(headers: &HeaderMap, credential: &Credential, now: Moment) -> Result<(), Refusal> {
    let given = header(headers, "x-acs-security-token").filter(|token| !token.is_empty());
    let (code, text) = match (&credential.security_token, given) {
        (None, None) => return Ok(()),
        (Some(_), None) => ("MissingSecurityToken", "SecurityToken is mandatory for this action."),
        (None, Some(_)) => {
            ("InvalidSecurityToken.MismatchWithAccessKey", "The token is not of this access key.")
        }
        (Some(token), Some(given)) if token != given => {
            ("InvalidSecurityToken.Malformed", "Specified SecurityToken is malformed.")
        }
        (Some(_), Some(_)) if credential.expires.is_some_and(|expires| expires <= now) => {
            ("InvalidSecurityToken.Expired", "Specified SecurityToken is expired.")
        }
        (Some(_), Some(_)) => return Ok(()),
    };
    Err(Refusal::new(400, code, text))
}

/// Host, content type and every `x-acs-*` header that is present must be signed.
fn check_coverage(headers: &HeaderMap, signed: &[String]) -> Result<(), Refusal> {
    // assumption: headers-that-must-be-signed
    let must = |name: &str| name == "host" || name == "content-type" || name.starts_with("x-acs-");
    let mut names = headers.keys().map(http::HeaderName::as_str).filter(|name| must(name));
    let missing = names.find(|name| !signed.iter().any(|one| one == name));
    let required =
        ["x-acs-action", "x-acs-version", "x-acs-date", "x-acs-signature-nonce", "x-acs-content-sha256"];
    let absent = required.into_iter().find(|name| header(headers, name).is_none_or(str::is_empty));
    match missing.or(absent) {
        None => Ok(()),
        Some(name) => {
            let text = format!("The header {name} must be present and signed.");
            Err(Refusal::new(400, "IncompleteSignature", text))
        }
    }
}

fn mismatch(detail: &str) -> Refusal {
    let text = format!("Specified signature does not match our calculation. {detail}");
    Refusal::new(400, "SignatureDoesNotMatch", text)
}

/// A header as text.
pub fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}
