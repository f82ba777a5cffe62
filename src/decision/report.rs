//! What a kind says about itself after a look at the world; the engine turns it into status and conditions.
//!
//! No times and no generations: those are stamped by the engine, so that a report that says the same thing is the same value.

use super::Reason;

/// A kind's own status fields, its own conditions, and one sentence for Ready.
#[derive(Clone, Debug, PartialEq)]
pub struct Report<S> {
    /// The kind's status. The engine fills in the shared part.
    pub status: S,
    /// The kind's own conditions. Abnormal-true ones are left out while they do not hold.
    pub facts: Vec<Fact>,
    /// One or two sentences for the Ready condition; ends with the next step where a human must take one.
    pub message: String,
}

/// One condition of a kind's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// The condition's type, for example `Encrypted`.
    pub name: &'static str,
    /// Whether it holds.
    pub truth: Truth,
    /// Why.
    pub reason: Reason,
    /// One sentence.
    pub message: String,
}

/// The three values of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// It cannot be said.
    Unknown,
}

impl Truth {
    /// The word that Kubernetes uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Truth::True => "True",
            Truth::False => "False",
            Truth::Unknown => "Unknown",
        }
    }
}

impl From<bool> for Truth {
    fn from(value: bool) -> Truth {
        if value { Truth::True } else { Truth::False }
    }
}

/// The conditions that speak of the key: KeyUsable and Revocable.
pub fn key_facts(key: &super::key::KeyFact, region: &str) -> Vec<Fact> {
    use super::key::KeyFact;
    let mut facts = Vec::new();
    let (truth, reason, message) = match key {
        KeyFact::Unasked => return facts,
        KeyFact::Usable { id, .. } => {
            (Truth::True, Reason::Available, format!("Key {id} is enabled and ECS may use it."))
        }
        KeyFact::Unusable { id, reason } => (Truth::False, *reason, key_obstacle(*reason, id, region)),
        KeyFact::Missing => {
            (Truth::False, Reason::KeyNotFound, key_obstacle(Reason::KeyNotFound, "", region))
        }
    };
    if reason == Reason::KeyRevoked {
        facts.push(Fact { name: "KeyRevoked", truth: Truth::True, reason, message: message.clone() });
    }
    facts.push(Fact { name: "KeyUsable", truth, reason, message });
    if let KeyFact::Usable { service, .. } = key {
        let (reason, message) = match service {
            true => (
                Reason::ServiceKey,
                "The service key can never be disabled; use a customer key to be able to revoke access."
                    .to_owned(),
            ),
            false => (Reason::CustomerKey, "Access can be revoked by disabling the key.".to_owned()),
        };
        facts.push(Fact { name: "Revocable", truth: Truth::from(!service), reason, message });
    }
    facts
}

/// What stands in the way of using a key, and what to do about it.
pub fn key_obstacle(reason: Reason, id: &str, region: &str) -> String {
    match reason {
        Reason::KeyDisabled => format!("Key {id} is disabled. Enable it in KMS, or choose another key in a new object."),
        Reason::KeyRevoked => {
            format!("Key {id} is held by a KeyRevocation; nothing is created, replaced or deleted under it. Whoever has ClusterRole ecskms-revocation-auditor sees it: kubectl get keyrevocations.")
        }
        Reason::KeyPendingDeletion => {
            format!("Key {id} is scheduled for deletion. Cancel the deletion in KMS before its date, or everything under it is lost.")
        }
        Reason::KeyPendingImport => format!("Key {id} has no key material. Import it in KMS."),
        Reason::KeySpecUnsupported => {
            format!("ECS cannot encrypt under key {id}: it must be a symmetric key (Aliyun_AES_256 or Aliyun_SM4). Choose another key.")
        }
        Reason::EcsRoleMissing => "ECS may not use customer keys: role AliyunECSDiskEncryptDefaultRole, trusting \
             ecs.aliyuncs.com, with system policy AliyunECSDiskEncryptRolePolicy is missing. Grant it once in the ECS console \
             (create any encrypted disk and follow the authorisation link) or with RAM CreateRole and AttachPolicyToRole."
            .to_owned(),
        Reason::EcsRoleForeign => "ECS may not use customer keys: role AliyunECSDiskEncryptDefaultRole is there but does not let \
             ecs.aliyuncs.com take it on. Correct its trust policy, or free the name and grant the role once in the ECS console."
            .to_owned(),
        _ => format!("There is no such key in region {region}. Check spec.key; keys and ECS resources must share a region."),
    }
}
