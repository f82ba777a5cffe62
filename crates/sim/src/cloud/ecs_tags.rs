//! TagResources, UntagResources and ListTagResources of ECS.
//!
//! Deliberately for the four kinds that the simulation has: instance, disk, snapshot, image.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::parameters::tags_match;
use super::refusal::{Answer, Refusal};
use super::world::{Call, World};

/// The most resources of one call.
const RESOURCES_MAX: usize = 50;
/// The most tags on one resource.
const TAGS_PER_RESOURCE_MAX: usize = 20;
/// Rows of one page of ListTagResources.
const ROWS_PER_PAGE: usize = 50;

/// A resource's id and its tags.
type Tagged = (String, BTreeMap<String, String>);

/// TagResources: all or nothing.
pub fn tag(world: &mut World, call: &Call) -> Answer {
    let (kind, ids) = targets(call)?;
    let tags = call.parameters.tags()?;
    if tags.is_empty() {
        return Err(Refusal::missing("Tag"));
    }
    for id in &ids {
        let present = tags_of(world, &kind, id, call.region)?;
        let added = tags.keys().filter(|key| !present.contains_key(*key)).count();
        if present.len() + added > TAGS_PER_RESOURCE_MAX {
            return Err(Refusal::new(403, "QuotaExceed.TagPerResource", "A resource holds at most 20 tags."));
        }
    }
    for id in &ids {
        tags_of(world, &kind, id, call.region)?.extend(tags.clone());
    }
    Ok(json!({}))
}

/// UntagResources: by key, or all.
pub fn untag(world: &mut World, call: &Call) -> Answer {
    let (kind, ids) = targets(call)?;
    let keys = call.parameters.list("TagKey");
    let all = call.parameters.flag("All")?;
    if keys.is_empty() && !all {
        return Err(Refusal::missing("TagKey"));
    }
    for id in &ids {
        tags_of(world, &kind, id, call.region)?;
    }
    for id in &ids {
        tags_of(world, &kind, id, call.region)?.retain(|key, _| !keys.is_empty() && !keys.contains(key));
    }
    Ok(json!({}))
}

/// ListTagResources: one row per resource and tag.
pub fn list(world: &mut World, call: &Call) -> Answer {
    let parameters = call.parameters;
    let kind = parameters.required("ResourceType")?.to_string();
    let ids = parameters.list("ResourceId");
    if ids.len() > RESOURCES_MAX {
        return Err(Refusal::new(400, "NumberExceed.ResourceIds", "At most 50 resources are allowed."));
    }
    let filters = parameters.tag_filters();
    let mut rows = Vec::new();
    for (id, tags) in all_tags(world, &kind, call.region)? {
        if (ids.is_empty() || ids.contains(&id)) && tags_match(&tags, &filters) {
            rows.extend(tags.into_iter().map(|(key, value)| (id.clone(), key, value)));
        }
    }
    let after = parameters.text("NextToken").map(super::names::read_next_token).transpose()?;
    let place = |(id, key, _): &(String, String, String)| format!("{id} {key}");
    let mut rest: Vec<_> =
        rows.into_iter().filter(|row| after.as_ref().is_none_or(|after| place(row) > *after)).collect();
    let more = rest.len() > ROWS_PER_PAGE;
    rest.truncate(ROWS_PER_PAGE);
    let next = rest.last().filter(|_| more).map(|row| super::names::next_token(&place(row)));
    let rows: Vec<Value> = rest
        .iter()
        .map(|(id, key, value)| {
            json!({"ResourceId": id, "ResourceType": kind, "TagKey": key, "TagValue": value})
        })
        .collect();
    Ok(json!({"TagResources": {"TagResource": rows}, "NextToken": next.unwrap_or_default()}))
}

fn targets(call: &Call) -> Result<(String, Vec<String>), Refusal> {
    let kind = call.parameters.required("ResourceType")?.to_string();
    let ids = call.parameters.list("ResourceId");
    match ids.len() {
        0 => Err(Refusal::missing("ResourceId")),
        1..=RESOURCES_MAX => Ok((kind, ids)),
        _ => Err(Refusal::new(400, "NumberExceed.ResourceIds", "At most 50 resources are allowed.")),
    }
}

fn tags_of<'a>(
    world: &'a mut World,
    kind: &str,
    id: &str,
    region: &str,
) -> Result<&'a mut BTreeMap<String, String>, Refusal> {
    let found = match kind {
        "instance" => world.instances.get_mut(id).map(|found| (&found.region, &mut found.tags)),
        "disk" => world.disks.get_mut(id).map(|found| (&found.region, &mut found.tags)),
        "snapshot" => world.snapshots.get_mut(id).map(|found| (&found.region, &mut found.tags)),
        "image" => world.images.get_mut(id).map(|found| (&found.region, &mut found.tags)),
        _ => return Err(unknown_kind()),
    };
    // assumption: tagging-what-is-gone
    let here = found.filter(|(place, _)| *place == region).map(|(_, tags)| tags);
    here.ok_or_else(|| Refusal::not_found("InvalidResourceId.NotFound"))
}

fn all_tags(world: &World, kind: &str, region: &str) -> Result<Vec<Tagged>, Refusal> {
    let rows: Vec<(&String, &String, &BTreeMap<String, String>)> = match kind {
        "instance" => world.instances.values().map(|found| (&found.id, &found.region, &found.tags)).collect(),
        "disk" => world.disks.values().map(|found| (&found.id, &found.region, &found.tags)).collect(),
        "snapshot" => world.snapshots.values().map(|found| (&found.id, &found.region, &found.tags)).collect(),
        "image" => world.images.values().map(|found| (&found.id, &found.region, &found.tags)).collect(),
        _ => return Err(unknown_kind()),
    };
    let here = rows.into_iter().filter(|(_, place, _)| *place == region);
    Ok(here.map(|(id, _, tags)| (id.clone(), tags.clone())).collect())
}

fn unknown_kind() -> Refusal {
    Refusal::new(400, "InvalidResourceType.NotFound", "The specified ResourceType is not found.")
}
