//! Typed calls to RAM: the role through which ECS uses customers' keys.
//!
//! RAM is global, one for all regions of an account. The role can be made and given its policy; nothing here takes
//! anything away from a role.

use serde_json::{Value, json};

use super::error::{Class, Error};
use super::gateway::Cloud;
use super::reply::{Fields, unknown_word};
use super::request::{Service, parameters};

/// The role that ECS takes on to use a customer's key (page "Encrypt disks").
pub const ECS_ROLE_NAME: &str = "AliyunECSDiskEncryptDefaultRole";
/// The system policy that gives the role its permissions.
pub const ECS_ROLE_POLICY: &str = "AliyunECSDiskEncryptRolePolicy";
/// What the role says of itself, where the operator makes it.
pub const ECS_ROLE_DESCRIPTION: &str = "ECS uses it to encrypt disks, images and snapshots under KMS keys.";
/// Who must be trusted by the role.
const ECS_SERVICE: &str = "ecs.aliyuncs.com";

/// The trust policy of the role: ECS and nobody else may take it on.
pub fn ecs_trust_policy() -> String {
    let statement = json!({
        "Effect": "Allow", "Action": "sts:AssumeRole", "Principal": { "Service": [ECS_SERVICE] },
    });
    json!({ "Version": "1", "Statement": [statement] }).to_string()
}

/// Whether ECS may use customers' keys in this account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EcsRole {
    /// True if the role is there.
    pub exists: bool,
    /// True if the system policy is attached to it.
    pub policy_attached: bool,
    /// The role's ARN, if it is there and the reply says so.
    pub arn: Option<String>,
    /// True if the role's trust policy lets ECS take it on.
    pub trusts_ecs: bool,
    /// The other policies that are attached to it, as `System/name` or `Custom/name`, sorted.
    pub other_policies: Vec<String>,
}

impl Cloud {
    /// The role of ECS and its policy. The answer may be up to five seconds old.
    pub async fn ecs_role(&self) -> Result<EcsRole, Error> {
        self.role().get((), self.read_ecs_role()).await
    }

    /// Makes the role, trusting ECS and nobody else. One that is there already is left as it is, and is no error.
    pub async fn create_ecs_role(&self) -> Result<(), Error> {
        let asked = parameters([
            ("RoleName", ECS_ROLE_NAME),
            ("AssumeRolePolicyDocument", &ecs_trust_policy()),
            ("Description", ECS_ROLE_DESCRIPTION),
        ]);
        self.change_role("CreateRole", asked).await
    }

    /// Gives the role the system policy. One that has it already is no error.
    pub async fn attach_ecs_policy(&self) -> Result<(), Error> {
        let asked = parameters([
            ("RoleName", ECS_ROLE_NAME),
            ("PolicyName", ECS_ROLE_POLICY),
            ("PolicyType", "System"),
        ]);
        self.change_role("AttachPolicyToRole", asked).await
    }

    async fn change_role(&self, action: &'static str, asked: super::Parameters) -> Result<(), Error> {
        let result = self.call(Service::Ram, "", action, asked).await;
        self.role().forget(&());
        match result {
            Err(error) if error.code.starts_with("EntityAlreadyExists.Role") => Ok(()),
            other => other.map(drop),
        }
    }

    async fn read_ecs_role(&self) -> Result<EcsRole, Error> {
        let (arn, trust) = match self.role_call("GetRole").await {
            Ok(reply) => {
                let role = Fields::new(&reply.value, Service::Ram, "GetRole").inner("Role")?;
                (role.text("Arn"), role.text("AssumeRolePolicyDocument").unwrap_or_default())
            }
            Err(error) if is_absence(&error) => return Ok(absent()),
            Err(error) => return Err(error),
        };
        match self.role_call("ListPoliciesForRole").await {
            Ok(reply) => {
                let reply = Fields::new(&reply.value, Service::Ram, "ListPoliciesForRole");
                let (ours, others): (Vec<_>, Vec<_>) =
                    reply.list("Policies", "Policy")?.into_iter().partition(is_ecs_policy);
                let mut other_policies: Vec<String> = others.iter().map(policy_name).collect();
                other_policies.sort();
                let policy_attached = !ours.is_empty();
                Ok(EcsRole {
                    exists: true,
                    policy_attached,
                    arn,
                    trusts_ecs: trusts_ecs(&trust),
                    other_policies,
                })
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
    EcsRole {
        exists: false,
        policy_attached: false,
        arn: None,
        trusts_ecs: false,
        other_policies: Vec::new(),
    }
}

fn is_absence(error: &Error) -> bool {
    error.class == Class::NotFound && error.code == "EntityNotExist.Role"
}

/// A custom policy of the same name would be somebody's own, with unknown content.
fn is_ecs_policy(policy: &Fields) -> bool {
    policy.text("PolicyName").as_deref() == Some(ECS_ROLE_POLICY)
        && policy.text("PolicyType").is_some_and(|kind| kind.eq_ignore_ascii_case("System"))
}

fn policy_name(policy: &Fields) -> String {
    let word = |name: &str| unknown_word(&policy.text(name).unwrap_or_default());
    format!("{}/{}", word("PolicyType"), word("PolicyName"))
}

/// True if a statement of the trust policy lets ECS take the role on. What cannot be read trusts nobody.
fn trusts_ecs(document: &str) -> bool {
    let document: Value = serde_json::from_str(document).unwrap_or_default();
    let holds = |value: &Value, wanted: &str| match value {
        Value::String(text) => text.eq_ignore_ascii_case(wanted),
        Value::Array(list) => {
            list.iter().any(|one| one.as_str().is_some_and(|one| one.eq_ignore_ascii_case(wanted)))
        }
        _ => false,
    };
    let allows = |action: &Value| ["sts:AssumeRole", "sts:*", "*"].iter().any(|word| holds(action, word));
    document["Statement"].as_array().into_iter().flatten().any(|statement| {
        statement["Effect"] == "Allow"
            && allows(&statement["Action"])
            && holds(&statement["Principal"]["Service"], ECS_SERVICE)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_statement_that_names_ecs_trusts_ecs() {
        let trust = |statement: Value| json!({ "Version": "1", "Statement": [statement] }).to_string();
        let allow = |principal: Value| {
            trust(json!({ "Effect": "Allow", "Action": "sts:AssumeRole", "Principal": principal }))
        };
        assert!(trusts_ecs(&allow(json!({ "Service": ["ecs.aliyuncs.com"] }))));
        assert!(trusts_ecs(&allow(json!({ "Service": "ecs.aliyuncs.com" }))));
        for foreign in [
            allow(json!({ "Service": ["oss.aliyuncs.com"] })),
            allow(json!({ "RAM": ["acs:ram::1:root"] })),
            trust(
                json!({ "Effect": "Deny", "Action": "sts:AssumeRole", "Principal": { "Service": "ecs.aliyuncs.com" } }),
            ),
            String::new(),
            "%7B%7D".to_owned(),
        ] {
            assert!(!trusts_ecs(&foreign), "{foreign}");
        }
    }
}
