//! What is asked of the cloud: a product, a region, an action and flat parameters; and how nested values
//! become flat.
//!
//! All actions here are RPC style: `POST /`, action and version in headers, every parameter in the query,
//! empty body (seen on the wire of the official SDKs). This file neither encodes nor sends, and knows no
//! action by name.

use std::collections::BTreeMap;

use super::error::{Error, local};

/// Flat parameters of one request, sorted by name.
pub type Parameters = BTreeMap<String, String>;

/// The products that are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Service {
    /// Elastic Compute Service.
    Ecs,
    /// Key Management Service.
    Kms,
    /// Resource Access Management.
    Ram,
    /// Security Token Service.
    Sts,
}

impl Service {
    /// Every product, in a stable order.
    pub const ALL: [Service; 4] = [Service::Ecs, Service::Kms, Service::Ram, Service::Sts];

    /// The name used in host names, RAM actions, logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Service::Ecs => "ecs",
            Service::Kms => "kms",
            Service::Ram => "ram",
            Service::Sts => "sts",
        }
    }

    /// The API version that the official SDK packages ecs20140526, kms20160120, ram20150501 and sts20150401
    /// speak.
    pub fn version(self) -> &'static str {
        match self {
            Service::Ecs => "2014-05-26",
            Service::Kms => "2016-01-20",
            Service::Ram => "2015-05-01",
            Service::Sts => "2015-04-01",
        }
    }
}

/// One call. No `Debug`: values of parameters are not for logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    /// The product.
    pub service: Service,
    /// The region whose endpoint answers; empty for the products that are global (RAM, STS).
    pub region: String,
    /// The name of the action.
    pub action: &'static str,
    /// All parameters, sent exactly as they stand here.
    pub parameters: Parameters,
}

/// Builds parameters from pairs of text.
pub fn parameters<const COUNT: usize>(pairs: [(&str, &str); COUNT]) -> Parameters {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Adds `Tag.1.Key`, `Tag.1.Value` and so on; the index starts at 1.
pub fn put_tags(parameters: &mut Parameters, tags: &[(&str, &str)]) {
    for (position, (key, value)) in tags.iter().enumerate() {
        let index = position + 1;
        parameters.insert(format!("Tag.{index}.Key"), (*key).to_owned());
        parameters.insert(format!("Tag.{index}.Value"), (*value).to_owned());
    }
}

/// Adds a repeated list: `name.1`, `name.2` and so on.
pub fn put_list(parameters: &mut Parameters, name: &str, values: &[&str]) {
    for (position, value) in values.iter().enumerate() {
        parameters.insert(format!("{name}.{}", position + 1), (*value).to_owned());
    }
}

/// A JSON array in one text, as `DiskIds`, `SnapshotIds` and `InstanceIds` want it.
pub fn json_array(values: &[String]) -> String {
    serde_json::Value::from(values.to_vec()).to_string()
}

/// The longest id that is accepted; names of public images are the longest ones known.
const ID_LENGTH_MAX: usize = 128;

/// Checks an ECS id before it is used: letters, digits, `-`, `_` and `.`, not empty, at most 128 characters.
///
/// `kind` is the name of the parameter, for the message. The error has class Invalid and is definite.
pub(crate) fn check_id(service: Service, action: &'static str, kind: &str, id: &str) -> Result<(), Error> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if !id.is_empty() && id.len() <= ID_LENGTH_MAX && id.bytes().all(allowed) {
        return Ok(());
    }
    let text =
        format!("{kind} is not an id: letters, digits, '-', '_', '.', at most {ID_LENGTH_MAX} of them");
    Err(Error::local(service, action, local::INVALID_ID, &text))
}

/// Checks a key id, alias or ARN: the characters of an id plus `/` and `:`, at most 512 of them.
pub(crate) fn check_key(action: &'static str, key: &str) -> Result<(), Error> {
    const LENGTH_MAX: usize = 512;
    let allowed =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'/' | b':' | b'*');
    if !key.is_empty() && key.len() <= LENGTH_MAX && key.bytes().all(allowed) {
        return Ok(());
    }
    let text = format!("KeyId is not a key id, an alias or an ARN of at most {LENGTH_MAX} characters");
    Err(Error::local(Service::Kms, action, local::INVALID_ID, &text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_tags_start_at_one_and_ids_become_one_json_text() {
        let mut flat = parameters([("RegionId", "cn-beijing")]);
        put_tags(&mut flat, &[("owner", "a/b"), ("empty", "")]);
        put_list(&mut flat, "InstanceId", &["i-1", "i-2"]);
        let expected = parameters([
            ("InstanceId.1", "i-1"),
            ("InstanceId.2", "i-2"),
            ("RegionId", "cn-beijing"),
            ("Tag.1.Key", "owner"),
            ("Tag.1.Value", "a/b"),
            ("Tag.2.Key", "empty"),
            ("Tag.2.Value", ""),
        ]);
        assert_eq!(flat, expected);
        assert_eq!(json_array(&["d-1".to_owned(), "d-\"2".to_owned()]), r#"["d-1","d-\"2"]"#);
        assert_eq!(json_array(&[]), "[]");
    }

    #[test]
    fn ids_with_strange_characters_never_leave_the_process() {
        let check = |id: &str| check_id(Service::Ecs, "DescribeDisks", "DiskId", id);
        for id in ["d-bp1aaaaaaaaaaaaaaaaa", "win2019_1809_x64_dtc_zh-cn_40G_alibase_20230811.vhd"] {
            assert_eq!(check(id), Ok(()));
        }
        let at_the_limit = "d".repeat(ID_LENGTH_MAX);
        assert_eq!(check(&at_the_limit), Ok(()));
        let too_long = "d".repeat(ID_LENGTH_MAX + 1);
        for id in ["", "d-1\n", "d-1\",\"d-2", "d 1", "d-订", "d/1", too_long.as_str()] {
            let error = check(id).expect_err(id);
            assert!(error.definite() && error.class == crate::alibaba::Class::Invalid, "{error}");
        }
        assert_eq!(check_key("DescribeKey", "acs:kms:cn-hangzhou:1:key/key-1"), Ok(()));
        assert_eq!(check_key("DescribeKey", "alias/acs/ecs"), Ok(()));
        assert!(check_key("DescribeKey", "alias/ü").is_err());
        assert!(check_key("DescribeKey", "").is_err());
    }
}
