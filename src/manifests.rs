//! The CustomResourceDefinitions, the RBAC rules and the admission policies as values, derived from the registry of
//! kinds.
//!
//! `crds/`, `deploy/` and `charts/` hold what is said here as files; `tests/generated.rs` compares them and,
//! with `UPDATE=1`, rewrites them. Nothing here calls anything. `kinds::visit` knows the kinds; only `admission` and
//! `people` name one, because it speaks for the whole account.

use std::collections::BTreeMap;

use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::kind::Kind;
use crate::kinds::{self, Visitor};
use crate::resource::GROUP;

pub mod admission;
pub mod people;
mod schema;

/// Name of the operator's ServiceAccount, Deployment and ClusterRole.
pub const NAME: &str = "ecskms";
/// Namespace of the operator in `deploy/`.
pub const NAMESPACE: &str = "ecskms-system";
/// Name of the Lease of leader election; the only Lease that the operator may read or write.
pub const LEASE_NAME: &str = "ecskms-leader";
/// Name of the Role that allows leader election.
pub const ELECTION_ROLE: &str = "ecskms-leader-election";
/// Name of the Role that allows reading the Secrets of accounts.
pub const CREDENTIALS_ROLE: &str = "ecskms-credentials";
/// Name of the ClusterRole that is added to the built-in role `view`, and so to `edit` and `admin`.
pub const VIEW_ROLE: &str = "ecskms-view";
/// Name of the ClusterRole that lets people write the kinds of a namespace.
pub const EDIT_ROLE: &str = "ecskms-edit";

/// Every CustomResourceDefinition, in the order of the registry, as a Kubernetes API server accepts it.
pub fn crds() -> Vec<CustomResourceDefinition> {
    struct Collector(Vec<CustomResourceDefinition>);
    impl Visitor for Collector {
        fn visit<K: Kind>(&mut self) {
            let mut crd = K::crd();
            crd.metadata.labels = Some(labels());
            for version in &mut crd.spec.versions {
                let root = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut());
                root.into_iter().for_each(schema::finish);
            }
            self.0.push(crd);
        }
    }
    let mut collector = Collector(Vec::new());
    kinds::visit(&mut collector);
    collector.0
}

/// The CustomResourceDefinitions as (name, YAML document that begins with `---`).
pub fn crd_files() -> Vec<(String, String)> {
    let file = |crd: CustomResourceDefinition| {
        let text = to_yaml(&crd);
        (crd.metadata.name.unwrap_or_default(), format!("---\n{text}"))
    };
    crds().into_iter().map(file).collect()
}

/// What the operator may do everywhere: look at its kinds, write their status and finalizers, write Events,
/// and read single namespaces: the uid of kube-system tells clusters apart, and labels say which namespaces may
/// use an account.
pub fn operator_role() -> ClusterRole {
    let all = plurals(|_| true);
    let status = all.iter().map(|plural| format!("{plural}/status")).collect();
    let rules = vec![
        rule(GROUP, all, &["get", "list", "watch"]),
        rule(GROUP, finalized(), &["patch"]),
        rule(GROUP, status, &["patch"]),
        rule("events.k8s.io", vec!["events".to_owned()], &["create", "patch"]),
        rule("", vec!["namespaces".to_owned()], &["get"]),
        // Who is hit when a key is lost: volume, claim, pod, owner; and which instances are nodes of this cluster.
        rule("", vec!["nodes".to_owned(), "persistentvolumes".to_owned(), "pods".to_owned()], &["list"]),
        // What makes disks, for audits.
        rule("storage.k8s.io", vec!["storageclasses".to_owned()], &["list"]),
        rule("apps", vec!["replicasets".to_owned()], &["get"]),
        rule("batch", vec!["jobs".to_owned()], &["get"]),
    ];
    ClusterRole { metadata: metadata(NAME, labels()), rules: Some(rules), aggregation_rule: None }
}

/// What the operator may do in its own namespace only: elect a leader, and write the reports of revocations. RBAC cannot bind a
/// creation to a name.
pub fn election_role() -> Role {
    let leases = || vec!["leases".to_owned()];
    let rules = vec![
        rule("coordination.k8s.io", leases(), &["create"]),
        PolicyRule {
            resource_names: Some(vec![LEASE_NAME.to_owned()]),
            ..rule("coordination.k8s.io", leases(), &["get", "update"])
        },
        rule("", vec!["configmaps".to_owned()], &["create", "patch"]),
    ];
    let metadata = ObjectMeta { namespace: Some(NAMESPACE.to_owned()), ..metadata(ELECTION_ROLE, labels()) };
    Role { metadata, rules: Some(rules) }
}

/// What the operator may do in its own namespace only: read a Secret whose name a CloudAccount gives, and watch the metadata of
/// all. The API knows no right to watch metadata alone, so nothing but what the operator needs belongs into its namespace.
pub fn credentials_role() -> Role {
    let metadata =
        ObjectMeta { namespace: Some(NAMESPACE.to_owned()), ..metadata(CREDENTIALS_ROLE, labels()) };
    Role { metadata, rules: Some(vec![rule("", vec!["secrets".to_owned()], &["get", "list", "watch"])]) }
}

/// Gives [`operator_role`] to the operator's ServiceAccount.
pub fn operator_binding() -> ClusterRoleBinding {
    let role_ref = reference("ClusterRole", NAME);
    ClusterRoleBinding { metadata: metadata(NAME, labels()), role_ref, subjects: Some(vec![operator()]) }
}

/// Gives [`election_role`] to the operator's ServiceAccount.
pub fn election_binding() -> RoleBinding {
    let metadata = ObjectMeta { namespace: Some(NAMESPACE.to_owned()), ..metadata(ELECTION_ROLE, labels()) };
    RoleBinding { metadata, role_ref: reference("Role", ELECTION_ROLE), subjects: Some(vec![operator()]) }
}

/// Gives [`credentials_role`] to the operator's ServiceAccount.
pub fn credentials_binding() -> RoleBinding {
    let metadata =
        ObjectMeta { namespace: Some(NAMESPACE.to_owned()), ..metadata(CREDENTIALS_ROLE, labels()) };
    RoleBinding { metadata, role_ref: reference("Role", CREDENTIALS_ROLE), subjects: Some(vec![operator()]) }
}

/// Reading every kind but revocations, for whoever has the built-in role view, edit or admin. Revocations are read with
/// a role of [`people`].
pub fn view_role() -> ClusterRole {
    let plurals = plurals(|crd| crd.spec.names.plural != admission::REVOCATIONS);
    let rules = vec![rule(GROUP, plurals, &["get", "list", "watch"])];
    aggregated(VIEW_ROLE, &["view", "edit", "admin"], rules)
}

/// Writing the kinds that live in a namespace; bound to nobody. An object may name any resource of the operator's own account,
/// so whoever may write one can have data disks of others detached, copied and deleted.
///
/// A cluster-scoped kind speaks for the whole account (one of them revokes keys), so it is never in here.
pub fn edit_role() -> ClusterRole {
    let verbs = ["create", "delete", "deletecollection", "patch", "update"];
    let rules = vec![rule(GROUP, plurals(|crd| crd.spec.scope == "Namespaced"), &verbs)];
    aggregated(EDIT_ROLE, &[], rules)
}

/// [`edit_role`] for whoever has the built-in role edit or admin, where a cluster wants it so.
pub fn edit_role_for_editors() -> ClusterRole {
    aggregated(EDIT_ROLE, &["edit", "admin"], edit_role().rules.unwrap_or_default())
}

/// YAML as the files of this project hold it, without a document mark.
pub fn to_yaml<T: serde::Serialize>(value: &T) -> String {
    let options = serde_saphyr::ser_options! { folded_wrap_chars: 100 };
    serde_saphyr::to_string_with_options(&to_json(value), options).expect("JSON can be written as YAML")
}

/// A value as [`to_yaml`] writes it: numbers that are whole have no fraction.
pub fn to_json<T: serde::Serialize>(value: &T) -> serde_json::Value {
    let value = serde_json::to_value(value).map(schema::whole_numbers);
    value.expect("values of the Kubernetes API have string keys and no foreign types")
}

fn plurals(wanted: impl Fn(&CustomResourceDefinition) -> bool) -> Vec<String> {
    crds().into_iter().filter(wanted).map(|crd| crd.spec.names.plural).collect()
}

/// The kinds whose objects carry the operator's finalizer.
fn finalized() -> Vec<String> {
    struct Collector(Vec<String>);
    impl Visitor for Collector {
        fn visit<K: Kind>(&mut self) {
            if K::FINALIZES {
                self.0.push(K::plural(&()).into_owned());
            }
        }
    }
    let mut collector = Collector(Vec::new());
    kinds::visit(&mut collector);
    collector.0
}

fn rule(group: &str, resources: Vec<String>, verbs: &[&str]) -> PolicyRule {
    PolicyRule {
        api_groups: Some(vec![group.to_owned()]),
        resources: Some(resources),
        verbs: verbs.iter().map(|verb| (*verb).to_owned()).collect(),
        ..PolicyRule::default()
    }
}

fn reference(kind: &str, name: &str) -> RoleRef {
    let api_group = Some("rbac.authorization.k8s.io".to_owned());
    RoleRef { api_group, kind: kind.to_owned(), name: name.to_owned() }
}

fn operator() -> Subject {
    Subject {
        kind: "ServiceAccount".to_owned(),
        name: NAME.to_owned(),
        namespace: Some(NAMESPACE.to_owned()),
        ..Subject::default()
    }
}

fn aggregated(name: &str, into: &[&str], rules: Vec<PolicyRule>) -> ClusterRole {
    let mut labels = labels();
    let key = |role: &&str| format!("rbac.authorization.k8s.io/aggregate-to-{role}");
    labels.extend(into.iter().map(|role| (key(role), "true".to_owned())));
    ClusterRole { metadata: metadata(name, labels), rules: Some(rules), aggregation_rule: None }
}

fn metadata(name: &str, labels: BTreeMap<String, String>) -> ObjectMeta {
    ObjectMeta { name: Some(name.to_owned()), labels: Some(labels), ..ObjectMeta::default() }
}

/// What every object of the installation is labelled with.
pub fn labels() -> BTreeMap<String, String> {
    BTreeMap::from([("app.kubernetes.io/part-of".to_owned(), NAME.to_owned())])
}
