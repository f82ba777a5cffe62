//! What goes without a signature: the one call that proves itself by a token, and the services that hand out credentials.

use std::time::Duration;

use reqwest::Url;

use super::super::error::Error;
use super::super::request::Request;
use super::super::sign::Stamp;
use super::{Carrier, Transport, USER_AGENT, innermost, unsendable};

/// The one parameter that is a secret.
pub(crate) const OIDC_TOKEN: &str = "OIDCToken";
/// The largest answer that is read of what hands out credentials.
const PLAIN_BYTES_MAX: usize = 64 * 1024;

/// Why an exchange has no answer.
pub(crate) struct NoAnswer {
    /// In words that repeat nothing of the exchange.
    pub(crate) why: String,
    /// True if there is certainly nobody: no connection came about, and not for want of time.
    pub(crate) nobody: bool,
}

impl From<&reqwest::Error> for NoAnswer {
    fn from(error: &reqwest::Error) -> NoAnswer {
        NoAnswer { why: innermost(error), nobody: error.is_connect() && !error.is_timeout() }
    }
}

impl From<String> for NoAnswer {
    fn from(why: String) -> NoAnswer {
        NoAnswer { why, nobody: false }
    }
}

impl Transport {
    /// One exchange without a signature with what hands out credentials: status and body.
    pub(crate) async fn plain(
        &self,
        request: http::Request<String>,
        limit: Duration,
    ) -> Result<(u16, Vec<u8>), NoAnswer> {
        let exchange = async {
            match &self.carrier {
                Carrier::Network { direct, .. } => {
                    let message =
                        reqwest::Request::try_from(request).map_err(|_| "no valid request".to_owned())?;
                    let mut response =
                        direct.execute(message).await.map_err(|error| NoAnswer::from(&error))?;
                    let mut body = Vec::new();
                    while let Some(chunk) = response.chunk().await.map_err(|error| NoAnswer::from(&error))? {
                        body.extend_from_slice(&chunk);
                        if body.len() > PLAIN_BYTES_MAX {
                            return Err(format!("the answer exceeds {PLAIN_BYTES_MAX} bytes").into());
                        }
                    }
                    Ok((response.status().as_u16(), body))
                }
                Carrier::InProcess(handler) => {
                    let response = handler(request).await;
                    Ok((response.status().as_u16(), response.into_body()))
                }
            }
        };
        let late = |_| Err(format!("no complete answer within {limit:?}").into());
        tokio::time::timeout(limit, exchange).await.unwrap_or_else(late)
    }
}

/// The form that the official SDKs send without credentials: everything in the query.
pub(super) fn unsigned(
    request: &Request,
    endpoint: &Url,
    stamp: &Stamp,
) -> Result<http::Request<String>, Error> {
    let version = request.service.version();
    let mut address = endpoint.clone();
    address
        .query_pairs_mut()
        .extend_pairs([("Action", request.action), ("Version", version), ("Format", "JSON")])
        .extend_pairs([("Timestamp", &stamp.date), ("SignatureNonce", &stamp.nonce)])
        .extend_pairs(&request.parameters);
    let headers = [
        ("accept", "application/json"),
        ("user-agent", USER_AGENT),
        ("x-acs-action", request.action),
        ("x-acs-version", version),
    ];
    let builder = headers
        .into_iter()
        .fold(http::Request::post(address.as_str()), |builder, (name, value)| builder.header(name, value));
    builder.body(String::new()).map_err(|_| unsendable(request))
}
