//! Tokens, tags and names that derive from an object's identity. Frozen: a changed derivation would double resources.

use std::collections::BTreeMap;

use kube::Resource;
use sha2::{Digest, Sha256};

use crate::resource::tag;

/// Whose resource it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// uid of the kube-system namespace.
    pub cluster: String,
    /// The object's namespace.
    pub namespace: String,
    /// The object's name.
    pub name: String,
    /// The object's uid.
    pub uid: String,
}

impl Owner {
    /// The owner that an object of this cluster is.
    pub fn of<K: Resource>(cluster: &str, object: &K) -> Owner {
        let meta = object.meta();
        Owner {
            cluster: cluster.to_owned(),
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
        }
    }

    /// ClientToken of an attempt: 63 ASCII characters of at most 64, by hash, so that no length is ever cut off.
    pub fn client_token(&self, role: &str, attempt: u32) -> String {
        let digest = Sha256::digest(format!("{}|{}|{role}|{attempt}", self.cluster, self.uid));
        let hex: String = digest.iter().take(28).map(|byte| format!("{byte:02x}")).collect();
        format!("ecskms-{hex}")
    }

    /// The parameters that every creation begins with.
    pub fn parameters(&self, role: &str, attempt: u32) -> BTreeMap<String, String> {
        BTreeMap::from([("ClientToken".to_owned(), self.client_token(role, attempt))])
    }

    /// The ownership tags. Values are cut to the cloud's 128 characters; only the uid proves ownership, and it is short.
    pub fn tags(&self) -> [(&'static str, String); 4] {
        let cut = |text: &str| text.chars().take(128).collect::<String>();
        [
            (tag::CLUSTER, cut(&self.cluster)),
            (tag::NAMESPACE, cut(&self.namespace)),
            (tag::NAME, cut(&self.name)),
            (tag::UID, cut(&self.uid)),
        ]
    }

    /// The tags by which everything of this name is found, also from an earlier life of it, as they stand in the cloud.
    pub fn family(&self) -> [(&'static str, String); 3] {
        let [cluster, namespace, name, _] = self.tags();
        [cluster, namespace, name]
    }

    /// Adds the ownership tags and the user's to a creation request.
    pub fn add_tags(&self, parameters: &mut BTreeMap<String, String>, others: &[(String, String)]) {
        let own = self.tags().into_iter().map(|(key, value)| (key.to_owned(), value));
        for (index, (key, value)) in own.chain(others.iter().cloned()).enumerate() {
            parameters.insert(format!("Tag.{}.Key", index + 1), key);
            parameters.insert(format!("Tag.{}.Value", index + 1), value);
        }
    }

    /// True if the tags prove that the operator created the resource for this very object.
    pub fn owns(&self, tags: &BTreeMap<String, String>) -> bool {
        tags.get(tag::UID) == Some(&self.uid) && tags.get(tag::CLUSTER) == Some(&self.cluster)
    }

    /// The default name in the console: at most 128 characters, begins with a letter.
    pub fn console_name(&self) -> String {
        format!("ecskms-{}-{}", self.namespace, self.name).chars().take(128).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner() -> Owner {
        Owner { cluster: "c-1".into(), namespace: "team".into(), name: "data".into(), uid: "u-1".into() }
    }

    #[test]
    fn the_derivation_of_tokens_is_frozen() {
        let token = owner().client_token("disk", 1);
        assert_eq!(token, "ecskms-96d55b15b262d278e7e1dc26593f5de105a1efbcef2fd8595872228b");
        assert!(token.len() <= 64 && token.is_ascii());
        assert_ne!(token, owner().client_token("disk", 2));
        assert_ne!(token, owner().client_token("image", 1));
    }

    #[test]
    fn what_is_looked_for_is_what_was_written_however_long_the_name() {
        let long = Owner { name: "n".repeat(253), ..owner() };
        assert_eq!(long.family()[..], long.tags()[..3]);
        assert_eq!(long.family()[2].1.len(), 128);
    }

    #[test]
    fn only_the_uid_and_the_cluster_prove_ownership() {
        let mut tags: BTreeMap<String, String> =
            owner().tags().map(|(key, value)| (key.to_owned(), value)).into();
        assert!(owner().owns(&tags));
        tags.insert(tag::UID.into(), "u-2".into());
        assert!(!owner().owns(&tags));
        assert!(!owner().owns(&BTreeMap::new()));
    }
}
