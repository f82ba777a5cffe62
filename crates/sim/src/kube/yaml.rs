//! YAML as the API server reads it: version 1.1 scalars (`yes`, `on`, `010`), one document, duplicates by
//! line.
//!
//! Deliberately no parser of its own: the `serde-saphyr` crate reads, this file only keeps what strict
//! decoding needs.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use serde_saphyr::Spanned;

use super::strict::{Decoded, number};
use super::validate::go_float;

/// Decodes the first YAML document of a body.
///
/// # Errors
/// The words of the parser.
pub fn decode_yaml(body: &[u8]) -> Result<Decoded, String> {
    let text = std::str::from_utf8(body).map_err(|error| error.to_string())?;
    let options = serde_saphyr::options! {
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::PassThrough,
        legacy_octal_numbers: true,
        strict_booleans: false,
    };
    let documents: Vec<Tree> =
        serde_saphyr::from_multiple_with_options(text, options).map_err(|error| error.to_string())?;
    let mut duplicates = Vec::new();
    let value = documents.into_iter().next().map_or(Value::Null, |tree| tree.into_value(&mut duplicates));
    Ok(Decoded { value, duplicates })
}

/// A YAML node with the lines of its keys.
enum Tree {
    Scalar(Value),
    List(Vec<Tree>),
    Map(Vec<(Spanned<Key>, Tree)>),
}

impl Tree {
    fn into_value(self, duplicates: &mut Vec<String>) -> Value {
        match self {
            Tree::Scalar(value) => value,
            Tree::List(items) => {
                Value::Array(items.into_iter().map(|item| item.into_value(duplicates)).collect())
            }
            Tree::Map(entries) => {
                let mut fields = Map::new();
                for (key, tree) in entries {
                    let line = key.referenced.line();
                    let Key(name) = key.value;
                    if fields.contains_key(&name) {
                        duplicates.push(format!("line {line}: key {name:?} already set in map"));
                    }
                    let value = tree.into_value(duplicates);
                    fields.insert(name, value);
                }
                Value::Object(fields)
            }
        }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Tree, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a YAML value")
    }

    fn visit_unit<E: Error>(self) -> Result<Tree, E> {
        Ok(Tree::Scalar(Value::Null))
    }

    fn visit_none<E: Error>(self) -> Result<Tree, E> {
        Ok(Tree::Scalar(Value::Null))
    }

    fn visit_bool<E: Error>(self, flag: bool) -> Result<Tree, E> {
        Ok(Tree::Scalar(Value::Bool(flag)))
    }

    fn visit_i64<E: Error>(self, whole: i64) -> Result<Tree, E> {
        Ok(Tree::Scalar(Value::from(whole)))
    }

    fn visit_u64<E: Error>(self, whole: u64) -> Result<Tree, E> {
        Ok(Tree::Scalar(i64::try_from(whole).map_or_else(|_| number(whole as f64), Value::from)))
    }

    fn visit_i128<E: Error>(self, whole: i128) -> Result<Tree, E> {
        Ok(Tree::Scalar(number(whole as f64)))
    }

    fn visit_u128<E: Error>(self, whole: u128) -> Result<Tree, E> {
        Ok(Tree::Scalar(number(whole as f64)))
    }

    fn visit_f64<E: Error>(self, float: f64) -> Result<Tree, E> {
        Ok(Tree::Scalar(number(float)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Tree, E> {
        Ok(Tree::Scalar(Value::from(text)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Tree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Tree::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Tree, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Tree::Map(entries))
    }
}

/// A key: scalars of every type become text, as JSON needs it.
struct Key(String);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Key, D::Error> {
        deserializer.deserialize_any(KeyVisitor)
    }
}

struct KeyVisitor;

impl Visitor<'_> for KeyVisitor {
    type Value = Key;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a scalar key")
    }

    fn visit_unit<E: Error>(self) -> Result<Key, E> {
        Ok(Key("null".to_owned()))
    }

    fn visit_bool<E: Error>(self, flag: bool) -> Result<Key, E> {
        Ok(Key(flag.to_string()))
    }

    fn visit_i64<E: Error>(self, whole: i64) -> Result<Key, E> {
        Ok(Key(whole.to_string()))
    }

    fn visit_u64<E: Error>(self, whole: u64) -> Result<Key, E> {
        Ok(Key(whole.to_string()))
    }

    fn visit_f64<E: Error>(self, float: f64) -> Result<Key, E> {
        Ok(Key(go_float(float)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Key, E> {
        Ok(Key(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn scalars_are_those_of_yaml_1_1() {
        let decoded =
            decode_yaml(b"a: y\nb: n\nc: on\nd: 010\ne: 'y'\nf: 1.5\ng: ~\nh: 0x1F\ni: text\n").unwrap();
        let expected = json!({"a": true, "b": false, "c": true, "d": 8, "e": "y", "f": 1.5, "g": null,
            "h": 31, "i": "text"});
        assert_eq!(decoded.value, expected);
    }

    #[test]
    fn duplicates_name_line_and_key() {
        let body = b"apiVersion: v1\nspec:\n  size: 1\n  size: 2\n";
        let decoded = decode_yaml(body).unwrap();
        assert_eq!(decoded.duplicates, ["line 4: key \"size\" already set in map"]);
        assert_eq!(decoded.value["spec"]["size"], 2);
    }

    #[test]
    fn json_is_yaml_too_and_broken_yaml_is_refused() {
        assert_eq!(decode_yaml(br#"{"a": [1, {"b": null}]}"#).unwrap().value, json!({"a": [1, {"b": null}]}));
        for body in ["a: [b", "a:\n\t- b", "a: b: c"] {
            assert!(decode_yaml(body.as_bytes()).is_err(), "{body}");
        }
    }

    #[test]
    fn an_empty_body_is_null_and_dates_stay_text() {
        assert_eq!(decode_yaml(b"").unwrap().value, Value::Null);
        assert_eq!(decode_yaml(b"a: 2001-02-03\n").unwrap().value, json!({"a": "2001-02-03"}));
    }
}
