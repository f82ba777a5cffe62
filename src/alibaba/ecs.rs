//! Typed calls to ECS: images, disks, snapshots.
//!
//! Lists are complete or an error: a list that stops early must never be taken for the whole world.
//! Parameters of creations are sent exactly as given, because they were recorded before and may be replayed.
//! Nothing is decided here, and NotFound of a deletion is an error of class NotFound for the caller to judge.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::try_join_all;

use super::endpoint::check_region;
use super::error::{Class, Error, local};
use super::facts::{Disk, Image, Snapshot};
use super::gateway::Cloud;
use super::kms::SERVICE_KEY;
use super::reply::Fields;
use super::request::{self, Parameters, Service, check_id, parameters, put_tags};

/// Every documented state: without it DescribeImages shows only Available ones.
const EVERY_IMAGE_STATUS: &str = "Creating,Waiting,Available,UnAvailable,CreateFailed,Deprecated";
/// Images per page; the limit of DescribeImages.
const IMAGES_PER_PAGE: u32 = 100;
/// How often a list of images is read anew because it changed meanwhile.
const READINGS_MAX: u32 = 3;
/// Disks per page of a list; the limit of DescribeDisks.
const DISKS_PER_PAGE: &str = "500";
/// Snapshots per page; the limit of DescribeSnapshots.
const SNAPSHOTS_PER_PAGE: &str = "100";
/// Pages of one list, at most: 5,000 images, 25,000 disks.
pub const PAGES_MAX: u32 = 50;
/// Snapshots that may be asked for at once; an image has 17 at most.
pub const SNAPSHOT_IDS_MAX: usize = 1000;

/// How long to wait for the next page if a refusal does not say.
const PAUSE: Duration = Duration::from_secs(10);

/// How far a list is followed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Pages, at most; more are an error.
    pub(super) pages: u32,
    /// How often in all a page after the first is waited for when it is throttled.
    pub(super) pauses: u32,
}

/// What a creation answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    /// The id of the new resource, which may not be visible in lists yet.
    pub id: String,
    /// The cloud's id of the request.
    pub request_id: Option<String>,
}

impl Cloud {
    /// One image by id, in whatever state, own or not.
    pub async fn image(&self, region: &str, id: &str) -> Result<Option<Image>, Error> {
        check_id(Service::Ecs, "DescribeImages", "ImageId", id)?;
        let images = self.images(region, parameters([("ImageId", id)])).await?;
        Ok(images.into_iter().find(|image| image.id == id))
    }

    /// The account's own images that carry all of `tags`, in whatever state.
    pub async fn images_by_tags(&self, region: &str, tags: &[(&str, &str)]) -> Result<Vec<Image>, Error> {
        const ACTION: &str = "DescribeImages";
        let mut filter = parameters([("ImageOwnerAlias", "self")]);
        put_filter_tags(ACTION, &mut filter, tags)?;
        let images = self.images(region, filter).await?;
        check_tags(ACTION, tags, images.iter().map(|image| &image.tags))?;
        Ok(images)
    }

    /// The account's own images of exactly this name, in whatever state.
    pub async fn images_by_name(&self, region: &str, name: &str) -> Result<Vec<Image>, Error> {
        if name.is_empty() {
            return Err(refuse("DescribeImages", "an empty name would mean every image"));
        }
        let filter = parameters([("ImageOwnerAlias", "self"), ("ImageName", name)]);
        let mut images = self.images(region, filter).await?;
        images.retain(|image| image.name == name);
        Ok(images)
    }

    /// Starts a copy. `region` is the source's and must stand in `parameters` as `RegionId` too.
    pub async fn copy_image(&self, region: &str, parameters: &Parameters) -> Result<Created, Error> {
        self.create(region, "CopyImage", "ImageId", parameters).await
    }

    /// Stops a copy and removes it; `region` is the copy's. An image that is complete already is an error.
    pub async fn cancel_copy_image(&self, region: &str, image_id: &str) -> Result<(), Error> {
        self.change(region, "CancelCopyImage", "ImageId", image_id).await
    }

    /// Deletes an image; its snapshots stay.
    pub async fn delete_image(&self, region: &str, image_id: &str) -> Result<(), Error> {
        self.change(region, "DeleteImage", "ImageId", image_id).await
    }

    /// One disk by id; concurrent readings of a region share a call. None also if this identity may not see
    /// it.
    pub async fn disk(&self, region: &str, id: &str) -> Result<Option<Disk>, Error> {
        const ACTION: &str = "DescribeDisks";
        check_region(Service::Ecs, ACTION, region)?;
        check_id(Service::Ecs, ACTION, "DiskId", id)?;
        self.gathered(region, id).await
    }

    /// All disks that carry all of `tags`; many concurrent lookups that share their first tag become one listing.
    pub async fn disks_by_tags(&self, region: &str, tags: &[(&str, &str)]) -> Result<Vec<Disk>, Error> {
        const ACTION: &str = "DescribeDisks";
        check_region(Service::Ecs, ACTION, region)?;
        let asked: Vec<_> =
            tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        self.swept_disks(region, asked).await
    }

    /// All disks that carry all of `tags`, by a list of its own.
    pub(crate) async fn list_disks(&self, region: &str, tags: &[(&str, &str)]) -> Result<Vec<Disk>, Error> {
        const ACTION: &str = "DescribeDisks";
        let mut filter = parameters([("MaxResults", DISKS_PER_PAGE)]);
        put_filter_tags(ACTION, &mut filter, tags)?;
        let disks = self.walk(region, ACTION, filter, "Disks", "Disk", Disk::read).await?;
        check_tags(ACTION, tags, disks.iter().map(|disk| &disk.tags))?;
        Ok(unique(disks, |disk| disk.id.clone()))
    }

    /// Creates a disk. `InstanceId` is refused: with it ECS silently drops key, token and tags.
    pub async fn create_disk(&self, region: &str, parameters: &Parameters) -> Result<Created, Error> {
        const ACTION: &str = "CreateDisk";
        if parameters.contains_key("InstanceId") {
            return Err(refuse(
                ACTION,
                "with InstanceId, CreateDisk would drop the key, the token and the tags",
            ));
        }
        self.create(region, ACTION, "DiskId", parameters).await
    }

    /// Deletes a disk, which must be attached to nothing.
    pub async fn delete_disk(&self, region: &str, disk_id: &str) -> Result<(), Error> {
        self.change(region, "DeleteDisk", "DiskId", disk_id).await
    }

    /// Grows a disk. Without a token: to grow to the same size twice is refused at worst, while the cloud would answer a refusal
    /// again for a day to whoever repeats its token.
    ///
    /// `online` lets a disk in use grow without a restart of its instance.
    pub async fn resize_disk(
        &self,
        region: &str,
        disk_id: &str,
        size_gib: u32,
        online: bool,
    ) -> Result<(), Error> {
        const ACTION: &str = "ResizeDisk";
        check_id(Service::Ecs, ACTION, "DiskId", disk_id)?;
        let size = size_gib.to_string();
        let kind = if online { "online" } else { "offline" };
        let parameters =
            parameters([("RegionId", region), ("DiskId", disk_id), ("NewSize", &size), ("Type", kind)]);
        self.call(Service::Ecs, region, ACTION, parameters).await.map(drop)
    }

    /// The snapshots of these ids that exist; concurrent readings of a region share calls. In the order of
    /// `ids`.
    pub async fn snapshots(&self, region: &str, ids: &[String]) -> Result<Vec<Snapshot>, Error> {
        const ACTION: &str = "DescribeSnapshots";
        check_region(Service::Ecs, ACTION, region)?;
        if ids.len() > SNAPSHOT_IDS_MAX {
            return Err(refuse(
                ACTION,
                &format!("more than {SNAPSHOT_IDS_MAX} snapshots are asked for at once"),
            ));
        }
        for id in ids {
            check_id(Service::Ecs, ACTION, "SnapshotId", id)?;
        }
        let found = try_join_all(ids.iter().map(|id| self.gathered(region, id))).await?;
        Ok(found.into_iter().flatten().collect())
    }

    /// All snapshots of the account that carry all of `tags`, in whatever state.
    pub async fn snapshots_by_tags(
        &self,
        region: &str,
        tags: &[(&str, &str)],
    ) -> Result<Vec<Snapshot>, Error> {
        const ACTION: &str = "DescribeSnapshots";
        let mut filter = parameters([("MaxResults", SNAPSHOTS_PER_PAGE)]);
        put_filter_tags(ACTION, &mut filter, tags)?;
        let snapshots = self.walk(region, ACTION, filter, "Snapshots", "Snapshot", Snapshot::read).await?;
        check_tags(ACTION, tags, snapshots.iter().map(|snapshot| &snapshot.tags))?;
        Ok(unique(snapshots, |snapshot| snapshot.id.clone()))
    }

    /// Begins a snapshot of a disk; it takes over the disk's encryption and key.
    pub async fn create_snapshot(&self, region: &str, parameters: &Parameters) -> Result<Created, Error> {
        self.create(region, "CreateSnapshot", "SnapshotId", parameters).await
    }

    /// Deletes a snapshot from which nothing was made.
    pub async fn delete_snapshot(&self, region: &str, id: &str) -> Result<(), Error> {
        self.change(region, "DeleteSnapshot", "SnapshotId", id).await
    }

    /// Deletes a snapshot from which a disk was made: the disk lives on, but can no longer be set back to it.
    pub async fn delete_used_snapshot(&self, region: &str, id: &str) -> Result<(), Error> {
        const ACTION: &str = "DeleteSnapshot";
        check_id(Service::Ecs, ACTION, "SnapshotId", id)?;
        let parameters = parameters([("RegionId", region), ("SnapshotId", id), ("Force", "true")]);
        self.call(Service::Ecs, region, ACTION, parameters).await.map(drop)
    }

    /// At most [`super::gather::IDS_MAX`] disks by id, in one list.
    pub(crate) async fn disks_by_ids(&self, region: &str, ids: &[String]) -> Result<Vec<Disk>, Error> {
        // The page must hold all of them: without MaxResults it would end after ten.
        let filter = parameters([("DiskIds", &request::json_array(ids)), ("MaxResults", "100")]);
        self.walk(region, "DescribeDisks", filter, "Disks", "Disk", Disk::read).await
    }

    /// At most [`super::gather::IDS_MAX`] snapshots by id, in one list.
    pub(crate) async fn snapshots_by_ids(
        &self,
        region: &str,
        ids: &[String],
    ) -> Result<Vec<Snapshot>, Error> {
        let filter =
            parameters([("MaxResults", SNAPSHOTS_PER_PAGE), ("SnapshotIds", &request::json_array(ids))]);
        self.walk(region, "DescribeSnapshots", filter, "Snapshots", "Snapshot", Snapshot::read).await
    }

    /// Every page of DescribeImages, which counts pages and has no tokens: read anew if the list changed between two of them,
    /// because one that moves up by a place is then on no page.
    pub(super) async fn images(&self, region: &str, filter: Parameters) -> Result<Vec<Image>, Error> {
        for _ in 0..READINGS_MAX {
            if let Some(images) = self.images_once(region, &filter).await? {
                return Ok(images);
            }
        }
        let text = "the list of images changes faster than it can be read; it is read again";
        Err(Error::local(Service::Ecs, "DescribeImages", local::REPLY_NOT_UNDERSTOOD, text))
    }

    /// Every page of DescribeImages; none if the list was another one from one page to the next.
    async fn images_once(&self, region: &str, filter: &Parameters) -> Result<Option<Vec<Image>>, Error> {
        const ACTION: &str = "DescribeImages";
        let mut images: Vec<Image> = Vec::new();
        let mut first_total = None;
        for page in 1..=PAGES_MAX {
            let mut query = filter.clone();
            query.extend(parameters([
                ("RegionId", region),
                ("Status", EVERY_IMAGE_STATUS),
                ("PageNumber", &page.to_string()),
                ("PageSize", &IMAGES_PER_PAGE.to_string()),
            ]));
            let reply = self.call(Service::Ecs, region, ACTION, query).await?;
            let fields = Fields::new(&reply.value, Service::Ecs, ACTION);
            let listed = fields.list("Images", "Image")?;
            let length = listed.len();
            for image in listed {
                images.push(Image::read(image)?);
            }
            // The size that the cloud says it used: it may clamp what was asked for.
            let size = fields.number("PageSize").unwrap_or(IMAGES_PER_PAGE).max(1) as usize;
            let total = fields.number("TotalCount");
            if *first_total.get_or_insert(total) != total {
                return Ok(None);
            }
            let complete = match total {
                Some(total) => images.len() >= total as usize,
                None => length < size,
            };
            if complete {
                let (read, images) = (images.len(), unique(images, |image| image.id.clone()));
                // One that two pages show has taken the place of another that none shows.
                return Ok((page == 1 || images.len() == read).then_some(images));
            }
            if length == 0 {
                return Err(fields.defect("a page is empty although the list is not complete"));
            }
        }
        Err(too_many_pages(ACTION, PAGES_MAX))
    }

    /// Every page of a list that goes on with tokens.
    pub(super) async fn walk<T>(
        &self,
        region: &str,
        action: &'static str,
        filter: Parameters,
        outer: &str,
        inner: &str,
        read: impl Fn(Fields) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        let mut items = Vec::new();
        let take = |item: Fields| read(item).map(|item| items.push(item));
        let bounds = Bounds { pages: PAGES_MAX, pauses: 0 };
        self.walk_each(region, action, filter, (outer, inner), bounds, take).await?;
        Ok(items)
    }

    /// The same, item by item, within these bounds.
    pub(super) async fn walk_each(
        &self,
        region: &str,
        action: &'static str,
        filter: Parameters,
        (outer, inner): (&str, &str),
        bounds: Bounds,
        mut take: impl FnMut(Fields) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut seen = BTreeSet::new();
        let mut token: Option<String> = None;
        let mut pauses = bounds.pauses;
        for _ in 0..bounds.pages {
            let mut query = filter.clone();
            query.insert("RegionId".to_owned(), region.to_owned());
            query.extend(token.iter().map(|token| ("NextToken".to_owned(), token.clone())));
            let reply = loop {
                match self.call(Service::Ecs, region, action, query.clone()).await {
                    // The first page has nothing to lose: whoever asks decides when it is asked for again.
                    Err(error) if error.class == Class::Throttled && token.is_some() && pauses > 0 => {
                        pauses -= 1;
                        tokio::time::sleep(error.retry_after.unwrap_or(PAUSE)).await;
                    }
                    other => break other?,
                }
            };
            let fields = Fields::new(&reply.value, Service::Ecs, action);
            for item in fields.list(outer, inner)? {
                take(item)?;
            }
            let Some(next) = fields.text("NextToken") else { return Ok(()) };
            if !seen.insert(next.clone()) {
                return Err(fields.defect("the list repeats a page token, so it would never end"));
            }
            token = Some(next);
        }
        Err(too_many_pages(action, bounds.pages))
    }

    pub(super) async fn create(
        &self,
        region: &str,
        action: &'static str,
        id_field: &str,
        parameters: &Parameters,
    ) -> Result<Created, Error> {
        if parameters.get("RegionId").map(String::as_str) != Some(region) {
            return Err(refuse(
                action,
                "RegionId of the recorded parameters is not the region that is called",
            ));
        }
        let reply = self.call(Service::Ecs, region, action, parameters.clone()).await?;
        // The service key comes into being with its first use.
        self.keys().forget_if(&(region.to_owned(), SERVICE_KEY.to_owned()), Option::is_none);
        let id = Fields::new(&reply.value, Service::Ecs, action).required(id_field)?;
        check_id(Service::Ecs, action, id_field, &id)
            .map_err(|_| Fields::new(&reply.value, Service::Ecs, action).defect("the new id is not an id"))?;
        Ok(Created { id, request_id: reply.request_id })
    }

    pub(super) async fn change(
        &self,
        region: &str,
        action: &'static str,
        id_parameter: &str,
        id: &str,
    ) -> Result<(), Error> {
        check_id(Service::Ecs, action, id_parameter, id)?;
        // Not every deletion declares RegionId, but hosts that serve several regions route by it.
        let parameters = parameters([("RegionId", region), (id_parameter, id)]);
        self.call(Service::Ecs, region, action, parameters).await.map(drop)
    }
}

pub(super) fn put_filter_tags(
    action: &'static str,
    filter: &mut Parameters,
    tags: &[(&str, &str)],
) -> Result<(), Error> {
    const TAGS_MAX: usize = 20;
    if tags.is_empty() || tags.len() > TAGS_MAX || tags.iter().any(|(key, _)| key.is_empty()) {
        return Err(refuse(
            action,
            "a search by tags needs 1 to 20 tags with keys, or it would find everything",
        ));
    }
    put_tags(filter, tags);
    Ok(())
}

/// A list that contains what was not asked for was not filtered. It is an error rather than filtered again: a
/// reply that ignores the question may as well have left something out.
pub(super) fn check_tags<'a>(
    action: &'static str,
    asked: &[(&str, &str)],
    mut found: impl Iterator<Item = &'a BTreeMap<String, String>>,
) -> Result<(), Error> {
    let carries = |tags: &BTreeMap<String, String>| {
        asked.iter().all(|(key, value)| tags.get(*key).is_some_and(|found| found == value))
    };
    if found.all(carries) {
        return Ok(());
    }
    let text = "the list contains resources without the tags that were asked for";
    Err(Error::local(Service::Ecs, action, local::REPLY_NOT_UNDERSTOOD, text))
}

/// A page that moves while it is read can show an item twice.
pub(super) fn unique<T>(items: Vec<T>, id: impl Fn(&T) -> String) -> Vec<T> {
    let mut seen = BTreeSet::new();
    items.into_iter().filter(|item| seen.insert(id(item))).collect()
}

pub(super) fn refuse(action: &'static str, text: &str) -> Error {
    Error::local(Service::Ecs, action, local::INVALID_PARAMETERS, text)
}

fn too_many_pages(action: &'static str, pages_max: u32) -> Error {
    let text = format!("the list has more than {pages_max} pages, so it is not known completely");
    Error::local(Service::Ecs, action, local::TOO_MANY_PAGES, &text)
}
