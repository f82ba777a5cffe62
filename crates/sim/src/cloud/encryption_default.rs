//! The account default encryption of a region: the six calls that switch, show and point it.
//!
//! Deliberately no regional restrictions and no tickets: every simulated region has the feature.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::key_use::{self, KeyTable};
use super::refusal::{Answer, Refusal};
use super::world::{Call, World};

/// The default of one region.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EncryptionDefault {
    /// Whether new disks must be encrypted.
    pub on: bool,
    /// The default key; `None` stands for the service key.
    pub key_id: Option<String>,
}

/// EnableDiskEncryptionByDefault. After the first enabling the key is the service key.
pub fn enable(world: &mut World, call: &Call) -> Answer {
    world.encryption_defaults.entry(call.region.to_string()).or_default().on = true;
    Ok(json!({}))
}

/// DisableDiskEncryptionByDefault.
pub fn disable(world: &mut World, call: &Call) -> Answer {
    switched_on(world, call.region)?.on = false;
    Ok(json!({}))
}

/// DescribeDiskEncryptionByDefaultStatus.
pub fn status(world: &mut World, call: &Call) -> Answer {
    let on = world.encryption_defaults.get(call.region).is_some_and(|default| default.on);
    Ok(json!({ "Encrypted": on }))
}

/// ModifyDiskDefaultKMSKeyId.
pub fn set_key(world: &mut World, call: &Call) -> Answer {
    let key_id = call.parameters.required("KMSKeyId")?.to_string();
    switched_on(world, call.region)?;
    key_use::use_key(world, call.region, &key_id, KeyTable::AccountDefault)?;
    switched_on(world, call.region)?.key_id = Some(key_id);
    Ok(json!({}))
}

/// ResetDiskDefaultKMSKeyId: back to the service key.
pub fn reset_key(world: &mut World, call: &Call) -> Answer {
    switched_on(world, call.region)?.key_id = None;
    Ok(json!({}))
}

/// DescribeDiskDefaultKMSKeyId.
pub fn show_key(world: &mut World, call: &Call) -> Answer {
    // assumption: default-key-while-off
    let key_id = match switched_on(world, call.region)?.key_id.clone() {
        Some(key_id) => key_id,
        None => key_use::service_key(world, call.region),
    };
    Ok(json!({ "KMSKeyId": key_id }))
}

fn switched_on<'a>(world: &'a mut World, region: &str) -> Result<&'a mut EncryptionDefault, Refusal> {
    let found = world.encryption_defaults.get_mut(region).filter(|default| default.on);
    let text = "Default encryption is not enabled in this region.";
    found.ok_or_else(|| Refusal::new(403, "InvalidDefaultEncryption.NotFound", text))
}
