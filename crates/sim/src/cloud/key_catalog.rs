//! What surrounds the keys in KMS: listings, aliases and tags.
//!
//! Deliberately no secrets, no certificates and no key policies.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::keys::{Alias, Key, invalid, key_not_found, resolve};
use super::paging::{self, Sizes};
use super::parameters::check_tag_key;
use super::refusal::{Answer, Refusal};
use super::world::{Call, World};

const SIZES: Sizes = Sizes { minimum: 1, maximum: 100, default: 10 };
/// The most filters of ListKeys.
const FILTERS_MAX: usize = 10;

/// ListKeys. Filters are ANDed, the values of one filter are ORed.
pub fn list_keys(world: &mut World, call: &Call) -> Answer {
    let filters = filters_of(call)?;
    let mut items = Vec::new();
    for key in world.keys.values().filter(|key| key.region == call.region) {
        let mut all = true;
        for (name, values) in &filters {
            all &= key_matches(world, key, name, values)?;
        }
        if all {
            items.push(json!({"KeyId": key.id, "KeyArn": key.arn(&world.account)}));
        }
    }
    listing(call, items, "Keys", "Key")
}

fn filters_of(call: &Call) -> Result<Vec<(String, Vec<String>)>, Refusal> {
    let Some(text) = call.parameters.text("Filters") else { return Ok(Vec::new()) };
    let list: Vec<Value> = serde_json::from_str(text).map_err(|_| invalid("Filters"))?;
    if list.len() > FILTERS_MAX {
        return Err(invalid("Filters"));
    }
    let filter = |entry: &Value| -> Option<(String, Vec<String>)> {
        let values =
            entry["Values"].as_array()?.iter().filter_map(Value::as_str).map(str::to_string).collect();
        Some((entry["Key"].as_str()?.to_string(), values))
    };
    list.iter().map(|entry| filter(entry).ok_or_else(|| invalid("Filters"))).collect()
}

fn key_matches(world: &World, key: &Key, name: &str, values: &[String]) -> Result<bool, Refusal> {
    let any = |value: &str| values.iter().any(|wanted| wanted == value);
    Ok(match name {
        "KeyState" => any(&key.state),
        "KeySpec" => any(&key.spec),
        "KeyUsage" => any(&key.usage),
        "ProtectionLevel" => any(&key.protection_level),
        "CreatorType" => any(if key.is_service_key() { "Service" } else { "User" }),
        "Creator" => any(&key.creator),
        "DKMSInstanceId" => any(&key.instance_id),
        "KeyId" => any(&key.id),
        "AliasName" => world.aliases.values().any(|alias| alias.key_id == key.id && any(&alias.name)),
        "TagKey" => key.tags.keys().any(|tag| any(tag)),
        "TagValue" => key.tags.values().any(|tag| any(tag)),
        _ => return Err(invalid("Filters")),
    })
}

/// CreateAlias.
pub fn create_alias(world: &mut World, call: &Call) -> Answer {
    let name = alias_name(call)?;
    let id = resolve(world, call, false)?;
    refuse_pending(world, &id)?;
    let place = (call.region.to_string(), name.clone());
    if world.aliases.contains_key(&place) {
        return Err(Refusal::new(400, "AliasAlreadyExists", "The alias exists already."));
    }
    world.aliases.insert(place, Alias { region: call.region.into(), name, key_id: id });
    Ok(json!({}))
}

/// UpdateAlias: points an existing alias at another key.
pub fn update_alias(world: &mut World, call: &Call) -> Answer {
    let name = alias_name(call)?;
    let id = resolve(world, call, false)?;
    refuse_pending(world, &id)?;
    let place = (call.region.to_string(), name);
    let alias = world.aliases.get_mut(&place).ok_or_else(alias_not_found)?;
    alias.key_id = id;
    Ok(json!({}))
}

/// DeleteAlias.
pub fn delete_alias(world: &mut World, call: &Call) -> Answer {
    let place = (call.region.to_string(), alias_name(call)?);
    world.aliases.remove(&place).map(|_| json!({})).ok_or_else(alias_not_found)
}

/// ListAliases.
pub fn list_aliases(world: &mut World, call: &Call) -> Answer {
    listing(call, alias_views(world, call.region, None), "Aliases", "Alias")
}

/// ListAliasesByKeyId.
pub fn list_aliases_by_key(world: &mut World, call: &Call) -> Answer {
    let id = resolve(world, call, false)?;
    listing(call, alias_views(world, call.region, Some(&id)), "Aliases", "Alias")
}

fn alias_views(world: &World, region: &str, key: Option<&str>) -> Vec<Value> {
    let here = world.aliases.values().filter(|alias| alias.region == region);
    here.filter(|alias| key.is_none_or(|key| key == alias.key_id))
        .map(|alias| {
            let arn = format!("acs:kms:{region}:{}:{}", world.account, alias.name);
            json!({"AliasName": alias.name, "KeyId": alias.key_id, "AliasArn": arn})
        })
        .collect()
}

fn alias_name(call: &Call) -> Result<String, Refusal> {
    let name = call.parameters.required("AliasName")?;
    let body = name.strip_prefix("alias/").ok_or_else(|| invalid("AliasName"))?;
    let alphabet = body.chars().all(|sign| sign.is_ascii_alphanumeric() || "-_/".contains(sign));
    if body.is_empty() || body.starts_with("acs") || !alphabet || name.len() > 255 {
        return Err(invalid("AliasName"));
    }
    Ok(name.to_string())
}

fn refuse_pending(world: &World, id: &str) -> Result<(), Refusal> {
    if world.keys.get(id).is_some_and(|key| key.state == "PendingDeletion") {
        let text = "The request was rejected because the key is PendingDeletion.";
        return Err(Refusal::new(409, "Rejected.StateModifiedFailed", text));
    }
    Ok(())
}

fn alias_not_found() -> Refusal {
    Refusal::new(404, "Forbidden.AliasNotFound", "The specified alias is not found.")
}

fn listing(call: &Call, items: Vec<Value>, plural: &str, singular: &str) -> Answer {
    let mut body = paging::by_number(call.parameters, items, SIZES)?.body(plural, singular);
    if let Some(fields) = body.as_object_mut() {
        fields.remove("NextToken");
    }
    Ok(body)
}

/// TagResource, the older call, which does not refuse reserved keys.
pub fn tag_one(world: &mut World, call: &Call) -> Answer {
    let id = resolve(world, call, false)?;
    let text = call.parameters.required("Tags")?;
    // assumption: old-tag-calls-take-reserved-keys
    let tags = read_tags(text, "TagKey", "TagValue")?;
    if tags.is_empty() || tags.len() > 10 {
        return Err(invalid("Tags"));
    }
    world.keys.get_mut(&id).ok_or_else(key_not_found)?.tags.extend(tags);
    Ok(json!({}))
}

/// UntagResource, the older call.
pub fn untag_one(world: &mut World, call: &Call) -> Answer {
    let id = resolve(world, call, false)?;
    let text = call.parameters.required("TagKeys")?;
    let keys: Vec<String> = serde_json::from_str(text).map_err(|_| invalid("TagKeys"))?;
    world.keys.get_mut(&id).ok_or_else(key_not_found)?.tags.retain(|key, _| !keys.contains(key));
    Ok(json!({}))
}

/// TagResources, the newer call, which refuses reserved keys.
pub fn tag_many(world: &mut World, call: &Call) -> Answer {
    let ids = targets(world, call)?;
    let tags = call.parameters.tags()?;
    if tags.is_empty() {
        return Err(Refusal::missing("Tag"));
    }
    for id in ids {
        world.keys.get_mut(&id).ok_or_else(key_not_found)?.tags.extend(tags.clone());
    }
    Ok(json!({}))
}

/// UntagResources, the newer call.
pub fn untag_many(world: &mut World, call: &Call) -> Answer {
    let ids = targets(world, call)?;
    let keys = call.parameters.list("TagKey");
    let all = call.parameters.flag("All")?;
    keys.iter().try_for_each(|key| check_tag_key(key))?;
    if keys.is_empty() && !all {
        return Err(Refusal::missing("TagKey"));
    }
    for id in ids {
        let key = world.keys.get_mut(&id).ok_or_else(key_not_found)?;
        key.tags.retain(|tag, _| if all { check_tag_key(tag).is_err() } else { !keys.contains(tag) });
    }
    Ok(json!({}))
}

/// ListResourceTags.
pub fn list_tags(world: &mut World, call: &Call) -> Answer {
    let id = resolve(world, call, false)?;
    let key = world.keys.get(&id).ok_or_else(key_not_found)?;
    let rows: Vec<Value> =
        key.tags.iter().map(|(tag, value)| json!({"KeyId": id, "TagKey": tag, "TagValue": value})).collect();
    Ok(json!({"Tags": {"Tag": rows}}))
}

fn targets(world: &World, call: &Call) -> Result<Vec<String>, Refusal> {
    if call.parameters.required("ResourceType")? != "key" {
        return Err(invalid("ResourceType"));
    }
    let ids = call.parameters.list("ResourceId");
    if ids.is_empty() || ids.len() > 50 {
        return Err(invalid("ResourceId"));
    }
    for id in &ids {
        world.keys.get(id).filter(|key| key.region == call.region).ok_or_else(key_not_found)?;
    }
    Ok(ids)
}

/// Tags as one JSON text, reserved keys refused.
pub fn tags_in_json(
    text: Option<&str>,
    key_field: &str,
    value_field: &str,
) -> Result<BTreeMap<String, String>, Refusal> {
    let tags = text.map_or_else(|| Ok(BTreeMap::new()), |text| read_tags(text, key_field, value_field))?;
    tags.keys().try_for_each(|key| check_tag_key(key))?;
    Ok(tags)
}

fn read_tags(text: &str, key_field: &str, value_field: &str) -> Result<BTreeMap<String, String>, Refusal> {
    let list: Vec<Value> = serde_json::from_str(text).map_err(|_| invalid("Tags"))?;
    let pair = |entry: &Value| -> Option<(String, String)> {
        let value = entry[value_field].as_str().unwrap_or_default().to_string();
        Some((entry[key_field].as_str()?.to_string(), value))
    };
    list.iter().map(|entry| pair(entry).ok_or_else(|| invalid("Tags"))).collect()
}
