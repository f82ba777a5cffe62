//! Turns the OpenAPI form of a schema into compiled nodes: regular expressions and CEL rules are built here,
//! once.
//!
//! Deliberately lenient about shape: what is not allowed in a structural schema is reported by the structural
//! check.

use regex::Regex;
use serde_json::{Map, Value};

use super::Cause;
use super::node::{Additional, Kind, Limits, ListType, Node, Pattern};
use crate::kube::cel;
use crate::kube::validate::quoted;

/// The formats that the API server knows for strings (apiextensions-apiserver, supported formats), without
/// hyphens.
const STRING_FORMATS: [&str; 26] = [
    "bsonobjectid",
    "uri",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "cidr",
    "mac",
    "uuid",
    "uuid3",
    "uuid4",
    "uuid5",
    "isbn",
    "isbn10",
    "isbn13",
    "creditcard",
    "ssn",
    "hexcolor",
    "rgbcolor",
    "byte",
    "password",
    "date",
    "duration",
    "datetime",
    "k8sshortname",
    "k8slongname",
];

/// Compiles the root of a kind and everything below it; mistakes go to `causes`.
pub(super) fn root(schema: &Value, causes: &mut Vec<Cause>) -> Node {
    let mut compiled = tree(schema, "", false, causes);
    compiled.embedded = true;
    cel::compile_rules(&mut compiled, schema, "", true, causes);
    compiled
}

/// The path of a field below `path`.
pub(super) fn below(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn tree(schema: &Value, path: &str, inherited: bool, causes: &mut Vec<Cause>) -> Node {
    let flag = |name: &str| schema.get(name).and_then(Value::as_bool).unwrap_or(false);
    let preserve_unknown = flag("x-kubernetes-preserve-unknown-fields");
    let inherited_preserve = inherited || preserve_unknown;
    let kind = schema.get("type").and_then(Value::as_str).and_then(Kind::parse);
    let int_or_string = flag("x-kubernetes-int-or-string");
    let mut properties = std::collections::BTreeMap::new();
    for (name, property) in object(schema, "properties") {
        let below = below(path, &format!("properties[{name}]"));
        properties.insert(name.clone(), tree(property, &below, inherited_preserve, causes));
    }
    let additional = match schema.get("additionalProperties") {
        None => Additional::Absent,
        Some(Value::Bool(true)) => Additional::Any,
        Some(Value::Bool(false)) => Additional::Nothing,
        Some(inner) => {
            let below = below(path, "additionalProperties");
            Additional::Schema(Box::new(tree(inner, &below, inherited_preserve, causes)))
        }
    };
    let items = schema
        .get("items")
        .map(|inner| Box::new(tree(inner, &below(path, "items"), inherited_preserve, causes)));
    Node {
        kind: if int_or_string { None } else { kind },
        format: supported_format(schema, kind, int_or_string),
        nullable: flag("nullable"),
        int_or_string,
        preserve_unknown,
        inherited_preserve,
        embedded: flag("x-kubernetes-embedded-resource"),
        default: schema.get("default").cloned(),
        properties,
        additional,
        items,
        list_type: list_type(schema),
        atomic_map: schema.get("x-kubernetes-map-type").and_then(Value::as_str) == Some("atomic"),
        limits: limits(schema, path, inherited_preserve, causes),
        rules: Vec::new(),
    }
}

fn object<'a>(schema: &'a Value, name: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    schema.get(name).and_then(Value::as_object).into_iter().flat_map(Map::iter)
}

fn list_type(schema: &Value) -> ListType {
    match schema.get("x-kubernetes-list-type").and_then(Value::as_str) {
        Some("set") => ListType::Set,
        Some("map") => ListType::Map(strings(schema, "x-kubernetes-list-map-keys")),
        _ => ListType::Atomic,
    }
}

fn strings(schema: &Value, name: &str) -> Vec<String> {
    let list = schema.get(name).and_then(Value::as_array).into_iter().flatten();
    list.filter_map(Value::as_str).map(str::to_owned).collect()
}

fn supported_format(schema: &Value, kind: Option<Kind>, int_or_string: bool) -> Option<String> {
    let format = schema.get("format").and_then(Value::as_str)?;
    let supported = match kind {
        _ if int_or_string => false,
        None | Some(Kind::String) => STRING_FORMATS.contains(&format.replace('-', "").as_str()),
        Some(Kind::Integer) => matches!(format, "int32" | "int64"),
        Some(Kind::Number) => matches!(format, "float" | "double"),
        Some(Kind::Object | Kind::Array | Kind::Boolean) => false,
    };
    supported.then(|| format.to_owned())
}

fn limits(schema: &Value, path: &str, inherited: bool, causes: &mut Vec<Cause>) -> Limits {
    let number = |name: &str| schema.get(name).and_then(Value::as_f64);
    let count = |name: &str| schema.get(name).and_then(Value::as_u64);
    let flag = |name: &str| schema.get(name).and_then(Value::as_bool).unwrap_or(false);
    let branches = |name: &str, causes: &mut Vec<Cause>| -> Vec<Node> {
        let list = schema.get(name).and_then(Value::as_array).into_iter().flatten();
        list.enumerate()
            .map(|(index, branch)| tree(branch, &below(path, &format!("{name}[{index}]")), inherited, causes))
            .collect()
    };
    Limits {
        all_of: branches("allOf", causes),
        any_of: branches("anyOf", causes),
        one_of: branches("oneOf", causes),
        not: schema.get("not").map(|inner| Box::new(tree(inner, &below(path, "not"), inherited, causes))),
        options: schema.get("enum").and_then(Value::as_array).cloned().unwrap_or_default(),
        pattern: pattern(schema, path, causes),
        minimum: number("minimum"),
        maximum: number("maximum"),
        exclusive_minimum: flag("exclusiveMinimum"),
        exclusive_maximum: flag("exclusiveMaximum"),
        multiple_of: number("multipleOf"),
        min_length: count("minLength"),
        max_length: count("maxLength"),
        min_items: count("minItems"),
        max_items: count("maxItems"),
        min_properties: count("minProperties"),
        max_properties: count("maxProperties"),
        required: strings(schema, "required"),
    }
}

fn pattern(schema: &Value, path: &str, causes: &mut Vec<Cause>) -> Option<Pattern> {
    let source = schema.get("pattern").and_then(Value::as_str).filter(|source| !source.is_empty())?;
    match Regex::new(&ascii_classes(source)) {
        Ok(regex) => Some(Pattern { source: source.to_owned(), regex }),
        Err(error) => {
            let why = error.to_string().lines().last().unwrap_or_default().trim().to_owned();
            let message = format!(
                "Invalid value: {}: must be a valid regular expression, but isn't: {why}",
                quoted(source)
            );
            causes.push(Cause { reason: "FieldValueInvalid", message, field: below(path, "pattern") });
            None
        }
    }
}

/// Rewrites `\d`, `\w` and `\s` to ASCII classes, which is what they mean in the RE2 syntax of the API
/// server.
pub(super) fn ascii_classes(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut in_class = false;
    let mut chars = source.chars();
    while let Some(letter) = chars.next() {
        match letter {
            '\\' => {
                let escaped = chars.next();
                let members = match escaped {
                    Some('d') => Some("0-9"),
                    Some('w') => Some("0-9A-Za-z_"),
                    Some('s') => Some(r"\t\n\f\r "),
                    _ => None,
                };
                match (members, escaped) {
                    (Some(members), _) if in_class => out.push_str(members),
                    (Some(members), _) => out.extend(["[", members, "]"]),
                    (None, Some(other)) => out.extend(['\\', other]),
                    (None, None) => out.push('\\'),
                }
            }
            '[' => {
                in_class = true;
                out.push('[');
            }
            ']' => {
                in_class = false;
                out.push(']');
            }
            other => out.push(other),
        }
    }
    out
}
