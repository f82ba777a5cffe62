//! What a CloudAccount says about itself. Pure.

use std::collections::BTreeSet;

use super::api::{CloudAccountStatus, EcsRoleStatus};
use super::decide::{AccountEffect, Desired, Observed, RoleFact};
use crate::decision::report::{Fact, Report, Truth, key_obstacle};
use crate::decision::{Decision, Reason};

const ROLE: &str = "AliyunECSDiskEncryptDefaultRole";
const POLICY: &str = "AliyunECSDiskEncryptRolePolicy";

/// Status, conditions and the sentence for Ready.
pub fn report(
    before: Option<&CloudAccountStatus>,
    desired: &Desired,
    observed: &Observed,
    decision: &Decision<AccountEffect>,
) -> Report<CloudAccountStatus> {
    let mut status = before.cloned().unwrap_or_default();
    if *desired == Desired::Absent {
        return Report {
            status,
            facts: Vec::new(),
            message: "Nothing is removed from the account.".to_owned(),
        };
    }
    status.shared.account_id = status.shared.account_id.or_else(|| observed.account.clone());
    status.ecs_role = match &observed.role {
        RoleFact::Unasked => status.ecs_role,
        RoleFact::Missing => Some(EcsRoleStatus::default()),
        RoleFact::Present { policy_attached, .. } => {
            Some(EcsRoleStatus { exists: true, policy_attached: *policy_attached })
        }
    };
    let facts = authorized(&observed.role).into_iter().collect();
    Report { status, facts, message: message(observed, decision) }
}

fn authorized(role: &RoleFact) -> Option<Fact> {
    let (truth, reason, message) = match role {
        RoleFact::Unasked => return None,
        role if role.authorizes() => {
            (Truth::True, Reason::Available, "ECS may use customer keys in this account.".to_owned())
        }
        role if role.is_foreign() => (Truth::False, Reason::EcsRoleForeign, foreign(role)),
        _ => (Truth::False, Reason::EcsRoleMissing, missing()),
    };
    Some(Fact { name: "EcsRoleAuthorized", truth, reason, message })
}

fn missing() -> String {
    let how = key_obstacle(Reason::EcsRoleMissing, "", "");
    format!("{how} Or set spec.ecsRole to Ensure and allow deploy/ram/ensure-role.json.")
}

fn foreign(role: &RoleFact) -> String {
    match role {
        RoleFact::Present { trusts_ecs: true, others, .. } => format!(
            "Role {ROLE} has other policies ({}) and not {POLICY}; somebody uses it for something else, so it is left as it \
             is. Attach the system policy yourself, or free the name.",
            list(others)
        ),
        _ => format!(
            "Role {ROLE} is there but does not let ecs.aliyuncs.com take it on; somebody made it for something else, so it \
             is left as it is. Correct its trust policy, or free the name."
        ),
    }
}

fn list(names: &BTreeSet<String>) -> String {
    const SHOWN_MAX: usize = 5;
    let shown: Vec<&str> = names.iter().take(SHOWN_MAX).map(String::as_str).collect();
    let rest = if names.len() > SHOWN_MAX { ", …" } else { "" };
    format!("{}{rest}", shown.join(", "))
}

fn message(observed: &Observed, decision: &Decision<AccountEffect>) -> String {
    let account = observed.account.as_deref().unwrap_or("of these credentials");
    match decision {
        Decision::Settled => match &observed.role {
            role if role.authorizes() => format!("Account {account} can be used."),
            _ => format!(
                "Account {account} can be used, but not with customer keys; see condition EcsRoleAuthorized."
            ),
        },
        Decision::Do(AccountEffect::CreateRole) => format!("Role {ROLE} is being created."),
        Decision::Do(AccountEffect::AttachPolicy) => {
            format!("Policy {POLICY} is being attached to role {ROLE}.")
        }
        Decision::Blocked(Reason::AccountMismatch) => format!(
            "The credentials belong to account {account} now, but this object stands for account {}. Give it that account's \
             credentials, or create another CloudAccount for the new one.",
            observed.pinned.as_deref().unwrap_or_default()
        ),
        Decision::Blocked(Reason::Suspended) => {
            "Suspended by spec.suspend: nothing is called in the account, and its objects wait. Set it to false to go on.".to_owned()
        }
        Decision::Blocked(_) => foreign(&observed.role),
        Decision::Wait(_) => "The account is being looked at.".to_owned(),
    }
}
