//! The signature ACS3-HMAC-SHA256, as a pure function whose every stage can be checked by itself.
//!
//! Source of the rules: the page "V3 request structure and signature" of Alibaba Cloud, and what the official
//! Python SDK (alibabacloud-tea-openapi 0.4.6) was seen to send; `tests/vectors/acs3.json` holds both.
//!
//! It does not read clocks, draw nonces, choose endpoints or send anything: [`Stamp`] and host are arguments.

use std::collections::BTreeMap;
use std::fmt::Write;

use hmac::{Hmac, KeyInit, Mac};
use secrecy::ExposeSecret;
use secrecy::zeroize::Zeroizing;
use sha2::{Digest, Sha256};

use super::credentials::Credentials;
use super::request::Parameters;

/// The name of the algorithm, first line of the string to sign and first word of the authorization.
pub const ALGORITHM: &str = "ACS3-HMAC-SHA256";

/// Header names (lower case) and values.
pub type Headers = BTreeMap<String, String>;

/// What makes two signatures of the same request differ. Every attempt needs a fresh one, even with the same
/// ClientToken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// UTC, `yyyy-MM-ddTHH:mm:ssZ`; the server allows 15 minutes of difference.
    pub date: String,
    /// Random text, used once.
    pub nonce: String,
}

/// The parts of an HTTP message that the signature covers.
#[derive(Clone, Debug)]
pub struct Message<'a> {
    /// Upper case.
    pub method: &'a str,
    /// Host, with the port if it is not the scheme's own.
    pub host: &'a str,
    /// `/` for every RPC action.
    pub path: &'a str,
    /// For example `DescribeDisks`.
    pub action: &'a str,
    /// The API version of the product, for example `2014-05-26`.
    pub version: &'a str,
    /// All parameters, unencoded.
    pub query: &'a Parameters,
    /// Further headers that are sent and signed, lower-case names: `accept`, `user-agent`, `content-type`.
    pub headers: &'a [(&'a str, &'a str)],
    /// The exact bytes of the body.
    pub body: &'a [u8],
}

/// A signed message and its stages. No `Debug`: the stages contain the security token.
pub struct Signed {
    /// Every header to send except `authorization`; all of them are signed.
    pub headers: Headers,
    /// The query string exactly as signed; RFC 3986 encoded, so it can go onto the wire as it is.
    pub canonical_query: String,
    /// Six parts joined by line feeds.
    pub canonical_request: Zeroizing<String>,
    /// Algorithm and the hash of the canonical request.
    pub string_to_sign: String,
    /// The value of the header `authorization`.
    pub authorization: String,
}

/// Signs `message`. Pure: the same arguments give the same bytes.
pub fn sign(message: &Message, credentials: &Credentials, stamp: &Stamp) -> Signed {
    let body_sha256 = sha256_hex(message.body);
    let headers = headers(message, credentials, stamp, &body_sha256);
    let canonical_query = canonical_query(message.query);
    let canonical_request =
        canonical_request(message.method, message.path, &canonical_query, &headers, &body_sha256);
    let string_to_sign = string_to_sign(&canonical_request);
    let authorization = authorization(credentials, &headers, &string_to_sign);
    Signed { headers, canonical_query, canonical_request, string_to_sign, authorization }
}

/// Parameters sorted by name (byte order), `name=value`, joined by `&`; an empty value keeps its `=`.
pub fn canonical_query(query: &Parameters) -> String {
    let pairs: Vec<String> =
        query.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
    pairs.join("&")
}

/// Method, path, query, headers, names of the headers and hash of the body, joined by line feeds.
pub fn canonical_request(
    method: &str,
    path: &str,
    canonical_query: &str,
    headers: &Headers,
    body_sha256: &str,
) -> Zeroizing<String> {
    let mut lines = Zeroizing::new(String::new());
    for (name, value) in headers {
        lines.push_str(name);
        lines.push(':');
        lines.push_str(value.trim());
        lines.push('\n');
    }
    let names = signed_names(headers);
    Zeroizing::new(format!("{method}\n{path}\n{canonical_query}\n{}\n{names}\n{body_sha256}", *lines))
}

/// The algorithm and, on the next line, the SHA-256 of the canonical request in lower-case hex.
pub fn string_to_sign(canonical_request: &str) -> String {
    format!("{ALGORITHM}\n{}", sha256_hex(canonical_request.as_bytes()))
}

/// The value of the header `authorization`: access key id, names of the signed headers, HMAC-SHA256 in
/// lower-case hex.
pub fn authorization(credentials: &Credentials, headers: &Headers, string_to_sign: &str) -> String {
    let secret = credentials.secret.expose_secret().as_bytes();
    let mut mac =
        <Hmac<Sha256> as KeyInit>::new_from_slice(secret).expect("HMAC accepts keys of every length");
    mac.update(string_to_sign.as_bytes());
    let signature = hex(&mac.finalize().into_bytes());
    let names = signed_names(headers);
    let id = &credentials.access_key_id;
    format!("{ALGORITHM} Credential={id},SignedHeaders={names},Signature={signature}")
}

/// RFC 3986: everything but `A-Z a-z 0-9 - _ . ~` becomes `%XX` of its UTF-8 bytes.
pub fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => encoded.push(byte as char),
            _ => write!(encoded, "%{byte:02X}").expect("writing to a String does not fail"),
        }
    }
    encoded
}

/// SHA-256 in lower-case hex.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn headers(message: &Message, credentials: &Credentials, stamp: &Stamp, body_sha256: &str) -> Headers {
    let mut headers = Headers::new();
    for (name, value) in message.headers {
        headers.insert(name.to_ascii_lowercase(), (*value).to_owned());
    }
    let mut put = |name: &str, value: &str| headers.insert(name.to_owned(), value.to_owned());
    put("host", message.host);
    put("x-acs-action", message.action);
    put("x-acs-version", message.version);
    put("x-acs-date", &stamp.date);
    put("x-acs-signature-nonce", &stamp.nonce);
    put("x-acs-content-sha256", body_sha256);
    if let Some(token) = &credentials.security_token {
        // The official SDKs send both headers with temporary credentials, and neither without.
        put("x-acs-accesskey-id", &credentials.access_key_id);
        put("x-acs-security-token", token.expose_secret());
    }
    headers
}

fn signed_names(headers: &Headers) -> String {
    headers.keys().map(String::as_str).collect::<Vec<_>>().join(";")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a String does not fail");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unreserved_characters_stay_as_they_are() {
        assert_eq!(encode("aZ09-_.~"), "aZ09-_.~");
        assert_eq!(encode(" *+/\"[,:%&="), "%20%2A%2B%2F%22%5B%2C%3A%25%26%3D");
        assert_eq!(encode("订"), "%E8%AE%A2");
    }

    #[test]
    fn parameters_are_sorted_by_bytes_and_empty_values_keep_their_equals_sign() {
        let query = Parameters::from([
            ("b".to_owned(), String::new()),
            ("a.2".to_owned(), "x".to_owned()),
            ("B".to_owned(), "y z".to_owned()),
        ]);
        assert_eq!(canonical_query(&query), "B=y%20z&a.2=x&b=");
        assert_eq!(canonical_query(&Parameters::new()), "");
    }

    #[test]
    fn the_hash_of_an_empty_body_is_the_documented_one() {
        let documented = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(sha256_hex(b""), documented);
    }

    #[test]
    fn another_nonce_date_or_secret_gives_another_signature() {
        let query = Parameters::new();
        let message = Message {
            method: "POST",
            host: "ecs.example.com",
            path: "/",
            action: "DescribeDisks",
            version: "2014-05-26",
            query: &query,
            headers: &[],
            body: b"",
        };
        let stamp = |date: &str, nonce: &str| Stamp { date: date.to_owned(), nonce: nonce.to_owned() };
        let first = Credentials::new("id", "secret", None);
        let second = Credentials::new("id", "other", None);
        let signature = |credentials, stamp| sign(&message, credentials, &stamp).authorization;
        let base = signature(&first, stamp("2026-01-02T03:04:05Z", "n"));
        assert_eq!(base, signature(&first, stamp("2026-01-02T03:04:05Z", "n")));
        assert_ne!(base, signature(&first, stamp("2026-01-02T03:04:06Z", "n")));
        assert_ne!(base, signature(&first, stamp("2026-01-02T03:04:05Z", "m")));
        assert_ne!(base, signature(&second, stamp("2026-01-02T03:04:05Z", "n")));
    }
}
