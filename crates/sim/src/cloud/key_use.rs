//! May ECS use this key now? One question, asked by every action that touches encrypted data, with the codes
//! of each.
//!
//! Deliberately separate from `keys`: KMS manages keys, this is ECS's view of them through its own role.

use super::refusal::Refusal;
use super::world::World;

/// The role that ECS assumes to use a customer key.
pub const ECS_ROLE: &str = "AliyunECSDiskEncryptDefaultRole";
/// The system policy that this role must have.
pub const ECS_ROLE_POLICY: &str = "AliyunECSDiskEncryptRolePolicy";
/// The name by which ECS takes roles on.
const ECS_SERVICE: &str = "ecs.aliyuncs.com";
/// The tag by which ECS marks the keys that it has used.
pub const ECS_KEY_TAG: &str = "acs:ecs:disk-encryption";
/// The alias of the service key.
pub const SERVICE_ALIAS: &str = "alias/acs/ecs";

/// Why ECS cannot use a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyTrouble {
    /// No such key in this region, or deleted for good.
    Missing,
    /// Disabled, pending deletion or pending import.
    NotEnabled,
    /// Neither `Aliyun_AES_256` nor `Aliyun_SM4`.
    WrongSpec,
    /// The role or its policy is missing, or the role does not trust ECS.
    Unauthorized,
    /// KMS was never opened.
    KmsNotOpened,
}

/// Whose error table applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyTable {
    /// CopyImage, CreateImage, RunInstances, ReplaceSystemDisk.
    Image,
    /// CreateDisk, ResizeDisk.
    Disk,
    /// AttachDisk.
    Attach,
    /// CreateSnapshot.
    Snapshot,
    /// CopySnapshot.
    SnapshotCopy,
    /// StartInstance.
    Start,
    /// StopInstance.
    Stop,
    /// RebootInstance.
    Reboot,
    /// StartInstances, StopInstances, RebootInstances.
    Batch,
    /// ModifyDiskDefaultKMSKeyId.
    AccountDefault,
}

/// Checks that ECS may use `key_id` in `region`, and marks the key as used by ECS.
///
/// Only a key id is understood; aliases and ARNs count as missing.
pub fn use_key(world: &mut World, region: &str, key_id: &str, table: KeyTable) -> Result<(), Refusal> {
    if let Some(trouble) = trouble(world, region, key_id) {
        return Err(refusal(table, trouble));
    }
    // assumption: ecs-tags-the-key
    if let Some(key) = world.keys.get_mut(key_id).filter(|key| key.creator != "Ecs") {
        key.tags.insert(ECS_KEY_TAG.to_string(), "true".to_string());
    }
    Ok(())
}

/// What keeps ECS from using a key, if anything does.
pub fn trouble(world: &World, region: &str, key_id: &str) -> Option<KeyTrouble> {
    if !world.settings.kms_opened {
        return Some(KeyTrouble::KmsNotOpened);
    }
    // assumption: key-parameter-takes-ids
    let Some(key) = world.keys.get(key_id).filter(|key| key.region == region) else {
        return Some(KeyTrouble::Missing);
    };
    if key.creator == "Ecs" {
        return None;
    }
    if !matches!(key.spec.as_str(), "Aliyun_AES_256" | "Aliyun_SM4") {
        return Some(KeyTrouble::WrongSpec);
    }
    // assumption: pending-deletion-code
    if key.state != "Enabled" {
        return Some(KeyTrouble::NotEnabled);
    }
    let granted = world.roles.get(ECS_ROLE).is_some_and(|role| {
        role.attached.contains_key(ECS_ROLE_POLICY) && super::ram::trusts_service(&role.trust, ECS_SERVICE)
    });
    (!granted).then_some(KeyTrouble::Unauthorized)
}

/// The key that an encrypting call uses when it names none: the account default if that is on, the service
/// key otherwise.
pub fn unnamed_key(world: &mut World, region: &str) -> String {
    let default = world.encryption_defaults.get(region).filter(|default| default.on);
    match default.and_then(|default| default.key_id.clone()) {
        Some(key_id) => key_id,
        None => service_key(world, region),
    }
}

/// The service key of a region, created at its first use.
pub fn service_key(world: &mut World, region: &str) -> String {
    let alias = (region.to_string(), SERVICE_ALIAS.to_string());
    if let Some(alias) = world.aliases.get(&alias) {
        return alias.key_id.clone();
    }
    // assumption: service-key-appears-at-first-use
    let id = world.names.uuid();
    super::keys::insert_service_key(world, region, &id);
    id
}

/// The refusal of `table` for `trouble`.
pub fn refusal(table: KeyTable, trouble: KeyTrouble) -> Refusal {
    use KeyTable as T;
    use KeyTrouble as K;
    let (status, code) = match (table, trouble) {
        (T::Start, K::Missing) => (403, "InvalidParameter.KMSKeyId.NotFound"),
        (T::Stop | T::AccountDefault, K::Missing) => (403, "InvalidOperation.KMSKeyIdNotFound"),
        (T::Snapshot | T::Batch, K::Missing) => (400, "InvalidParameter.KMSKeyId.NotFound"),
        (T::SnapshotCopy, K::Missing) => (403, "InvalidKMSKeyId.NotFound"),
        (T::Attach, K::Missing) => (404, "InvalidKMSKeyId.NotFound"),
        (T::Image | T::Disk | T::Reboot, K::Missing) => (404, "InvalidParameter.KMSKeyId.NotFound"),
        (T::AccountDefault | T::Batch, K::NotEnabled) => (400, "InvalidParameter.KMSKeyId.CMKNotEnabled"),
        (_, K::NotEnabled) => (403, "InvalidParameter.KMSKeyId.CMKNotEnabled"),
        (T::Disk, K::WrongSpec) => (400, "InvalidKMSKeyId.NotSymmetric"),
        (T::SnapshotCopy, K::WrongSpec) => (403, "InvalidKMSKeyId.NotSymmetric"),
        // assumption: wrong-key-spec-code
        (_, K::WrongSpec) => (403, "InvalidParameter.DataEncryptedKeyCreateFailed"),
        (T::Batch, K::Unauthorized) => (400, "InvalidParameter.KMSKeyId.KMSUnauthorized"),
        (_, K::Unauthorized) => (403, "InvalidParameter.KMSKeyId.KMSUnauthorized"),
        (T::AccountDefault, K::KmsNotOpened) => (403, "InvalidOperation.KMSServiceNotOpen"),
        (T::Stop, K::KmsNotOpened) => (400, "InvalidParameter.Encrypted.KmsNotEnable"),
        (T::Disk, K::KmsNotOpened) => (403, "InvalidParameter.Encrypted.KmsNotEnabled"),
        (_, K::KmsNotOpened) => (400, "InvalidParameter.KmsNotEnabled"),
    };
    let text = match trouble {
        K::Missing => "The specified KMS key does not exist in this region.",
        K::NotEnabled => "The KMS key must be in the enabled state.",
        K::WrongSpec => "The KMS key must be a symmetric key.",
        K::Unauthorized => {
            "ECS is not authorized to access your KMS key; grant the role AliyunECSDiskEncryptDefaultRole."
        }
        K::KmsNotOpened => "The KMS service has not been opened.",
    };
    Refusal::new(status, code, text)
}
