//! RAM roles for service accounts: the cluster's token, exchanged for credentials.

use std::path::PathBuf;

use secrecy::SecretString;

use super::environment::{self, variable};
use super::{Rrsa, Session, TOKEN_FILE, check_arn, is_plain, refusal};
use crate::alibaba::error::{Error, local};
use crate::alibaba::gateway::Cloud;

/// What STS accepts (API reference §2.8).
const TOKEN_BYTES_MAX: u64 = 20_000;

/// Reads the token anew, because kubelet replaces it, and exchanges it.
pub(super) async fn fetch(cloud: &Cloud, rrsa: &Rrsa) -> Result<Session, Error> {
    check_arn("the role", &rrsa.role_arn, ":role/")?;
    check_arn("the OIDC provider", &rrsa.provider_arn, ":oidc-provider/")?;
    let file = match &rrsa.token_file {
        Some(file) => file.clone(),
        None => environment::text(variable, environment::TOKEN_FILE)?
            .map_or_else(|| PathBuf::from(TOKEN_FILE), PathBuf::from),
    };
    let token = read(&file).await?;
    let session_name = match &rrsa.session_name {
        Some(name) => Some(name.clone()),
        None => environment::text(variable, environment::SESSION_NAME)?,
    };
    cloud.assume_role_with_oidc(rrsa, session_name.as_deref(), &token).await
}

async fn read(file: &std::path::Path) -> Result<SecretString, Error> {
    let shown = file.display();
    let unreadable = |why: &dyn std::fmt::Display| {
        let text =
            format!("the OIDC token file {shown} cannot be read: {why}; is RRSA enabled for this pod?");
        refusal(local::CREDENTIALS_MISSING, &text)
    };
    let size = tokio::fs::metadata(file).await.map_err(|error| unreadable(&error.kind()))?.len();
    let malformed = || {
        let text = format!("the OIDC token file {shown} holds no token of 4 to {TOKEN_BYTES_MAX} characters");
        refusal(local::CREDENTIALS_MALFORMED, &text)
    };
    if size > TOKEN_BYTES_MAX {
        return Err(malformed());
    }
    let text = tokio::fs::read_to_string(file).await.map_err(|error| unreadable(&error.kind()))?;
    match text.trim() {
        token if token.len() >= 4 && is_plain(token) => Ok(SecretString::from(token)),
        _ => Err(malformed()),
    }
}
