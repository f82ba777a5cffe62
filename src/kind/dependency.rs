//! What an object stands on: what wakes it when it changes, and where to look for the cause when it is not Ready.
//!
//! By name only: whether it is there, and how it stands, is the reader's business.

use super::{Kind, accounts};
use crate::resource::KeyReference;

/// Something outside of an object without which it cannot keep its promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dependency {
    /// Another object of this group, in the object's own namespace if its kind lives in one.
    Object {
        /// Its kind.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// A KMS key.
    Key {
        /// Its region.
        region: String,
        /// Its id, or its alias as long as nobody has looked it up.
        id: String,
    },
    /// A Secret of the operator's own namespace.
    Secret {
        /// Its name.
        name: String,
    },
}

impl Dependency {
    /// Another object.
    pub fn object(kind: &'static str, name: &str) -> Dependency {
        Dependency::Object { kind, name: name.to_owned() }
    }

    /// A key: what it was when it was first looked up, else as the object names it. None for the service key, which nobody can take.
    pub fn key(region: &str, pinned: Option<&str>, named: &KeyReference) -> Option<Dependency> {
        let id = pinned.or(named.id.as_deref()).or(named.alias.as_deref())?;
        Some(Dependency::Key { region: region.to_owned(), id: id.to_owned() })
    }

    /// True if it is this key.
    pub fn is_key(&self, key_region: &str, key_id: &str) -> bool {
        matches!(self, Dependency::Key { region, id } if region == key_region && id == key_id)
    }

    /// True if it is this Secret.
    pub fn is_secret(&self, secret: &str) -> bool {
        matches!(self, Dependency::Secret { name } if name == secret)
    }
}

/// The object of an account that an object names.
pub fn account<K: Kind>(object: &K) -> Option<Dependency> {
    object.account().map(|account| Dependency::object(accounts::KIND, &account.name))
}
