//! Typed calls to STS: who the credentials belong to, and how to become a role.
//!
//! GetCallerIdentity needs no permission, so it is the check at start-up. What the others lend is kept, and asked
//! for again in time, by `credentials`.

use secrecy::{ExposeSecret, SecretString};

use super::credentials::{AssumedRole, Credentials, Rrsa, SESSION_NAME, Session, check_arn};
use super::error::{Error, local};
use super::gateway::{Cloud, Signer};
use super::reply::Fields;
use super::request::{Parameters, Service, parameters};
use super::transport::{OIDC_TOKEN, Reply};

/// How long lent credentials live: what every role allows, and STS lends by default.
const SESSION_SECONDS: &str = "3600";

/// Who signs the requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The account's id, for ARNs.
    pub account_id: String,
    /// The ARN of the user or role; empty if the reply does not say.
    pub arn: String,
    /// For example `RAMUser`, `AssumedRoleUser` or `Account`; empty if the reply does not say.
    pub identity_type: String,
}

impl Cloud {
    /// Asks STS whose credentials these are.
    pub async fn caller_identity(&self) -> Result<Identity, Error> {
        const ACTION: &str = "GetCallerIdentity";
        let reply = self.call(Service::Sts, self.sts_region(), ACTION, Parameters::new()).await?;
        let fields = Fields::new(&reply.value, Service::Sts, ACTION);
        let identity = Identity {
            account_id: fields.required("AccountId")?,
            arn: fields.text("Arn").unwrap_or_default(),
            identity_type: fields.text("IdentityType").unwrap_or_default(),
        };
        self.account().remember((), identity.account_id.clone());
        Ok(identity)
    }

    /// The id of the account that the credentials belong to: asked once for each `Cloud`, by whoever asks first.
    pub async fn account_id(&self) -> Result<String, Error> {
        self.account().get((), async { Ok(self.caller_identity().await?.account_id) }).await
    }

    /// Exchanges a token of the cluster for credentials. Unsigned: the token is the proof.
    pub(crate) async fn assume_role_with_oidc(
        &self,
        rrsa: &Rrsa,
        session_name: Option<&str>,
        token: &SecretString,
    ) -> Result<Session, Error> {
        const ACTION: &str = "AssumeRoleWithOIDC";
        let asked = parameters([
            ("RoleArn", rrsa.role_arn.as_str()),
            ("OIDCProviderArn", rrsa.provider_arn.as_str()),
            (OIDC_TOKEN, token.expose_secret()),
            ("RoleSessionName", session_name.unwrap_or(SESSION_NAME)),
            ("DurationSeconds", SESSION_SECONDS),
        ]);
        let reply = self.call_as(Signer::Nobody, Service::Sts, self.sts_region(), ACTION, asked).await?;
        session(&reply, ACTION)
    }

    /// Takes on a role with the credentials of `base`.
    pub(crate) async fn assume_role(&self, base: &Credentials, role: &AssumedRole) -> Result<Session, Error> {
        const ACTION: &str = "AssumeRole";
        check_arn("the role", &role.arn, ":role/")?;
        let mut asked = parameters([
            ("RoleArn", role.arn.as_str()),
            ("RoleSessionName", role.session_name.as_deref().unwrap_or(SESSION_NAME)),
            ("DurationSeconds", SESSION_SECONDS),
        ]);
        if let Some(id) = &role.external_id {
            asked.insert("ExternalId".to_owned(), id.clone());
        }
        let reply = self.call_as(Signer::Given(base), Service::Sts, self.sts_region(), ACTION, asked).await?;
        session(&reply, ACTION)
    }
}

fn session(reply: &Reply, action: &'static str) -> Result<Session, Error> {
    let given = Fields::new(&reply.value, Service::Sts, action).inner("Credentials")?;
    let id = given.required("AccessKeyId")?;
    let secret = given.required("AccessKeySecret")?;
    let token = given.required("SecurityToken")?;
    let unreadable = || {
        let text = "the reply has no Expiration that is a time";
        Error::local(Service::Sts, action, local::REPLY_NOT_UNDERSTOOD, text)
    };
    let expires = given.required("Expiration")?.parse().map_err(|_| unreadable())?;
    Ok(Session { credentials: Credentials::new(&id, &secret, Some(&token)), expires })
}
