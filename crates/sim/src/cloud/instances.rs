//! Instances: what they are, how the listings show them, and the call that changes their attributes.
//!
//! Deliberately not here: how they are started and stopped (`instance_life`) and made (`instance_creation`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::paging::{self, Sizes};
use super::parameters::{tag_view, tags_match};
use super::refusal::{Answer, Refusal};
use super::world::{Call, Moment, World, iso};

/// An instance. Its disks point at it, not the other way round.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Instance {
    /// `i-…`.
    pub id: String,
    /// The region that holds it.
    pub region: String,
    /// The zone that holds it.
    pub zone: String,
    /// The name.
    pub name: String,
    /// Free text.
    pub description: String,
    /// The host name.
    pub host_name: String,
    /// `Pending`, `Starting`, `Running`, `Stopping`, `Stopped`, or whatever a test has set.
    pub status: String,
    /// `KeepCharging` or `StopCharging` while stopped, `Not-applicable` otherwise.
    pub stopped_mode: String,
    /// The image of its system disk.
    pub image_id: String,
    /// For example `ecs.g7.large`.
    pub instance_type: String,
    /// Cores.
    pub cpu: u32,
    /// MiB.
    pub memory_mib: u32,
    /// Security groups.
    pub security_groups: Vec<String>,
    /// The vSwitch, often empty here.
    pub vswitch_id: String,
    /// The private address.
    pub private_address: String,
    /// When the creating call was accepted.
    pub created: Moment,
    /// When it was started last.
    pub started: Option<Moment>,
    /// Whether DeleteInstance is refused.
    pub deletion_protection: bool,
    /// Lock reasons, for example `financial` or `security`.
    pub locks: Vec<String>,
    /// Own tags.
    pub tags: BTreeMap<String, String>,
    /// The resource group, often empty.
    pub resource_group_id: String,
    /// The SSH key pair, often empty.
    pub key_pair_name: String,
    /// The RAM role, often empty.
    pub ram_role_name: String,
    /// `required` or `optional`: whether the metadata service asks for a token.
    pub http_tokens: String,
    /// What RunInstances was given as UserData, in base64.
    pub user_data: String,
    /// True while a stop is the first half of a reboot.
    pub rebooting: bool,
    /// The event that may change it next; 0 stands for none.
    pub pending: u64,
}

impl Instance {
    fn view(&self) -> Value {
        let locks: Vec<Value> =
            self.locks.iter().map(|reason| json!({"LockReason": reason, "LockMsg": ""})).collect();
        let mut view = json!({
            "InstanceId": self.id,
            "InstanceName": self.name,
            "HostName": self.host_name,
            "Description": self.description,
            "RegionId": self.region,
            "ZoneId": self.zone,
            "Status": self.status,
            "StoppedMode": self.stopped_mode,
            "ImageId": self.image_id,
            "InstanceType": self.instance_type,
            "InstanceTypeFamily": self.instance_type.rsplit_once('.').map_or("", |(family, _)| family),
            "Cpu": self.cpu,
            "Memory": self.memory_mib,
            "DeletionProtection": self.deletion_protection,
            "SerialNumber": self.id.trim_start_matches("i-"),
            "CreationTime": iso(self.created),
            "StartTime": self.started.map(iso).unwrap_or_default(),
            "ResourceGroupId": self.resource_group_id,
            "OperationLocks": {"LockReason": locks},
            "SecurityGroupIds": {"SecurityGroupId": self.security_groups},
            "PublicIpAddress": {"IpAddress": []},
            "InnerIpAddress": {"IpAddress": []},
            "VpcAttributes": {
                "VSwitchId": self.vswitch_id,
                "VpcId": "",
                "NatIpAddress": "",
                "PrivateIpAddress": {"IpAddress": [self.private_address]},
            },
            "KeyPairName": self.key_pair_name,
            "MetadataOptions": {
                "HttpEndpoint": "enabled",
                "HttpTokens": self.http_tokens,
                "HttpPutResponseHopLimit": 1,
            },
            "Tags": tag_view(&self.tags),
        });
        if let (Some(fields), Value::Object(always)) = (view.as_object_mut(), same_for_all()) {
            fields.extend(always);
        }
        view
    }
}

/// The fields that are the same for every simulated instance.
fn same_for_all() -> Value {
    json!({
        "OSName": "Alibaba Cloud Linux 3.2104 LTS 64 bit",
        "OSNameEn": "Alibaba Cloud Linux 3.2104 LTS 64 bit",
        "OSType": "linux",
        "IoOptimized": true,
        "InstanceChargeType": "PostPaid",
        "InternetChargeType": "PayByTraffic",
        "InternetMaxBandwidthIn": 100,
        "InternetMaxBandwidthOut": 0,
        "InstanceNetworkType": "vpc",
        "SpotStrategy": "NoSpot",
        "DeviceAvailable": true,
        "Recyclable": false,
        "GPUAmount": 0,
        "GPUSpec": "",
        "ExpiredTime": "2099-12-31T15:59Z",
        "AutoReleaseTime": "",
    })
}

/// DescribeInstances.
pub fn describe(world: &mut World, call: &Call) -> Answer {
    let parameters = call.parameters;
    let ids = parameters.json_list("InstanceIds", 100, "InvalidParameter.TooManyInstanceIds")?;
    let tags = parameters.tag_filters();
    let is = |name: &str, value: &str| parameters.text(name).is_none_or(|wanted| wanted == value);
    let locked = |instance: &Instance| {
        parameters
            .text("LockReason")
            .is_none_or(|wanted| instance.locks.iter().any(|reason| reason == wanted))
    };
    let matching = world.instances.values().filter(|instance| {
        instance.region == call.region
            && world.listed(instance.created)
            && ids.as_ref().is_none_or(|ids| ids.contains(&instance.id))
            && is("Status", &instance.status)
            && is("ZoneId", &instance.zone)
            && is("ImageId", &instance.image_id)
            && is("InstanceName", &instance.name)
            && is("InstanceType", &instance.instance_type)
            && is("VSwitchId", &instance.vswitch_id)
            && is("ResourceGroupId", &instance.resource_group_id)
            && locked(instance)
            && tags_match(&instance.tags, &tags)
    });
    let items: Vec<Value> = matching.map(Instance::view).collect();
    let sizes = Sizes { minimum: 1, maximum: 100, default: 10 };
    Ok(paging::by_token(parameters, items, "InstanceId", sizes)?.body("Instances", "Instance"))
}

/// DescribeInstanceStatus, paged by number only.
pub fn describe_status(world: &mut World, call: &Call) -> Answer {
    let parameters = call.parameters;
    let ids = parameters.list("InstanceId");
    let matching = world.instances.values().filter(|instance| {
        instance.region == call.region
            && world.listed(instance.created)
            && (ids.is_empty() || ids.contains(&instance.id))
            && parameters.text("ZoneId").is_none_or(|zone| zone == instance.zone)
    });
    let items: Vec<Value> =
        matching.map(|instance| json!({"InstanceId": instance.id, "Status": instance.status})).collect();
    let page = paging::by_number(parameters, items, Sizes { minimum: 1, maximum: 50, default: 10 })?;
    let mut body = page.body("InstanceStatuses", "InstanceStatus");
    if let Some(fields) = body.as_object_mut() {
        fields.remove("NextToken");
    }
    Ok(body)
}

/// The listings as a caller without permission sees them.
pub fn empty_listing(action: &str) -> Answer {
    let (plural, singular) = match action {
        "DescribeInstances" => ("Instances", "Instance"),
        "DescribeInstanceStatus" => ("InstanceStatuses", "InstanceStatus"),
        "DescribeDisks" => ("Disks", "Disk"),
        "DescribeSnapshots" => ("Snapshots", "Snapshot"),
        _ => ("Images", "Image"),
    };
    Ok(paging::Page { items: Vec::new(), number: 1, size: 10, total: 0, next_token: String::new() }
        .body(plural, singular))
}

/// ModifyInstanceAttribute: names, description, deletion protection.
pub fn modify(world: &mut World, call: &Call) -> Answer {
    let parameters = call.parameters;
    let id = parameters.required("InstanceId")?.to_string();
    let protection = parameters.optional_flag("DeletionProtection")?;
    let instance =
        world.instances.get_mut(&id).ok_or_else(|| Refusal::not_found("InvalidInstanceId.NotFound"))?;
    for (field, name) in [
        (&mut instance.name, "InstanceName"),
        (&mut instance.description, "Description"),
        (&mut instance.host_name, "HostName"),
    ] {
        if let Some(value) = parameters.text(name) {
            *field = value.to_string();
        }
    }
    instance.deletion_protection = protection.unwrap_or(instance.deletion_protection);
    Ok(json!({}))
}

/// The instance `id` of `region`.
pub fn own_instance<'a>(world: &'a World, region: &str, id: &str) -> Result<&'a Instance, Refusal> {
    let found = world.instances.get(id).filter(|instance| instance.region == region);
    found.ok_or_else(|| Refusal::not_found("InvalidInstanceId.NotFound"))
}

/// A security lock refuses almost everything.
pub fn refuse_locked(instance: &Instance) -> Result<(), Refusal> {
    if instance.locks.iter().any(|reason| reason == "security") {
        let text = "The instance is locked due to security.";
        return Err(Refusal::new(403, "InstanceLockedForSecurity", text));
    }
    Ok(())
}
