//! Typed calls that move a disk: attach and detach.
//!
//! None of them takes a ClientToken: the caller reads the disk first, and reads it again when an answer is lost.

use super::error::Error;
use super::gateway::Cloud;
use super::request::{Parameters, Service, check_id, parameters};

impl Cloud {
    /// Begins to attach a disk, which must be `Available`, to an instance of its zone.
    pub async fn attach_disk(
        &self,
        region: &str,
        disk_id: &str,
        instance_id: &str,
        delete_with_instance: bool,
    ) -> Result<(), Error> {
        let mut parameters = pair("AttachDisk", region, disk_id, instance_id)?;
        parameters.insert("DeleteWithInstance".to_owned(), delete_with_instance.to_string());
        self.call(Service::Ecs, region, "AttachDisk", parameters).await.map(drop)
    }

    /// Begins to detach a disk from exactly this instance.
    pub async fn detach_disk(&self, region: &str, disk_id: &str, instance_id: &str) -> Result<(), Error> {
        let parameters = pair("DetachDisk", region, disk_id, instance_id)?;
        self.call(Service::Ecs, region, "DetachDisk", parameters).await.map(drop)
    }
}

fn pair(action: &'static str, region: &str, disk_id: &str, instance_id: &str) -> Result<Parameters, Error> {
    check_id(Service::Ecs, action, "DiskId", disk_id)?;
    check_id(Service::Ecs, action, "InstanceId", instance_id)?;
    // Neither action declares RegionId, but hosts that serve several regions route by it.
    Ok(parameters([("RegionId", region), ("DiskId", disk_id), ("InstanceId", instance_id)]))
}
