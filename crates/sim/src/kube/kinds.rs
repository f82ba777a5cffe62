//! The registry: which groups, versions and kinds the server knows at this moment.
//!
//! Holds what a request needs to know about its kind; it stores no objects. Custom kinds come from
//! `definitions`, built-in kinds from `builtin`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::schema::Schema;
use super::status::qualified;
use super::table::Column;

/// Verbs of a built-in kind, in the order of the real server's discovery.
pub const VERBS_BUILTIN: &[&str] =
    &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
/// The same for Namespaces, which have no collection delete.
pub const VERBS_NAMESPACE: &[&str] = &["create", "delete", "get", "list", "patch", "update", "watch"];
/// Verbs of a custom kind, in the order of the real server's discovery.
pub const VERBS_CUSTOM: &[&str] =
    &["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"];
/// Verbs of a review, which can only be created and is not stored.
pub const VERBS_REVIEW: &[&str] = &["create"];

/// A field that field selectors may name: its label and where its value lies (a JSON pointer).
#[derive(Clone, Debug)]
pub struct Selectable {
    /// As the selector writes it, for example `spec.color`.
    pub label: String,
    /// JSON pointer into the stored object.
    pub pointer: String,
}

/// One served version of one kind.
#[derive(Debug)]
pub struct Resource {
    /// API group, empty for core.
    pub group: String,
    /// Version.
    pub version: String,
    /// Plural, as in the path.
    pub plural: String,
    /// Singular.
    pub singular: String,
    /// Kind.
    pub kind: String,
    /// Kind of the list.
    pub list_kind: String,
    /// Whether objects live in namespaces.
    pub namespaced: bool,
    /// Whether it comes from a CustomResourceDefinition.
    pub custom: bool,
    /// Short names.
    pub short_names: Vec<String>,
    /// Categories.
    pub categories: Vec<String>,
    /// Verbs of the main resource.
    pub verbs: &'static [&'static str],
    /// Whether `/status` is served and keeps status apart.
    pub has_status: bool,
    /// Whether `metadata.generation` is kept.
    pub has_generation: bool,
    /// Where its objects are stored: `plural.group` of the kind that owns the storage.
    pub store: Arc<str>,
    /// Columns of its tables, the name first.
    pub columns: Vec<Column>,
    /// Fields for selectors besides metadata.name and metadata.namespace.
    pub selectable: Vec<Selectable>,
    /// The compiled schema.
    pub schema: Schema,
    /// `openAPIV3Schema` of a custom kind.
    pub definition: Option<Value>,
    /// Whether its CustomResourceDefinition is being deleted.
    pub terminating: bool,
}

impl Resource {
    /// `plural.group`, as messages name it.
    pub fn qualified(&self) -> String {
        qualified(&self.group, &self.plural)
    }

    /// `group/version`, or the version alone in the core group.
    pub fn api_version(&self) -> String {
        api_version(&self.group, &self.version)
    }

    /// Whether this is the kind `kind` of the group `group`.
    pub fn is(&self, group: &str, kind: &str) -> bool {
        self.group == group && self.kind == kind
    }
}

/// `group/version`, or the version alone in the core group.
pub fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

/// Every kind that is served, by group and version, then by plural.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    groups: BTreeMap<String, Vec<GroupVersion>>,
}

/// The kinds of one version of one group.
#[derive(Clone, Debug)]
pub struct GroupVersion {
    /// Version name.
    pub version: String,
    /// Kinds by plural.
    pub resources: BTreeMap<String, Arc<Resource>>,
}

impl Registry {
    /// Adds one kind; later versions of a group come after earlier ones.
    pub fn add(&mut self, resource: Arc<Resource>) {
        let versions = self.groups.entry(resource.group.clone()).or_default();
        let place = match versions.iter().position(|v| v.version == resource.version) {
            Some(place) => place,
            None => {
                let version = resource.version.clone();
                versions.push(GroupVersion { version, resources: BTreeMap::new() });
                versions.sort_by_key(|one| std::cmp::Reverse(version_rank(&one.version)));
                versions.iter().position(|v| v.version == resource.version).unwrap_or(0)
            }
        };
        versions[place].resources.insert(resource.plural.clone(), resource);
    }

    /// One kind by its path.
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Resource>> {
        self.versions(group).iter().find(|v| v.version == version)?.resources.get(plural)
    }

    /// One kind by `apiVersion` and `kind`, as an owner reference names it.
    pub fn find_kind(&self, api_version: &str, kind: &str) -> Option<&Arc<Resource>> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let found = self.versions(group).iter().find(|v| v.version == version)?;
        found.resources.values().find(|resource| resource.kind == kind)
    }

    /// A served version of the kind whose objects are stored under `store`.
    pub fn find_store(&self, store: &str) -> Option<&Arc<Resource>> {
        let (plural, group) = store.split_once('.').unwrap_or((store, ""));
        self.versions(group).iter().find_map(|v| v.resources.get(plural))
    }

    /// The versions of a group, the preferred one first; empty if the group is unknown.
    pub fn versions(&self, group: &str) -> &[GroupVersion] {
        self.groups.get(group).map_or(&[], Vec::as_slice)
    }

    /// Group names, in order; the core group is the empty name.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        self.groups.keys().map(String::as_str)
    }

    /// Every served kind.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.groups.values().flatten().flat_map(|v| v.resources.values())
    }
}

/// Kubernetes' order of versions: stable before beta before alpha, then the higher number; other names last.
pub fn version_rank(version: &str) -> (u8, u64, u64) {
    let Some(rest) = version.strip_prefix('v') else { return (0, 0, 0) };
    let digits = rest.chars().take_while(char::is_ascii_digit).count();
    let Ok(major) = rest[..digits].parse::<u64>() else { return (0, 0, 0) };
    let tail = &rest[digits..];
    let minor = |name: &str| tail.strip_prefix(name).and_then(|number| number.parse::<u64>().ok());
    match (tail.is_empty(), minor("beta"), minor("alpha")) {
        (true, _, _) => (3, major, 0),
        (_, Some(number), _) => (2, major, number),
        (_, _, Some(number)) => (1, major, number),
        _ => (0, 0, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::version_rank;

    #[test]
    fn stable_versions_come_before_beta_before_alpha_before_words() {
        let mut versions = ["foo1", "v1alpha1", "v2beta1", "v11", "v1", "v10beta3", "v2", "v1beta12", "v"];
        versions.sort_by_key(|version| std::cmp::Reverse(version_rank(version)));
        assert_eq!(versions[..7], ["v11", "v2", "v1", "v10beta3", "v2beta1", "v1beta12", "v1alpha1"]);
    }
}
