//! What a decision must know of keys and of encryption under them.

use super::Reason;

/// The key that an object names, as it stands in KMS now.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum KeyFact {
    /// Exists in the region, is Enabled, has a type that ECS accepts, and ECS may use it.
    Usable {
        /// The key's id, never an alias.
        id: String,
        /// True for the service key.
        service: bool,
    },
    /// Exists but ECS cannot use it now.
    Unusable {
        /// The key's id.
        id: String,
        /// KeyRevoked, KeyDisabled, KeyPendingDeletion, KeyPendingImport, KeySpecUnsupported, EcsRoleMissing or EcsRoleForeign.
        reason: Reason,
    },
    /// There is no such key in the region.
    Missing,
    /// Not looked at: deletion does not depend on keys.
    Unasked,
}

impl KeyFact {
    /// Why nothing may be created under the key; None if it is usable.
    pub fn obstacle(&self) -> Option<Reason> {
        match self {
            KeyFact::Usable { .. } => None,
            KeyFact::Unusable { reason, .. } => Some(*reason),
            KeyFact::Missing | KeyFact::Unasked => Some(Reason::KeyNotFound),
        }
    }

    /// True while a KeyRevocation holds the key: then nothing is created, replaced or deleted under it.
    pub fn is_revoked(&self) -> bool {
        self.obstacle() == Some(Reason::KeyRevoked)
    }

    /// The resolved key id.
    pub fn id(&self) -> Option<&str> {
        match self {
            KeyFact::Usable { id, .. } | KeyFact::Unusable { id, .. } => Some(id),
            KeyFact::Missing | KeyFact::Unasked => None,
        }
    }
}

/// How a cloud resource is encrypted, seen against the key that it should have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protection {
    /// Encrypted under exactly this key, seen on every part of the resource.
    Exact,
    /// Encrypted, but not all parts show their key yet.
    Unproven,
    /// Encrypted, at least in part, under another key.
    OtherKey,
    /// At least one part is not encrypted.
    Plain,
}

impl Protection {
    /// Compares what the cloud shows for one part with the wanted key.
    ///
    /// `shown` may be a key id or a key ARN (`acs:kms:<region>:<uid>:key/<id>`). A part under the service key may show no
    /// key at all (the API reference leaves it open), which therefore counts as exact only where the service key is wanted.
    /// While `wanted` is an alias, because the service key comes into being with its first use, no shown key can be told from it.
    pub fn of(encrypted: bool, shown: Option<&str>, wanted: &str, wanted_is_service: bool) -> Protection {
        if !encrypted {
            return Protection::Plain;
        }
        match shown.filter(|key| !key.is_empty()) {
            Some(key) if key == wanted || key.rsplit('/').next() == Some(wanted) => Protection::Exact,
            Some(_) if wanted.starts_with("alias/") => Protection::Unproven,
            Some(_) => Protection::OtherKey,
            None if wanted_is_service => Protection::Exact,
            None => Protection::Unproven,
        }
    }

    /// The weakest of several parts; a resource without parts proves nothing.
    pub fn weakest(parts: impl IntoIterator<Item = Protection>) -> Protection {
        parts.into_iter().max().unwrap_or(Protection::Unproven)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_recognised_by_id_and_by_arn_and_by_nothing_else() {
        let of = |shown| Protection::of(true, shown, "key-a", false);
        assert_eq!(of(Some("key-a")), Protection::Exact);
        assert_eq!(of(Some("acs:kms:cn-hangzhou:1:key/key-a")), Protection::Exact);
        assert_eq!(of(Some("key-ab")), Protection::OtherKey);
        assert_eq!(of(Some("acs:kms:cn-hangzhou:1:key/not-key-a")), Protection::OtherKey);
        assert_eq!(of(None), Protection::Unproven);
        assert_eq!(Protection::of(true, None, "key-s", true), Protection::Exact);
        assert_eq!(Protection::of(true, Some("key-s"), "alias/acs/ecs", true), Protection::Unproven);
        assert_eq!(Protection::of(false, Some("key-a"), "key-a", false), Protection::Plain);
    }

    #[test]
    fn one_plain_part_makes_the_whole_plain() {
        use Protection::*;
        assert_eq!(Protection::weakest([Exact, Exact]), Exact);
        assert_eq!(Protection::weakest([Exact, Unproven]), Unproven);
        assert_eq!(Protection::weakest([Plain, Exact, OtherKey]), Plain);
        assert_eq!(Protection::weakest([]), Unproven);
    }
}
