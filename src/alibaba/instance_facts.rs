//! What ECS says of instances, as our own types.
//!
//! Field names and words follow the API pages (DescribeInstances, StartInstances, StopInstances) and the official SDK
//! models. Only what somebody reads is kept, and nothing is judged here.

use std::collections::BTreeMap;

use super::error::Error;
use super::reply::{Fields, words};

words! {
    /// The states of an instance.
    InstanceStatus {
        /// Accepted, not yet on a host; may still vanish for want of stock.
        Pending = "Pending",
        /// On its way to Running.
        Starting = "Starting",
        /// Running.
        Running = "Running",
        /// On its way to Stopped.
        Stopping = "Stopping",
        /// Stopped.
        Stopped = "Stopped",
    }
}

/// An instance as DescribeInstances shows it. It names no disk; disks name their instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Unique in its region.
    pub id: String,
    /// The name in the console.
    pub name: String,
    /// The state.
    pub status: InstanceStatus,
    /// `KeepCharging` or `StopCharging` while stopped; None if the reply does not say.
    pub stopped_mode: Option<String>,
    /// For example `ecs.g7.large`.
    pub instance_type: String,
    /// The zone.
    pub zone_id: String,
    /// The image of its system disk.
    pub image_id: String,
    /// The vSwitch of its primary interface.
    pub vswitch_id: Option<String>,
    /// Security groups.
    pub security_group_ids: Vec<String>,
    /// Private addresses.
    pub private_ips: Vec<String>,
    /// True if the cloud refuses to delete it; false also if the reply does not say.
    pub deletion_protection: bool,
    /// Reasons of locks, for example `financial` or `security`.
    pub locks: Vec<String>,
    /// All tags.
    pub tags: BTreeMap<String, String>,
    /// UTC, as the cloud writes it.
    pub creation_time: Option<String>,
}

impl Instance {
    pub(crate) fn read(fields: Fields) -> Result<Instance, Error> {
        let network = fields.inner("VpcAttributes").ok();
        let locks = fields.details("OperationLocks", "LockReason");
        Ok(Instance {
            id: fields.required("InstanceId")?,
            name: fields.text("InstanceName").unwrap_or_default(),
            status: InstanceStatus::from_word(&fields.text("Status").unwrap_or_default()),
            stopped_mode: fields.text("StoppedMode"),
            instance_type: fields.text("InstanceType").unwrap_or_default(),
            zone_id: fields.text("ZoneId").unwrap_or_default(),
            image_id: fields.text("ImageId").unwrap_or_default(),
            vswitch_id: network.and_then(|network| network.text("VSwitchId")),
            security_group_ids: fields.texts("SecurityGroupIds", "SecurityGroupId"),
            private_ips: network
                .map(|network| network.texts("PrivateIpAddress", "IpAddress"))
                .unwrap_or_default(),
            deletion_protection: fields.flag("DeletionProtection").unwrap_or_default(),
            locks: locks.iter().filter_map(|lock| lock.text("LockReason")).collect(),
            tags: fields.tags(),
            creation_time: fields.text("CreationTime"),
        })
    }
}

/// What became of one instance of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchOutcome {
    /// The instance.
    pub id: String,
    /// Its state before, if the reply says.
    pub before: Option<InstanceStatus>,
    /// Its state afterwards, if the reply says.
    pub after: Option<InstanceStatus>,
    /// The cloud's id of the request that was about the whole batch.
    pub request_id: Option<String>,
    /// Accepted, or why not. The cloud's code is kept and classified like that of a call of its own.
    pub result: Result<(), Error>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alibaba::Service;
    use serde_json::json;

    #[test]
    fn an_instance_is_read_with_its_network_and_locks_and_unknown_words_are_kept() {
        let value = json!({
            "InstanceId": "i-1", "InstanceName": "web", "Status": "Dreaming", "InstanceType": "ecs.g7.large",
            "ZoneId": "cn-hangzhou-i", "ImageId": "m-1", "DeletionProtection": "true", "StoppedMode": "KeepCharging",
            "OperationLocks": {"LockReason": [{"LockReason": "security", "LockMsg": ""}]},
            "SecurityGroupIds": {"SecurityGroupId": ["sg-1", "sg-2", ""]},
            "VpcAttributes": {"VSwitchId": "vsw-1", "PrivateIpAddress": {"IpAddress": ["192.168.0.9"]}},
            "Tags": {"Tag": [{"TagKey": "a", "TagValue": "b"}]},
        });
        let read =
            Instance::read(Fields::new(&value, Service::Ecs, "DescribeInstances")).expect("an instance");
        assert_eq!(read.status, InstanceStatus::Unknown("Dreaming".to_owned()));
        assert_eq!((read.deletion_protection, read.locks), (true, vec!["security".to_owned()]));
        assert_eq!(read.security_group_ids, ["sg-1", "sg-2"]);
        assert_eq!(
            (read.vswitch_id.as_deref(), read.private_ips),
            (Some("vsw-1"), vec!["192.168.0.9".to_owned()])
        );
    }

    #[test]
    fn only_the_id_is_indispensable() {
        let read =
            |value: &serde_json::Value| Instance::read(Fields::new(value, Service::Ecs, "DescribeInstances"));
        let bare = read(&json!({"InstanceId": "i-1"})).expect("an instance");
        assert_eq!(bare.status, InstanceStatus::Unknown(String::new()));
        assert!(!bare.deletion_protection && bare.private_ips.is_empty() && bare.tags.is_empty());
        assert!(read(&json!({"InstanceName": "web"})).is_err());
    }
}
