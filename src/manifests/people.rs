//! Who may plan, order, undo, approve and read a revocation: one ClusterRole for each, bound to nobody; and the Role that
//! reads the whole reports.
//!
//! `revoke`, `restore` and `approve` are verbs that RBAC only carries; `admission` asks for them. The built-in roles
//! view, edit and admin get none of this: a plan names the key that is about to be cut, and an insider who may read it
//! is warned.

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, Role};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::admission::REVOCATIONS;
use super::{NAMESPACE, labels, metadata, rule};
use crate::resource::GROUP;

/// What all of these roles may do.
const READING: [&str; 3] = ["get", "list", "watch"];
/// Name of the role after `ecskms-revocation-`, and its verbs besides reading.
const ROLES: [(&str, &[&str]); 5] = [
    ("planner", &["create"]),
    ("revoker", &["create", "update", "patch", "revoke"]),
    // Deleting is for records of incidents that are over; `admission` refuses it while the key is cut.
    ("restorer", &["update", "patch", "delete", "restore"]),
    ("approver", &["update", "patch", "approve"]),
    ("auditor", &[]),
];

/// The five ClusterRoles.
pub fn revocation_roles() -> Vec<ClusterRole> {
    let role = |(name, verbs): (&str, &[&str])| {
        let verbs: Vec<&str> = READING.iter().chain(verbs).copied().collect();
        let rules: Vec<PolicyRule> = vec![rule(GROUP, vec![REVOCATIONS.to_owned()], &verbs)];
        let metadata = metadata(&format!("ecskms-revocation-{name}"), labels());
        ClusterRole { metadata, rules: Some(rules), aggregation_rule: None }
    };
    ROLES.into_iter().map(role).collect()
}

/// Reading the whole reports (`status.reportRef`), which lie as ConfigMaps in the operator's namespace and nowhere else.
/// A Role, so that it says nothing about the ConfigMaps of others.
pub fn reports_role() -> Role {
    let metadata = ObjectMeta {
        namespace: Some(NAMESPACE.to_owned()),
        ..metadata("ecskms-revocation-reports", labels())
    };
    Role { metadata, rules: Some(vec![rule("", vec!["configmaps".to_owned()], &["get", "list"])]) }
}
