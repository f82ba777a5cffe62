//! Typed calls to RAM: the role through which ECS uses customers' keys.
//!
//! RAM is global, one for all regions of an account. Nothing here changes a role.

use super::error::{Class, Error};
use super::gateway::Cloud;
use super::reply::Fields;
use super::request::{Service, parameters};

/// The role that ECS takes on to use a customer's key (page "Encrypt disks").
pub const ECS_ROLE_NAME: &str = "AliyunECSDiskEncryptDefaultRole";
/// The system policy that gives the role its permissions.
pub const ECS_ROLE_POLICY: &str = "AliyunECSDiskEncryptRolePolicy";

/// Whether ECS may use customers' keys in this account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EcsRole {
    /// True if the role is there.
    pub exists: bool,
    /// True if the system policy is attached to it.
    pub policy_attached: bool,
    /// The role's ARN, if it is there and the reply says so.
    pub arn: Option<String>,
}

impl Cloud {
    /// The role of ECS and its policy. The answer may be up to five seconds old.
    pub async fn ecs_role(&self) -> Result<EcsRole, Error> {
        self.role().get((), self.read_ecs_role()).await
    }

    async fn read_ecs_role(&self) -> Result<EcsRole, Error> {
        let arn = match self.role_call("GetRole").await {
            Ok(reply) => Fields::new(&reply.value, Service::Ram, "GetRole").inner("Role")?.text("Arn"),
            Err(error) if is_absence(&error) => return Ok(absent()),
            Err(error) => return Err(error),
        };
        match self.role_call("ListPoliciesForRole").await {
            Ok(reply) => {
                let reply = Fields::new(&reply.value, Service::Ram, "ListPoliciesForRole");
                let policy_attached = reply.list("Policies", "Policy")?.iter().any(is_ecs_policy);
                Ok(EcsRole { exists: true, policy_attached, arn })
            }
            // Deleted between the two calls.
            Err(error) if is_absence(&error) => Ok(absent()),
            Err(error) => Err(error),
        }
    }

    async fn role_call(&self, action: &'static str) -> Result<super::transport::Reply, Error> {
        self.call(Service::Ram, "", action, parameters([("RoleName", ECS_ROLE_NAME)])).await
    }
}

fn absent() -> EcsRole {
    EcsRole { exists: false, policy_attached: false, arn: None }
}

fn is_absence(error: &Error) -> bool {
    error.class == Class::NotFound && error.code == "EntityNotExist.Role"
}

/// A custom policy of the same name would be somebody's own, with unknown content.
fn is_ecs_policy(policy: &Fields) -> bool {
    policy.text("PolicyName").as_deref() == Some(ECS_ROLE_POLICY)
        && policy.text("PolicyType").is_some_and(|kind| kind.eq_ignore_ascii_case("System"))
}
