//! Ranges, bounds and factors of numbers.
//!
//! Deliberately says nothing of the type: whether a field may hold a number at all is decided before.

use serde_json::{Number, Value};

use super::{Found, go_float};
use crate::kube::schema::node::{Kind, Node};

/// How far a quotient may be from a whole number and still count as one.
const WHOLE_TOLERANCE: f64 = 1e-9;

/// Checks range, bounds and factor of one number.
pub(super) fn check(node: &Node, number: &Number, path: &str, found: &mut Found) {
    check_range(node, number, path, found);
    let limits = &node.limits;
    let value = Value::Number(number.clone());
    let float = number.as_f64().unwrap_or(f64::NAN);
    let whole = number.as_i64();
    if let Some(factor) = limits.multiple_of {
        let fits = match whole {
            Some(whole) if factor.fract() == 0.0 && factor != 0.0 => whole % (factor as i64) == 0,
            _ if factor < 1.0 => is_whole(1.0 / factor * float),
            _ => is_whole(float / factor),
        };
        if !fits {
            let words = format!("{path} in body should be a multiple of {}", go_float(factor));
            found.invalid(path, &value, words);
        }
    }
    if let Some(least) = limits.minimum {
        let bound = bound(whole, least);
        let below = if limits.exclusive_minimum { float <= bound } else { float < bound };
        if below {
            let words = if limits.exclusive_minimum { "greater than" } else { "greater than or equal to" };
            found.invalid(path, &value, format!("{path} in body should be {words} {}", go_float(bound)));
        }
    }
    if let Some(most) = limits.maximum {
        let bound = bound(whole, most);
        let above = if limits.exclusive_maximum { float >= bound } else { float > bound };
        if above {
            let words = if limits.exclusive_maximum { "less than" } else { "less than or equal to" };
            found.invalid(path, &value, format!("{path} in body should be {words} {}", go_float(bound)));
        }
    }
}

/// Bounds are cut to whole numbers where the value is one, as the API server compares them.
fn bound(whole: Option<i64>, limit: f64) -> f64 {
    if whole.is_some() { limit.trunc() } else { limit }
}

fn check_range(node: &Node, number: &Number, path: &str, found: &mut Found) {
    if node.kind != Some(Kind::Integer) {
        return;
    }
    let float = number.as_f64().unwrap_or(f64::NAN);
    if float.fract() != 0.0 && number.as_i64().is_none() {
        // A fraction is already a type error; the API server adds that it cannot be converted either.
        let words = match &node.format {
            Some(format) => format!("Checked value must be of type integer with format {format} in {path}"),
            None => format!("Checked value must be of type integer (default format) in {path}"),
        };
        found.rootless(words);
        return;
    }
    match node.format.as_deref() {
        Some("int32") if float > f64::from(i32::MAX) || float < f64::from(i32::MIN) => {
            found.rootless(format!("Checked value must be of type integer with format int32 in {path}"));
        }
        format if float.abs() >= i64::MAX as f64 && number.as_i64().is_none() => {
            let words = match format {
                Some(format) => {
                    format!("Checked value must be of type integer with format {format} in {path}")
                }
                None => format!("Checked value must be of type integer (default format) in {path}"),
            };
            found.rootless(words);
        }
        _ => {}
    }
}

fn is_whole(number: f64) -> bool {
    let rounded = number.round();
    (number - rounded).abs() < WHOLE_TOLERANCE * rounded.abs().max(1.0)
}
