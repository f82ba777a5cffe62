//! Rules as they are declared: read, compiled and checked when the schema is.
//!
//! Deliberately does not evaluate anything but messages, and does not estimate what a rule costs.

use std::sync::Arc;

use kube_cel::cel::{Context, Program, Value as Cel};
use serde_json::Value;

use super::check::{self, Outcome};
use crate::kube::schema::Cause;
use crate::kube::schema::node::{ListType, Node};
use crate::kube::validate::quoted;

/// One compiled rule.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(super) program: Arc<Program>,
    source: String,
    message: String,
    message_program: Option<Arc<Program>>,
    pub(super) reason: Option<String>,
    /// The path of the field that the rule blames, relative to the node.
    pub(super) field_path: String,
    pub(super) optional_old_self: bool,
    pub(super) uses_old_self: bool,
}

impl Rule {
    /// How messages name the rule: its message, or its source.
    pub(super) fn name(&self) -> &str {
        if self.message.is_empty() { self.source.trim() } else { self.message.trim() }
    }

    /// The words of a failure: the message expression if it gives one line, else the message, else the rule.
    pub(super) fn message(&self, scope: &Context<'_>) -> String {
        if let Some(program) = &self.message_program
            && let Ok(Cel::String(words)) = program.execute(scope)
        {
            let words = words.trim();
            if !words.is_empty() && !words.contains('\n') && words.len() <= super::LONGEST_MESSAGE {
                return words.to_owned();
            }
        }
        if self.message.is_empty() { format!("failed rule: {}", self.name()) } else { self.name().to_owned() }
    }
}

/// Compiles the rules of a node and of everything below it. Mistakes go to `causes`.
pub(crate) fn compile_rules(
    node: &mut Node,
    schema: &Value,
    path: &str,
    correlatable: bool,
    causes: &mut Vec<Cause>,
) {
    let place = Declared { path, correlatable };
    let rules = read_all(node, schema, &place, causes);
    node.rules = rules;
    let keyed = matches!(node.list_type, ListType::Map(_));
    for (name, property) in &mut node.properties {
        let below = join(path, &format!("properties[{name}]"));
        compile_rules(property, &schema["properties"][name], &below, correlatable, causes);
    }
    if let Some(items) = &mut node.items {
        compile_rules(items, &schema["items"], &join(path, "items"), correlatable && keyed, causes);
    }
    if let crate::kube::schema::node::Additional::Schema(inner) = &mut node.additional {
        let below = join(path, "additionalProperties");
        compile_rules(inner, &schema["additionalProperties"], &below, correlatable, causes);
    }
    let mut branches = std::mem::take(&mut node.limits.all_of);
    for (index, branch) in branches.iter_mut().enumerate() {
        let place = Declared { path: &join(path, &format!("allOf[{index}]")), correlatable };
        compile_branch(branch, node, &schema["allOf"][index], &place, causes);
    }
    node.limits.all_of = branches;
}

struct Declared<'a> {
    path: &'a str,
    /// Whether old values can be told at this place; not below lists without keys.
    correlatable: bool,
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// Rules inside `allOf` see the types of the node around the branch.
fn compile_branch(
    branch: &mut Node,
    types: &Node,
    schema: &Value,
    place: &Declared<'_>,
    causes: &mut Vec<Cause>,
) {
    branch.rules = read_all(types, schema, place, causes);
    for (name, property) in &mut branch.properties {
        if let Some(types) = types.properties.get(name) {
            let path = join(place.path, &format!("properties[{name}]"));
            let place = Declared { path: &path, ..*place };
            compile_branch(property, types, &schema["properties"][name], &place, causes);
        }
    }
    if let (Some(items), Some(types)) = (&mut branch.items, &types.items) {
        let path = join(place.path, "items");
        let place = Declared { path: &path, ..*place };
        compile_branch(items, types, &schema["items"], &place, causes);
    }
}

fn read_all(types: &Node, schema: &Value, place: &Declared<'_>, causes: &mut Vec<Cause>) -> Vec<Rule> {
    let declared = schema.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten();
    declared
        .enumerate()
        .filter_map(|(index, raw)| {
            let path = join(place.path, &format!("x-kubernetes-validations[{index}]"));
            read(types, raw, &Declared { path: &path, ..*place }, causes)
        })
        .collect()
}

fn read(types: &Node, raw: &Value, place: &Declared<'_>, causes: &mut Vec<Cause>) -> Option<Rule> {
    let text = |name: &str| raw.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut push = |reason, name: &str, message: String| {
        causes.push(Cause { reason, message, field: format!("{}.{name}", place.path) });
    };
    let (source, message) = (text("rule"), text("message"));
    if source.trim().is_empty() {
        push("FieldValueRequired", "rule", "Required value: rule is not specified".to_owned());
        return None;
    }
    for (name, why) in declared_mistakes(raw, types) {
        push(why.0, name, why.1);
    }
    let optional_old_self = raw.get("optionalOldSelf") == Some(&Value::Bool(true));
    let checked = check::rule(&source, types, optional_old_self);
    let uses_old_self = check::mentions_old_self(&source);
    let program = match checked {
        Ok((_, Outcome::NotBool)) => {
            let why =
                format!("Invalid value: {}: cel expression must evaluate to a bool", internal_form(raw));
            push("FieldValueInvalid", "rule", why);
            None
        }
        Ok((program, _)) => Some(program),
        Err(why) => {
            let why = format!("Invalid value: {}: {}", internal_form(raw), compilation_failed(&source, &why));
            push("FieldValueInvalid", "rule", why);
            None
        }
    };
    let expression = text("messageExpression");
    let message_program = match expression.trim() {
        "" => None,
        _ => match check::rule(&expression, types, optional_old_self) {
            Ok((program, _)) => Some(program),
            Err(why) => {
                let why = format!(
                    "Invalid value: {}: messageExpression {}",
                    internal_form(raw),
                    compilation_failed(&expression, &why)
                );
                push("FieldValueInvalid", "messageExpression", why);
                None
            }
        },
    };
    if uses_old_self && !place.correlatable {
        let why = format!(
            "Invalid value: {}: oldSelf cannot be used on the uncorrelatable portion of the schema within {}",
            quoted(&source),
            uncorrelated(place.path)
        );
        push("FieldValueInvalid", "rule", why);
    }
    if raw.get("optionalOldSelf").is_some() && !uses_old_self {
        let why =
            format!("Invalid value: {optional_old_self}: may not be set if oldSelf is not used in rule");
        push("FieldValueInvalid", "optionalOldSelf", why);
    }
    Some(Rule {
        program: program?,
        source,
        message,
        message_program,
        reason: raw.get("reason").and_then(Value::as_str).map(str::to_owned),
        field_path: relative_path(&text("fieldPath")),
        optional_old_self,
        uses_old_self,
    })
}

/// Mistakes in the fields around the rule: the name of the field, and reason with message.
fn declared_mistakes<'a>(raw: &Value, types: &Node) -> Vec<(&'a str, (&'static str, String))> {
    let mut mistakes = Vec::new();
    let text = |name: &str| raw.get(name).and_then(Value::as_str);
    if let Some(message) = text("message").filter(|message| !message.is_empty()) {
        if message.trim().is_empty() {
            let why = format!("Invalid value: {}: must be non-empty if specified", quoted(message));
            mistakes.push(("message", ("FieldValueInvalid", why)));
        } else if message.trim().contains('\n') {
            let why = format!("Invalid value: {}: must not contain line breaks", quoted(message));
            mistakes.push(("message", ("FieldValueInvalid", why)));
        }
    } else if text("rule").is_some_and(|rule| rule.trim().contains('\n')) {
        let why = "Required value: message must be specified if rule contains line breaks".to_owned();
        mistakes.push(("message", ("FieldValueRequired", why)));
    }
    let reasons = ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];
    if let Some(reason) = text("reason").filter(|reason| !reasons.contains(reason)) {
        let supported: Vec<String> = reasons.iter().map(|reason| quoted(reason)).collect();
        let why =
            format!("Unsupported value: {}: supported values: {}", quoted(reason), supported.join(", "));
        mistakes.push(("reason", ("FieldValueNotSupported", why)));
    }
    if let Some(field) = text("fieldPath").filter(|field| !field.is_empty())
        && !path_exists(types, field)
    {
        let why = format!("Invalid value: {}: must be a valid path", quoted(field));
        mistakes.push(("fieldPath", ("FieldValueInvalid", why)));
    }
    mistakes
}

fn path_exists(node: &Node, path: &str) -> bool {
    let Some(steps) = path_steps(path) else { return false };
    let mut node = node;
    for step in steps {
        let Some(child) = node.child(&step) else { return false };
        node = child;
    }
    true
}

/// Splits `.a['b.c']` into its names.
fn path_steps(path: &str) -> Option<Vec<String>> {
    let mut steps = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(quoted) = rest.strip_prefix("['") {
            let (name, after) = quoted.split_once("']")?;
            steps.push(name.replace("\\'", "'"));
            rest = after;
        } else {
            let named = rest.strip_prefix('.')?;
            let end = named.find(['.', '[']).unwrap_or(named.len());
            if end == 0 {
                return None;
            }
            steps.push(named[..end].to_owned());
            rest = &named[end..];
        }
    }
    Some(steps)
}

fn relative_path(declared: &str) -> String {
    path_steps(declared).map(|steps| steps.join(".")).unwrap_or_default()
}

/// The list around the place, which is where correlation ends.
fn uncorrelated(path: &str) -> &str {
    path.rsplit_once(".items").map_or(path, |(list, _)| list)
}

/// The rule as the API server prints its inner structure.
fn internal_form(raw: &Value) -> String {
    let text = |name: &str| raw.get(name).cloned().unwrap_or_else(|| Value::from(""));
    let maybe = |name: &str| raw.get(name).cloned().unwrap_or(Value::Null);
    let fields = [
        ("Rule", text("rule")),
        ("Message", text("message")),
        ("MessageExpression", text("messageExpression")),
        ("Reason", maybe("reason")),
        ("FieldPath", text("fieldPath")),
        ("OptionalOldSelf", maybe("optionalOldSelf")),
    ];
    let shown: Vec<String> = fields.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
    format!("{{{}}}", shown.join(","))
}

fn compilation_failed(source: &str, why: &str) -> String {
    let line = source.lines().next().unwrap_or_default();
    format!("compilation failed: ERROR: <input>:1:1: {why}\n | {line}\n | ^")
}
