//! Plain HTTP without a signature: reads what a credentials URI or the metadata service hands out.
//!
//! Never through a proxy, never along a redirect, never more than a few kilobytes, and never a word of the
//! answer in an error: it holds secrets.

use std::time::Duration;

use serde::Deserialize;

use super::{Credentials, Session, is_plain, refusal};
use crate::alibaba::error::{Error, local};
use crate::alibaba::transport::Transport;

/// How long a credentials URI may take.
const URI_TIMEOUT: Duration = Duration::from_secs(5);

/// The JSON that both services hand out.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Lent {
    code: Option<String>,
    access_key_id: Option<String>,
    access_key_secret: Option<String>,
    security_token: Option<String>,
    expiration: Option<String>,
}

/// What the address hands out.
pub(super) async fn from_uri(transport: &Transport, uri: &str) -> Result<Session, Error> {
    let malformed = || {
        let text = "the credentials URI must be an http or https address without user and password";
        refusal(local::CREDENTIALS_MALFORMED, text)
    };
    let parsed = reqwest::Url::parse(uri).map_err(|_| malformed())?;
    let plain = matches!(parsed.scheme(), "http" | "https")
        && parsed.host_str().is_some_and(|host| !host.is_empty())
        && parsed.username().is_empty()
        && parsed.password().is_none();
    if !plain {
        return Err(malformed());
    }
    let request = http::Request::get(parsed.as_str()).body(String::new()).map_err(|_| malformed())?;
    match transport.plain(request, URI_TIMEOUT).await {
        Ok((200, body)) => session(&body, "the credentials URI"),
        Ok((status, _)) => {
            Err(refusal(local::CREDENTIALS_REFUSED, &format!("the credentials URI answered {status}")))
        }
        Err(none) => Err(refusal(
            local::CREDENTIALS_UNAVAILABLE,
            &format!("the credentials URI did not answer: {}", none.why),
        )),
    }
}

/// Reads credentials; what is missing or malformed is named, never shown.
pub(super) fn session(body: &[u8], who: &str) -> Result<Session, Error> {
    let bad = |what: &str| refusal(local::CREDENTIALS_MALFORMED, &format!("{who} {what}"));
    let lent: Lent =
        serde_json::from_slice(body).map_err(|_| bad("did not answer with the JSON of credentials"))?;
    if lent.code.as_deref().is_some_and(|code| code != "Success") {
        return Err(refusal(
            local::CREDENTIALS_REFUSED,
            &format!("{who} answered with another code than Success"),
        ));
    }
    let part = |value: Option<String>, name: &str| {
        value.filter(|value| is_plain(value)).ok_or_else(|| bad(&format!("answered without a usable {name}")))
    };
    let id = part(lent.access_key_id, "AccessKeyId")?;
    let secret = part(lent.access_key_secret, "AccessKeySecret")?;
    let token = part(lent.security_token, "SecurityToken")?;
    let expires = part(lent.expiration, "Expiration")?;
    let expires = expires.parse().map_err(|_| bad("answered without a usable Expiration"))?;
    Ok(Session { credentials: Credentials::new(&id, &secret, Some(&token)), expires })
}
