//! Reads a key, and for customer keys ECS's role, into the fact that decisions need.

use super::{Fault, FaultClass, World};
use crate::alibaba::{EcsRole, Key, KeyState};
use crate::decision::Reason;
use crate::decision::key::KeyFact;

/// What ECS can encrypt under (API reference §2.6).
const KEY_SPECS: [&str; 2] = ["Aliyun_AES_256", "Aliyun_SM4"];

/// Why ECS cannot encrypt under the key as it stands; None if the key itself is no obstacle.
pub fn key_obstacle(key: &Key) -> Option<Reason> {
    if !KEY_SPECS.contains(&key.spec.as_str()) {
        return Some(Reason::KeySpecUnsupported);
    }
    match key.state {
        KeyState::Enabled => None,
        KeyState::Disabled => Some(Reason::KeyDisabled),
        KeyState::PendingDeletion => Some(Reason::KeyPendingDeletion),
        KeyState::PendingImport => Some(Reason::KeyPendingImport),
        KeyState::Unknown(_) => Some(Reason::StatusUnknown),
    }
}

/// Why ECS may not use customer keys; None if it may. The reasons are those that the account itself shows.
pub fn role_obstacle(role: &EcsRole) -> Option<Reason> {
    match role.exists {
        true if !role.trusts_ecs => Some(Reason::EcsRoleForeign),
        true if role.policy_attached => None,
        _ => Some(Reason::EcsRoleMissing),
    }
}

impl World {
    /// What an alias names now, if that is not the key that status has pinned: somebody pointed it elsewhere.
    ///
    /// Only told, never followed; so a reading that fails is left for the next round.
    pub async fn repointed(&self, region: &str, key: &str, pinned: Option<&str>) -> Option<String> {
        let (alias, pinned) = (key.strip_prefix("alias/")?, pinned?);
        if alias.starts_with("acs/") {
            return None;
        }
        match self.cloud.key(region, key).await {
            Ok(Some(found)) => (found.id != pinned).then_some(found.id),
            Ok(None) => Some("no key".to_owned()),
            Err(_) => None,
        }
    }

    /// The key as it stands now. `pinned` is the id that status remembers: an alias is resolved once.
    pub async fn key_fact(
        &self,
        region: &str,
        key: &str,
        service: bool,
        pinned: Option<&str>,
    ) -> Result<KeyFact, Fault> {
        // An id needs no call to be known as revoked; an alias is resolved first. A service key cannot be revoked.
        if !service
            && let Some(id) = pinned.or((!key.starts_with("alias/")).then_some(key))
            && let Some(fact) = self.revoked(region, id).await?
        {
            return Ok(fact);
        }
        let Some(found) = self.cloud.key(region, pinned.unwrap_or(key)).await? else {
            // The service key comes into being with its first use.
            return Ok(if service {
                KeyFact::Usable { id: key.to_owned(), service }
            } else {
                KeyFact::Missing
            });
        };
        let id = found.id.clone();
        // Also one that is named by its id, without its alias.
        let service = service || found.is_service_key;
        if !service && let Some(fact) = self.revoked(region, &id).await? {
            return Ok(fact);
        }
        if let Some(reason) = key_obstacle(&found) {
            return Ok(KeyFact::Unusable { id, reason });
        }
        if !service && let Some(reason) = role_obstacle(&self.cloud.ecs_role().await?) {
            return Ok(KeyFact::Unusable { id, reason });
        }
        Ok(KeyFact::Usable { id, service })
    }

    /// The fact that a live revocation holds the key, if one does. No call. While the revocations have not been listed, a fault:
    /// what is under a key that may be held must not be deleted.
    pub async fn revoked(&self, region: &str, key_id: &str) -> Result<Option<KeyFact>, Fault> {
        self.revocations_known().await?;
        let held = self.revocations.holder(self.account.as_deref(), region, key_id).is_some();
        Ok(held.then(|| KeyFact::Unusable { id: key_id.to_owned(), reason: Reason::KeyRevoked }))
    }

    /// A fault while the revocations have not been listed: until then nobody can say which keys are held.
    pub async fn revocations_known(&self) -> Result<(), Fault> {
        if self.revocations.known().await {
            return Ok(());
        }
        Err(Fault {
            class: FaultClass::Transient,
            reason: Reason::CloudUnavailable,
            ..Fault::defect(
                "RevocationsUnknown",
                "The revocations of keys have not been listed since the operator started, so it is not known whether one holds the key. \
                 It is tried again; if it stays so, see the operator's log, and its ClusterRole.",
            )
        })
    }
}
