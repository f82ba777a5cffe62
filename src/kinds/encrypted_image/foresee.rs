//! What would be seen of an EncryptedImage after a decision if all goes well, and the calls that its effects stand for. Pure.

use std::collections::BTreeSet;

use super::api::EncryptedImage;
use super::decide::{Amendment, Copy, CopyState, Desired, ImageEffect, Observed, SourceFact};
use super::request;
use crate::decision::key::Protection;
use crate::decision::{Decision, Reason};
use crate::kind::{Call, Owner};

/// Stands for the id of an image that is not there yet.
const NEW_IMAGE: &str = "<new image>";

/// The RAM actions that looking takes.
pub const READS: &[&str] = &[
    "ecs:DescribeImages",
    "ecs:DescribeSnapshots",
    "kms:DescribeKey",
    "ram:GetRole",
    "ram:ListPoliciesForRole",
];

/// The next look; None where nothing follows by itself.
pub fn after(desired: &Desired, before: &Observed, decision: &Decision<ImageEffect>) -> Option<Observed> {
    let mut seen = before.clone();
    match decision {
        Decision::Do(effect) => done(desired, before, effect, &mut seen),
        Decision::Wait(wait) => passed(before, wait.reason, &mut seen),
        Decision::Settled | Decision::Blocked(_) => return None,
    }
    (seen != *before).then_some(seen)
}

fn done(desired: &Desired, before: &Observed, effect: &ImageEffect, seen: &mut Observed) {
    match effect {
        ImageEffect::Claim(take) => seen.creation = before.creation.claimed(*take),
        ImageEffect::Copy { .. } => {
            seen.creation = before.creation.accepted();
            appear(seen);
        }
        ImageEffect::Amend { id, amendment } => {
            let names = amendment.name.is_some() || amendment.description.is_some();
            let tags = if names { amendment.tags.clone() } else { Vec::new() };
            change(&mut seen.copies, |copy| {
                if copy.id == *id {
                    copy.amendment = Amendment { tags: tags.clone(), ..Amendment::default() };
                }
            });
        }
        // Half a copy leaves nothing behind.
        ImageEffect::Cancel { id } => seen.copies.retain(|copy| copy.id != *id),
        ImageEffect::Delete { id } => {
            let (gone, kept): (BTreeSet<Copy>, _) =
                before.copies.iter().cloned().partition(|copy| copy.id == *id);
            seen.copies = kept;
            if matches!(desired, Desired::Absent { delete_snapshots: true, .. }) {
                let behind = gone.into_iter().flat_map(|copy| copy.snapshots).map(|(snapshot, ..)| snapshot);
                seen.leftover_snapshots.extend(behind);
            }
        }
        ImageEffect::DeleteSnapshot { id } => drop(seen.leftover_snapshots.remove(id)),
    }
}

fn change(copies: &mut BTreeSet<Copy>, change: impl Fn(&mut Copy)) {
    *copies = std::mem::take(copies)
        .into_iter()
        .map(|mut copy| {
            change(&mut copy);
            copy
        })
        .collect();
}

/// What the creation made shows.
fn appear(seen: &mut Observed) {
    seen.known = Some(NEW_IMAGE.to_owned());
    seen.copies.insert(Copy {
        id: NEW_IMAGE.to_owned(),
        state: CopyState::Copying,
        protection: Protection::Exact,
        own: true,
        amendment: Amendment::default(),
        status: "Creating".to_owned(),
        progress: None,
        size_gib: 0,
        snapshots: Vec::new(),
        drift: BTreeSet::new(),
    });
}

/// Time passes: copies become available, one's turn comes, and what others have begun is finished.
fn passed(before: &Observed, reason: Reason, seen: &mut Observed) {
    change(&mut seen.copies, |copy| {
        if copy.state == CopyState::Copying {
            copy.state = CopyState::Available;
            // Its snapshots show it only now.
            copy.protection = Protection::Exact;
            "Available".clone_into(&mut copy.status);
        }
    });
    if seen.source == SourceFact::NotReady {
        seen.source = SourceFact::Ready;
    }
    seen.queued_behind = 0;
    seen.unwritten_snapshots = false;
    // Seen, and so written down with this look.
    if let Some(copy) = before.copies.iter().find(|copy| copy.own) {
        seen.known = before.known.clone().or(Some(copy.id.clone()));
    }
    if reason == Reason::Settling {
        seen.creation.aged = true;
    } else if before.creation.is_accepted() && before.known.is_none() && before.copies.is_empty() {
        appear(seen);
    }
}

/// The calls that an effect stands for.
pub fn calls(
    object: &EncryptedImage,
    desired: &Desired,
    observed: &Observed,
    owner: &Owner,
    effect: &ImageEffect,
) -> Vec<Call> {
    let region = object.spec.region.as_str();
    let of_image = |action, id: &str| Call::new("ecs", action, [("RegionId", region), ("ImageId", id)]);
    let call = match effect {
        ImageEffect::Claim(_) => return Vec::new(),
        ImageEffect::Copy { attempt } => {
            Call::creation("CopyImage", request::copy_image(desired, observed, owner, *attempt))
        }
        ImageEffect::Amend { id, amendment: Amendment { name: None, description: None, tags } } => Call::new(
            "ecs",
            "TagResources",
            [("RegionId", region), ("ResourceType", "image"), ("ResourceId.1", id)],
        )
        .tagged(tags),
        ImageEffect::Amend { id, amendment } => of_image("ModifyImageAttribute", id)
            .with("ImageName", amendment.name.as_ref())
            .with("Description", amendment.description.as_ref()),
        ImageEffect::Cancel { id } => of_image("CancelCopyImage", id),
        ImageEffect::Delete { id } => of_image("DeleteImage", id),
        ImageEffect::DeleteSnapshot { id } => {
            Call::new("ecs", "DeleteSnapshot", [("RegionId", region), ("SnapshotId", id), ("Force", "true")])
        }
    };
    vec![call]
}
