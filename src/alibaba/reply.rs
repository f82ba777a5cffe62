//! Reads fields out of replies, tolerant of what differs between actions and years.
//!
//! Numbers may come as text and text as numbers, flags as `true` or `"true"`, lists wrapped (`Disks.Disk[]`)
//! or plain; unknown fields are ignored and missing ones are none. Not tolerated: a list that is not there at
//! all, and an element without id. Reading those as "nothing found" would make the operator create what
//! exists already.

use std::collections::BTreeMap;

use serde_json::Value;

use super::error::{Error, local, safe_text};
use super::request::Service;

/// One JSON object of a reply, and which call it belongs to.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a> {
    value: &'a Value,
    service: Service,
    action: &'static str,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(value: &'a Value, service: Service, action: &'static str) -> Self {
        Fields { value, service, action }
    }

    /// Text that is not empty.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        match self.value.get(name)? {
            Value::String(text) if !text.is_empty() => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }

    /// Text that must be there.
    pub(crate) fn required(&self, name: &str) -> Result<String, Error> {
        self.text(name).ok_or_else(|| self.defect(&format!("the reply has no {name}")))
    }

    /// A whole number, also from text.
    pub(crate) fn number(&self, name: &str) -> Option<u32> {
        match self.value.get(name)? {
            Value::Number(number) => number.as_u64().and_then(|number| number.try_into().ok()),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        }
    }

    /// A percentage such as `37%`; at most 100.
    pub(crate) fn percent(&self, name: &str) -> Option<u8> {
        let text = self.text(name)?;
        text.trim().trim_end_matches('%').parse().ok().filter(|percent| *percent <= 100)
    }

    /// A flag, also from text.
    pub(crate) fn flag(&self, name: &str) -> Option<bool> {
        match self.value.get(name)? {
            Value::Bool(flag) => Some(*flag),
            Value::String(text) if text.eq_ignore_ascii_case("true") => Some(true),
            Value::String(text) if text.eq_ignore_ascii_case("false") => Some(false),
            _ => None,
        }
    }

    /// An inner object that must be there.
    pub(crate) fn inner(&self, name: &str) -> Result<Fields<'a>, Error> {
        let value = self.value.get(name).filter(|value| value.is_object());
        let value = value.ok_or_else(|| self.defect(&format!("the reply has no {name}")))?;
        Ok(Fields { value, ..*self })
    }

    /// A wrapped list that must be there: `outer.inner[]`, or `outer[]`.
    pub(crate) fn list(&self, outer: &str, inner: &str) -> Result<Vec<Fields<'a>>, Error> {
        let missing = || self.defect(&format!("the reply has no list {outer}"));
        let list = match self.value.get(outer).ok_or_else(missing)? {
            Value::Array(list) => list,
            Value::Object(wrapper) if wrapper.is_empty() => return Ok(Vec::new()),
            Value::Object(wrapper) => wrapper.get(inner).and_then(Value::as_array).ok_or_else(missing)?,
            _ => return Err(missing()),
        };
        Ok(list.iter().map(|value| Fields { value, ..*self }).collect())
    }

    /// A wrapped list that may be missing, for details inside an element.
    pub(crate) fn details(&self, outer: &str, inner: &str) -> Vec<Fields<'a>> {
        self.list(outer, inner).unwrap_or_default()
    }

    /// A wrapped list of plain texts, `outer.inner[]` or `outer[]`, that may be missing; empty ones are left out.
    pub(crate) fn texts(&self, outer: &str, inner: &str) -> Vec<String> {
        let list = self.details(outer, inner).into_iter();
        list.filter_map(|item| item.value.as_str().filter(|text| !text.is_empty()).map(str::to_owned))
            .collect()
    }

    /// The tags of an element: `Tags.Tag[]{TagKey, TagValue}`, or `Key` and `Value` in some replies.
    pub(crate) fn tags(&self) -> BTreeMap<String, String> {
        let pair = |tag: Fields| {
            let key = tag.text("TagKey").or_else(|| tag.text("Key"))?;
            let value = tag.text("TagValue").or_else(|| tag.text("Value"));
            Some((key, value.unwrap_or_default()))
        };
        self.details("Tags", "Tag").into_iter().filter_map(pair).collect()
    }

    /// The failure to understand this reply. Ambiguous: the call itself may have worked.
    pub(crate) fn defect(&self, text: &str) -> Error {
        const SUCCESS: u16 = 200;
        let error = Error::local(self.service, self.action, local::REPLY_NOT_UNDERSTOOD, text);
        error.with_reply(SUCCESS, self.text("RequestId"))
    }
}

/// An unknown word of the cloud, fit to be shown.
pub(crate) fn unknown_word(word: &str) -> String {
    const LENGTH_MAX: usize = 64;
    safe_text(word).chars().take(LENGTH_MAX).collect()
}

/// Defines an enum of the words that a field is documented to hold; other words are kept in `Unknown`.
macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($(#[$detail:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$detail])* $variant,)+
            /// A word that is not documented, cleaned and cut to 64 characters; empty if the field was
            /// missing.
            Unknown(String),
        }

        impl $name {
            /// The variant for the cloud's word; letter case does not matter.
            pub fn from_word(word: &str) -> Self {
                match word {
                    $(word if word.eq_ignore_ascii_case($word) => $name::$variant,)+
                    _ => $name::Unknown($crate::alibaba::reply::unknown_word(word)),
                }
            }

            /// The cloud's word.
            pub fn word(&self) -> &str {
                match self {
                    $($name::$variant => $word,)+
                    $name::Unknown(word) => word,
                }
            }
        }
    };
}
pub(crate) use words;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fields(value: &Value) -> Fields<'_> {
        Fields::new(value, Service::Ecs, "DescribeDisks")
    }

    #[test]
    fn scalars_are_read_from_every_form_that_was_seen() {
        let value = json!({
            "a": "40", "b": 40, "c": "true", "d": false, "e": "37%", "f": null, "g": "",
            "h": "-1", "i": "101%",
        });
        let fields = fields(&value);
        assert_eq!((fields.number("a"), fields.number("b"), fields.number("h")), (Some(40), Some(40), None));
        assert_eq!((fields.flag("c"), fields.flag("d"), fields.flag("a")), (Some(true), Some(false), None));
        assert_eq!((fields.percent("e"), fields.percent("i"), fields.percent("f")), (Some(37), None, None));
        assert_eq!(
            (fields.text("b"), fields.text("f"), fields.text("g")),
            (Some("40".to_owned()), None, None)
        );
    }

    #[test]
    fn a_missing_list_is_a_defect_and_an_empty_one_is_not() {
        for value in
            [json!({}), json!({"Disks": null}), json!({"Disks": "x"}), json!({"Disks": {"Other": []}})]
        {
            let error = fields(&value).list("Disks", "Disk").err().expect("a defect");
            assert!(!error.definite());
        }
        for value in [json!({"Disks": {"Disk": []}}), json!({"Disks": []}), json!({"Disks": {}})] {
            assert!(fields(&value).list("Disks", "Disk").expect("a list").is_empty());
        }
        let value = json!({"Disks": {"Disk": [{"DiskId": "d-1"}]}});
        assert_eq!(fields(&value).list("Disks", "Disk").expect("a list").len(), 1);
    }

    #[test]
    fn tags_may_be_missing_and_may_have_empty_values() {
        let value = json!({"Tags": {"Tag": [
            {"TagKey": "a", "TagValue": ""}, {"Key": "b", "Value": "c"}, {"TagValue": "d"},
        ]}});
        let expected = BTreeMap::from([("a".to_owned(), String::new()), ("b".to_owned(), "c".to_owned())]);
        assert_eq!(fields(&value).tags(), expected);
        assert!(fields(&json!({})).tags().is_empty());
    }
}
