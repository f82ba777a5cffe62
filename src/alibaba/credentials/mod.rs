//! Where access keys come from: given, from the environment, or lent for a while by STS, the instance or an
//! address.
//!
//! What is lent is kept by [`keeper`], which renews it long before its end. Values are kept in memory that is
//! wiped when dropped, `Debug` prints none of them, and no error repeats one.

use std::fmt;
use std::path::PathBuf;

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};

use super::error::{Error, local};

mod environment;
mod keeper;
mod lent;
mod metadata;
mod rrsa;
#[cfg(test)]
mod tests;

pub use environment::{ACCESS_KEY_ID, ACCESS_KEY_SECRET, CREDENTIALS_URI, SECURITY_TOKEN};
pub(crate) use keeper::Keeper;

/// The path at which ACK's webhook mounts the token, where no variable names another.
pub const TOKEN_FILE: &str = "/var/run/secrets/ack.alibabacloud.com/rrsa-tokens/token";
/// The metadata service of every ECS instance.
pub const METADATA_ENDPOINT: &str = "http://100.100.100.200";

/// One access key, temporary if it has a token.
#[derive(Clone)]
pub struct Credentials {
    /// Names the key; goes over the wire as it is.
    pub access_key_id: String,
    /// Signs; never leaves the process.
    pub secret: SecretString,
    /// Present for temporary credentials; goes over the wire, but nowhere else.
    pub security_token: Option<SecretString>,
}

impl Credentials {
    /// Credentials from plain text.
    pub fn new(access_key_id: &str, secret: &str, security_token: Option<&str>) -> Self {
        Credentials {
            access_key_id: access_key_id.to_owned(),
            secret: SecretString::from(secret),
            security_token: security_token.map(SecretString::from),
        }
    }

    /// Credentials from values under the names of the environment variables, wherever these values are kept.
    ///
    /// Errors have class Credentials: missing, half set, or with characters that no credentials have.
    pub fn from_variables(lookup: impl Fn(&str) -> Option<std::ffi::OsString>) -> Result<Credentials, Error> {
        environment::access_key(lookup)
    }

    /// True if `text` shows the secret or the token; such text must not be passed on.
    pub(crate) fn leaks_into(&self, text: &str) -> bool {
        let token = self.security_token.as_ref().map(ExposeSecret::expose_secret);
        [Some(self.secret.expose_secret()), token]
            .into_iter()
            .flatten()
            .any(|secret| !secret.is_empty() && text.contains(secret))
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.security_token.is_some() { "temporary" } else { "lasting" };
        write!(formatter, "Credentials({kind}, hidden)")
    }
}

/// Where to take credentials from.
#[derive(Clone, Debug)]
pub enum Source {
    /// The first of these that is configured: access key variables, RRSA variables, credentials URI, instance
    /// role. What is half configured is an error, never a reason to look further.
    Chain,
    /// The three access key variables and nothing else.
    Environment,
    /// Given by the caller.
    Static(Credentials),
    /// A role of ACK's "RAM roles for service accounts": a token of the cluster is exchanged for credentials.
    Rrsa(Rrsa),
    /// An address that hands out credentials to whoever asks.
    Uri(String),
    /// The role of the ECS instance on which this process runs; its only role unless it is named.
    EcsRamRole {
        /// Name of the role.
        role_name: Option<String>,
        /// True: never ask the metadata service without a token.
        token_required: bool,
    },
    /// Another role, taken on with the credentials of `base`.
    Assumed {
        /// Who takes it on.
        base: Box<Source>,
        /// Which role.
        role: AssumedRole,
    },
}

/// How to take on a role with a token of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rrsa {
    /// The role.
    pub role_arn: String,
    /// The OIDC provider that RAM knows the cluster by.
    pub provider_arn: String,
    /// Where the token is mounted; None for the file that the variable names, else [`TOKEN_FILE`].
    pub token_file: Option<PathBuf>,
    /// Shown in the cloud's audit trail.
    pub session_name: Option<String>,
}

/// A role to take on with credentials that are there already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssumedRole {
    /// The role.
    pub arn: String,
    /// What the role's trust policy may ask for.
    pub external_id: Option<String>,
    /// Shown in the cloud's audit trail.
    pub session_name: Option<String>,
}

impl Source {
    /// The way that the environment of this process configures, as people write it; no secret is in it.
    pub fn configured() -> Result<String, Error> {
        Ok(match environment::chain(environment::variable)? {
            Source::Static(credentials) => {
                let sort = if credentials.security_token.is_some() { "temporary" } else { "lasting" };
                format!("a {sort} access key from {ACCESS_KEY_ID}")
            }
            Source::Rrsa(rrsa) => {
                let file = rrsa.token_file.unwrap_or_else(|| TOKEN_FILE.into());
                format!("RRSA: {} with the token in {}", rrsa.role_arn, file.display())
            }
            Source::Uri(_) => format!("an address in {CREDENTIALS_URI}"),
            Source::EcsRamRole { role_name: Some(name), .. } => format!("the ECS instance role {name}"),
            other => other.name().to_owned(),
        })
    }

    /// What people call it.
    fn name(&self) -> &'static str {
        match self {
            Source::Chain => "the credential chain",
            Source::Environment | Source::Static(_) => "the access key",
            Source::Rrsa(_) => "RRSA",
            Source::Uri(_) => "the credentials URI",
            Source::EcsRamRole { .. } => "the ECS instance role",
            Source::Assumed { .. } => "AssumeRole",
        }
    }
}

/// Credentials that end.
pub(crate) struct Session {
    pub(crate) credentials: Credentials,
    pub(crate) expires: Timestamp,
}

/// The name of a session that nobody named.
pub(crate) const SESSION_NAME: &str = "ecskms";

/// A failure before anything was sent to a product. The text must hold no secret.
fn refusal(code: &'static str, text: &str) -> Error {
    Error::local(None, "Credentials", code, text)
}

/// Text that can stand in a header: such text would otherwise break out of its line; most often it is a line
/// feed at the end of a mounted file.
fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// What can never be a role or provider ARN is refused before it is sent anywhere.
pub(crate) fn check_arn(what: &str, arn: &str, part: &str) -> Result<(), Error> {
    const LENGTH_MAX: usize = 512;
    if is_plain(arn) && arn.len() <= LENGTH_MAX && arn.starts_with("acs:ram::") && arn.contains(part) {
        return Ok(());
    }
    let text = format!("{what} is not an ARN such as acs:ram::1234567890123456{part}name");
    Err(refusal(local::CREDENTIALS_MALFORMED, &text))
}
