//! Random wishes and worlds of a CloudAccount.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::json;

use super::super::cloud_account::decide::{Desired, Observed, RoleFact};
use super::super::cloud_account::{CloudAccount, promise};
use super::{Subject, Wish, id, object};
use crate::decision::key::KeyFact;

pub(super) fn subject() -> Subject<CloudAccount> {
    Subject {
        object: object(json!({ "credentials": { "secretRef": { "name": "own" } } })),
        with_status: |object, status| CloudAccount { status: Some(status), ..object.clone() },
        desired: prop_oneof![
            4 => any::<bool>().prop_map(|ensure_role| Desired::Present { ensure_role }),
            1 => Just(Desired::Suspended),
            1 => Just(Desired::Absent),
        ]
        .boxed(),
        observed: observed().boxed(),
        holds: promise::holds,
        wish: |desired| match desired {
            Desired::Absent => Wish::Absent,
            Desired::Suspended => Wish::Resting,
            Desired::Present { .. } => Wish::Managed,
        },
        // It makes no resource of its own and uses no key.
        occupied: |_| false,
        key: |_| &KeyFact::Unasked,
    }
}

fn observed() -> impl Strategy<Value = Observed> {
    let others = proptest::collection::btree_set(id("policy"), 0..2);
    let present = (any::<bool>(), any::<bool>(), others).prop_map(
        |(trusts_ecs, policy_attached, others): (bool, bool, BTreeSet<String>)| RoleFact::Present {
            trusts_ecs,
            policy_attached,
            others,
        },
    );
    let role = prop_oneof![Just(RoleFact::Unasked), Just(RoleFact::Missing), present];
    let account = || proptest::option::of(id("account"));
    (account(), account(), role).prop_map(|(account, pinned, role)| Observed { account, pinned, role })
}
