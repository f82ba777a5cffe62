//! CEL rules of custom resources (`x-kubernetes-validations`): compiled with a schema, evaluated on every
//! write.
//!
//! Deliberately leaves the language to the `kube-cel` crate. What is added here: values typed by the schema,
//! old values found through keyed lists, `optionalOldSelf`, ratcheting, and the API server's words. Costs are
//! not estimated.

mod check;
mod rules;
mod values;

use kube_cel::KubeCelExt;
use kube_cel::cel::{Context, ExecutionError, Value as Cel};
use serde_json::Value;

use crate::kube::schema::Cause;
use crate::kube::schema::node::Node;
use crate::kube::validate::{counterpart, counterpart_item, is_compound, quoted, shown, unchanged};
pub(crate) use rules::{Rule, compile_rules};

/// The longest message that a `messageExpression` may give, in bytes (apiserver,
/// MaxEvaluatedMessageExpressionSizeBytes).
const LONGEST_MESSAGE: usize = 5 * 1024;

/// What the API server says of a text that is no quantity (apimachinery, ErrFormatWrong).
const QUANTITY_FORM: &str =
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";

thread_local! {
    /// The functions of the language and of Kubernetes; registering them takes longer than most rules.
    static FUNCTIONS: Context<'static> = functions();
}

/// The library's functions, and `type` with the names of types, which it lacks.
fn functions() -> Context<'static> {
    let mut context = Context::default().with_all();
    context
        .add_function("type", |value: Cel| -> Result<Cel, ExecutionError> { Ok(type_name(&value).into()) });
    for name in ["bool", "bytes", "double", "int", "list", "map", "null_type", "string", "uint"] {
        context.add_variable_from_value(name, Cel::from(name));
    }
    context
}

fn type_name(value: &Cel) -> &'static str {
    match value {
        Cel::List(_) => "list",
        Cel::Map(_) => "map",
        Cel::Int(_) => "int",
        Cel::UInt(_) => "uint",
        Cel::Float(_) => "double",
        Cel::String(_) => "string",
        Cel::Bytes(_) => "bytes",
        Cel::Bool(_) => "bool",
        Cel::Null => "null_type",
        Cel::Duration(_) => "google.protobuf.Duration",
        Cel::Timestamp(_) => "google.protobuf.Timestamp",
        Cel::Function(..) | Cel::Opaque(_) => "opaque",
    }
}

/// Whether any rule is declared at or below a node.
pub(crate) fn has_rules(node: &Node) -> bool {
    !node.rules.is_empty()
        || node.properties.values().any(has_rules)
        || node.items.as_deref().is_some_and(has_rules)
        || node.additional_schema().is_some_and(has_rules)
        || node.limits.all_of.iter().any(has_rules)
}

/// Evaluates every rule of the schema on an object; `old` is the object before an update.
pub(crate) fn evaluate(root: &Node, object: &Value, old: Option<&Value>) -> Vec<Cause> {
    if !has_rules(root) {
        return Vec::new();
    }
    let ratchet = Ratchet { current: old.map(|old| Pair { node: root, new: object, old }), parent: None };
    FUNCTIONS.with(|functions| {
        let mut walk = Walk { functions, causes: Vec::new() };
        walk.value(Place { rules: root, types: root, path: "" }, object, old, ratchet);
        walk.causes
    })
}

/// A value and its counterpart before the update.
#[derive(Clone, Copy)]
struct Pair<'a> {
    node: &'a Node,
    new: &'a Value,
    old: &'a Value,
}

/// What decides whether a broken rule may be ignored because the update did not touch the value.
#[derive(Clone, Copy)]
struct Ratchet<'a> {
    current: Option<Pair<'a>>,
    parent: Option<Pair<'a>>,
}

impl<'a> Ratchet<'a> {
    fn forgives(&self) -> bool {
        self.current.or(self.parent).is_some_and(|pair| unchanged(pair.node, pair.new, pair.old))
    }

    fn key(self, key: &str) -> Ratchet<'a> {
        let Some(pair) = self.current else { return self };
        if self.parent.is_none() && matches!(key, "apiVersion" | "kind") {
            return Ratchet { current: None, parent: None };
        }
        let below = counterpart(pair.node, key, pair.old)
            .and_then(|(node, old)| Some(Pair { node, new: pair.new.get(key)?, old }));
        Ratchet { current: below, parent: Some(pair) }
    }

    fn index(self, index: usize) -> Ratchet<'a> {
        let Some(pair) = self.current else { return self };
        let below = counterpart_item(pair.node, pair.new, index, pair.old)
            .and_then(|(node, old)| Some(Pair { node, new: pair.new.get(index)?, old }));
        Ratchet { current: below, parent: Some(pair) }
    }
}

/// Where rules are read from, how values are typed, and how the place is called.
#[derive(Clone, Copy)]
struct Place<'a> {
    rules: &'a Node,
    types: &'a Node,
    path: &'a str,
}

struct Walk<'f> {
    functions: &'f Context<'static>,
    causes: Vec<Cause>,
}

impl Walk<'_> {
    fn value<'a>(
        &mut self,
        place: Place<'_>,
        value: &'a Value,
        old: Option<&'a Value>,
        ratchet: Ratchet<'a>,
    ) {
        if value.is_null() {
            return;
        }
        self.rules(place, value, old, ratchet);
        for branch in &place.rules.limits.all_of {
            let ratchet = Ratchet { current: None, parent: ratchet.parent };
            self.value(Place { rules: branch, ..place }, value, old, ratchet);
        }
        match value {
            Value::Object(fields) => {
                for (key, field) in fields {
                    let Some((rules, types, named)) = child(place, key) else { continue };
                    let path = match (place.path, named) {
                        ("", true) => key.clone(),
                        (path, true) => format!("{path}.{key}"),
                        (path, false) => format!("{path}[{key}]"),
                    };
                    let old = old.and_then(|old| old.get(key));
                    self.value(Place { rules, types, path: &path }, field, old, ratchet.key(key));
                }
            }
            Value::Array(items) => {
                let (Some(rules), Some(types)) = (&place.rules.items, &place.types.items) else { return };
                for (index, item) in items.iter().enumerate() {
                    let path = format!("{}[{index}]", place.path);
                    let old = old
                        .and_then(|old| counterpart_item(place.types, value, index, old))
                        .map(|(_, old)| old);
                    self.value(Place { rules, types, path: &path }, item, old, ratchet.index(index));
                }
            }
            _ => {}
        }
    }

    fn rules(&mut self, place: Place<'_>, value: &Value, old: Option<&Value>, ratchet: Ratchet<'_>) {
        if place.rules.rules.is_empty() {
            return;
        }
        let old = old.filter(|old| !old.is_null());
        let this = values::convert(place.types, value, None);
        let before = old.map(|old| values::convert(place.types, old, Some(value)));
        for rule in &place.rules.rules {
            if rule.uses_old_self && old.is_none() && !rule.optional_old_self {
                continue;
            }
            let mut scope = self.functions.new_inner_scope();
            scope.add_variable_from_value("self", this.clone());
            if rule.optional_old_self {
                scope.add_variable_from_value("oldSelf", values::optional(before.clone()));
            } else if let Some(before) = &before {
                scope.add_variable_from_value("oldSelf", before.clone());
            }
            if let Some(cause) = outcome(rule, &scope, place, value)
                && (cause.1 || rule.uses_old_self || !ratchet.forgives())
            {
                self.causes.push(cause.0);
            }
        }
    }
}

fn child<'a>(place: Place<'a>, key: &str) -> Option<(&'a Node, &'a Node, bool)> {
    match (place.rules.properties.get(key), place.types.properties.get(key)) {
        (Some(rules), Some(types)) => Some((rules, types, true)),
        _ => Some((place.rules.additional_schema()?, place.types.additional_schema()?, false)),
    }
}

/// The cause of a rule that failed; the flag says that it could not be evaluated, which no ratcheting
/// forgives.
fn outcome(rule: &Rule, scope: &Context<'_>, place: Place<'_>, value: &Value) -> Option<(Cause, bool)> {
    let field = |path: &str| if path.is_empty() { "<nil>".to_owned() } else { path.to_owned() };
    match rule.program.execute(scope) {
        Ok(Cel::Bool(true)) => None,
        Ok(_) => {
            let words = rule.message(scope);
            let path = match (place.path, rule.field_path.as_str()) {
                (path, "") => field(path),
                ("", suffix) => suffix.to_owned(),
                (path, suffix) => format!("{path}.{suffix}"),
            };
            Some((failure(rule, &path, place.types, value, &words), false))
        }
        Err(error) => {
            let type_name = quoted(place.types.kind.map_or("", |kind| kind.name()));
            let message = format!("Invalid value: {type_name}: {}", evaluation_error(&error, rule));
            Some((Cause { reason: "FieldValueInvalid", message, field: field(place.path) }, true))
        }
    }
}

fn failure(rule: &Rule, path: &str, types: &Node, value: &Value, words: &str) -> Cause {
    let bad = if is_compound(types) { String::new() } else { format!(": {}", shown(value)) };
    let (reason, message) = match rule.reason.as_deref() {
        Some("FieldValueForbidden") => ("FieldValueForbidden", format!("Forbidden: {words}")),
        Some("FieldValueRequired") => ("FieldValueRequired", format!("Required value: {words}")),
        Some("FieldValueDuplicate") => ("FieldValueDuplicate", format!("Duplicate value{bad}")),
        _ => ("FieldValueInvalid", format!("Invalid value{bad}: {words}")),
    };
    Cause { reason, message, field: path.to_owned() }
}

fn evaluation_error(error: &ExecutionError, rule: &Rule) -> String {
    let name = rule.name();
    match error {
        ExecutionError::NoSuchOverload
        | ExecutionError::UnsupportedBinaryOperator(..)
        | ExecutionError::ValuesNotComparable(..) => format!(
            "'no such overload': call arguments did not match a supported operator, function or macro \
                signature \
             for rule: {name}"
        ),
        ExecutionError::NoSuchKey(key) => format!("no such key: {key} evaluating rule: {name}"),
        ExecutionError::DivisionByZero(_) => format!("division by zero evaluating rule: {name}"),
        ExecutionError::RemainderByZero(_) => format!("modulus by zero evaluating rule: {name}"),
        ExecutionError::FunctionError { function, .. } if function == "quantity" => {
            format!("{QUANTITY_FORM} evaluating rule: {name}")
        }
        ExecutionError::FunctionError { message, .. } => format!("{message} evaluating rule: {name}"),
        other => format!("{other} evaluating rule: {name}"),
    }
}

#[cfg(test)]
mod tests;
