//! Bodies as strict decoding reads them: the value, and every key that was given twice.
//!
//! Deliberately accepts what it reports: whether a duplicate is an error, a warning or nothing is the
//! caller's choice. Unknown fields are found by pruning with a schema, not here.

use std::cell::RefCell;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

pub use super::yaml::decode_yaml;

/// A decoded body.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decoded {
    /// The value; of a key given twice the last value counts.
    pub value: Value,
    /// One sentence for each duplicate: `duplicate field "spec.size"`, in YAML `line 6: key "size" already
    /// set in map`.
    pub duplicates: Vec<String>,
}

/// Decodes one JSON document.
///
/// # Errors
/// The words of the parser for a body that is not exactly one JSON document.
pub fn decode_json(body: &[u8]) -> Result<Decoded, String> {
    let duplicates = RefCell::new(Vec::new());
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let seed = Place { path: String::new(), duplicates: &duplicates };
    let value = seed.deserialize(&mut deserializer).map_err(|error| error.to_string())?;
    deserializer.end().map_err(|error| error.to_string())?;
    Ok(Decoded { value, duplicates: duplicates.into_inner() })
}

/// A whole float is kept as an integer: the API server prints both alike and reads back an integer.
pub(super) fn number(float: f64) -> Value {
    if float.fract() == 0.0 && float.abs() < i64::MAX as f64 {
        return Value::from(float as i64);
    }
    Number::from_f64(float).map_or(Value::Null, Value::Number)
}

struct Place<'d> {
    path: String,
    duplicates: &'d RefCell<Vec<String>>,
}

impl<'de> DeserializeSeed<'de> for Place<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Place<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, flag: bool) -> Result<Value, E> {
        Ok(Value::Bool(flag))
    }

    fn visit_i64<E: Error>(self, whole: i64) -> Result<Value, E> {
        Ok(Value::from(whole))
    }

    fn visit_u64<E: Error>(self, whole: u64) -> Result<Value, E> {
        Ok(i64::try_from(whole).map_or_else(|_| number(whole as f64), Value::from))
    }

    fn visit_f64<E: Error>(self, float: f64) -> Result<Value, E> {
        Ok(number(float))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        Ok(Value::from(text))
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Value, E> {
        Ok(Value::from(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        loop {
            let path = format!("{}[{}]", self.path, items.len());
            match access.next_element_seed(Place { path, duplicates: self.duplicates })? {
                Some(item) => items.push(item),
                None => return Ok(Value::Array(items)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some(Key(key)) = access.next_key()? {
            let path = if self.path.is_empty() { key.clone() } else { format!("{}.{key}", self.path) };
            if fields.contains_key(&key) {
                let words = format!("duplicate field \"{path}\"");
                let mut duplicates = self.duplicates.borrow_mut();
                if !duplicates.contains(&words) {
                    duplicates.push(words);
                }
            }
            let value = access.next_value_seed(Place { path, duplicates: self.duplicates })?;
            fields.insert(key, value);
        }
        Ok(Value::Object(fields))
    }
}

#[derive(Deserialize)]
struct Key(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicates_carry_their_paths_and_the_last_value_counts() {
        let decoded = decode_json(br#"{"spec":{"a":1,"a":2,"l":[{"b":1,"b":3}]}}"#).unwrap();
        assert_eq!(decoded.duplicates, ["duplicate field \"spec.a\"", "duplicate field \"spec.l[0].b\""]);
        assert_eq!(decoded.value, serde_json::json!({"spec": {"a": 2, "l": [{"b": 3}]}}));
    }

    #[test]
    fn numbers_keep_their_value() {
        let decoded = decode_json(br#"[1, 1.0, 0.1, 9007199254740993, 18446744073709551615]"#).unwrap();
        assert_eq!(decoded.value[1], 1);
        assert_eq!(decoded.value[2], 0.1);
        assert_eq!(decoded.value[3], 9_007_199_254_740_993_i64);
        assert!(decoded.value[4].is_f64());
    }

    #[test]
    fn more_or_less_than_one_document_is_refused() {
        for body in ["", "{", "{} {}", "{\"a\":1,}"] {
            assert!(decode_json(body.as_bytes()).is_err(), "{body}");
        }
    }
}
