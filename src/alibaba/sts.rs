//! Typed calls to STS: who the credentials belong to.
//!
//! GetCallerIdentity needs no permission, so it is the check at start-up. Temporary credentials are not
//! fetched here yet.

use super::error::Error;
use super::gateway::Cloud;
use super::reply::Fields;
use super::request::{Parameters, Service};

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
        Ok(Identity {
            account_id: fields.required("AccountId")?,
            arn: fields.text("Arn").unwrap_or_default(),
            identity_type: fields.text("IdentityType").unwrap_or_default(),
        })
    }
}
