//! Structural schemas: pruning, defaulting and validation as the API server does them.
//!
//! Deliberately does not read or write the network, the clock or the store, and does not check `metadata`:
//! names, labels and owner references are the server's business. Cost limits of CEL rules are not estimated.

mod builtin;
mod compile;
pub(crate) mod node;
mod shape;
mod structural;

use std::sync::Arc;

use serde_json::Value;

use crate::kube::cel;
use crate::kube::validate::{self, Old};
use node::Node;

/// One `metav1.StatusCause`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// The machine-readable reason, such as `FieldValueInvalid`.
    pub reason: &'static str,
    /// The words after the field, such as `Invalid value: 0: must be positive`.
    pub message: String,
    /// The path of the field, `spec.ports[0].port`; `<nil>` stands for the whole object.
    pub field: String,
}

/// Which part of an object a write may change, and so which part is validated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// A write to the main resource.
    Whole,
    /// A write to the status subresource: the schema of `status`, and every CEL rule.
    Status,
}

/// The compiled schema of one version of one kind; cheap to clone.
#[derive(Clone, Debug)]
pub struct Schema {
    pub(crate) root: Arc<Node>,
    /// Whether unknown fields are dropped; most built-in kinds are only described in part.
    closed: bool,
    /// Whether values are checked; built-in kinds are not.
    custom: bool,
    status_subresource: bool,
}

/// What the API server says when errors of the schema keep the rules from being evaluated.
const RULES_NOT_CHECKED: &str = "Invalid value: null: some validation rules were not checked because the \
     object was invalid; correct the existing errors to complete validation";

/// The reasons that keep CEL rules from being evaluated.
const BLOCKING: [&str; 5] = [
    "FieldValueNotSupported",
    "FieldValueRequired",
    "FieldValueTooLong",
    "FieldValueTooMany",
    "FieldValueTypeInvalid",
];

impl Schema {
    /// Compiles the value of `spec.versions[].schema.openAPIV3Schema` of a CustomResourceDefinition.
    ///
    /// # Errors
    /// Every mistake of the schema itself. The fields of the causes are relative to the schema: the root is
    /// the empty string, a property is `properties[spec].type`.
    pub fn compile(open_api_v3_schema: &Value) -> Result<Schema, Vec<Cause>> {
        let mut causes = structural::check(open_api_v3_schema);
        let root = compile::root(open_api_v3_schema, &mut causes);
        check_defaults(&root, "", &mut causes);
        if causes.is_empty() {
            Ok(Schema { root: Arc::new(root), closed: true, custom: true, status_subresource: false })
        } else {
            Err(causes)
        }
    }

    /// What is known of a built-in kind: its list keys and defaults. `None` for an unknown kind.
    ///
    /// Kinds that are described completely drop unknown fields; the others keep them.
    pub fn builtin(group: &str, version: &str, kind: &str) -> Option<Schema> {
        let described = builtin::describe(group, version, kind)?;
        Some(Schema {
            root: Arc::new(described.root),
            closed: described.complete,
            custom: false,
            status_subresource: described.status_subresource,
        })
    }

    /// Says whether the kind has the status subresource: writes to the main resource then own nothing in
    /// `status`.
    #[must_use]
    pub fn with_status_subresource(mut self, enabled: bool) -> Schema {
        self.status_subresource = enabled;
        self
    }

    /// Whether the kind has the status subresource.
    pub fn has_status_subresource(&self) -> bool {
        self.status_subresource
    }

    /// Drops unknown fields and returns their paths in order, such as `spec.foo` or `spec.list[0].bar`.
    pub fn prune(&self, object: &mut Value) -> Vec<String> {
        if self.closed { shape::prune(&self.root, object) } else { shape::prune_metadata(object) }
    }

    /// Fills in defaults after dropping nulls that are neither allowed nor defaulted, as decoding a body
    /// does.
    pub fn default(&self, object: &mut Value) {
        shape::drop_nulls(Some(&self.root), object, self.closed);
        shape::default(&self.root, object);
    }

    /// Fills in defaults without dropping nulls, as it is done with the result of a server-side apply.
    pub fn default_applied(&self, object: &mut Value) {
        shape::default(&self.root, object);
    }

    /// Checks an object against the schema and its CEL rules; `old` is the object before an update.
    ///
    /// Invalid parts that an update did not touch are let through (ratcheting, GA in Kubernetes 1.33). `earlier`
    /// are errors of the metadata: they may keep the rules from being evaluated, and are not part of the answer.
    pub fn validate_after(
        &self,
        earlier: &[Cause],
        object: &Value,
        old: Option<&Value>,
        scope: Scope,
    ) -> Vec<Cause> {
        if !self.custom {
            return Vec::new();
        }
        let mut causes = match scope {
            Scope::Whole => validate::schema(&self.root, object, old_state(old), None),
            Scope::Status => self.validate_status(object, old),
        };
        if scope == Scope::Whole {
            validate::embedded(&self.root, object, &mut causes);
        }
        if old.is_none_or(|old| validate::lists(&self.root, old).is_empty()) {
            causes.extend(validate::lists(&self.root, object));
        }
        if earlier.iter().chain(&causes).any(|cause| BLOCKING.contains(&cause.reason)) {
            if cel::has_rules(&self.root) {
                let message = RULES_NOT_CHECKED.to_owned();
                causes.push(Cause { reason: "FieldValueInvalid", message, field: "<nil>".to_owned() });
            }
        } else {
            causes.extend(cel::evaluate(&self.root, object, old));
        }
        causes
    }

    fn validate_status(&self, object: &Value, old: Option<&Value>) -> Vec<Cause> {
        let (Some(node), Some(status)) = (self.root.properties.get("status"), object.get("status")) else {
            return Vec::new();
        };
        let old = old_state(old.and_then(|old| old.get("status")));
        validate::schema(node, status, old, Some("status"))
    }
}

/// Defaults must be valid themselves.
fn check_defaults(node: &Node, path: &str, causes: &mut Vec<Cause>) {
    if let Some(default) = &node.default {
        let mut filled = default.clone();
        shape::default(node, &mut filled);
        causes.extend(validate::schema(node, &filled, Old::Nothing, Some(&compile::below(path, "default"))));
    }
    for (name, property) in &node.properties {
        check_defaults(property, &compile::below(path, &format!("properties[{name}]")), causes);
    }
    if let Some(items) = &node.items {
        check_defaults(items, &compile::below(path, "items"), causes);
    }
    if let Some(inner) = node.additional_schema() {
        check_defaults(inner, &compile::below(path, "additionalProperties"), causes);
    }
}

#[cfg(test)]
impl Schema {
    /// The same for an object whose metadata is known to be right.
    pub(crate) fn validate(&self, object: &Value, old: Option<&Value>, scope: Scope) -> Vec<Cause> {
        self.validate_after(&[], object, old, scope)
    }
}

fn old_state(old: Option<&Value>) -> Old<'_> {
    old.map_or(Old::Nothing, Old::Value)
}

#[cfg(test)]
mod tests;
