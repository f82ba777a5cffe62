//! Where access keys come from: the environment, or the caller.
//!
//! Values are kept in memory that is wiped when dropped, and `Debug` prints none of them. The rest of the
//! chain (RRSA, credentials URI, instance role) is not here yet; [`Source::get`] is async so that it fits
//! behind the same call.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};

use super::error::{Error, local};

/// The environment variable with the access key id (name from the official SDKs' default chain).
pub const ACCESS_KEY_ID: &str = "ALIBABA_CLOUD_ACCESS_KEY_ID";
/// The environment variable with the access key secret.
pub const ACCESS_KEY_SECRET: &str = "ALIBABA_CLOUD_ACCESS_KEY_SECRET";
/// The environment variable with the token of temporary credentials.
pub const SECURITY_TOKEN: &str = "ALIBABA_CLOUD_SECURITY_TOKEN";

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

/// Where to take credentials from, each time a request is signed.
#[derive(Clone, Debug)]
pub enum Source {
    /// The three `ALIBABA_CLOUD_…` variables. Half of a pair is an error, never a reason to look elsewhere.
    Environment,
    /// Given by the caller.
    Static(Credentials),
}

impl Source {
    /// Current credentials.
    ///
    /// Errors have class Credentials and are definite, since nothing was sent: `Local.CredentialsMissing`,
    /// `Local.CredentialsIncomplete`, `Local.CredentialsMalformed`.
    pub async fn get(&self) -> Result<Credentials, Error> {
        match self {
            Source::Environment => from_variables(|name| std::env::var_os(name)),
            Source::Static(credentials) => Ok(credentials.clone()),
        }
    }
}

fn from_variables(lookup: impl Fn(&str) -> Option<std::ffi::OsString>) -> Result<Credentials, Error> {
    let read = |name: &str| -> Result<Option<SecretString>, Error> {
        let Some(value) = lookup(name).filter(|value| !value.is_empty()) else { return Ok(None) };
        // Such text would break out of a header line; most often it is a line feed at the end of a mounted
        // file.
        match value.into_string() {
            Ok(text) if text.bytes().all(|byte| byte.is_ascii_graphic()) => {
                Ok(Some(SecretString::from(text)))
            }
            _ => {
                let text = format!("{name} holds spaces, control characters or non-ASCII text");
                Err(refusal(local::CREDENTIALS_MALFORMED, &text))
            }
        }
    };
    let incomplete = |missing: &str| {
        refusal(local::CREDENTIALS_INCOMPLETE, &format!("credentials are half set: {missing} is missing"))
    };
    match (read(ACCESS_KEY_ID)?, read(ACCESS_KEY_SECRET)?, read(SECURITY_TOKEN)?) {
        (Some(id), Some(secret), security_token) => {
            Ok(Credentials { access_key_id: id.expose_secret().to_owned(), secret, security_token })
        }
        (Some(_), None, _) => Err(incomplete(ACCESS_KEY_SECRET)),
        (None, Some(_), _) | (None, None, Some(_)) => Err(incomplete(ACCESS_KEY_ID)),
        (None, None, None) => {
            let text = format!("no credentials: set {ACCESS_KEY_ID} and {ACCESS_KEY_SECRET}");
            Err(refusal(local::CREDENTIALS_MISSING, &text))
        }
    }
}

fn refusal(code: &'static str, text: &str) -> Error {
    Error::local(None, "Credentials", code, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alibaba::Class;

    fn read(pairs: &[(&str, &str)]) -> Result<Credentials, Error> {
        from_variables(|name| pairs.iter().find(|pair| pair.0 == name).map(|pair| pair.1.into()))
    }

    #[test]
    fn a_full_pair_is_taken_with_or_without_a_token() {
        let lasting = read(&[(ACCESS_KEY_ID, "id"), (ACCESS_KEY_SECRET, "s3cret")]).expect("complete");
        assert_eq!((lasting.access_key_id.as_str(), lasting.secret.expose_secret()), ("id", "s3cret"));
        assert!(lasting.security_token.is_none());
        let pairs = [(ACCESS_KEY_ID, "id"), (ACCESS_KEY_SECRET, "s3cret"), (SECURITY_TOKEN, "t0ken")];
        let temporary = read(&pairs).expect("complete");
        assert_eq!(temporary.security_token.expect("token").expose_secret(), "t0ken");
    }

    #[test]
    fn half_set_missing_and_malformed_variables_are_definite_errors() {
        let cases: [(&[(&str, &str)], &str); 7] = [
            (&[], local::CREDENTIALS_MISSING),
            (&[(ACCESS_KEY_ID, ""), (ACCESS_KEY_SECRET, "")], local::CREDENTIALS_MISSING),
            (&[(ACCESS_KEY_ID, "id")], local::CREDENTIALS_INCOMPLETE),
            (&[(ACCESS_KEY_ID, "id"), (SECURITY_TOKEN, "t")], local::CREDENTIALS_INCOMPLETE),
            (&[(ACCESS_KEY_SECRET, "s3cret")], local::CREDENTIALS_INCOMPLETE),
            (&[(SECURITY_TOKEN, "t0ken")], local::CREDENTIALS_INCOMPLETE),
            (&[(ACCESS_KEY_ID, "id"), (ACCESS_KEY_SECRET, "s3cret\n")], local::CREDENTIALS_MALFORMED),
        ];
        for (pairs, code) in cases {
            let error = read(pairs).expect_err(code);
            assert_eq!((error.code.as_str(), error.class), (code, Class::Credentials));
            assert!(error.definite());
            assert!(!format!("{error} {error:?}").contains("s3cret"));
        }
    }

    #[test]
    fn debug_output_shows_nothing() {
        let credentials = Credentials::new("the-id", "the-secret", Some("the-token"));
        let shown = format!("{credentials:?} {:?}", Source::Static(credentials.clone()));
        assert!(!shown.contains("the-"), "{shown}");
        assert!(credentials.leaks_into("… the-token …") && credentials.leaks_into("the-secret"));
        assert!(!credentials.leaks_into("the-id"));
    }
}
