//! What an EncryptedImage says about itself. Pure.

use super::api::{EncryptedImageStatus, ImageSnapshot};
use super::decide::{
    Copy, CopyState, Desired, ImageEffect, Observed, SNAPSHOTS_MAX, SOURCE_GIB_MAX, SourceFact, Wanted,
};
use crate::decision::key::Protection;
use crate::decision::report::{Fact, Report, Truth, key_facts, key_obstacle};
use crate::decision::{Decision, Reason};
use crate::resource::{Drift, StatusTime};

/// Progress is written in steps of this many percent: the object is for people and pipelines, not for animation.
const PROGRESS_STEP: u8 = 10;

/// Status, conditions and the sentence for Ready.
pub fn report(
    before: Option<&EncryptedImageStatus>,
    desired: &Desired,
    observed: &Observed,
    decision: &Decision<ImageEffect>,
    now: jiff::Timestamp,
) -> Report<EncryptedImageStatus> {
    let mut status = before.cloned().unwrap_or_default();
    let Desired::Present(wanted) = desired else {
        // Remembered, so that the object need not wait for its creation to age once this very image is gone.
        let seen = observed.copies.iter().find(|copy| copy.own).map(|copy| copy.id.clone());
        status.image_id = status.image_id.or(seen);
        if observed.unwritten_snapshots {
            let own = observed.copies.iter().filter(|copy| copy.own);
            status.snapshots = own.flat_map(snapshots).take(SNAPSHOTS_MAX).collect();
        }
        return Report { status, facts: Vec::new(), message: departure(observed, decision) };
    };
    if let Some(id) = observed.key.id().filter(|id| !id.starts_with("alias/")) {
        status.key_id = Some(id.to_owned());
    }
    status.queue_position = Some(observed.queued_behind).filter(|behind| *behind > 0);
    let mut facts = key_facts(&observed.key, &wanted.region);
    let chosen = observed.copies.iter().find(|copy| Some(&copy.id) == observed.known.as_ref());
    if let Some(copy) = chosen.or(observed.copies.first()) {
        describe(&mut status, copy, now);
        if copy.state == CopyState::Available {
            facts.push(encrypted(copy, observed));
        }
        status.drift = drifts(observed, copy);
        facts.extend(drifted(&status.drift));
    }
    Report { status, facts, message: message(wanted, observed, decision) }
}

fn describe(status: &mut EncryptedImageStatus, copy: &Copy, now: jiff::Timestamp) {
    status.image_id = Some(copy.id.clone());
    status.image_state = Some(copy.status.clone());
    status.size_gib = Some(copy.size_gib).filter(|size| *size > 0);
    match copy.state {
        CopyState::Copying => {
            status.copy_started_at.get_or_insert(StatusTime::from(whole_seconds(now)));
            let percent = copy.progress.unwrap_or(0).min(99);
            status.progress = Some(percent - percent % PROGRESS_STEP);
        }
        CopyState::Available => {
            status.progress = Some(100);
            if status.copy_started_at.is_some() {
                status.copy_finished_at.get_or_insert(StatusTime::from(whole_seconds(now)));
            }
            status.snapshots = snapshots(copy).collect();
        }
        CopyState::Failed | CopyState::Unknown => {}
    }
}

fn snapshots(copy: &Copy) -> impl Iterator<Item = ImageSnapshot> {
    let all = copy.snapshots.iter();
    all.map(|(id, encrypted, key_id)| ImageSnapshot {
        id: id.clone(),
        encrypted: *encrypted,
        key_id: key_id.clone(),
    })
}

/// Status times have whole seconds on the wire; a fraction would make an unchanged status look changed.
fn whole_seconds(now: jiff::Timestamp) -> jiff::Timestamp {
    jiff::Timestamp::from_second(now.as_second()).unwrap_or(now)
}

fn encrypted(copy: &Copy, observed: &Observed) -> Fact {
    let key = observed.key.id().unwrap_or("the key");
    let id = &copy.id;
    let count = copy.snapshots.len();
    let (truth, reason, message) = match copy.protection {
        Protection::Exact => (
            Truth::True,
            Reason::Available,
            format!("Every snapshot behind image {id} ({count}) is encrypted under {key}."),
        ),
        Protection::Unproven => (
            Truth::Unknown,
            Reason::KeyMismatch,
            format!("Not every snapshot behind image {id} shows its key yet."),
        ),
        Protection::OtherKey => (
            Truth::False,
            Reason::KeyMismatch,
            format!("A snapshot behind image {id} is encrypted under another key than {key}."),
        ),
        Protection::Plain => {
            (Truth::False, Reason::NotEncrypted, format!("A snapshot behind image {id} is not encrypted."))
        }
    };
    Fact { name: "Encrypted", truth, reason, message }
}

/// What differs from the object and is not mended by itself.
fn drifts(observed: &Observed, copy: &Copy) -> Vec<Drift> {
    // An image that is not usable yet, or never will be, has other worries.
    if copy.state != CopyState::Available {
        return Vec::new();
    }
    let alias = match (&observed.repointed, observed.key.id()) {
        (Some(now), Some(pinned)) => Some(("spec.key.alias".to_owned(), pinned.to_owned(), now.clone())),
        _ => None,
    };
    alias.into_iter().chain(copy.drift.iter().cloned()).map(Drift::of).collect()
}

fn drifted(drift: &[Drift]) -> Option<Fact> {
    let (Drift { path, desired, .. }, observed, more) = Drift::first(drift)?;
    let message = match path.as_str() {
        "spec.key.alias" => format!(
            "The alias names {observed} now; the image stays under {desired}, because an image cannot change its key. \
             Create a new object to have an image under the other key.{more}"
        ),
        _ => format!("{path} asks for {desired}, but the image has {observed}.{more}"),
    };
    Some(Fact { name: "Drifted", truth: Truth::True, reason: Reason::ImmutableFieldChanged, message })
}

fn departure(observed: &Observed, decision: &Decision<ImageEffect>) -> String {
    let id = observed.copies.first().map(|copy| copy.id.as_str()).unwrap_or("of this object");
    match decision {
        Decision::Blocked(Reason::KeyRevoked) => {
            let key = observed.key.id().unwrap_or("of this object");
            format!(
                "Nothing is deleted while a KeyRevocation holds key {key}. Whoever has ClusterRole ecskms-revocation-auditor sees it: kubectl get keyrevocations."
            )
        }
        Decision::Wait(wait) if wait.reason == Reason::Settling => {
            "A copy whose answer was lost may still appear; the object stays until that is ruled out."
                .to_owned()
        }
        Decision::Wait(wait) if wait.reason == Reason::StatusUnknown => {
            format!("Image {id} shows a status that is not documented; it is not deleted until that changes.")
        }
        _ => format!("Image {id} is being removed."),
    }
}

fn message(wanted: &Wanted, observed: &Observed, decision: &Decision<ImageEffect>) -> String {
    let copy = observed.copies.first();
    let id = copy.map(|copy| copy.id.as_str()).or(observed.known.as_deref()).unwrap_or("of this object");
    let source = &wanted.source_image_id;
    match decision {
        Decision::Settled => {
            format!(
                "Image {id} is ready and every snapshot behind it is encrypted under {}.",
                observed.key.id().unwrap_or("the key")
            )
        }
        Decision::Do(ImageEffect::Amend { .. }) => {
            format!("Name, description and tags of image {id} are being corrected.")
        }
        Decision::Do(_) => format!("Image {source} is being copied."),
        Decision::Wait(wait) => waiting(wait.reason, wanted, observed, id),
        Decision::Blocked(reason) => blocked(*reason, wanted, observed, id),
    }
}

fn waiting(reason: Reason, wanted: &Wanted, observed: &Observed, id: &str) -> String {
    let source = &wanted.source_image_id;
    match reason {
        Reason::CopyQueued => format!(
            "Waiting for a turn, place {}: the cloud runs 5 copies in a region and one of a source at a time.",
            observed.queued_behind
        ),
        Reason::DependencyNotReady if observed.source == SourceFact::Unusable => {
            format!("Image {source} cannot be copied while it is deprecated or unavailable. Restore it, or choose another source.")
        }
        Reason::DependencyNotReady => format!("Image {source} is still being created."),
        Reason::Settling => "The answer to the copy request was lost; before it may be sent anew, it must be certain that the first request can no longer take effect.".to_owned(),
        Reason::StatusUnknown => format!("Image {id} shows a status that is not documented. Look at it in the console."),
        Reason::KeyMismatch => format!("Image {id} is complete; not every snapshot behind it shows its key yet."),
        _ => format!("Image {source} is being copied."),
    }
}

fn blocked(reason: Reason, wanted: &Wanted, observed: &Observed, id: &str) -> String {
    let source = &wanted.source_image_id;
    let key = observed.key.id().unwrap_or(&wanted.key);
    match reason {
        Reason::Suspended => "Suspended by spec.suspend; set it to false to go on.".to_owned(),
        Reason::SourceTooLarge => too_large(source, observed),
        Reason::SourceNotFound => format!(
            "Image {source} does not exist in region {}, or is not a custom image of this account. Public images need no copy: choose encryption when an instance is created.",
            wanted.region
        ),
        Reason::CopyFailed if observed.timed_out => format!(
            "The copy {id} has run longer than spec.copyTimeout allows. It may still end well; look at it in the console, or delete this object to cancel it."
        ),
        Reason::CopyFailed => format!("The copy {id} failed. Look at it in the console, then delete this object and create it anew."),
        Reason::NotEncrypted => format!("A snapshot behind image {id} is not encrypted. Create a new object to copy it."),
        Reason::KeyMismatch => format!("A snapshot behind image {id} is encrypted under another key than {key}. Create a new object to copy it."),
        Reason::AdoptionMismatch => match &observed.namesake {
            Some(other) => format!("Image {other} carries the name of this object but belongs to an earlier life of it. Adopt it with spec.adopt in a new object, or remove its ecskms: tags."),
            None => "More than one image belongs to this object, and one of them is not the operator's. Decide which one stays and delete the other.".to_owned(),
        },
        Reason::ExternalGone if wanted.adopt.is_none() && observed.known.is_none() => {
            "managementPolicy is Observe and there is no image to observe. Set spec.adopt in a new object.".to_owned()
        }
        Reason::ExternalGone => {
            let id = observed.known.as_deref().or(wanted.adopt.as_deref()).unwrap_or(id);
            format!("Image {id} is gone, or the operator may no longer see it. It is not made again by itself; create a new object.")
        }
        Reason::RequestRefused | Reason::QuotaExceeded => "The cloud refused the request for good; see status.lastError. Correct the object, or request a reconcile.".to_owned(),
        other => key_obstacle(other, key, &wanted.region),
    }
}

fn too_large(source: &str, observed: &Observed) -> String {
    let size = match observed.source {
        SourceFact::TooLarge { size_gib } => format!("{size_gib} GiB"),
        _ => format!("more than {SOURCE_GIB_MAX} GiB"),
    };
    format!(
        "Image {source} has {size}; encrypted copies of more than {SOURCE_GIB_MAX} GiB need a ticket with Alibaba Cloud. \
         Submit one, or copy its disks as snapshots."
    )
}
