//! What would be seen of an EncryptedInstance after a decision if all goes well, and the calls that its effects stand for. Pure.

use std::collections::BTreeSet;

use super::api::EncryptedInstance;
use super::decide::{
    Desired, Disk, ImageChoice, ImageFact, Instance, InstanceEffect, InstanceState, Observed, Wanted,
};
use super::request;
use crate::decision::key::Protection;
use crate::decision::{Decision, Reason};
use crate::kind::{Call, Owner};

/// Stands for the id of an instance that is not there yet.
const NEW_INSTANCE: &str = "<new instance>";

/// The RAM actions that looking takes.
pub const READS: &[&str] = &[
    "ecs:DescribeDisks",
    "ecs:DescribeImages",
    "ecs:DescribeInstances",
    "kms:DescribeKey",
    "ram:GetRole",
    "ram:ListPoliciesForRole",
];

/// The next look; None where nothing follows by itself.
pub fn after(desired: &Desired, before: &Observed, decision: &Decision<InstanceEffect>) -> Option<Observed> {
    let wanted = match desired {
        Desired::Present(wanted) => Some(&**wanted),
        Desired::Absent { .. } => None,
    };
    let mut seen = before.clone();
    match decision {
        Decision::Do(effect) => done(wanted, before, effect, &mut seen),
        Decision::Wait(wait) => passed(wanted, before, wait.reason, &mut seen),
        Decision::Settled | Decision::Blocked(_) => return None,
    }
    (seen != *before).then_some(seen)
}

fn done(wanted: Option<&Wanted>, before: &Observed, effect: &InstanceEffect, seen: &mut Observed) {
    let instances = &mut seen.instances;
    match effect {
        InstanceEffect::Claim(take) => {
            seen.creation = before.creation.claimed(*take);
            // What vanished before it ran is let go of with the new attempt.
            (seen.known, seen.missed) = (None, false);
        }
        InstanceEffect::Create { .. } => {
            seen.creation = before.creation.accepted();
            appear(wanted, seen);
        }
        InstanceEffect::Start { id } => {
            change(instances, id, |instance| instance.state = InstanceState::Starting);
        }
        InstanceEffect::Stop { id } => {
            change(instances, id, |instance| instance.state = InstanceState::Stopping);
        }
        InstanceEffect::Protect { id, on } => change(instances, id, |instance| instance.protected = *on),
        InstanceEffect::Rename { id, .. } => change(instances, id, |instance| instance.named = true),
        InstanceEffect::Tag { id, .. } => change(instances, id, |instance| instance.tags_amiss.clear()),
        InstanceEffect::Delete { id } => instances.retain(|instance| instance.id != *id),
    }
}

fn change(instances: &mut BTreeSet<Instance>, id: &str, change: impl Fn(&mut Instance)) {
    *instances = std::mem::take(instances)
        .into_iter()
        .map(|mut instance| {
            if instance.id == id {
                change(&mut instance);
            }
            instance
        })
        .collect();
}

/// What the creation made shows.
fn appear(wanted: Option<&Wanted>, seen: &mut Observed) {
    seen.known = Some(NEW_INSTANCE.to_owned());
    seen.instances.insert(Instance {
        id: NEW_INSTANCE.to_owned(),
        state: InstanceState::Pending,
        disks: BTreeSet::new(),
        own: true,
        protected: wanted.is_some_and(|wanted| wanted.protect),
        named: true,
        tags_amiss: Vec::new(),
        in_zone: true,
        status: "Pending".to_owned(),
        private_ips: Vec::new(),
        drift: BTreeSet::new(),
    });
}

/// The disks of an instance that was just made: all of them as they were asked for.
fn disks(wanted: &Wanted, observed: &Observed) -> BTreeSet<Disk> {
    let key = |wish: &super::decide::DiskWish| {
        let choice = wish.key.as_ref().unwrap_or(&wanted.key);
        observed.keys.get(&choice.text).and_then(|key| key.id().map(str::to_owned))
    };
    let one = |id: String, system, wish: &super::decide::DiskWish| Disk {
        id,
        system,
        name: (!system).then(|| wish.name.clone()),
        protection: Protection::Exact,
        key_id: key(wish),
    };
    let data = wanted.data.iter().map(|wish| one(format!("<disk {}>", wish.name), false, wish));
    data.chain([one("<system disk>".to_owned(), true, &wanted.system)]).collect()
}

/// Time passes: what is on its way arrives, and what others have begun is finished.
fn passed(wanted: Option<&Wanted>, before: &Observed, reason: Reason, seen: &mut Observed) {
    for instance in &before.instances {
        change(&mut seen.instances, &instance.id, |instance| {
            let (state, word) = match instance.state {
                InstanceState::Pending | InstanceState::Starting => (InstanceState::Running, "Running"),
                InstanceState::Stopping => (InstanceState::Stopped, "Stopped"),
                _ => return,
            };
            if let Some(wanted) = wanted.filter(|_| instance.disks.is_empty()) {
                instance.disks = disks(wanted, before);
            }
            instance.state = state;
            word.clone_into(&mut instance.status);
        });
        seen.born = true;
        seen.known = before.known.clone().or(Some(instance.id.clone()));
    }
    if let Some(wanted) = wanted {
        // Whether the image's object ever comes, the files know; a Secret comes with nobody.
        if seen.image == ImageFact::NotReady {
            let id = match &wanted.image {
                ImageChoice::Id(id) => id.clone(),
                ImageChoice::Object(name) => format!("<image of {name}>"),
            };
            seen.image = ImageFact::Ready { id, size_gib: 0 };
        }
    }
    if reason == Reason::Settling {
        seen.creation.aged = true;
        return;
    }
    let is_unseen = before.known.is_none() && before.instances.is_empty() && before.hidden.is_none();
    if before.creation.is_accepted() && is_unseen {
        appear(wanted, seen);
    }
}

/// The calls that an effect stands for.
pub fn calls(
    object: &EncryptedInstance,
    desired: &Desired,
    observed: &Observed,
    owner: &Owner,
    effect: &InstanceEffect,
) -> Vec<Call> {
    let region = object.spec.region.as_str();
    let of_instance = |action, id: &str| Call::new("ecs", action, [("RegionId", region), ("InstanceId", id)]);
    let call = match effect {
        InstanceEffect::Claim(_) => return Vec::new(),
        InstanceEffect::Create { attempt } => {
            Call::creation("RunInstances", request::run_instances(desired, observed, owner, *attempt))
        }
        InstanceEffect::Start { id } => of_instance("StartInstance", id),
        InstanceEffect::Stop { id } => of_instance("StopInstance", id)
            .with("ForceStop", Some(false))
            .with("StoppedMode", Some("KeepCharging")),
        InstanceEffect::Protect { id, on } => {
            of_instance("ModifyInstanceAttribute", id).with("DeletionProtection", Some(on))
        }
        InstanceEffect::Rename { id, name } => {
            of_instance("ModifyInstanceAttribute", id).with("InstanceName", Some(name))
        }
        InstanceEffect::Tag { id, tags } => Call::new(
            "ecs",
            "TagResources",
            [("RegionId", region), ("ResourceType", "instance"), ("ResourceId.1", id)],
        )
        .tagged(tags),
        InstanceEffect::Delete { id } => of_instance("DeleteInstance", id),
    };
    vec![call]
}
