//! One small page of each list that the operator reads, for whoever asks whether this identity may read it.
//!
//! Reads only, and concludes nothing: what a page proves is the business of whoever asks.

use super::endpoint::check_region;
use super::error::Error;
use super::gateway::Cloud;
use super::reply::Fields;
use super::request::{Parameters, Service, parameters};
use super::survey::is_unavailable;

/// Items of a page: the fewest that each of these actions knows.
const FEW: &str = "10";

/// An action of ECS that the operator reads with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// The regions of the account.
    Regions,
    /// Disks that are attached, so that the page names an instance if there is one.
    Disks,
    /// Snapshots.
    Snapshots,
    /// The account's own images.
    Images,
    /// Instances. Without permission the page is empty and no error.
    Instances,
    /// Whether new disks are encrypted by themselves.
    DefaultEncryption,
    /// Under which key.
    DefaultKey,
}

/// What came back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// How many items it shows.
    pub items: usize,
    /// An instance to which the first disk is attached.
    pub instance: Option<String>,
    /// True if the region does not have the action.
    pub unavailable: bool,
}

impl Read {
    /// Every one of them.
    pub const ALL: [Read; 7] = [
        Read::Regions,
        Read::Disks,
        Read::Snapshots,
        Read::Images,
        Read::Instances,
        Read::DefaultEncryption,
        Read::DefaultKey,
    ];

    /// The action's name.
    pub fn action(self) -> &'static str {
        match self {
            Read::Regions => "DescribeRegions",
            Read::Disks => "DescribeDisks",
            Read::Snapshots => "DescribeSnapshots",
            Read::Images => "DescribeImages",
            Read::Instances => "DescribeInstances",
            Read::DefaultEncryption => "DescribeDiskEncryptionByDefaultStatus",
            Read::DefaultKey => "DescribeDiskDefaultKMSKeyId",
        }
    }

    /// The names of the list in the reply, if it is one.
    fn list(self) -> Option<(&'static str, &'static str)> {
        match self {
            Read::Regions => Some(("Regions", "Region")),
            Read::Disks => Some(("Disks", "Disk")),
            Read::Snapshots => Some(("Snapshots", "Snapshot")),
            Read::Images => Some(("Images", "Image")),
            Read::Instances => Some(("Instances", "Instance")),
            Read::DefaultEncryption | Read::DefaultKey => None,
        }
    }

    fn filter(self) -> Parameters {
        match self {
            Read::Disks => parameters([("MaxResults", FEW), ("Status", "In_use")]),
            Read::Snapshots | Read::Instances => parameters([("MaxResults", FEW)]),
            Read::Images => parameters([("ImageOwnerAlias", "self"), ("PageSize", FEW)]),
            Read::Regions | Read::DefaultEncryption | Read::DefaultKey => Parameters::new(),
        }
    }
}

impl Cloud {
    /// Asks for the first page.
    pub async fn probe(&self, region: &str, read: Read) -> Result<Page, Error> {
        check_region(Service::Ecs, read.action(), region)?;
        let mut asked = read.filter();
        asked.insert("RegionId".to_owned(), region.to_owned());
        let reply = match self.call(Service::Ecs, region, read.action(), asked).await {
            Err(error) if is_unavailable(&error) => return Ok(Page { unavailable: true, ..Page::default() }),
            // There is no such key while the region leaves new disks plain: an answer all the same.
            Err(error) if error.code == "InvalidDefaultEncryption.NotFound" => return Ok(Page::default()),
            other => other?,
        };
        let Some((outer, inner)) = read.list() else { return Ok(Page::default()) };
        let items = Fields::new(&reply.value, Service::Ecs, read.action()).list(outer, inner)?;
        let instance = items.first().and_then(|item| item.text("InstanceId")).filter(|_| read == Read::Disks);
        Ok(Page { items: items.len(), instance, unavailable: false })
    }
}
