//! Rows and columns of the Table form that kubectl prints.
//!
//! Deliberately computes cells only: the Table object around them, and which part of an object a row carries,
//! are the server's business. Facts: apiextensions-apiserver, tableconvertor; Kubernetes, printers of
//! built-in kinds.

mod builtin;

use jiff::Timestamp;
use jsonpath_rust::JsonPath;
use serde_json::Value;

use super::validate::{go_float, json};
pub use builtin::builtin_columns;

/// One column definition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Column {
    /// The heading.
    pub name: String,
    /// `string`, `integer`, `number`, `boolean` or `date`.
    pub kind: String,
    /// `name` for the name column, else usually empty.
    pub format: String,
    /// What the column shows.
    pub description: String,
    /// Columns above 0 are shown by `kubectl get -o wide` only.
    pub priority: i64,
    /// Where the value is found; empty for cells that are computed.
    pub json_path: String,
}

const NAME_DESCRIPTION: &str = "Name must be unique within a namespace. Is required when creating \
    resources, although \
    some resources may allow a client to request the generation of an appropriate name automatically.";
const AGE_DESCRIPTION: &str =
    "CreationTimestamp is a timestamp representing the server time when this object was created.";

/// The columns of a custom kind from `additionalPrinterColumns`: the name first, and an age if nothing is
/// declared.
pub fn crd_columns(additional_printer_columns: Option<&Value>) -> Vec<Column> {
    let mut columns = vec![name_column()];
    let declared = additional_printer_columns.and_then(Value::as_array).filter(|list| !list.is_empty());
    let Some(declared) = declared else {
        columns.push(Column {
            name: "Age".to_owned(),
            kind: "date".to_owned(),
            description: AGE_DESCRIPTION.to_owned(),
            json_path: ".metadata.creationTimestamp".to_owned(),
            ..Column::default()
        });
        return columns;
    };
    for raw in declared {
        let text = |name: &str| raw.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let json_path = text("jsonPath");
        let description = match text("description") {
            empty if empty.is_empty() => {
                format!("Custom resource definition column (in JSONPath format): {json_path}")
            }
            given => given,
        };
        let priority = raw.get("priority").and_then(Value::as_i64).unwrap_or(0);
        columns.push(Column {
            name: text("name"),
            kind: text("type"),
            format: text("format"),
            description,
            priority,
            json_path,
        });
    }
    columns
}

/// The cells of one object, in the order of the columns.
pub fn row_cells(columns: &[Column], group: &str, kind: &str, object: &Value, now: Timestamp) -> Vec<Value> {
    columns
        .iter()
        .map(|column| {
            if column.json_path.is_empty() {
                builtin::cell(group, kind, &column.name, object, now)
            } else {
                declared_cell(column, object, now)
            }
        })
        .collect()
}

/// The first value at a path in the syntax of kubectl (`.a\.b/c`, `.list[*].x`,
/// `.conditions[?(@.type=="Ready")].status`).
///
/// `None` if nothing is there or the path cannot be read.
pub fn first_at_path<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    object.query(&rfc_path(path)).ok()?.into_iter().next()
}

/// Rewrites a kubectl path as an RFC 9535 path: `$['a.b/c']` and so on.
fn rfc_path(path: &str) -> String {
    let mut out = String::from("$");
    let mut letters = path.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '.' if letters.peek() == Some(&'.') => {
                letters.next();
                out.push_str("..");
                out.push_str(&bracketed(&mut letters));
            }
            '.' => {
                if !matches!(letters.peek(), None | Some('[')) {
                    out.push_str(&bracketed(&mut letters));
                }
            }
            '[' => {
                out.push('[');
                let mut depth = 1;
                for inner in letters.by_ref() {
                    depth += match inner {
                        '[' => 1,
                        ']' => -1,
                        _ => 0,
                    };
                    out.push(inner);
                    if depth == 0 {
                        break;
                    }
                }
            }
            other => {
                let mut rest = String::from(other);
                while let Some(more) = letters.next_if(|next| !matches!(next, '.' | '[')) {
                    rest.push(more);
                }
                out.push_str(&format!("['{rest}']"));
            }
        }
    }
    out
}

fn bracketed(letters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> String {
    let mut name = String::new();
    while let Some(letter) = letters.next_if(|next| !matches!(next, '.' | '[')) {
        match letter {
            '\\' => name.extend(letters.next()),
            other => name.push(other),
        }
    }
    if name == "*" { "[*]".to_owned() } else { format!("['{}']", name.replace('\'', "\\'")) }
}

fn declared_cell(column: &Column, object: &Value, now: Timestamp) -> Value {
    let Some(value) = first_at_path(object, &column.json_path) else { return Value::Null };
    match (column.kind.as_str(), value) {
        ("string", Value::String(_)) => value.clone(),
        ("string", Value::Null) => Value::from("<no value>"),
        ("string", Value::Number(number)) => Value::from(match (number.as_i64(), number.as_f64()) {
            (None, Some(float)) => go_float(float),
            _ => number.to_string(),
        }),
        ("string", other) => Value::from(json(other)),
        ("integer", Value::Number(number)) => match (number.as_i64(), number.as_f64()) {
            (None, Some(float)) => Value::from(float as i64),
            _ => value.clone(),
        },
        ("number", Value::Number(_)) | ("boolean", Value::Bool(_)) => value.clone(),
        ("date", Value::String(text)) => Value::from(match text.parse::<Timestamp>() {
            Ok(time) => age(time, now),
            Err(_) => "<invalid>".to_owned(),
        }),
        _ => Value::Null,
    }
}

/// The age of an object as kubectl prints it, from its creation time; `<unknown>` without one.
fn object_age(object: &Value, now: Timestamp) -> String {
    let created = object.pointer("/metadata/creationTimestamp").and_then(Value::as_str);
    created
        .and_then(|text| text.parse::<Timestamp>().ok())
        .map_or_else(|| "<unknown>".to_owned(), |time| age(time, now))
}

/// A span of time with two or three significant figures: `5s`, `3m20s`, `2d`.
fn age(from: Timestamp, now: Timestamp) -> String {
    human(now.as_second() - from.as_second())
}

fn human(seconds: i64) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    const YEAR: i64 = 365 * DAY;
    let two = |large: i64, unit: &str, small: i64, lesser: &str| match small {
        0 => format!("{large}{unit}"),
        _ => format!("{large}{unit}{small}{lesser}"),
    };
    match seconds {
        ..-1 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        _ if seconds < 2 * MINUTE => format!("{seconds}s"),
        _ if seconds < 10 * MINUTE => two(seconds / MINUTE, "m", seconds % MINUTE, "s"),
        _ if seconds < 3 * HOUR => format!("{}m", seconds / MINUTE),
        _ if seconds < 8 * HOUR => two(seconds / HOUR, "h", seconds % HOUR / MINUTE, "m"),
        _ if seconds < 2 * DAY => format!("{}h", seconds / HOUR),
        _ if seconds < 8 * DAY => two(seconds / DAY, "d", seconds % DAY / HOUR, "h"),
        _ if seconds < 2 * YEAR => format!("{}d", seconds / DAY),
        _ if seconds < 8 * YEAR => two(seconds / YEAR, "y", seconds % YEAR / DAY, "d"),
        _ => format!("{}y", seconds / YEAR),
    }
}

fn name_column() -> Column {
    Column {
        name: "Name".to_owned(),
        kind: "string".to_owned(),
        format: "name".to_owned(),
        description: NAME_DESCRIPTION.to_owned(),
        priority: 0,
        json_path: ".metadata.name".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn column(kind: &str, path: &str) -> Column {
        Column { kind: kind.to_owned(), json_path: path.to_owned(), ..Column::default() }
    }

    fn cell(kind: &str, path: &str, object: &Value) -> Value {
        let now = "2026-01-01T00:00:10Z".parse().unwrap();
        row_cells(&[column(kind, path)], "", "", object, now).remove(0)
    }

    #[test]
    fn cells_of_right_wrong_and_missing_values() {
        let object = json!({
            "metadata": {"creationTimestamp": "2026-01-01T00:00:05Z", "labels": {"a.b/c": "lab"}},
            "spec": {"s": "x", "i": 7, "f": 1.5, "b": true, "o": {"k": 1}, "l": [1, {"a": 2}], "n": null},
            "status": {"conditions": [{"type": "Other", "status": "False"}, {"type": "Ready",
                "status": "True"}]}
        });
        for (kind, path, expected) in [
            ("string", ".spec.s", json!("x")),
            ("string", ".spec.i", json!("7")),
            ("string", ".spec.o", json!("{\"k\":1}")),
            ("string", ".spec.l[*]", json!("1")),
            ("string", ".spec.l[0]", json!("1")),
            ("string", ".spec.missing.deep", Value::Null),
            ("integer", ".spec.f", json!(1)),
            ("integer", ".spec.s", Value::Null),
            ("number", ".spec.f", json!(1.5)),
            ("boolean", ".spec.b", json!(true)),
            ("boolean", ".spec.i", Value::Null),
            ("date", ".metadata.creationTimestamp", json!("5s")),
            ("date", ".spec.s", json!("<invalid>")),
            ("date", ".spec.i", Value::Null),
            ("string", r".metadata.labels.a\.b/c", json!("lab")),
            ("string", ".status.conditions[?(@.type==\"Ready\")].status", json!("True")),
            ("string", ".status.conditions[?(@.type=='Nope')].status", Value::Null),
        ] {
            assert_eq!(cell(kind, path, &object), expected, "{kind} {path}");
        }
    }

    #[test]
    fn ages_have_few_figures() {
        for (seconds, text) in [
            (5, "5s"),
            (119, "119s"),
            (200, "3m20s"),
            (600, "10m"),
            (3 * 3600 + 60, "3h1m"),
            (2 * 86_400, "2d"),
            (2 * 86_400 + 3600, "2d1h"),
            (700 * 86_400, "700d"),
            (3 * 365 * 86_400 + 86_400, "3y1d"),
            (25 * 365 * 86_400, "25y"),
            (-1, "0s"),
            (-10, "<invalid>"),
        ] {
            assert_eq!(human(seconds), text);
        }
    }

    #[test]
    fn custom_kinds_without_columns_have_name_and_age() {
        let names: Vec<String> = crd_columns(None).into_iter().map(|column| column.name).collect();
        assert_eq!(names, ["Name", "Age"]);
        let declared = json!([{"name": "Color", "type": "string", "jsonPath": ".spec.color"}]);
        let columns = crd_columns(Some(&declared));
        assert_eq!(columns.len(), 2);
        assert_eq!(
            columns[1].description,
            "Custom resource definition column (in JSONPath format): .spec.color"
        );
    }
}
