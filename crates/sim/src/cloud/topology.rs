//! Regions, zones and what they sell, and the calls that show it.
//!
//! Deliberately small: four regions and eight zones, enough for every path.

use serde_json::{Value, json};

use super::refusal::{Answer, Refusal};
use super::world::{Call, World};

/// The simulated regions with their English names.
pub const REGIONS: [(&str, &str); 4] = [
    ("cn-hangzhou", "China (Hangzhou)"),
    ("cn-shanghai", "China (Shanghai)"),
    ("cn-beijing", "China (Beijing)"),
    ("ap-southeast-1", "Singapore"),
];
/// The zones; those of the old generation sell no ESSD.
const ZONES: [(&str, &str, bool); 9] = [
    ("cn-hangzhou", "cn-hangzhou-b", false),
    ("cn-hangzhou", "cn-hangzhou-h", true),
    ("cn-hangzhou", "cn-hangzhou-i", true),
    ("cn-hangzhou", "cn-hangzhou-j", true),
    ("cn-hangzhou", "cn-hangzhou-k", true),
    ("cn-shanghai", "cn-shanghai-b", true),
    ("cn-shanghai", "cn-shanghai-l", true),
    ("cn-beijing", "cn-beijing-h", true),
    ("ap-southeast-1", "ap-southeast-1c", true),
];
/// What a zone of the old generation sells.
const OLD_CATEGORIES: [&str; 3] = ["cloud", "cloud_efficiency", "cloud_ssd"];
/// What the other zones sell.
const CATEGORIES: [&str; 7] = [
    "cloud_auto",
    "cloud_essd",
    "cloud_essd_entry",
    "cloud_efficiency",
    "cloud_ssd",
    "cloud_regional_disk_auto",
    "elastic_ephemeral_disk_standard",
];
/// The instance types on sale: name, cores, memory in MiB.
pub const INSTANCE_TYPES: [(&str, u32, u32); 5] = [
    ("ecs.g7.large", 2, 8_192),
    ("ecs.g7.xlarge", 4, 16_384),
    ("ecs.c7.large", 2, 4_096),
    ("ecs.c7.xlarge", 4, 8_192),
    ("ecs.t6-c1m2.large", 2, 4_096),
];

/// True for a simulated region.
pub fn region_exists(region: &str) -> bool {
    REGIONS.iter().any(|(id, _)| *id == region)
}

/// True for a zone of that region.
pub fn zone_exists(region: &str, zone: &str) -> bool {
    ZONES.iter().any(|(of, id, _)| *of == region && *id == zone)
}

/// The zone that a call gets when it names none.
pub fn any_zone(region: &str) -> &'static str {
    ZONES.iter().find(|(of, _, new)| *of == region && *new).map_or("", |(_, id, _)| id)
}

/// True if the zone sells the disk category.
pub fn sells(zone: &str, category: &str) -> bool {
    ZONES.iter().any(|(_, id, new)| *id == zone && categories(*new).contains(&category))
}

fn categories(new: bool) -> &'static [&'static str] {
    if new { &CATEGORIES } else { &OLD_CATEGORIES }
}

/// ECS DescribeRegions.
pub fn describe_regions(_: &mut World, _: &Call) -> Answer {
    let regions: Vec<Value> = REGIONS
        .iter()
        .map(|(id, name)| {
            json!({"RegionId": id, "LocalName": name, "RegionEndpoint": format!("ecs.{id}.aliyuncs.com"),
                "Status": "available"})
        })
        .collect();
    Ok(json!({"Regions": {"Region": regions}}))
}

/// KMS DescribeRegions.
pub fn describe_key_regions(_: &mut World, _: &Call) -> Answer {
    let regions: Vec<Value> = REGIONS.iter().map(|(id, _)| json!({ "RegionId": id })).collect();
    Ok(json!({"Regions": {"Region": regions}}))
}

/// DescribeZones.
pub fn describe_zones(_: &mut World, call: &Call) -> Answer {
    let types: Vec<&str> = INSTANCE_TYPES.iter().map(|(name, _, _)| *name).collect();
    let zones: Vec<Value> = ZONES
        .iter()
        .filter(|(of, _, _)| *of == call.region)
        .map(|(_, id, new)| {
            json!({
                "ZoneId": id,
                "LocalName": id,
                "ZoneType": "AvailabilityZone",
                "AvailableDiskCategories": {"DiskCategories": categories(*new)},
                "AvailableInstanceTypes": {"InstanceTypes": types},
                "AvailableResourceCreation": {"ResourceTypes": ["VSwitch", "Instance", "Disk"]},
                "AvailableVolumeCategories": {"VolumeCategories": []},
                "AvailableDedicatedHostTypes": {"DedicatedHostType": []},
                "DedicatedHostGenerations": {"DedicatedHostGeneration": []},
                "AvailableResources": {"ResourcesInfo": []},
            })
        })
        .collect();
    Ok(json!({"Zones": {"Zone": zones}}))
}

/// DescribeAvailableResource, for disks and instance types.
pub fn describe_available_resource(_: &mut World, call: &Call) -> Answer {
    let parameters = call.parameters;
    let wanted = parameters.required("DestinationResource")?.to_string();
    let zone_wanted = parameters.text("ZoneId");
    if zone_wanted.is_some_and(|zone| !zone_exists(call.region, zone)) {
        return Err(Refusal::not_found("InvalidZoneId.NotFound"));
    }
    let filter = match wanted.as_str() {
        "SystemDisk" => parameters.text("SystemDiskCategory"),
        "DataDisk" => parameters.text("DataDiskCategory"),
        "InstanceType" => parameters.text("InstanceType"),
        "Zone" | "IoOptimized" | "Network" => None,
        _ => return Err(Refusal::invalid("DestinationResource")),
    };
    let zones: Vec<Value> = ZONES
        .iter()
        .filter(|(of, id, _)| *of == call.region && zone_wanted.is_none_or(|zone| zone == *id))
        .filter_map(|(region, id, new)| {
            let supported = supported(&wanted, *new, filter);
            (!supported.is_empty()).then(|| {
                json!({
                    "RegionId": region,
                    "ZoneId": id,
                    "Status": "Available",
                    "StatusCategory": "WithStock",
                    "AvailableResources": {"AvailableResource": [
                        {"Type": wanted, "SupportedResources": {"SupportedResource": supported}}]},
                })
            })
        })
        .collect();
    Ok(json!({"AvailableZones": {"AvailableZone": zones}}))
}

fn supported(wanted: &str, new: bool, filter: Option<&str>) -> Vec<Value> {
    let disks = |unit: &'static str| {
        let entry = move |name: &&str| {
            let stock = "WithStock";
            let (least, most) = (20, 32_768);
            json!({"Value": name, "Status": "Available", "StatusCategory": stock, "Min": least, "Max": most,
                "Unit": unit})
        };
        categories(new).iter().filter(|name| filter.is_none_or(|only| only == **name)).map(entry).collect()
    };
    match wanted {
        "SystemDisk" | "DataDisk" => disks("GiB"),
        _ => INSTANCE_TYPES
            .iter()
            .filter(|(name, _, _)| filter.is_none_or(|only| only == *name))
            .map(|(name, _, _)| json!({"Value": name, "Status": "Available", "StatusCategory": "WithStock"}))
            .collect(),
    }
}

/// DescribeAccountAttributes, with the values that matter to disks and images.
pub fn describe_account_attributes(world: &mut World, call: &Call) -> Answer {
    let asked = call.parameters.list("AttributeName");
    if asked.len() > 8 {
        return Err(Refusal::invalid("AttributeName"));
    }
    let all = [
        ("max-security-groups", "100".to_string()),
        ("instance-network-type", "vpc".to_string()),
        ("max-images", world.settings.image_quota.to_string()),
        ("real-name-authentication", "yes".to_string()),
    ];
    let items: Vec<Value> = all
        .iter()
        .filter(|(name, _)| asked.is_empty() || asked.iter().any(|wanted| wanted == name))
        .map(|(name, value)| {
            json!({"AttributeName": name, "AttributeValues": {"ValueItem": [{"Value": value, "Count": 0}]}})
        })
        .collect();
    Ok(json!({"AccountAttributeItems": {"AccountAttributeItem": items}}))
}
