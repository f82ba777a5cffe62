//! What to do next for a CloudAccount. Pure: no clock, no client, no Kubernetes.
//!
//! The only thing that is ever made is the role of ECS, and only where there is none. What is there is never changed,
//! and nothing is ever taken away, also not with the object.

use std::collections::BTreeSet;

use crate::decision::{Decision, Effect, Machine, Reason, Take};

/// The brain of the kind.
pub struct AccountMachine;

/// What the object asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Desired {
    /// Objects should be able to use the account.
    Present {
        /// True if ECS's role should be there too.
        ensure_role: bool,
    },
    /// Nothing is called in the account.
    Suspended,
    /// The object is being deleted.
    Absent,
}

/// What was seen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Observed {
    /// The account that the credentials belong to; None if it was not asked.
    pub account: Option<String>,
    /// The account that status remembers.
    pub pinned: Option<String>,
    /// The role of ECS.
    pub role: RoleFact,
}

/// The role of ECS, as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RoleFact {
    /// Not looked at.
    Unasked,
    /// There is none.
    Missing,
    /// It is there.
    Present {
        /// True if it lets ECS take it on.
        trusts_ecs: bool,
        /// True if the system policy is attached to it.
        policy_attached: bool,
        /// Other policies that are attached to it.
        others: BTreeSet<String>,
    },
}

impl RoleFact {
    /// True if ECS may use customer keys.
    pub fn authorizes(&self) -> bool {
        matches!(self, RoleFact::Present { trusts_ecs: true, policy_attached: true, .. })
    }

    /// True if somebody made the role for something else, so that it must not be completed.
    pub fn is_foreign(&self) -> bool {
        match self {
            RoleFact::Unasked | RoleFact::Missing => false,
            RoleFact::Present { trusts_ecs, policy_attached, others } => {
                !trusts_ecs || (!policy_attached && !others.is_empty())
            }
        }
    }
}

/// A mutation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AccountEffect {
    /// Make the role, trusting ECS.
    CreateRole,
    /// Give the role its system policy.
    AttachPolicy,
}

impl Effect for AccountEffect {
    fn claim(&self) -> Option<Take> {
        None
    }

    fn reason(&self) -> Reason {
        Reason::Creating
    }

    fn name(&self) -> &'static str {
        match self {
            AccountEffect::CreateRole => "create-role",
            AccountEffect::AttachPolicy => "attach-policy",
        }
    }
}

impl Machine for AccountMachine {
    type Desired = Desired;
    type Observed = Observed;
    type Effect = AccountEffect;

    fn decide(desired: &Desired, observed: &Observed) -> Decision<AccountEffect> {
        let ensure_role = match desired {
            Desired::Present { ensure_role } => ensure_role,
            Desired::Suspended => return Decision::Blocked(Reason::Suspended),
            Desired::Absent => return Decision::Settled,
        };
        let Some(account) = &observed.account else {
            return Decision::wait_seconds(Reason::DependencyNotReady);
        };
        if observed.pinned.as_ref().is_some_and(|pinned| pinned != account) {
            return Decision::Blocked(Reason::AccountMismatch);
        }
        match &observed.role {
            _ if !ensure_role => Decision::Settled,
            RoleFact::Unasked => Decision::wait_seconds(Reason::DependencyNotReady),
            RoleFact::Missing => Decision::Do(AccountEffect::CreateRole),
            foreign if foreign.is_foreign() => Decision::Blocked(Reason::EcsRoleForeign),
            RoleFact::Present { policy_attached: false, .. } => Decision::Do(AccountEffect::AttachPolicy),
            RoleFact::Present { .. } => Decision::Settled,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::promise::holds;
    use super::*;

    const ENSURE: Desired = Desired::Present { ensure_role: true };
    const REPORT: Desired = Desired::Present { ensure_role: false };

    fn role(trusts_ecs: bool, policy_attached: bool, others: &[&str]) -> RoleFact {
        RoleFact::Present {
            trusts_ecs,
            policy_attached,
            others: others.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    fn seen(role: RoleFact) -> Observed {
        Observed { account: Some("1".into()), pinned: Some("1".into()), role }
    }

    #[track_caller]
    fn check(desired: &Desired, observed: Observed, expected: Decision<AccountEffect>) {
        assert_eq!(AccountMachine::decide(desired, &observed), expected);
    }

    #[test]
    fn an_account_whose_credentials_work_is_settled_whatever_its_role_unless_the_role_was_asked_for() {
        for role in [
            RoleFact::Missing,
            role(true, false, &[]),
            role(false, true, &[]),
            role(true, true, &["Custom/x"]),
        ] {
            check(&REPORT, seen(role), Decision::Settled);
        }
        check(&ENSURE, seen(RoleFact::Missing), Decision::Do(AccountEffect::CreateRole));
        check(&ENSURE, seen(role(true, false, &[])), Decision::Do(AccountEffect::AttachPolicy));
        check(&ENSURE, seen(role(true, true, &[])), Decision::Settled);
        check(&ENSURE, seen(role(true, true, &["System/Other"])), Decision::Settled);
    }

    #[test]
    fn a_role_that_somebody_made_for_something_else_is_reported_and_left_alone() {
        for foreign in [
            role(false, false, &[]),
            role(false, true, &[]),
            role(true, false, &["Custom/AliyunECSDiskEncryptRolePolicy"]),
        ] {
            check(&ENSURE, seen(foreign), Decision::Blocked(Reason::EcsRoleForeign));
        }
    }

    #[test]
    fn credentials_of_another_account_are_never_used_for_anything() {
        for role in [RoleFact::Missing, role(true, true, &[])] {
            let observed = Observed { account: Some("2".into()), ..seen(role) };
            check(&ENSURE, observed.clone(), Decision::Blocked(Reason::AccountMismatch));
            check(&REPORT, observed, Decision::Blocked(Reason::AccountMismatch));
        }
        let first_sight = Observed { pinned: None, ..seen(RoleFact::Missing) };
        check(&REPORT, first_sight, Decision::Settled);
    }

    #[test]
    fn a_suspended_account_is_not_even_looked_at() {
        for observed in every_observed() {
            check(&Desired::Suspended, observed, Decision::Blocked(Reason::Suspended));
        }
    }

    #[test]
    fn a_deleted_object_takes_nothing_with_it() {
        for observed in every_observed() {
            check(&Desired::Absent, observed, Decision::Settled);
        }
    }

    fn every_observed() -> Vec<Observed> {
        let mut roles = vec![RoleFact::Unasked, RoleFact::Missing];
        for trusts in [false, true] {
            for attached in [false, true] {
                for others in [&[][..], &["Custom/x"][..]] {
                    roles.push(role(trusts, attached, others));
                }
            }
        }
        let accounts = [None, Some("1".to_owned()), Some("2".to_owned())];
        let mut all = Vec::new();
        for role in roles {
            for account in &accounts {
                for pinned in [None, Some("1".to_owned())] {
                    all.push(Observed { account: account.clone(), pinned, role: role.clone() });
                }
            }
        }
        all
    }

    /// What an effect does to the role, and nothing else.
    fn after(effect: AccountEffect, before: &Observed) -> Observed {
        let role = match (effect, &before.role) {
            (AccountEffect::CreateRole, RoleFact::Missing) => role(true, false, &[]),
            (AccountEffect::AttachPolicy, RoleFact::Present { trusts_ecs, others, .. }) => {
                RoleFact::Present { trusts_ecs: *trusts_ecs, policy_attached: true, others: others.clone() }
            }
            (_, other) => other.clone(),
        };
        Observed { role, ..before.clone() }
    }

    #[test]
    fn in_every_world_settled_means_the_promise_and_effects_end_in_it_and_touch_nothing_foreign() {
        for desired in [ENSURE, REPORT, Desired::Suspended, Desired::Absent] {
            for start in every_observed() {
                let mut observed = start;
                for step in 0.. {
                    assert!(step < 4, "{desired:?} goes in circles: {observed:?}");
                    match AccountMachine::decide(&desired, &observed) {
                        Decision::Do(effect) => {
                            assert_eq!(desired, ENSURE, "only who asked for the role gets one");
                            assert!(!observed.role.is_foreign(), "{effect:?} on {observed:?}");
                            assert!(observed.pinned.is_none() || observed.pinned == observed.account);
                            observed = after(effect, &observed);
                        }
                        Decision::Settled => {
                            assert!(holds(&desired, &observed), "{desired:?} {observed:?}");
                            break;
                        }
                        Decision::Wait(_) | Decision::Blocked(_) => {
                            assert!(!holds(&desired, &observed), "{desired:?} {observed:?}");
                            break;
                        }
                    }
                }
            }
        }
    }
}
