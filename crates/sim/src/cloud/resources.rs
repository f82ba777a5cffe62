//! Resources out of thin air, for tests: create with any size and state, set any field, delete behind
//! everybody's back.
//!
//! Deliberately checks nothing but the names of fields: a test may want what no real account can have.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::images::Mapping;
use super::keys::Alias;
use super::snapshots::Snapshot;
use super::world::World;

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Verb {
    /// Make a new resource.
    Create,
    /// Change the named fields of an existing one.
    Set,
    /// Remove one.
    Delete,
}

/// One order: `{"do": "create", "kind": "image", "region": "cn-hangzhou", "fields": {...}}`, fields as `GET
/// /_sim/state` shows them.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Order {
    /// What to do.
    #[serde(rename = "do")]
    pub verb: Verb,
    /// `image`, `disk`, `snapshot`, `instance`, `key`, `role`, `alias` or `encryptionDefault`.
    pub kind: String,
    /// The id, the name of a role or alias, or the region of a default. A new resource without one gets one.
    pub id: Option<String>,
    /// The region of a new resource, and of an alias.
    #[serde(default = "home")]
    pub region: String,
    /// The fields to set. Images also take `dataSizesGib` (sizes of data disks) and `keyId` (the snapshots
    /// are encrypted under it).
    #[serde(default)]
    pub fields: Map<String, Value>,
}

fn home() -> String {
    "cn-hangzhou".into()
}

/// Carries out an order and answers the resource.
pub fn obey(world: &mut World, mut order: Order) -> Result<Value, String> {
    let zone = json!(super::topology::any_zone(&order.region));
    match order.kind.as_str() {
        "image" => image(world, order),
        "disk" => {
            default_field(&mut order, "kind", json!("data"));
            default_field(&mut order, "category", json!("cloud_essd"));
            default_field(&mut order, "status", json!("Available"));
            default_field(&mut order, "portable", json!(true));
            default_field(&mut order, "zone", zone.clone());
            encrypted_with_key(&mut order);
            identify(world, &mut order, "d");
            change(&mut world.disks, order, world.now)
        }
        "snapshot" => {
            default_field(&mut order, "status", json!("accomplished"));
            default_field(&mut order, "snapshotType", json!("user"));
            default_field(&mut order, "sourceDiskKind", json!("data"));
            encrypted_with_key(&mut order);
            identify(world, &mut order, "s");
            change(&mut world.snapshots, order, world.now)
        }
        "instance" => {
            default_field(&mut order, "status", json!("Running"));
            default_field(&mut order, "instanceType", json!("ecs.g7.large"));
            default_field(&mut order, "zone", zone.clone());
            identify(world, &mut order, "i");
            change(&mut world.instances, order, world.now)
        }
        "key" => {
            let account = world.account.clone();
            for (name, value) in [
                ("state", "Enabled"),
                ("spec", "Aliyun_AES_256"),
                ("usage", "ENCRYPT/DECRYPT"),
                ("origin", "Aliyun_KMS"),
                ("creator", account.as_str()),
                ("protectionLevel", "SOFTWARE"),
            ] {
                default_field(&mut order, name, json!(value));
            }
            if order.id.is_none() {
                order.id = Some(world.names.instance_key_id());
            }
            change(&mut world.keys, order, world.now)
        }
        "role" => {
            let name = order.id.clone().unwrap_or_default();
            let number = world.names.number();
            default_field(&mut order, "id", json!(number));
            default_field(&mut order, "name", json!(name));
            default_field(&mut order, "sessionSecondsMax", json!(3600));
            change(&mut world.roles, order, world.now)
        }
        "alias" => alias(world, &order),
        "encryptionDefault" => change(&mut world.encryption_defaults, order, world.now),
        other => Err(format!("unknown kind {other}")),
    }
}

fn image(world: &mut World, mut order: Order) -> Result<Value, String> {
    let creating = order.verb == Verb::Create;
    let sizes: Vec<u32> = match order.fields.remove("dataSizesGib") {
        Some(value) => serde_json::from_value(value).map_err(|error| error.to_string())?,
        None => Vec::new(),
    };
    let key_id = order.fields.remove("keyId").and_then(|value| value.as_str().map(str::to_string));
    default_field(&mut order, "status", json!("Available"));
    default_field(&mut order, "ownerAlias", json!("self"));
    default_field(&mut order, "sizeGib", json!(20));
    default_field(&mut order, "platform", json!("Aliyun"));
    identify(world, &mut order, "m");
    let id = order.id.clone().unwrap_or_default();
    if creating && !order.fields.contains_key("name") {
        order.fields.insert("name".into(), json!(id));
    }
    let region = order.region.clone();
    let reply = change(&mut world.images, order, world.now)?;
    let empty = world.images.get(&id).is_some_and(|image| image.mappings.is_empty());
    if creating && empty {
        let system = world.images.get(&id).map_or(20, |image| image.size_gib);
        let mappings = mappings_with_snapshots(world, &region, system, &sizes, key_id.as_deref());
        if let Some(image) = world.images.get_mut(&id) {
            image.mappings = mappings;
            return serde_json::to_value(&*image).map_err(|error| error.to_string());
        }
    }
    Ok(reply)
}

/// Snapshots for the disks of an image, and the mappings onto them.
pub fn mappings_with_snapshots(
    world: &mut World,
    region: &str,
    system_gib: u32,
    data_gib: &[u32],
    key_id: Option<&str>,
) -> Vec<Mapping> {
    let sizes = std::iter::once(("system", system_gib)).chain(data_gib.iter().map(|size| ("data", *size)));
    let mut mappings = Vec::new();
    for (index, (kind, size_gib)) in sizes.enumerate() {
        let snapshot_id = world.names.ecs_id("s", region);
        let snapshot = Snapshot {
            id: snapshot_id.clone(),
            region: region.to_string(),
            status: "accomplished".into(),
            encrypted: key_id.is_some(),
            key_id: key_id.map(str::to_string),
            size_gib,
            source_disk_kind: kind.into(),
            snapshot_type: "user".into(),
            created: world.now,
            ..Snapshot::default()
        };
        world.snapshots.insert(snapshot_id.clone(), snapshot);
        let letter = char::from(b'a' + (index % 26) as u8);
        mappings.push(Mapping {
            device: format!("/dev/xvd{letter}"),
            kind: kind.into(),
            size_gib,
            snapshot_id,
        });
    }
    mappings
}

fn alias(world: &mut World, order: &Order) -> Result<Value, String> {
    let name = order.id.clone().ok_or("an alias needs an id")?;
    let place = (order.region.clone(), name.clone());
    if order.verb == Verb::Delete {
        world.aliases.remove(&place).ok_or("no such alias")?;
        return Ok(json!({}));
    }
    let key_id = order.fields.get("keyId").and_then(Value::as_str).ok_or("an alias needs a keyId")?;
    let alias = Alias { region: order.region.clone(), name, key_id: key_id.to_string() };
    let reply = json!(alias);
    world.aliases.insert(place, alias);
    Ok(reply)
}

fn default_field(order: &mut Order, name: &str, value: Value) {
    if order.verb == Verb::Create && !order.fields.contains_key(name) {
        order.fields.insert(name.into(), value);
    }
}

/// `keyId` decides about `encrypted` where the order does not.
fn encrypted_with_key(order: &mut Order) {
    if let Some(key_id) = order.fields.get("keyId").cloned() {
        order.fields.entry("encrypted").or_insert(json!(!key_id.is_null()));
    }
}

fn identify(world: &mut World, order: &mut Order, prefix: &str) {
    if order.id.is_none() {
        order.id = Some(world.names.ecs_id(prefix, &order.region));
    }
}

fn change<T: Clone + Default + Serialize + DeserializeOwned>(
    all: &mut BTreeMap<String, T>,
    order: Order,
    now: i64,
) -> Result<Value, String> {
    let id = order.id.ok_or("an id is needed")?;
    if order.verb == Verb::Delete {
        all.remove(&id).ok_or("no such resource")?;
        return Ok(json!({}));
    }
    let present = match order.verb {
        Verb::Create => None,
        _ => Some(all.get(&id).cloned().ok_or("no such resource")?),
    };
    let mut value =
        serde_json::to_value(present.clone().unwrap_or_default()).map_err(|error| error.to_string())?;
    if present.is_none() {
        for (name, initial) in [("id", json!(id)), ("region", json!(order.region)), ("created", json!(now))] {
            if value.get(name).is_some() {
                value[name] = initial;
            }
        }
    }
    // A status that a test has set stays: no event of the old status may change it.
    if value.get("pending").is_some()
        && ["status", "state"].iter().any(|name| order.fields.contains_key(*name))
    {
        value["pending"] = json!(0);
    }
    for (name, field) in order.fields {
        value[name.as_str()] = field;
    }
    let changed: T = serde_json::from_value(value).map_err(|error| error.to_string())?;
    let reply = serde_json::to_value(&changed).map_err(|error| error.to_string())?;
    all.insert(id, changed);
    Ok(reply)
}
