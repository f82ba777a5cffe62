//! One node of a structural schema, compiled once from the OpenAPI form that a CustomResourceDefinition
//! carries.
//!
//! Deliberately holds no behaviour of its own beyond lookups: pruning, defaulting, validation, CEL and
//! server-side apply each walk the same nodes in their own files.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

use crate::kube::cel::Rule;

/// The `type` of a schema node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
}

impl Kind {
    /// Reads the OpenAPI name of a type; `None` for an unknown one.
    pub(crate) fn parse(name: &str) -> Option<Kind> {
        Some(match name {
            "object" => Kind::Object,
            "array" => Kind::Array,
            "string" => Kind::String,
            "integer" => Kind::Integer,
            "number" => Kind::Number,
            "boolean" => Kind::Boolean,
            _ => return None,
        })
    }

    /// The OpenAPI name of the type.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Object => "object",
            Kind::Array => "array",
            Kind::String => "string",
            Kind::Integer => "integer",
            Kind::Number => "number",
            Kind::Boolean => "boolean",
        }
    }
}

/// What `additionalProperties` says.
#[derive(Debug, Default)]
pub(crate) enum Additional {
    #[default]
    Absent,
    Any,
    Nothing,
    Schema(Box<Node>),
}

/// `x-kubernetes-list-type`; an absent one behaves as atomic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum ListType {
    #[default]
    Atomic,
    Set,
    Map(Vec<String>),
}

/// A pattern together with its source, which the error message repeats.
#[derive(Debug)]
pub(crate) struct Pattern {
    pub(crate) source: String,
    pub(crate) regex: Regex,
}

/// The value validations of one node, including the logical ones.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    pub(crate) options: Vec<Value>,
    pub(crate) pattern: Option<Pattern>,
    pub(crate) minimum: Option<f64>,
    pub(crate) maximum: Option<f64>,
    pub(crate) exclusive_minimum: bool,
    pub(crate) exclusive_maximum: bool,
    pub(crate) multiple_of: Option<f64>,
    pub(crate) min_length: Option<u64>,
    pub(crate) max_length: Option<u64>,
    pub(crate) min_items: Option<u64>,
    pub(crate) max_items: Option<u64>,
    pub(crate) min_properties: Option<u64>,
    pub(crate) max_properties: Option<u64>,
    pub(crate) required: Vec<String>,
    pub(crate) all_of: Vec<Node>,
    pub(crate) any_of: Vec<Node>,
    pub(crate) one_of: Vec<Node>,
    pub(crate) not: Option<Box<Node>>,
}

/// One compiled node.
#[derive(Debug, Default)]
pub(crate) struct Node {
    pub(crate) kind: Option<Kind>,
    pub(crate) format: Option<String>,
    pub(crate) nullable: bool,
    pub(crate) int_or_string: bool,
    pub(crate) preserve_unknown: bool,
    /// Whether this node or one above it preserves unknown fields: server-side apply lets them in below as
    /// well.
    pub(crate) inherited_preserve: bool,
    /// Whether the object carries `apiVersion`, `kind` and `metadata`: embedded resources and the root.
    pub(crate) embedded: bool,
    pub(crate) default: Option<Value>,
    pub(crate) properties: BTreeMap<String, Node>,
    pub(crate) additional: Additional,
    pub(crate) items: Option<Box<Node>>,
    pub(crate) list_type: ListType,
    pub(crate) atomic_map: bool,
    pub(crate) limits: Limits,
    pub(crate) rules: Vec<Rule>,
}

/// The fields of `metadata` that every object has (k8s.io/apimachinery, meta/v1 ObjectMeta), with their list
/// keys.
pub(crate) static OBJECT_META: LazyLock<Node> = LazyLock::new(object_meta);

/// A value about which nothing is declared: maps merge key by key, lists are atomic.
pub(crate) static UNDECLARED: LazyLock<Node> =
    LazyLock::new(|| Node { preserve_unknown: true, inherited_preserve: true, ..Node::default() });

/// A plain string.
pub(crate) static STRING: LazyLock<Node> =
    LazyLock::new(|| Node { kind: Some(Kind::String), ..Node::default() });

/// The names that every resource has at its root.
pub(crate) const META_FIELDS: [&str; 3] = ["apiVersion", "kind", "metadata"];

impl Node {
    /// The schema of the property `key`, looking at `properties` and then at `additionalProperties`.
    pub(crate) fn child(&self, key: &str) -> Option<&Node> {
        self.properties.get(key).or_else(|| self.additional_schema())
    }

    /// The schema form of `additionalProperties`.
    pub(crate) fn additional_schema(&self) -> Option<&Node> {
        match &self.additional {
            Additional::Schema(node) => Some(node),
            Additional::Absent | Additional::Any | Additional::Nothing => None,
        }
    }

    /// The declared field `key` as server-side apply knows it: `metadata` and its neighbours count as
    /// declared.
    pub(crate) fn declared(&self, key: &str) -> Option<&Node> {
        if self.embedded && META_FIELDS.contains(&key) {
            return Some(if key == "metadata" { &OBJECT_META } else { &STRING });
        }
        self.properties.get(key)
    }

    /// The schema that server-side apply uses for the map entry `key`; `None` if the schema does not allow
    /// it.
    pub(crate) fn entry(&self, key: &str) -> Option<&Node> {
        if let Some(node) = self.declared(key) {
            return Some(node);
        }
        match &self.additional {
            Additional::Schema(node) => Some(node),
            Additional::Any => Some(&UNDECLARED),
            Additional::Nothing => None,
            Additional::Absent => {
                (self.inherited_preserve || self.properties.is_empty()).then_some(&*UNDECLARED)
            }
        }
    }

    /// The schema of the items of a list as server-side apply uses it.
    pub(crate) fn element(&self) -> &Node {
        self.items.as_deref().unwrap_or(&UNDECLARED)
    }

    /// The names of the types that a value may have, in the order the messages show them.
    pub(crate) fn type_names(&self) -> Vec<&'static str> {
        if self.int_or_string {
            return vec!["integer", "string"];
        }
        self.kind.map(|kind| vec![kind.name()]).unwrap_or_default()
    }
}

fn object_meta() -> Node {
    let scalar = |kind, format: Option<&str>| Node {
        kind: Some(kind),
        format: format.map(str::to_owned),
        ..Node::default()
    };
    let string = || scalar(Kind::String, None);
    let time = || scalar(Kind::String, Some("date-time"));
    let string_map = || Node {
        kind: Some(Kind::Object),
        additional: Additional::Schema(Box::new(string())),
        ..Node::default()
    };
    let owner = object([
        ("apiVersion", string()),
        ("kind", string()),
        ("name", string()),
        ("uid", string()),
        ("controller", scalar(Kind::Boolean, None)),
        ("blockOwnerDeletion", scalar(Kind::Boolean, None)),
    ]);
    let entry = object([
        ("manager", string()),
        ("operation", string()),
        ("apiVersion", string()),
        ("time", time()),
        ("fieldsType", string()),
        (
            "fieldsV1",
            Node { kind: Some(Kind::Object), preserve_unknown: true, atomic_map: true, ..Node::default() },
        ),
        ("subresource", string()),
    ]);
    object([
        ("name", string()),
        ("generateName", string()),
        ("namespace", string()),
        ("selfLink", string()),
        ("uid", string()),
        ("resourceVersion", string()),
        ("generation", scalar(Kind::Integer, Some("int64"))),
        ("creationTimestamp", time()),
        ("deletionTimestamp", time()),
        ("deletionGracePeriodSeconds", scalar(Kind::Integer, Some("int64"))),
        ("labels", string_map()),
        ("annotations", string_map()),
        ("finalizers", list(ListType::Set, string())),
        ("ownerReferences", list(ListType::Map(vec!["uid".to_owned()]), Node { atomic_map: true, ..owner })),
        ("managedFields", list(ListType::Atomic, entry)),
    ])
}

fn object<const N: usize>(fields: [(&str, Node); N]) -> Node {
    let properties = fields.into_iter().map(|(name, node)| (name.to_owned(), node)).collect();
    Node { kind: Some(Kind::Object), properties, ..Node::default() }
}

fn list(list_type: ListType, item: Node) -> Node {
    Node { kind: Some(Kind::Array), list_type, items: Some(Box::new(item)), ..Node::default() }
}
