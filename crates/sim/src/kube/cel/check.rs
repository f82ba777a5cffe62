//! A light check of rules against the schema: unknown functions, unknown variables, fields that do not exist.
//!
//! Deliberately not a full type checker: where a type is not certain the rule is let through and judged when
//! it runs.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use kube_cel::cel::Program;
use kube_cel::cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, LiteralValue, operators};

use super::values::escape;
use crate::kube::schema::node::{Additional, Kind, Node};

/// Expressions that are kept parsed, at most; beyond that, each is parsed when it is needed.
const PARSED_MAX: usize = 4_096;

/// Functions by their full names (CEL standard library, Kubernetes CEL libraries).
const FUNCTIONS: &[&str] = &[
    "abs",
    "add",
    "all",
    "asApproximateFloat",
    "asInteger",
    "base64.decode",
    "base64.encode",
    "bool",
    "bytes",
    "charAt",
    "cidr",
    "compareTo",
    "contains",
    "containsCIDR",
    "containsIP",
    "distinct",
    "double",
    "duration",
    "dyn",
    "endsWith",
    "exists",
    "exists_one",
    "family",
    "filter",
    "find",
    "findAll",
    "first",
    "flatten",
    "format",
    "format.byte",
    "format.date",
    "format.datetime",
    "format.dns1035Label",
    "format.dns1035LabelPrefix",
    "format.dns1123Label",
    "format.dns1123LabelPrefix",
    "format.dns1123Subdomain",
    "format.dns1123SubdomainPrefix",
    "format.labelValue",
    "format.named",
    "format.qualifiedName",
    "format.uri",
    "format.uuid",
    "getDate",
    "getDayOfMonth",
    "getDayOfWeek",
    "getDayOfYear",
    "getEscapedPath",
    "getFullYear",
    "getHost",
    "getHostname",
    "getHours",
    "getMilliseconds",
    "getMinutes",
    "getMonth",
    "getPort",
    "getQuery",
    "getScheme",
    "getSeconds",
    "has",
    "hasValue",
    "indexOf",
    "int",
    "ip",
    "ip.isCanonical",
    "isCIDR",
    "isGlobalUnicast",
    "isGreaterThan",
    "isIP",
    "isInteger",
    "isLessThan",
    "isLinkLocalMulticast",
    "isLinkLocalUnicast",
    "isLoopback",
    "isQuantity",
    "isSemver",
    "isSorted",
    "isURL",
    "isUnspecified",
    "join",
    "jsonpatch.escapeKey",
    "last",
    "lastIndexOf",
    "lists.range",
    "lowerAscii",
    "major",
    "map",
    "masked",
    "matches",
    "math.abs",
    "math.bitAnd",
    "math.bitNot",
    "math.bitOr",
    "math.bitShiftLeft",
    "math.bitShiftRight",
    "math.bitXor",
    "math.ceil",
    "math.floor",
    "math.greatest",
    "math.isFinite",
    "math.isInf",
    "math.isNaN",
    "math.least",
    "math.round",
    "math.sign",
    "math.sqrt",
    "math.trunc",
    "max",
    "min",
    "minor",
    "optional.none",
    "optional.of",
    "optional.ofNonZeroValue",
    "or",
    "orValue",
    "patch",
    "prefixLength",
    "quantity",
    "replace",
    "reverse",
    "semver",
    "sets.contains",
    "sets.equivalent",
    "sets.intersects",
    "sign",
    "size",
    "slice",
    "sort",
    "split",
    "startsWith",
    "string",
    "strings.quote",
    "sub",
    "substring",
    "sum",
    "timestamp",
    "trim",
    "type",
    "uint",
    "upperAscii",
    "url",
    "validate",
    "value",
];

/// The names of types, which are values of the language.
const TYPES: [&str; 12] = [
    "bool",
    "bytes",
    "double",
    "duration",
    "dyn",
    "int",
    "list",
    "map",
    "null_type",
    "string",
    "timestamp",
    "uint",
];

/// What a rule gives, as far as it can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Bool,
    NotBool,
    Unknown,
}

#[derive(Clone, Copy)]
enum Type<'a> {
    Of(&'a Node),
    Scalar(&'static str),
    Unknown,
}

/// Compiles an expression and checks it against the node that `self` stands for.
///
/// # Errors
/// The words of the compiler: a syntax error, an undeclared reference, an undefined field, a missing
/// overload.
pub(super) fn rule(
    source: &str,
    node: &Node,
    optional_old_self: bool,
) -> Result<(Arc<Program>, Outcome), String> {
    let program = parse(source)?;
    let mut scope = HashMap::new();
    scope.insert("self".to_owned(), Type::Of(node));
    scope.insert("oldSelf".to_owned(), if optional_old_self { Type::Unknown } else { Type::Of(node) });
    let outcome = match scalar(infer(&program.expression().expr, &scope)?) {
        Some("bool") => Outcome::Bool,
        Some(_) => Outcome::NotBool,
        None => Outcome::Unknown,
    };
    Ok((program, outcome))
}

/// Parses an expression. What was parsed is kept for the whole process: every write of a definition compiles all schemas anew.
fn parse(source: &str) -> Result<Arc<Program>, String> {
    static PARSED: LazyLock<Mutex<HashMap<String, Arc<Program>>>> = LazyLock::new(Mutex::default);
    let parsed = || PARSED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(program) = parsed().get(source) {
        return Ok(Arc::clone(program));
    }
    let program = Program::compile(source).map_err(|errors| {
        let words = errors.to_string();
        let line = words.lines().find(|line| line.contains("ERROR")).unwrap_or("syntax error").to_owned();
        format!("Syntax error: {}", line.rsplit(": ").next().unwrap_or_default())
    })?;
    let program = Arc::new(program);
    let mut parsed = parsed();
    if parsed.len() < PARSED_MAX {
        parsed.insert(source.to_owned(), Arc::clone(&program));
    }
    Ok(program)
}

/// Whether the expression refers to the value before an update.
pub(super) fn mentions_old_self(source: &str) -> bool {
    parse(source).is_ok_and(|program| program.references().has_variable("oldSelf"))
}

type Scope<'a> = HashMap<String, Type<'a>>;

fn infer<'a>(expr: &Expr, scope: &Scope<'a>) -> Result<Type<'a>, String> {
    match expr {
        Expr::Unspecified => Ok(Type::Unknown),
        Expr::Literal(literal) => Ok(match literal {
            LiteralValue::Boolean(_) => Type::Scalar("bool"),
            LiteralValue::Int(_) => Type::Scalar("int"),
            LiteralValue::String(_) => Type::Scalar("string"),
            LiteralValue::Double(_) | LiteralValue::UInt(_) | LiteralValue::Bytes(_) | LiteralValue::Null => {
                Type::Unknown
            }
        }),
        Expr::Ident(name) => match scope.get(name) {
            Some(found) => Ok(*found),
            None if TYPES.contains(&name.as_str()) => Ok(Type::Unknown),
            None => Err(format!("undeclared reference to '{name}' (in container '')")),
        },
        Expr::Select(select) => {
            let operand = infer(&select.operand.expr, scope)?;
            let found = field(operand, &select.field)?;
            Ok(if select.test { Type::Scalar("bool") } else { found })
        }
        Expr::Call(call) => infer_call(call, scope),
        Expr::Comprehension(comprehension) => infer_comprehension(comprehension, scope),
        Expr::List(list) => {
            for element in &list.elements {
                infer(&element.expr, scope)?;
            }
            Ok(Type::Unknown)
        }
        Expr::Map(map) => infer_entries(map.entries.iter().map(|entry| &entry.expr), scope),
        Expr::Struct(object) => infer_entries(object.entries.iter().map(|entry| &entry.expr), scope),
    }
}

fn infer_entries<'a, 'e>(
    entries: impl Iterator<Item = &'e EntryExpr>,
    scope: &Scope<'a>,
) -> Result<Type<'a>, String> {
    for entry in entries {
        match entry {
            EntryExpr::StructField(field) => {
                infer(&field.value.expr, scope)?;
            }
            EntryExpr::MapEntry(entry) => {
                infer(&entry.key.expr, scope)?;
                infer(&entry.value.expr, scope)?;
            }
        }
    }
    Ok(Type::Unknown)
}

fn infer_call<'a>(call: &CallExpr, scope: &Scope<'a>) -> Result<Type<'a>, String> {
    let mut name = call.func_name.clone();
    match call.target.as_deref().map(|target| &target.expr) {
        Some(Expr::Ident(space)) if !scope.contains_key(space) => name = format!("{space}.{name}"),
        // `format.dns1123Label()` and the like are written with one more step.
        Some(target) => {
            infer(target, scope)?;
        }
        None => {}
    }
    let arguments =
        call.args.iter().map(|argument| infer(&argument.expr, scope)).collect::<Result<Vec<_>, _>>()?;
    let operator = name.starts_with(|first: char| !first.is_ascii_alphabetic());
    if !operator && !FUNCTIONS.contains(&name.as_str()) {
        return Err(format!("undeclared reference to '{name}' (in container '')"));
    }
    if let [left, right] = arguments.as_slice() {
        comparable(&name, *left, *right)?;
        if name == operators::INDEX {
            return Ok(element(*left));
        }
    }
    Ok(match name.as_str() {
        operators::LOGICAL_AND
        | operators::LOGICAL_OR
        | operators::LOGICAL_NOT
        | operators::EQUALS
        | operators::NOT_EQUALS
        | operators::GREATER
        | operators::GREATER_EQUALS
        | operators::LESS
        | operators::LESS_EQUALS
        | operators::IN
        | "startsWith"
        | "endsWith"
        | "contains"
        | "matches"
        | "isURL"
        | "isIP"
        | "isCIDR"
        | "isQuantity" => Type::Scalar("bool"),
        "size" => Type::Scalar("int"),
        operators::CONDITIONAL => arguments.get(1).copied().unwrap_or(Type::Unknown),
        operators::ADD => match arguments.as_slice() {
            [left, right] if scalar(*left).is_some() && scalar(*left) == scalar(*right) => *left,
            _ => Type::Unknown,
        },
        _ => Type::Unknown,
    })
}

fn infer_comprehension<'a>(call: &ComprehensionExpr, scope: &Scope<'a>) -> Result<Type<'a>, String> {
    let range = infer(&call.iter_range.expr, scope)?;
    let mut inner = scope.clone();
    let item = match range {
        Type::Of(node) if node.kind == Some(Kind::Array) => element(range),
        Type::Of(node) if node.kind == Some(Kind::Object) => Type::Scalar("string"),
        _ => Type::Unknown,
    };
    inner.insert(call.iter_var.clone(), if call.iter_var2.is_some() { Type::Unknown } else { item });
    if let Some(second) = &call.iter_var2 {
        inner.insert(second.clone(), Type::Unknown);
    }
    let accumulated = infer(&call.accu_init.expr, scope)?;
    inner.insert(call.accu_var.clone(), accumulated);
    infer(&call.loop_cond.expr, &inner)?;
    infer(&call.loop_step.expr, &inner)?;
    infer(&call.result.expr, &inner)
}

fn element(list: Type<'_>) -> Type<'_> {
    match list {
        Type::Of(node) => match (&node.items, node.additional_schema()) {
            (Some(items), _) => Type::Of(items),
            (None, Some(inner)) => Type::Of(inner),
            (None, None) => Type::Unknown,
        },
        Type::Scalar(_) | Type::Unknown => Type::Unknown,
    }
}

fn field<'a>(operand: Type<'a>, name: &str) -> Result<Type<'a>, String> {
    let Type::Of(node) = operand else { return Ok(Type::Unknown) };
    if node.embedded && matches!(name, "metadata" | "apiVersion" | "kind") {
        return Ok(Type::Unknown);
    }
    if node.kind != Some(Kind::Object) {
        return match scalar(operand) {
            Some(kind) => Err(format!("type '{kind}' does not support field selection")),
            None => Ok(Type::Unknown),
        };
    }
    if let Some((_, property)) = node.properties.iter().find(|(key, _)| escape(key) == name) {
        return Ok(Type::Of(property));
    }
    match &node.additional {
        Additional::Schema(inner) => Ok(Type::Of(inner)),
        Additional::Any => Ok(Type::Unknown),
        Additional::Absent | Additional::Nothing => Err(format!("undefined field '{name}'")),
    }
}

/// The name of a scalar type, for the three that are never mixed up by conversion.
fn scalar(found: Type<'_>) -> Option<&'static str> {
    match found {
        Type::Scalar(name) => Some(name),
        Type::Of(node) if node.int_or_string => None,
        Type::Of(node) => match (node.kind, node.format.as_deref()) {
            (Some(Kind::Boolean), _) => Some("bool"),
            (Some(Kind::Integer), _) => Some("int"),
            (Some(Kind::String), None) => Some("string"),
            _ => None,
        },
        Type::Unknown => None,
    }
}

fn comparable(name: &str, left: Type<'_>, right: Type<'_>) -> Result<(), String> {
    let compares = [
        operators::EQUALS,
        operators::NOT_EQUALS,
        operators::LESS,
        operators::LESS_EQUALS,
        operators::GREATER,
        operators::GREATER_EQUALS,
    ];
    match (scalar(left), scalar(right)) {
        (Some(left), Some(right)) if left != right && compares.contains(&name) => {
            Err(format!("found no matching overload for '{name}' applied to '({left}, {right})'"))
        }
        _ => Ok(()),
    }
}
