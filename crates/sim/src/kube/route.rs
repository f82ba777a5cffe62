//! From a path to a kind, a namespace, a name and a subresource.
//!
//! Only shapes: whether the verb is allowed and the object exists is decided later.

use std::sync::Arc;

use super::kinds::{Registry, Resource};
use super::status::Refusal;

/// What a resource path names.
#[derive(Clone, Debug)]
pub struct Place {
    /// The kind.
    pub resource: Arc<Resource>,
    /// Namespace of the path, empty if there is none.
    pub namespace: String,
    /// Name of the path, empty for collections.
    pub name: String,
    /// Subresource, empty for the main resource.
    pub subresource: String,
    /// Whether it is one of the old `/watch/` paths.
    pub watch: bool,
}

/// Why a path leads nowhere.
#[derive(Clone, Debug)]
pub enum Nowhere {
    /// Plain text `404 page not found`, as custom groups and unknown paths answer.
    Page,
    /// A Status.
    Refused(Box<Refusal>),
}

/// Finds the place of a path below `/api/` or `/apis/`.
pub fn find(registry: &Registry, path: &str) -> Result<Place, Nowhere> {
    let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (group, version, rest) = match segments.as_slice() {
        ["api", version, rest @ ..] if !rest.is_empty() => ("", *version, rest),
        ["apis", group, version, rest @ ..] if !rest.is_empty() => (*group, *version, rest),
        _ => {
            return Err(nowhere(
                registry,
                segments.get(1).copied().unwrap_or_default(),
                segments[0] == "api",
            ));
        }
    };
    let missing = || nowhere(registry, group, group.is_empty());
    let (watch, rest) = match rest {
        ["watch", rest @ ..] if !rest.is_empty() => (true, rest),
        rest => (false, rest),
    };
    let (namespace, rest) = match rest {
        ["namespaces", namespace, rest @ ..] if group.is_empty() && !rest.is_empty() => {
            match rest[0] == "status" || rest[0] == "finalize" {
                true => ("", ["namespaces", namespace, rest[0]].to_vec()),
                false => (*namespace, rest.to_vec()),
            }
        }
        ["namespaces", namespace, rest @ ..] if !group.is_empty() && !rest.is_empty() => {
            (*namespace, rest.to_vec())
        }
        rest => ("", rest.to_vec()),
    };
    let (plural, name, subresource) = match rest.as_slice() {
        [plural] => (*plural, "", ""),
        [plural, name] => (*plural, *name, ""),
        [plural, name, subresource] => (*plural, *name, *subresource),
        _ => return Err(missing()),
    };
    let resource = registry.find(group, version, plural).ok_or_else(missing)?;
    // A list across all namespaces is the only path that may leave the namespace out.
    if namespace.is_empty() == resource.namespaced && (!namespace.is_empty() || !name.is_empty()) {
        return Err(missing());
    }
    Ok(Place {
        resource: Arc::clone(resource),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        subresource: subresource.to_owned(),
        watch,
    })
}

fn nowhere(registry: &Registry, group: &str, core: bool) -> Nowhere {
    let builtin = !group.is_empty()
        && registry.versions(group).iter().any(|v| v.resources.values().any(|one| !one.custom));
    match core || builtin {
        true => Nowhere::Refused(Box::new(Refusal::no_such_path())),
        false => Nowhere::Page,
    }
}
