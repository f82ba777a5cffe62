//! The flattened parameters of an RPC call: scalars, repeated lists (`X.1`), lists of objects (`X.1.Key`) and
//! JSON in a string.
//!
//! Deliberately lenient about unknown names, as real gateways are, and strict about values.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::refusal::Refusal;

/// The most entries that a repeated parameter is searched for.
pub const REPEATED_MAX: usize = 200;
/// The most tags that one call may carry.
pub const TAGS_MAX: usize = 20;

/// Every parameter of one call, from the query and the form body, decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameters(pub BTreeMap<String, String>);

impl Parameters {
    /// A non-empty scalar.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// A non-empty scalar that the call cannot do without.
    pub fn required(&self, name: &str) -> Result<&str, Refusal> {
        self.text(name).ok_or_else(|| Refusal::missing(name))
    }

    /// A boolean; absent means false. Both `true` and Python's `True` are read.
    pub fn flag(&self, name: &str) -> Result<bool, Refusal> {
        Ok(self.optional_flag(name)?.unwrap_or(false))
    }

    /// A boolean whose absence matters.
    pub fn optional_flag(&self, name: &str) -> Result<Option<bool>, Refusal> {
        match self.text(name).map(str::to_ascii_lowercase).as_deref() {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(_) => Err(Refusal::invalid(name)),
        }
    }

    /// A whole number.
    pub fn whole(&self, name: &str) -> Result<Option<i64>, Refusal> {
        self.text(name).map(|text| text.parse().map_err(|_| Refusal::invalid(name))).transpose()
    }

    /// The repeated list `name.1`, `name.2`, …, in order.
    pub fn list(&self, name: &str) -> Vec<String> {
        (1..=REPEATED_MAX)
            .filter_map(|index| self.text(&format!("{name}.{index}")).map(str::to_string))
            .collect()
    }

    /// The repeated objects `name.1.Field`, …, in order; entries without any field are left out.
    pub fn objects(&self, name: &str) -> Vec<Parameters> {
        let entry = |index: usize| {
            let prefix = format!("{name}.{index}.");
            let fields: BTreeMap<String, String> = self
                .0
                .range(prefix.clone()..)
                .take_while(|(key, _)| key.starts_with(&prefix))
                .map(|(key, value)| (key[prefix.len()..].to_string(), value.clone()))
                .collect();
            (!fields.is_empty()).then_some(Parameters(fields))
        };
        (1..=REPEATED_MAX).filter_map(entry).collect()
    }

    /// The fields of the object `name.Field`.
    pub fn object(&self, name: &str) -> Parameters {
        let prefix = format!("{name}.");
        let fields = self.0.iter().filter_map(|(key, value)| {
            key.strip_prefix(prefix.as_str()).map(|field| (field.to_string(), value.clone()))
        });
        Parameters(fields.collect())
    }

    /// A JSON array of strings inside one string; `None` if the parameter is absent.
    pub fn json_list(
        &self,
        name: &str,
        limit: usize,
        too_many: &str,
    ) -> Result<Option<Vec<String>>, Refusal> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let list: Vec<String> = serde_json::from_str(text).map_err(|_| {
            Refusal::new(
                400,
                format!("Invalid{name}.Malformed"),
                format!("{name} is not a JSON array of strings."),
            )
        })?;
        if list.len() > limit {
            return Err(Refusal::new(403, too_many, format!("{name} holds more than {limit} entries.")));
        }
        Ok(Some(list))
    }

    /// The tags of a creation: `Tag.N.Key`, `Tag.N.Value`.
    pub fn tags(&self) -> Result<BTreeMap<String, String>, Refusal> {
        let entries = self.objects("Tag");
        if entries.len() > TAGS_MAX {
            return Err(Refusal::new(400, "InvalidTagCount", "The maximum number of tags is 20."));
        }
        let mut tags = BTreeMap::new();
        for entry in entries {
            let key = entry.text("Key").ok_or_else(|| tag_refusal("Key"))?.to_string();
            check_tag_key(&key)?;
            let value = entry.text("Value").unwrap_or_default().to_string();
            if value.chars().count() > 128 {
                return Err(tag_refusal("Value"));
            }
            if tags.insert(key, value).is_some() {
                return Err(Refusal::new(400, "Duplicate.TagKey", "The Tag.N.Key contains duplicate keys."));
            }
        }
        Ok(tags)
    }

    /// The tag filter of a listing: a key alone matches any value.
    pub fn tag_filters(&self) -> Vec<(String, Option<String>)> {
        let entries = self.objects("Tag");
        let filter = |entry: &Parameters| {
            entry.text("Key").map(|key| (key.to_string(), entry.text("Value").map(str::to_string)))
        };
        entries.iter().filter_map(filter).collect()
    }

    /// The parameters as JSON with everything secret replaced, for the request log.
    pub fn redacted(&self) -> Value {
        let shown = self.0.iter().map(|(key, value)| {
            let lower = key.to_ascii_lowercase();
            let secret = ["password", "secret", "userdata", "token", "signature"]
                .iter()
                .any(|word| lower.contains(word));
            let value = if secret && lower != "nexttoken" { "(removed)".to_string() } else { value.clone() };
            (key.clone(), Value::String(value))
        });
        Value::Object(shown.collect())
    }
}

/// Tag keys are at most 128 characters, not reserved, and no address.
pub fn check_tag_key(key: &str) -> Result<(), Refusal> {
    let lower = key.to_ascii_lowercase();
    let reserved = lower.starts_with("acs:") || lower.starts_with("aliyun");
    let address = lower.contains("http://") || lower.contains("https://");
    if reserved || address || key.is_empty() || key.chars().count() > 128 {
        Err(tag_refusal("Key"))
    } else {
        Ok(())
    }
}

/// True if `tags` satisfies every filter.
pub fn tags_match(tags: &BTreeMap<String, String>, filters: &[(String, Option<String>)]) -> bool {
    filters.iter().all(|(key, wanted)| {
        tags.get(key).is_some_and(|value| wanted.as_ref().is_none_or(|wanted| wanted == value))
    })
}

/// The wrapped tag list of a response.
pub fn tag_view(tags: &BTreeMap<String, String>) -> Value {
    let list: Vec<Value> =
        tags.iter().map(|(key, value)| serde_json::json!({"TagKey": key, "TagValue": value})).collect();
    serde_json::json!({ "Tag": list })
}

fn tag_refusal(part: &str) -> Refusal {
    // assumption: tag-codes
    Refusal::new(
        400,
        format!("InvalidTag{part}.Malformed"),
        format!("The specified Tag.n.{part} is not valid."),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Parameters {
        Parameters(pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect())
    }

    #[test]
    fn lists_start_at_one_and_keep_their_order() {
        let parameters = of(&[("Id.1", "a"), ("Id.10", "c"), ("Id.2", "b"), ("Id.0", "no")]);
        assert_eq!(parameters.list("Id"), ["a", "b", "c"]);
    }

    #[test]
    fn objects_do_not_mix_1_with_10() {
        let parameters = of(&[("Tag.1.Key", "a"), ("Tag.1.Value", "x"), ("Tag.10.Key", "b")]);
        assert_eq!(
            parameters.tag_filters(),
            [("a".to_string(), Some("x".to_string())), ("b".to_string(), None)]
        );
    }

    #[test]
    fn reserved_and_repeated_tag_keys_are_refused() {
        assert!(of(&[("Tag.1.Key", "acs:x")]).tags().is_err());
        assert!(of(&[("Tag.1.Key", "Aliyun-x")]).tags().is_err());
        let twice = of(&[("Tag.1.Key", "a"), ("Tag.2.Key", "a")]).tags();
        assert_eq!(twice.expect_err("duplicate").code, "Duplicate.TagKey");
    }

    #[test]
    fn secrets_do_not_reach_the_log() {
        let shown = of(&[("Password", "p1"), ("UserData", "u1"), ("OIDCToken", "t1"), ("NextToken", "n1")])
            .redacted();
        let text = shown.to_string();
        assert!(!text.contains("p1") && !text.contains("u1") && !text.contains("t1") && text.contains("n1"));
    }
}
