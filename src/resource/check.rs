//! Checks of field values that repeat the schema's, for objects that were stored before a rule or around it.
//!
//! Every check answers with the problem in words; the caller names the field. Nothing is corrected silently.

use super::{Adoption, KeyReference, TagValue};
use std::collections::BTreeMap;

/// Key id or alias as the KMS API takes it, and whether it is the service key.
pub fn key(key: &KeyReference) -> Result<(String, bool), String> {
    match (&key.id, &key.alias, key.service) {
        (Some(id), None, None) => {
            let plain = id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') && !id.starts_with('-');
            match plain && (1..=64).contains(&id.len()) {
                true => Ok((id.clone(), false)),
                false => Err("id may hold 1 to 64 letters, digits and hyphens".into()),
            }
        }
        (None, Some(alias), None) => {
            let rest = alias.strip_prefix("alias/").unwrap_or_default();
            let plain = rest.bytes().all(|b| b.is_ascii_alphanumeric() || b"_/-".contains(&b));
            match (plain && !rest.is_empty() && alias.len() <= 255, rest.starts_with("acs")) {
                (true, false) => Ok((alias.clone(), false)),
                (_, true) => {
                    Err("aliases that begin with alias/acs belong to Alibaba Cloud; use service: true".into())
                }
                (false, _) => Err("alias must be alias/ followed by letters, digits, _, / and -".into()),
            }
        }
        (None, None, Some(true)) => Ok(("alias/acs/ecs".to_owned(), true)),
        _ => Err("exactly one of id, alias and service: true must be set".into()),
    }
}

/// A region or zone id: it becomes part of a host name, so it is checked before anything is built from it.
pub fn place(value: &str) -> Result<(), String> {
    let plain = value.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    let head = value.split('-').next().unwrap_or_default();
    match plain
        && (2..=4).contains(&head.len())
        && head.bytes().all(|b| b.is_ascii_lowercase())
        && value.len() <= 50
        && value.contains('-')
        && !value.ends_with('-')
    {
        true => Ok(()),
        false => {
            Err(format!("{} is not a region or zone such as cn-hangzhou or cn-hangzhou-h", quoted(value)))
        }
    }
}

/// The id of an ECS resource with the given prefix, for example `s` for a snapshot.
pub fn id(value: &str, prefix: &str) -> Result<(), String> {
    let rest = value.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('-')).unwrap_or_default();
    match !rest.is_empty()
        && value.len() <= 64
        && rest.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    {
        true => Ok(()),
        false => Err(format!("{} is not an id such as {prefix}-bp1a2b3c", quoted(value))),
    }
}

/// A name for the console: 2 to 128 characters, begins with a letter, holds letters, digits, `:`, `_`, `.` and `-`.
pub fn name(value: &str) -> Result<(), String> {
    let plain = value.bytes().all(|b| b.is_ascii_alphanumeric() || b":_.-".contains(&b));
    let taken = value.starts_with("acs:") || value.starts_with("aliyun");
    match plain
        && (2..=128).contains(&value.len())
        && value.starts_with(|c: char| c.is_ascii_alphabetic())
        && !taken
    {
        true => Ok(()),
        false => Err(format!(
            "{} must have 2 to 128 letters, digits, `:`, `_`, `.` and `-`, begin with a letter, and not with acs: or aliyun",
            quoted(value)
        )),
    }
}

/// A description: 2 to 256 characters, no control characters, not beginning with http:// or https://.
pub fn description(value: &str) -> Result<(), String> {
    let length = value.chars().count();
    let bad =
        value.chars().any(is_unprintable) || value.starts_with("http://") || value.starts_with("https://");
    match (2..=256).contains(&length) && !bad {
        true => Ok(()),
        false => Err(
            "must have 2 to 256 characters, no control characters, and not begin with http:// or https://"
                .into(),
        ),
    }
}

/// The user's tags: at most 16, because the operator adds four and the cloud takes twenty.
pub fn tags(tags: &BTreeMap<String, TagValue>) -> Result<Vec<(String, String)>, String> {
    if tags.len() > 16 {
        return Err(format!("{} tags are too many: at most 16", tags.len()));
    }
    let reserved = ["aliyun", "acs:", "ecskms:", "http://", "https://"];
    for (key, value) in tags {
        let lengths = (1..=128).contains(&key.chars().count()) && value.0.chars().count() <= 128;
        let unprintable = key.chars().chain(value.0.chars()).any(is_unprintable);
        if !lengths || unprintable || reserved.iter().any(|prefix| key.starts_with(prefix)) {
            return Err(format!(
                "tag {} must have a key of 1 to 128 and a value of up to 128 printable characters, and not begin with one of {}",
                quoted(key),
                reserved.join(", ")
            ));
        }
    }
    Ok(tags.iter().map(|(key, value)| (key.clone(), value.0.clone())).collect())
}

/// Seconds of a duration: hours, minutes and seconds, in this order, at least one of them.
pub fn duration(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut total = 0_u64;
    for (unit, seconds) in [('h', 3600), ('m', 60), ('s', 1)] {
        if let Some((number, after)) = rest.split_once(unit) {
            let number: u64 = number.parse().ok()?;
            total = number.checked_mul(seconds).and_then(|part| total.checked_add(part))?;
            rest = after;
        }
    }
    (rest.is_empty() && !text.is_empty()).then_some(total)
}

/// A resource group id.
pub fn resource_group(value: &str) -> Result<(), String> {
    id(value, "rg")
}

/// The id of an adopted resource.
pub fn adoption(adopt: &Option<Adoption>, prefix: &str) -> Result<Option<String>, String> {
    match adopt {
        None => Ok(None),
        Some(adoption) => id(&adoption.external_id, prefix).map(|()| Some(adoption.external_id.clone())),
    }
}

/// A value in quotes with everything unprintable escaped and its length bounded: safe in logs, events and status.
pub fn quoted(value: &str) -> String {
    const SHOWN_MAX: usize = 64;
    let mut shown: String = value
        .chars()
        .take(SHOWN_MAX)
        .flat_map(|c| if is_unprintable(c) { c.escape_unicode().collect::<Vec<_>>() } else { vec![c] })
        .collect();
    if value.chars().count() > SHOWN_MAX {
        shown.push('…');
    }
    format!("\"{shown}\"")
}

/// Control characters, and the invisible ones that turn or hide text.
fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_form_of_key_is_accepted() {
        let reference = |id: Option<&str>, alias: Option<&str>, service| KeyReference {
            id: id.map(str::to_owned),
            alias: alias.map(str::to_owned),
            service,
        };
        assert_eq!(key(&reference(Some("key-a"), None, None)), Ok(("key-a".into(), false)));
        assert_eq!(key(&reference(None, Some("alias/a"), None)), Ok(("alias/a".into(), false)));
        assert_eq!(key(&reference(None, None, Some(true))), Ok(("alias/acs/ecs".into(), true)));
        for wrong in [
            reference(None, None, None),
            reference(None, None, Some(false)),
            reference(Some("key-a"), Some("alias/a"), None),
            reference(Some("key-a"), None, Some(true)),
            reference(Some("key a"), None, None),
            reference(Some(""), None, None),
            reference(None, Some("alias/acs/ecs"), None),
            reference(None, Some("payments"), None),
        ] {
            assert!(key(&wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn places_cannot_smuggle_a_host_name() {
        assert!(
            place("cn-hangzhou").is_ok() && place("ap-southeast-1").is_ok() && place("cn-hangzhou-h").is_ok()
        );
        for wrong in [
            "",
            "cn",
            "evil.com/#",
            "cn-hangzhou.evil.com",
            "CN-hangzhou",
            "cn-hangzhou\n",
            "cn-",
            "hangzhou-1x",
        ] {
            assert!(place(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn ids_hold_one_id_and_nothing_else() {
        assert!(id("s-bp1abc", "s").is_ok());
        for wrong in ["s-", "m-bp1", "s-BP1", "s-bp1&Action=DeleteInstance", "s-bp1 ", ""] {
            assert!(id(wrong, "s").is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn unprintable_text_is_refused_and_shown_escaped() {
        assert!(description("a\u{202e}b").is_err());
        assert!(name("a\0b").is_err());
        assert_eq!(quoted("a\nb"), "\"a\\u{a}b\"");
        assert!(quoted(&"x".repeat(1000)).chars().count() < 70);
        let tag = |key: &str| tags(&BTreeMap::from([(key.to_owned(), TagValue("v".into()))]));
        assert!(tag("team").is_ok());
        assert!(tag("ecskms:uid").is_err() && tag("acs:x").is_err() && tag("a\u{200b}").is_err());
    }
}
