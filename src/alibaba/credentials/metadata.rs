//! The role of the ECS instance, from its metadata service.
//!
//! With a token first (IMDSv2), as every hardened instance demands; without one only where the service itself
//! does not know tokens, and never if that is switched off. All of it together may take one second: off ECS the
//! address leads nowhere, and nobody should wait for nowhere.

use std::time::Duration;

use super::{METADATA_ENDPOINT, Session, lent, refusal};
use crate::alibaba::error::{Error, local};
use crate::alibaba::transport::Transport;

/// For the whole conversation.
pub(super) const TIMEOUT: Duration = Duration::from_secs(1);
const ROLES: &str = "/latest/meta-data/ram/security-credentials/";
const TOKEN_HEADER: &str = "x-aliyun-ecs-metadata-token";
const TOKEN_LIFE_HEADER: &str = "x-aliyun-ecs-metadata-token-ttl-seconds";
const TOKEN_LIFE_SECONDS: &str = "60";
/// The service does not know tokens, or not at this path.
const UNKNOWN_THERE: [u16; 3] = [400, 404, 405];

/// Credentials of the instance's role.
///
/// Errors: `Local.NotConnected` where there is no such service, `Local.CredentialsUnavailable` where it is silent or breaks off.
pub(super) async fn fetch(
    transport: &Transport,
    endpoint: Option<&str>,
    role_name: Option<&str>,
    token_required: bool,
) -> Result<Session, Error> {
    let endpoint = endpoint.unwrap_or(METADATA_ENDPOINT).trim_end_matches('/');
    let service = Service { transport, endpoint };
    match tokio::time::timeout(TIMEOUT, service.credentials(role_name, token_required)).await {
        Ok(result) => result,
        Err(_) => {
            let why = format!("it did not answer within {TIMEOUT:?}");
            Err(out_of_reach(local::CREDENTIALS_UNAVAILABLE, &why))
        }
    }
}

struct Service<'a> {
    transport: &'a Transport,
    endpoint: &'a str,
}

impl Service<'_> {
    async fn credentials(&self, role_name: Option<&str>, token_required: bool) -> Result<Session, Error> {
        let token = self.token(token_required).await?;
        let role = match role_name {
            Some(name) => name.to_owned(),
            None => {
                let body = self.get(ROLES, token.as_deref(), "the name of a role").await?;
                let text = String::from_utf8_lossy(&body);
                text.lines().next().unwrap_or_default().trim().to_owned()
            }
        };
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        if role.is_empty() || role.len() > 64 || !role.bytes().all(fits) {
            let text =
                "the metadata service names no role that could be one: attach a RAM role to the instance";
            return Err(refusal(local::CREDENTIALS_MALFORMED, text));
        }
        let body = self.get(&format!("{ROLES}{role}"), token.as_deref(), "credentials of that role").await?;
        lent::session(&body, "the metadata service")
    }

    async fn token(&self, required: bool) -> Result<Option<String>, Error> {
        let path = format!("{}/latest/api/token", self.endpoint);
        let request = http::Request::put(path).header(TOKEN_LIFE_HEADER, TOKEN_LIFE_SECONDS);
        match self.send(request).await? {
            (200, body) => match String::from_utf8(body) {
                Ok(token) if super::is_plain(&token) => Ok(Some(token)),
                _ => Err(refusal(
                    local::CREDENTIALS_MALFORMED,
                    "the metadata service answered without a usable token",
                )),
            },
            (status, _) if UNKNOWN_THERE.contains(&status) && !required => Ok(None),
            (status, _) => {
                let text = format!("the metadata service refused a token with {status}");
                Err(refusal(local::CREDENTIALS_REFUSED, &text))
            }
        }
    }

    async fn get(&self, path: &str, token: Option<&str>, what: &str) -> Result<Vec<u8>, Error> {
        let mut request = http::Request::get(format!("{}{path}", self.endpoint));
        if let Some(token) = token {
            request = request.header(TOKEN_HEADER, token);
        }
        match self.send(request).await? {
            (200, body) => Ok(body),
            (404, _) => {
                let text = format!("the metadata service has not {what}: attach a RAM role to the instance");
                Err(refusal(local::CREDENTIALS_MISSING, &text))
            }
            (status, _) => {
                Err(refusal(local::CREDENTIALS_REFUSED, &format!("the metadata service answered {status}")))
            }
        }
    }

    async fn send(&self, request: http::request::Builder) -> Result<(u16, Vec<u8>), Error> {
        let request = request
            .body(String::new())
            .map_err(|_| out_of_reach(local::CREDENTIALS_UNAVAILABLE, "its address is no address"))?;
        self.transport.plain(request, TIMEOUT).await.map_err(|none| {
            let code = if none.nobody { local::NOT_CONNECTED } else { local::CREDENTIALS_UNAVAILABLE };
            out_of_reach(code, &none.why)
        })
    }
}

fn out_of_reach(code: &'static str, why: &str) -> Error {
    refusal(code, &format!("no instance role: the metadata service is out of reach: {why}"))
}
