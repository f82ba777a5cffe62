//! Typed calls that look at a whole region: what there is, and what new disks get without anybody asking.
//!
//! Reads only. What may be long is handed over item by item as the pages come, so that nobody has to hold a region's resources;
//! a list is complete or an error, and after an error what was handed over counts for nothing. An item that moves from one page to
//! the next while the list is read may come twice.

use super::ecs::Bounds;
use super::endpoint::check_region;
use super::error::Error;
use super::facts::{Disk, Snapshot};
use super::gateway::Cloud;
use super::instance_facts::Instance;
use super::reply::Fields;
use super::request::{Parameters, Service, parameters};

/// Pages of one list, at most: 500,000 disks, 100,000 snapshots or instances in a region.
const PAGES_MAX: u32 = 1_000;
/// How often a list waits where it is for the end of a throttled minute: begun anew it would run into the same limit again.
const PAUSES_MAX: u32 = 20;
/// Disks per page; the limit of DescribeDisks.
const DISKS_PER_PAGE: &str = "500";
/// Snapshots, and instances, per page; the limit of DescribeSnapshots and DescribeInstances.
const OTHERS_PER_PAGE: &str = "100";

/// What a region does with new disks for which nobody asks for encryption.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DefaultEncryption {
    /// The region does not have this feature.
    Unavailable,
    /// They stay plain.
    Off,
    /// They are encrypted.
    On {
        /// The key; None if the reply does not say.
        key_id: Option<String>,
    },
}

impl Cloud {
    /// The ids of the regions that the account can use; `asked` is the region whose endpoint answers.
    pub async fn regions(&self, asked: &str) -> Result<Vec<String>, Error> {
        const ACTION: &str = "DescribeRegions";
        check_region(Service::Ecs, ACTION, asked)?;
        // Hosts that serve several regions route by it.
        let reply = self.call(Service::Ecs, asked, ACTION, parameters([("RegionId", asked)])).await?;
        let fields = Fields::new(&reply.value, Service::Ecs, ACTION);
        let mut regions = Vec::new();
        for region in fields.list("Regions", "Region")? {
            let id = region.required("RegionId")?;
            check_region(Service::Ecs, ACTION, &id)?;
            regions.push(id);
        }
        if regions.is_empty() {
            // Everybody has regions: an empty list is a reply that says nothing, never an account without any.
            return Err(fields.defect("the reply names no region"));
        }
        regions.sort();
        regions.dedup();
        Ok(regions)
    }

    /// Whether new disks of the region are encrypted by themselves, and under which key.
    pub async fn default_encryption(&self, region: &str) -> Result<DefaultEncryption, Error> {
        const ACTION: &str = "DescribeDiskEncryptionByDefaultStatus";
        const KEY_ACTION: &str = "DescribeDiskDefaultKMSKeyId";
        check_region(Service::Ecs, ACTION, region)?;
        let asked = || parameters([("RegionId", region)]);
        let reply = match self.call(Service::Ecs, region, ACTION, asked()).await {
            Err(error) if is_unavailable(&error) => return Ok(DefaultEncryption::Unavailable),
            other => other?,
        };
        let fields = Fields::new(&reply.value, Service::Ecs, ACTION);
        let on = fields.flag("Encrypted").ok_or_else(|| fields.defect("the reply has no Encrypted"))?;
        if !on {
            return Ok(DefaultEncryption::Off);
        }
        match self.call(Service::Ecs, region, KEY_ACTION, asked()).await {
            // Switched off between the two calls.
            Err(error) if error.code == "InvalidDefaultEncryption.NotFound" => Ok(DefaultEncryption::Off),
            other => {
                let reply = other?;
                let key_id = Fields::new(&reply.value, Service::Ecs, KEY_ACTION).text("KMSKeyId");
                Ok(DefaultEncryption::On { key_id })
            }
        }
    }

    /// Every disk of the region.
    pub async fn each_disk(&self, region: &str, take: impl FnMut(Disk) + Send) -> Result<(), Error> {
        self.each(region, "DescribeDisks", DISKS_PER_PAGE, ("Disks", "Disk"), Disk::read, take).await
    }

    /// Every snapshot of the region, automatic ones and those behind images included.
    pub async fn each_snapshot(&self, region: &str, take: impl FnMut(Snapshot) + Send) -> Result<(), Error> {
        let names = ("Snapshots", "Snapshot");
        self.each(region, "DescribeSnapshots", OTHERS_PER_PAGE, names, Snapshot::read, take).await
    }

    /// Every instance of the region that this identity may see: without permission the list is empty and no error, so that nothing
    /// follows from an instance that is missing here.
    pub async fn each_instance(&self, region: &str, take: impl FnMut(Instance) + Send) -> Result<(), Error> {
        let names = ("Instances", "Instance");
        self.each(region, "DescribeInstances", OTHERS_PER_PAGE, names, Instance::read, take).await
    }

    async fn each<T>(
        &self,
        region: &str,
        action: &'static str,
        per_page: &str,
        (outer, inner): (&str, &str),
        read: impl Fn(Fields) -> Result<T, Error> + Send,
        mut take: impl FnMut(T) + Send,
    ) -> Result<(), Error> {
        check_region(Service::Ecs, action, region)?;
        let filter: Parameters = parameters([("MaxResults", per_page)]);
        let each = |fields: Fields| read(fields).map(&mut take);
        let bounds = Bounds { pages: PAGES_MAX, pauses: PAUSES_MAX };
        self.walk_each(region, action, filter, (outer, inner), bounds, each).await
    }
}

/// The codes with which a region says that it does not have an action.
pub(super) fn is_unavailable(error: &Error) -> bool {
    let code = error.code.as_str();
    error.http_status.is_some()
        && (code.ends_with("InvalidAction.RegionNotSupport") || code == "InvalidAction.NotFound")
}
