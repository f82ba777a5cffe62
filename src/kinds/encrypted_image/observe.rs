//! Looks at the copy, the snapshots behind it, its source, its key and its place in the queue. Reads only.

use std::collections::BTreeSet;

use super::api::EncryptedImage;
use super::decide::{
    Amendment, Copy, CopyState, Desired, Observed, SNAPSHOTS_MAX, SOURCE_GIB_MAX, SourceFact, Wanted,
};
use super::queue::{CopyQueue, Ticket};
use crate::alibaba;
use crate::decision::creation::{Claim, Creation, Step};
use crate::decision::key::{KeyFact, Protection};
use crate::kind::{Fault, Owner, World, standing_refusal};
use crate::resource::tag;

/// Everything that `decide` needs to know.
pub async fn observe(
    object: &EncryptedImage,
    desired: &Desired,
    world: &World,
    queue: &CopyQueue,
) -> Result<Observed, Fault> {
    let began = world.clock.now();
    let owner = Owner::of(&world.settings.cluster, object);
    let status = object.status.clone().unwrap_or_default();
    let mut observed = Observed {
        key: KeyFact::Unasked,
        source: SourceFact::Unasked,
        copies: BTreeSet::new(),
        known: status.image_id.clone(),
        creation: world.creation(&owner.uid, status.shared.intent.as_ref(), began),
        refusal: standing_refusal(object),
        namesake: None,
        repointed: None,
        queued_behind: 0,
        timed_out: false,
        leftover_snapshots: BTreeSet::new(),
        unwritten_snapshots: false,
    };
    let wanted = match desired {
        Desired::Present(wanted) if wanted.suspend => return Ok(observed),
        Desired::Present(wanted) => Some(wanted),
        Desired::Absent { .. } => None,
    };
    let compares = observed.known.is_some() || wanted.is_some_and(|wanted| wanted.adopt.is_some());
    if let Some(wanted) = wanted.filter(|_| observed.refusal.is_none() || compares) {
        observed.source = source(object, wanted, world).await?;
    }
    let images = find_images(object, wanted, &owner, world, &mut observed).await?;
    // What is there is compared with its key, whatever was refused, also before it was ever written down.
    let compares = observed.refusal.is_none() || compares || !images.is_empty();
    if let Some(wanted) = wanted.filter(|_| compares)
        && !matches!(observed.source, SourceFact::TooLarge { .. })
    {
        let pinned = status.key_id.as_deref();
        observed.key = world.key_fact(&wanted.region, &wanted.key, wanted.service_key, pinned).await?;
        observed.repointed = world.repointed(&wanted.region, &wanted.key, pinned).await;
    }
    for image in images {
        let copy = fact(&image, wanted, &owner, &observed.key, world, &object.spec.region).await?;
        observed.copies.insert(copy);
    }
    match wanted {
        Some(wanted) => {
            observed.timed_out = timed_out(&status.copy_started_at, wanted, began);
            take_place(object, wanted, &owner, queue, &mut observed);
        }
        None => {
            queue.leave(&owner.uid);
            let id = status.key_id.as_deref().or(object.spec.key.id.as_deref());
            if let Some(id) = id {
                observed.key = world.revoked(&object.spec.region, id).await?.unwrap_or(KeyFact::Unasked);
            }
            let recorded: Vec<String> = status.snapshots.iter().map(|snapshot| snapshot.id.clone()).collect();
            observed.leftover_snapshots = leftovers(object, desired, &recorded, world, &observed).await?;
            let behind = observed
                .copies
                .iter()
                .filter(|copy| copy.own)
                .flat_map(|copy| &copy.snapshots)
                .take(SNAPSHOTS_MAX);
            observed.unwritten_snapshots = behind.into_iter().any(|(id, ..)| !recorded.contains(id));
        }
    }
    Ok(observed)
}

/// The source matters only until there is a copy.
async fn source(object: &EncryptedImage, wanted: &Wanted, world: &World) -> Result<SourceFact, Fault> {
    let has_copy = object
        .status
        .as_ref()
        .is_some_and(|status| status.image_id.is_some() || status.shared.intent.is_some());
    if has_copy || wanted.adopt.is_some() {
        // Once an intent is recorded, its frozen request names a source that was checked.
        return Ok(SourceFact::Ready);
    }
    let Some(image) = world.cloud.image(&wanted.region, &wanted.source_image_id).await? else {
        return Ok(SourceFact::Missing);
    };
    Ok(match image.status {
        _ if image.owner_alias != "self" => SourceFact::Missing,
        _ if image.size_gib > SOURCE_GIB_MAX => SourceFact::TooLarge { size_gib: image.size_gib },
        alibaba::ImageStatus::Available => SourceFact::Ready,
        alibaba::ImageStatus::Creating | alibaba::ImageStatus::Waiting => SourceFact::NotReady,
        _ => SourceFact::Unusable,
    })
}

/// By the adopted id, else by the id that is known, else by tags.
async fn find_images(
    object: &EncryptedImage,
    wanted: Option<&Wanted>,
    owner: &Owner,
    world: &World,
    observed: &mut Observed,
) -> Result<Vec<alibaba::Image>, Fault> {
    let region = &object.spec.region;
    let adopted = object.spec.adopt.as_ref().map(|adopt| adopt.external_id.clone());
    let answered = match &observed.creation {
        Creation { claim: Claim::Accepted, intent: Some(intent), .. } => {
            world.claims.view(&owner.uid, intent.attempt, world.settings.send_window).1
        }
        _ => None,
    };
    let mut found = Vec::new();
    let by_id = adopted.clone().or(observed.known.clone()).or(answered);
    if let Some(id) = &by_id {
        found.extend(
            world.cloud.image(region, id).await?.filter(|image| adopted.is_some() || owner.owns(&image.tags)),
        );
    }
    // On deletion an id that is gone proves nothing: a late request may have made another image after the first was deleted.
    let last_look = wanted.is_none() && adopted.is_none() && found.is_empty();
    let first_look = wanted.is_some() && by_id.is_none();
    if first_look || (last_look && observed.creation.intent.is_some()) {
        let family = owner.family();
        let tags = family.each_ref().map(|(key, value)| (*key, value.as_str()));
        for image in world.cloud.images_by_tags(region, &tags).await? {
            match owner.owns(&image.tags) {
                true => found.push(image),
                false => observed.namesake = Some(image.id),
            }
        }
    }
    Ok(found)
}

/// A copy with the proof of its encryption: images show no key, so every snapshot behind them is read.
async fn fact(
    image: &alibaba::Image,
    wanted: Option<&Wanted>,
    owner: &Owner,
    key: &KeyFact,
    world: &World,
    region: &str,
) -> Result<Copy, Fault> {
    let state = match image.status {
        alibaba::ImageStatus::Creating | alibaba::ImageStatus::Waiting => CopyState::Copying,
        alibaba::ImageStatus::Available | alibaba::ImageStatus::Deprecated => CopyState::Available,
        alibaba::ImageStatus::CreateFailed | alibaba::ImageStatus::UnAvailable => CopyState::Failed,
        alibaba::ImageStatus::Unknown(_) => CopyState::Unknown,
    };
    let mut snapshots = Vec::new();
    let mut protection = Protection::Unproven;
    let own = owner.owns(&image.tags);
    // On deletion too: what goes with the image must be written down before it.
    if state == CopyState::Available && (wanted.is_some() || own) {
        let ids: Vec<String> =
            image.mappings.iter().filter_map(|mapping| mapping.snapshot_id.clone()).collect();
        let found = match ids.is_empty() {
            true => Vec::new(),
            false => world.cloud.snapshots(region, &ids).await?,
        };
        let wanted_key = key.id().unwrap_or_default();
        protection = Protection::weakest(image.mappings.iter().map(|mapping| {
            let snapshot = found.iter().find(|snapshot| Some(&snapshot.id) == mapping.snapshot_id.as_ref());
            snapshot.map_or(Protection::Unproven, |snapshot| {
                Protection::of(
                    snapshot.encrypted,
                    snapshot.kms_key_id.as_deref(),
                    wanted_key,
                    wanted.is_some_and(|wanted| wanted.service_key),
                )
            })
        }));
        snapshots = found
            .into_iter()
            .map(|snapshot| (snapshot.id, snapshot.encrypted, snapshot.kms_key_id))
            .collect();
        snapshots.sort();
    }
    Ok(Copy {
        id: image.id.clone(),
        state,
        protection,
        own,
        amendment: wanted
            .filter(|wanted| wanted.manage)
            .map(|wanted| amendment(image, wanted))
            .unwrap_or_default(),
        status: image.status.word().to_owned(),
        progress: image.progress,
        size_gib: image.size_gib,
        snapshots,
        drift: wanted.map(|wanted| drift(image, wanted)).unwrap_or_default(),
    })
}

/// Name, description and tags that differ: the only drift that is mended, because nothing depends on them.
fn amendment(image: &alibaba::Image, wanted: &Wanted) -> Amendment {
    let differs = |wish: &Option<String>, real: &str| wish.clone().filter(|wish| wish != real);
    Amendment {
        name: differs(&wanted.image_name, &image.name),
        description: differs(&wanted.description, &image.description),
        tags: tag::amiss(&wanted.tags, &image.tags),
    }
}

/// Differences that the operator does not mend, and those that an object which only observes leaves as they are.
fn drift(image: &alibaba::Image, wanted: &Wanted) -> BTreeSet<(String, String, String)> {
    let mut drift = BTreeSet::new();
    let mut tell = |path: &str, desired: &str, observed: &str| {
        drift.insert((path.to_owned(), desired.to_owned(), observed.to_owned()));
    };
    if let (Some(group), Some(real)) = (&wanted.resource_group_id, &image.resource_group_id)
        && group != real
    {
        tell("spec.resourceGroupId", group, real);
    }
    if !wanted.manage {
        let names = amendment(image, wanted);
        if let Some(name) = &names.name {
            tell("spec.imageName", name, &image.name);
        }
        if let Some(text) = &names.description {
            tell("spec.description", text, &image.description);
        }
        drift.extend(tag::drift(&wanted.tags, &image.tags));
    }
    drift
}

fn timed_out(started: &Option<crate::resource::StatusTime>, wanted: &Wanted, now: jiff::Timestamp) -> bool {
    let allowed = i64::try_from(wanted.copy_timeout_seconds).unwrap_or(i64::MAX);
    started.as_ref().is_some_and(|started| now.duration_since(started.0).as_secs() > allowed)
}

/// Only an object that could start now asks for a turn, so that a blocked one never holds up the others.
fn take_place(
    object: &EncryptedImage,
    wanted: &Wanted,
    owner: &Owner,
    queue: &CopyQueue,
    observed: &mut Observed,
) {
    let created =
        object.metadata.creation_timestamp.as_ref().map(|time| time.0.to_string()).unwrap_or_default();
    let ticket = Ticket {
        uid: owner.uid.clone(),
        // The cloud counts copies by account.
        region: object.spec.account_ref.as_ref().map_or_else(
            || wanted.region.clone(),
            |account| format!("{} of account {}", wanted.region, account.name),
        ),
        source: wanted.source_image_id.clone(),
        order: (created, format!("{}/{}", owner.namespace, owner.name)),
    };
    let copying = observed.copies.iter().any(|copy| copy.state == CopyState::Copying);
    let absent = observed.copies.is_empty() && observed.known.is_none();
    let anew = matches!(observed.creation.step(), Step::Record { .. });
    let sent = absent && !anew;
    let could_start = absent
        && anew
        && observed.source == SourceFact::Ready
        && observed.key.obstacle().is_none()
        && observed.refusal.is_none()
        && observed.namesake.is_none()
        && wanted.manage
        && wanted.adopt.is_none();
    match (copying || sent, could_start) {
        (true, _) => queue.run(ticket),
        (false, true) => observed.queued_behind = queue.ask(ticket),
        (false, false) => queue.leave(&owner.uid),
    }
}

/// The recorded snapshots that still exist, asked only when they are to go and the image is gone. An image that is there and is no
/// longer this object's was taken away from it, and keeps its snapshots.
async fn leftovers(
    object: &EncryptedImage,
    desired: &Desired,
    recorded: &[String],
    world: &World,
    observed: &Observed,
) -> Result<BTreeSet<String>, Fault> {
    let wanted = matches!(desired, Desired::Absent { delete_image: true, delete_snapshots: true, .. });
    if !wanted || recorded.is_empty() || !observed.copies.is_empty() {
        return Ok(BTreeSet::new());
    }
    if let Some(id) = &observed.known
        && world.cloud.image(&object.spec.region, id).await?.is_some()
    {
        return Ok(BTreeSet::new());
    }
    let found = world.cloud.snapshots(&object.spec.region, recorded).await?;
    Ok(found.into_iter().map(|snapshot| snapshot.id).collect())
}
