//! Values in error messages, printed the way Go prints them.
//!
//! Deliberately covers what the messages need: floats, quoted strings and JSON; not all of Go's verbs.

use serde_json::Value;

/// A bad value as the messages show it: scalars as Go prints them, the rest as JSON.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (None, Some(float)) => go_float(float),
            _ => number.to_string(),
        },
        Value::String(text) => quoted(text),
        other => json(other),
    }
}

/// JSON as Go writes it: the characters that matter in HTML are escaped.
pub(crate) fn json(value: &Value) -> String {
    value.to_string().replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

/// A string in double quotes with Go's escapes.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            control if control < ' ' || control == '\u{7f}' => {
                out.push_str(&format!("\\x{:02x}", u32::from(control)));
            }
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

/// A float as Go's `%v` prints it: shortest form, with an exponent below 1e-4 and from 1e21 on.
pub(crate) fn go_float(number: f64) -> String {
    if number == 0.0 {
        return "0".to_owned();
    }
    let exponent = number.abs().log10().floor();
    if (-4.0..21.0).contains(&exponent) {
        return format!("{number}");
    }
    let text = format!("{number:e}");
    let Some((digits, power)) = text.split_once('e') else { return text };
    let (sign, power) = power.strip_prefix('-').map_or(('+', power), |power| ('-', power));
    format!("{digits}e{sign}{power:0>2}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_print_like_go() {
        for (number, text) in [
            (0.5, "0.5"),
            (100.0, "100"),
            (1e21, "1e+21"),
            (0.00001, "1e-05"),
            (1e20, "100000000000000000000"),
        ] {
            assert_eq!(go_float(number), text);
        }
    }

    #[test]
    fn strings_quote_like_go() {
        assert_eq!(quoted("a\"b\u{7}\u{1}ü"), "\"a\\\"b\\a\\x01ü\"");
    }
}
