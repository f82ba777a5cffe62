//! What would be seen of a CloudAccount after a decision if all goes well, and the calls that its effects stand for. Pure.

use std::collections::BTreeSet;

use super::decide::{AccountEffect, Observed, RoleFact};
use crate::decision::Decision;
use crate::kind::Call;
use crate::kind::call::{ECS_ROLE_DESCRIPTION, ECS_ROLE_NAME, ECS_ROLE_POLICY, ecs_trust_policy};

/// The RAM actions that looking takes.
pub const READS: &[&str] = &["ram:GetRole", "ram:ListPoliciesForRole"];

/// The next look; None where nothing follows by itself.
pub fn after(before: &Observed, decision: &Decision<AccountEffect>) -> Option<Observed> {
    let Decision::Do(effect) = decision else { return None };
    let role = match (effect, &before.role) {
        (AccountEffect::CreateRole, _) => {
            RoleFact::Present { trusts_ecs: true, policy_attached: false, others: BTreeSet::new() }
        }
        (AccountEffect::AttachPolicy, RoleFact::Present { trusts_ecs, others, .. }) => {
            RoleFact::Present { trusts_ecs: *trusts_ecs, policy_attached: true, others: others.clone() }
        }
        (AccountEffect::AttachPolicy, other) => other.clone(),
    };
    let seen = Observed { role, ..before.clone() };
    (seen != *before).then_some(seen)
}

/// The calls that an effect stands for.
pub fn calls(effect: AccountEffect) -> Vec<Call> {
    let role = ("RoleName", ECS_ROLE_NAME);
    vec![match effect {
        AccountEffect::CreateRole => Call::new(
            "ram",
            "CreateRole",
            [role, ("AssumeRolePolicyDocument", &ecs_trust_policy()), ("Description", ECS_ROLE_DESCRIPTION)],
        ),
        AccountEffect::AttachPolicy => Call::new(
            "ram",
            "AttachPolicyToRole",
            [role, ("PolicyName", ECS_ROLE_POLICY), ("PolicyType", "System")],
        ),
    }]
}
