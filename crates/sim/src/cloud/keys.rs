//! KMS keys and the calls that change their state.
//!
//! Deliberately no cryptography: no key material exists here. Listings, aliases and tags are in
//! `key_catalog`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::key_use::SERVICE_ALIAS;
use super::refusal::{Answer, Refusal};
use super::world::{Call, Event, Moment, World, iso};

const DAY_SECONDS: f64 = 24.0 * 3600.0;

/// A key.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Key {
    /// A UUID for default and service keys, `key-hzz…` inside a KMS instance.
    pub id: String,
    /// The region that holds it.
    pub region: String,
    /// `Enabled`, `Disabled`, `PendingDeletion`, `PendingImport`, or whatever a test has set.
    pub state: String,
    /// For example `Aliyun_AES_256`.
    pub spec: String,
    /// `ENCRYPT/DECRYPT` or `SIGN/VERIFY`.
    pub usage: String,
    /// `Aliyun_KMS` or `EXTERNAL`.
    pub origin: String,
    /// The account id, or `Ecs` for the service key.
    pub creator: String,
    /// Free text.
    pub description: String,
    /// The KMS instance, or empty.
    pub instance_id: String,
    /// `SOFTWARE` or `HSM`.
    pub protection_level: String,
    /// Whether ScheduleKeyDeletion is refused.
    pub deletion_protection: bool,
    /// When it was made.
    pub created: Moment,
    /// When it will be gone, while `PendingDeletion`.
    pub delete_at: Option<Moment>,
    /// For example `365d`, empty without rotation.
    pub rotation_interval: String,
    /// The version of the key material.
    pub version: String,
    /// Own and reserved tags.
    pub tags: BTreeMap<String, String>,
    /// The event that may change it next; 0 stands for none.
    pub pending: u64,
}

/// A second name of a key.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Alias {
    /// The region.
    pub region: String,
    /// With its prefix `alias/`.
    pub name: String,
    /// The key that it points at now.
    pub key_id: String,
}

impl Key {
    /// `acs:kms:<region>:<account>:key/<id>`.
    pub fn arn(&self, account: &str) -> String {
        format!("acs:kms:{}:{account}:key/{}", self.region, self.id)
    }

    /// True for the keys that a cloud service made for itself.
    pub fn is_service_key(&self) -> bool {
        self.creator == "Ecs"
    }

    /// `KeyMetadata` of CreateKey and DescribeKey.
    pub fn view(&self, account: &str) -> Value {
        let rotates = !self.rotation_interval.is_empty();
        json!({
            "KeyId": self.id,
            "Arn": self.arn(account),
            "KeyState": self.state,
            "KeySpec": self.spec,
            "KeyUsage": self.usage,
            "Origin": self.origin,
            "ProtectionLevel": self.protection_level,
            "Creator": self.creator,
            "CreationDate": iso(self.created),
            "Description": self.description,
            "DKMSInstanceId": self.instance_id,
            "DeletionProtection": if self.deletion_protection { "Enabled" } else { "Disabled" },
            "DeletionProtectionDescription": "",
            "DeleteDate": self.delete_at.map(iso).unwrap_or_default(),
            "AutomaticRotation": if rotates { "Enabled" } else { "Disabled" },
            "RotationInterval": self.rotation_interval,
            "LastRotationDate": iso(self.created),
            "NextRotationDate": "",
            "MaterialExpireTime": "",
            "PrimaryKeyVersion": self.version,
        })
    }
}

/// Makes the service key of a region under a given id.
pub fn insert_service_key(world: &mut World, region: &str, id: &str) {
    let version = world.names.uuid();
    let key = Key {
        id: id.to_string(),
        region: region.to_string(),
        state: "Enabled".into(),
        spec: "Aliyun_AES_256".into(),
        usage: "ENCRYPT/DECRYPT".into(),
        origin: "Aliyun_KMS".into(),
        creator: "Ecs".into(),
        protection_level: "HSM".into(),
        created: world.now,
        version,
        ..Key::default()
    };
    world.keys.insert(id.to_string(), key);
    let alias = Alias { region: region.into(), name: SERVICE_ALIAS.into(), key_id: id.into() };
    world.aliases.insert((region.to_string(), SERVICE_ALIAS.to_string()), alias);
}

/// CreateKey. Outside of a KMS instance a region has room for one.
pub fn create(world: &mut World, call: &Call) -> Answer {
    let parameters = call.parameters;
    let spec = parameters.text("KeySpec").unwrap_or("Aliyun_AES_256").to_string();
    let symmetric =
        matches!(spec.as_str(), "Aliyun_AES_256" | "Aliyun_AES_128" | "Aliyun_AES_192" | "Aliyun_SM4");
    let asymmetric = ["RSA_2048", "RSA_3072", "EC_P256", "EC_P256K", "EC_SM2"].contains(&spec.as_str());
    if !symmetric && !asymmetric {
        return Err(invalid("KeySpec"));
    }
    let usage = parameters.text("KeyUsage").unwrap_or("ENCRYPT/DECRYPT").to_string();
    if usage != "ENCRYPT/DECRYPT" && !(asymmetric && usage == "SIGN/VERIFY") {
        return Err(invalid("KeyUsage"));
    }
    let origin = parameters.text("Origin").unwrap_or("Aliyun_KMS").to_string();
    if !matches!(origin.as_str(), "Aliyun_KMS" | "EXTERNAL") {
        return Err(invalid("Origin"));
    }
    let rotation = rotation_of(call)?;
    let tags = super::key_catalog::tags_in_json(parameters.text("Tags"), "TagKey", "TagValue")?;
    let instance_id = parameters.text("DKMSInstanceId").unwrap_or_default().to_string();
    if !instance_id.is_empty() && !instance_id.starts_with("kst-") {
        return Err(Refusal::new(404, "Forbidden.DKMSInstanceNotFound", "The KMS instance does not exist."));
    }
    if instance_id.is_empty() {
        let own =
            |key: &&Key| key.region == call.region && key.instance_id.is_empty() && !key.is_service_key();
        if world.keys.values().filter(own).count() >= world.settings.default_keys_per_region {
            let text = "The key quota of the region is exhausted; further keys need a KMS instance.";
            return Err(Refusal::new(400, "Rejected.LimitExceeded", text));
        }
    }
    let id = if instance_id.is_empty() { world.names.uuid() } else { world.names.instance_key_id() };
    let key = Key {
        id: id.clone(),
        region: call.region.to_string(),
        state: if origin == "EXTERNAL" { "PendingImport" } else { "Enabled" }.into(),
        spec,
        usage,
        origin,
        creator: world.account.clone(),
        description: parameters.text("Description").unwrap_or_default().to_string(),
        instance_id,
        protection_level: parameters.text("ProtectionLevel").unwrap_or("SOFTWARE").to_string(),
        created: world.now,
        rotation_interval: rotation,
        version: world.names.uuid(),
        tags,
        ..Key::default()
    };
    let view = key.view(&world.account);
    world.keys.insert(id, key);
    Ok(json!({ "KeyMetadata": view }))
}

fn rotation_of(call: &Call) -> Result<String, Refusal> {
    let on = call.parameters.flag("EnableAutomaticRotation")?;
    match (on, call.parameters.text("RotationInterval")) {
        (false, _) => Ok(String::new()),
        (true, Some(interval)) if interval.ends_with(['d', 'h', 'm', 's']) => Ok(interval.to_string()),
        (true, _) => Err(invalid("RotationInterval")),
    }
}

/// DescribeKey, by id, ARN or alias.
pub fn describe(world: &mut World, call: &Call) -> Answer {
    let id = resolve(world, call, true)?;
    let key = world.keys.get(&id).ok_or_else(key_not_found)?;
    Ok(json!({ "KeyMetadata": key.view(&world.account) }))
}

/// EnableKey.
pub fn enable(world: &mut World, call: &Call) -> Answer {
    let id = changeable(world, call)?;
    change(world, &id, &["Enabled", "Disabled"], "Enabled")
}

/// DisableKey. Disabling a disabled key succeeds.
pub fn disable(world: &mut World, call: &Call) -> Answer {
    // assumption: running-machines-keep-their-key
    let id = changeable(world, call)?;
    change(world, &id, &["Enabled", "Disabled"], "Disabled")
}

/// ScheduleKeyDeletion, 7 to 366 days ahead.
pub fn schedule_deletion(world: &mut World, call: &Call) -> Answer {
    let id = changeable(world, call)?;
    call.parameters.required("PendingWindowInDays")?;
    let days = call.parameters.whole("PendingWindowInDays")?.unwrap_or(0);
    if !(7..=366).contains(&days) {
        return Err(invalid("PendingWindowInDays"));
    }
    if world.keys.get(&id).is_some_and(|key| key.deletion_protection) {
        // assumption: deletion-protection-code
        let text = "The key is protected from deletion.";
        return Err(Refusal::new(409, "Rejected.DeletionProtected", text));
    }
    let answer = change(world, &id, &["Enabled", "Disabled", "PendingImport"], "PendingDeletion")?;
    let seconds = days as f64 * DAY_SECONDS;
    let pending = world.schedule(seconds, Event::KeyGone(id.clone()));
    let due = world.now + (seconds * 1000.0) as Moment;
    if let Some(key) = world.keys.get_mut(&id) {
        key.pending = pending;
        key.delete_at = Some(due);
    }
    Ok(answer)
}

/// CancelKeyDeletion: the key is `Enabled` afterwards, whatever it was before.
pub fn cancel_deletion(world: &mut World, call: &Call) -> Answer {
    let id = changeable(world, call)?;
    let answer = change(world, &id, &["PendingDeletion"], "Enabled")?;
    if let Some(key) = world.keys.get_mut(&id) {
        key.pending = 0;
        key.delete_at = None;
    }
    Ok(answer)
}

fn change(world: &mut World, id: &str, from: &[&str], to: &str) -> Answer {
    let key = world.keys.get_mut(id).ok_or_else(key_not_found)?;
    if !from.contains(&key.state.as_str()) {
        let text = format!("The request was rejected because the key is {}.", key.state);
        return Err(Refusal::new(409, "Rejected.StateModifiedFailed", text));
    }
    key.state = to.to_string();
    Ok(json!({}))
}

/// The key of a state-changing call: named by id or ARN, not by alias, and no service key.
fn changeable(world: &World, call: &Call) -> Result<String, Refusal> {
    let id = resolve(world, call, false)?;
    if world.keys.get(&id).is_some_and(Key::is_service_key) {
        // assumption: service-key-refusal
        let text = "A service key can be neither changed nor deleted.";
        return Err(Refusal::new(403, "Forbidden.NoPermission", text));
    }
    Ok(id)
}

/// The id of the key that `KeyId` names in the call's region.
pub fn resolve(world: &World, call: &Call, alias_allowed: bool) -> Result<String, Refusal> {
    let named = call.parameters.required("KeyId")?;
    if named.starts_with("alias/") {
        if !alias_allowed {
            // assumption: alias-where-id-is-needed
            return Err(Refusal::new(400, "Unsupported.Alias", "An alias is not supported here."));
        }
        let found = world.aliases.get(&(call.region.to_string(), named.to_string()));
        let refusal = || Refusal::new(404, "Forbidden.AliasNotFound", "The specified alias is not found.");
        return found.map(|alias| alias.key_id.clone()).ok_or_else(refusal);
    }
    let prefix = format!("acs:kms:{}:{}:key/", call.region, world.account);
    let id = named.strip_prefix(&prefix).unwrap_or(named);
    let found = world.keys.get(id).filter(|key| key.region == call.region);
    found.map(|key| key.id.clone()).ok_or_else(key_not_found)
}

/// The refusal for a key that is not in this region.
pub fn key_not_found() -> Refusal {
    Refusal::new(404, "Forbidden.KeyNotFound", "The specified key is not found.")
}

/// KMS words a bad parameter in its own way.
pub fn invalid(name: &str) -> Refusal {
    Refusal::new(400, "InvalidParameter", format!("The specified parameter {name} is not valid."))
}

impl World {
    /// The end of a key: it and its aliases are gone, for good.
    pub fn finish_key_deletion(&mut self, id: &str, number: u64) {
        let due =
            self.keys.get(id).is_some_and(|key| key.pending == number && key.state == "PendingDeletion");
        if due {
            self.keys.remove(id);
            self.aliases.retain(|_, alias| alias.key_id != id);
        }
    }
}
