//! What an EncryptedInstance says about itself. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::api::{DiskStatus, EncryptedInstanceStatus, PinnedKey};
use super::decide::{
    Desired, Disk, ImageChoice, ImageFact, Instance, InstanceEffect, Observed, UserDataFact, Wanted, chosen,
    protection, unborn, worst_key,
};
use crate::decision::key::{KeyFact, Protection};
use crate::decision::report::{Fact, Report, Truth, key_facts, key_obstacle};
use crate::decision::{Decision, Reason, Take};
use crate::resource::Drift;

/// Status, conditions and the sentence for Ready.
pub fn report(
    before: Option<&EncryptedInstanceStatus>,
    desired: &Desired,
    observed: &Observed,
    decision: &Decision<InstanceEffect>,
    now: jiff::Timestamp,
) -> Report<EncryptedInstanceStatus> {
    let mut status = before.cloned().unwrap_or_default();
    let Desired::Present(wanted) = desired else {
        // Remembered, so that the object need not wait for its creation to age once this very instance is gone.
        let seen =
            observed.instances.iter().find(|instance| instance.own).map(|instance| instance.id.clone());
        status.instance_id = status.instance_id.or(seen);
        return Report { status, facts: Vec::new(), message: departure(observed, decision) };
    };
    pin_keys(&mut status, wanted, observed);
    let mut facts = keys(wanted, observed);
    match chosen(observed) {
        Some(instance) => {
            describe(&mut status, instance, observed);
            facts.extend(encrypted(instance, observed));
            facts.extend(drifted(&status.drift));
        }
        None => describe_absence(&mut status, observed, decision, now),
    }
    Report { status, facts, message: message(wanted, observed, decision) }
}

fn pin_keys(status: &mut EncryptedInstanceStatus, wanted: &Wanted, observed: &Observed) {
    for choice in wanted.keys() {
        let id = observed.keys.get(&choice.text).and_then(KeyFact::id).filter(|id| !id.starts_with("alias/"));
        let known = status.keys.iter().any(|key| key.reference == choice.text);
        if let (Some(id), false) = (id, known) {
            status.keys.push(PinnedKey { reference: choice.text.clone(), key_id: id.to_owned() });
        }
    }
    let own = status.keys.iter().find(|key| key.reference == wanted.key.text);
    status.key_id = own.map(|key| key.key_id.clone()).or(status.key_id.take());
}

/// The worst of all keys speaks for KeyUsable, and any that a KeyRevocation holds for KeyRevoked; one service key is enough to
/// make the instance not revocable.
fn keys(wanted: &Wanted, observed: &Observed) -> Vec<Fact> {
    if let Some((text, key, reason)) = worst_key(observed) {
        let message = key_message(reason, text, key, &wanted.region);
        let usable = Fact { name: "KeyUsable", truth: Truth::False, reason, message };
        let revoked = observed.keys.iter().find(|(_, key)| key.is_revoked()).map(|(text, key)| Fact {
            name: "KeyRevoked",
            truth: Truth::True,
            reason: Reason::KeyRevoked,
            message: key_message(Reason::KeyRevoked, text, key, &wanted.region),
        });
        return revoked.into_iter().chain([usable]).collect();
    }
    let service = observed.keys.values().find(|key| matches!(key, KeyFact::Usable { service: true, .. }));
    let own = observed.keys.get(&wanted.key.text);
    let mut facts = service.or(own).map(|key| key_facts(key, &wanted.region)).unwrap_or_default();
    let ids: Vec<&str> = observed.keys.values().filter_map(KeyFact::id).collect();
    if let (Some(usable), true) = (facts.iter_mut().find(|fact| fact.name == "KeyUsable"), ids.len() > 1) {
        usable.message = format!("Keys {} are enabled and ECS may use them.", ids.join(", "));
    }
    facts
}

fn key_message(reason: Reason, text: &str, key: &KeyFact, region: &str) -> String {
    match key.id() {
        Some(id) => key_obstacle(reason, id, region),
        None => format!("Key {text}: {}", key_obstacle(reason, text, region)),
    }
}

fn describe(status: &mut EncryptedInstanceStatus, instance: &Instance, observed: &Observed) {
    status.instance_id = Some(instance.id.clone());
    status.missing_since = None;
    if unborn(instance, observed.born) {
        // Written once: each further word on the way to the first Ready would be a write of its own.
        status.instance_status.get_or_insert_with(|| instance.status.clone());
        return;
    }
    status.instance_status = Some(instance.status.clone());
    status.private_ips = instance.private_ips.clone();
    let exact = instance.disks.iter().filter(|disk| disk.protection == Protection::Exact).count();
    status.coverage = Some(format!("{exact}/{}", instance.disks.len()));
    status.disks = instance.disks.iter().take(64).map(disk).collect();
    let wrong = instance.disks.iter().filter_map(|disk| wrong_disk(disk, observed));
    let all = wrong.chain(instance.drift.iter().cloned()).chain(observed.repointed.iter().cloned());
    status.drift = all.take(32).map(Drift::of).collect();
}

/// A disk that is not encrypted, or under none of the allowed keys: both cannot be mended in place.
fn wrong_disk(disk: &Disk, observed: &Observed) -> Option<(String, String, String)> {
    let id = &disk.id;
    match disk.protection {
        Protection::Plain => Some((format!("disks[{id}].encrypted"), "true".to_owned(), "false".to_owned())),
        Protection::OtherKey => {
            let shown = disk.key_id.clone().unwrap_or_default();
            Some((format!("disks[{id}].keyId"), key_ids(observed), shown))
        }
        Protection::Exact | Protection::Unproven => None,
    }
}

fn key_ids(observed: &Observed) -> String {
    observed.keys.values().filter_map(KeyFact::id).collect::<Vec<_>>().join(", ")
}

fn disk(disk: &Disk) -> DiskStatus {
    DiskStatus {
        role: if disk.system { "System" } else { "Data" }.to_owned(),
        name: disk.name.clone(),
        disk_id: disk.id.clone(),
        encrypted: disk.protection != Protection::Plain,
        key_id: disk.key_id.as_ref().map(|key| key.chars().take(256).collect()),
    }
}

/// A new attempt begins without the instance that vanished; until then it is remembered, and since when it is missing.
fn describe_absence(
    status: &mut EncryptedInstanceStatus,
    observed: &Observed,
    decision: &Decision<InstanceEffect>,
    now: jiff::Timestamp,
) {
    if matches!(decision, Decision::Do(InstanceEffect::Claim(Take::Record { .. }))) {
        (status.instance_id, status.instance_status, status.missing_since) = (None, None, None);
        (status.private_ips, status.disks, status.coverage) = (Vec::new(), Vec::new(), None);
        return;
    }
    if observed.known.is_some()
        && observed.hidden.is_none()
        && *decision != Decision::Blocked(Reason::Suspended)
    {
        let second = jiff::Timestamp::from_second(now.as_second()).unwrap_or(now);
        status.missing_since.get_or_insert(Time(second));
    }
}

fn encrypted(instance: &Instance, observed: &Observed) -> Option<Fact> {
    if unborn(instance, observed.born) {
        return None;
    }
    let named = |protection| {
        let ids = instance.disks.iter().filter(|disk| disk.protection == protection).map(|disk| &*disk.id);
        ids.collect::<Vec<_>>().join(", ")
    };
    let keys = key_ids(observed);
    let (truth, reason, message) = match protection(instance) {
        Protection::Exact => (
            Truth::True,
            Reason::Available,
            format!("All {} attached disks are encrypted under {keys}.", instance.disks.len()),
        ),
        Protection::Unproven => (
            Truth::Unknown,
            Reason::KeyMismatch,
            format!(
                "The cloud does not show the system disk, or no key for: {}.",
                named(Protection::Unproven)
            ),
        ),
        Protection::OtherKey => (
            Truth::False,
            Reason::KeyMismatch,
            format!("Encrypted under another key than {keys}: {}.", named(Protection::OtherKey)),
        ),
        Protection::Plain => {
            (Truth::False, Reason::NotEncrypted, format!("Not encrypted: {}.", named(Protection::Plain)))
        }
    };
    Some(Fact { name: "Encrypted", truth, reason, message })
}

fn drifted(drift: &[Drift]) -> Option<Fact> {
    let (Drift { path, desired, .. }, observed, more) = Drift::first(drift)?;
    Some(Fact {
        name: "Drifted",
        truth: Truth::True,
        reason: Reason::ImmutableFieldChanged,
        message: format!(
            "{path}: {desired} is asked for, {observed} is there; the operator does not change that.{more}"
        ),
    })
}

fn departure(observed: &Observed, decision: &Decision<InstanceEffect>) -> String {
    let id = observed.instances.first().map(|instance| &*instance.id).unwrap_or("of this object");
    match decision {
        Decision::Blocked(Reason::KeyRevoked) => {
            let key = worst_key(observed).and_then(|(_, key, _)| key.id()).unwrap_or("of this object");
            format!(
                "Nothing is stopped or deleted while a KeyRevocation holds key {key}. Whoever has ClusterRole ecskms-revocation-auditor sees it: kubectl get keyrevocations."
            )
        }
        Decision::Blocked(Reason::DeletionProtected) => format!(
            "Instance {id} is protected from deletion. Set spec.deletionProtection to false to delete it, or deletionPolicy to Retain to keep it."
        ),
        Decision::Blocked(Reason::AccessDenied) => unseen(observed),
        Decision::Blocked(_) => "The cloud refused for good; see status.lastError.".to_owned(),
        Decision::Wait(wait) if wait.reason == Reason::Settling => {
            "A creation whose answer was lost may still take effect; the object stays until that is ruled out.".to_owned()
        }
        Decision::Wait(wait) if wait.reason == Reason::StatusUnknown => {
            format!("Instance {id} shows a status that is not documented; it is not deleted until that changes.")
        }
        _ => format!("Instance {id} is being stopped and deleted."),
    }
}

fn unseen(observed: &Observed) -> String {
    let disk = observed.hidden.as_deref().unwrap_or_default();
    let id = observed.known.as_deref().unwrap_or("of this object");
    format!(
        "No list shows instance {id}, but disk {disk} is attached to it: the operator may not see instances. Allow the RAM action ecs:DescribeInstances."
    )
}

fn message(wanted: &Wanted, observed: &Observed, decision: &Decision<InstanceEffect>) -> String {
    let instance = chosen(observed);
    let id = instance.map(|instance| &*instance.id).or(observed.known.as_deref()).unwrap_or("of this object");
    match decision {
        Decision::Settled => {
            let count = instance.map_or(0, |instance| instance.disks.len());
            let state = instance.map_or("", |instance| &*instance.status);
            format!("Instance {id} is {state}, and all {count} disks are encrypted.")
        }
        Decision::Do(InstanceEffect::Start { .. }) => format!("Instance {id} is being started."),
        Decision::Do(InstanceEffect::Stop { .. }) => format!("Instance {id} is being stopped."),
        Decision::Do(InstanceEffect::Protect { on: true, .. }) => {
            format!("Instance {id} is being protected from deletion.")
        }
        Decision::Do(InstanceEffect::Protect { .. }) => {
            format!("The protection of instance {id} from deletion is being lifted.")
        }
        Decision::Do(InstanceEffect::Rename { name, .. }) => format!("Instance {id} is being named {name}."),
        Decision::Do(InstanceEffect::Tag { .. }) => format!("Tags of instance {id} are being corrected."),
        Decision::Do(_) => "The instance is being created.".to_owned(),
        Decision::Wait(wait) => waiting(wait.reason, wanted, observed, id),
        Decision::Blocked(reason) => blocked(*reason, wanted, observed, id),
    }
}

fn waiting(reason: Reason, wanted: &Wanted, observed: &Observed, id: &str) -> String {
    match reason {
        Reason::DependencyNotReady if observed.user_data == UserDataFact::Missing => {
            let (name, key) = wanted.user_data.as_ref().map_or(("", ""), |(name, key)| (name, key));
            format!("Secret {name} with key {key} does not exist yet. Create it in the namespace of the object.")
        }
        Reason::DependencyNotReady => match &wanted.image {
            ImageChoice::Object(name) => format!("EncryptedImage {name} is not Ready yet, or does not exist. The instance is made once it is."),
            ImageChoice::Id(image) => format!("Image {image} is still being made."),
        },
        Reason::Settling => "The answer to the creation was lost, or its user data has changed since; before it may be sent anew, it must be certain that the first request can no longer take effect.".to_owned(),
        Reason::StatusUnknown => format!("Instance {id} shows a status that is not documented. Look at it in the console."),
        Reason::KeyMismatch => format!("The cloud does not show all disks of instance {id} with their keys. Look at them in the console."),
        Reason::CloudUnavailable => format!("Instance {id} is missing from the lists of the cloud; it is looked for once more."),
        Reason::Adjusting => format!("Instance {id} is on its way to another power state."),
        _ => "The instance is being created.".to_owned(),
    }
}

fn blocked(reason: Reason, wanted: &Wanted, observed: &Observed, id: &str) -> String {
    let image = match (&observed.image, &wanted.image) {
        (ImageFact::Ready { id, .. }, _) | (_, ImageChoice::Id(id)) => format!("Image {id}"),
        (_, ImageChoice::Object(name)) => format!("The image of EncryptedImage {name}"),
    };
    let disks = |protection| {
        let all = chosen(observed).into_iter().flat_map(|instance| &instance.disks);
        all.filter(|disk| disk.protection == protection).map(|disk| &*disk.id).collect::<Vec<_>>().join(", ")
    };
    match reason {
        Reason::Suspended => "Suspended by spec.suspend; set it to false to go on.".to_owned(),
        Reason::SourceNotFound => format!("{image} does not exist in region {}, or cannot be used. Check spec.image.", wanted.region),
        Reason::InvalidSpec if observed.user_data == UserDataFact::TooLarge => {
            "The user data has more than 16 KiB. Make it shorter, for example by letting it load the rest.".to_owned()
        }
        Reason::InvalidSpec => format!("{image} is larger than spec.systemDisk.sizeGiB. Create a new object with a larger system disk."),
        Reason::NotEncrypted if observed.image == ImageFact::PlainData => {
            format!("{image} brings a data disk along that would not be encrypted. Make an EncryptedImage of it and use that with imageRef.")
        }
        Reason::NotEncrypted => format!("Not encrypted on instance {id}: {}. A disk cannot be encrypted in place: detach it, or replace it by an EncryptedDisk made from a snapshot of it.", disks(Protection::Plain)),
        Reason::KeyMismatch => format!("Encrypted under a key that the object does not name, on instance {id}: {}. A disk cannot change its key: detach it, or replace it.", disks(Protection::OtherKey)),
        Reason::AdoptionMismatch => adoption(wanted, observed, id),
        Reason::AccessDenied => unseen(observed),
        Reason::NoStock => format!("The cloud accepted instance {id} and gave it up before it ran: the zone has no stock of {}. A new attempt follows in a minute; choose another zone or type in a new object to be faster.", wanted.instance_type),
        Reason::ExternalGone if wanted.adopt.is_none() && observed.known.is_none() => {
            "managementPolicy is Observe and there is no instance to observe. Set spec.adopt in a new object.".to_owned()
        }
        Reason::ExternalGone => {
            let id = observed.known.as_deref().or(wanted.adopt.as_deref()).unwrap_or(id);
            format!("Instance {id} is gone, and nothing is attached to it any more. It is not made again by itself; create a new object.")
        }
        Reason::RequestRefused | Reason::QuotaExceeded => {
            "The cloud refused the request for good; see status.lastError. Correct the object, or request a reconcile.".to_owned()
        }
        other => match worst_key(observed) {
            Some((text, key, _)) => key_message(other, text, key, &wanted.region),
            None => key_obstacle(other, &wanted.key.text, &wanted.region),
        },
    }
}

fn adoption(wanted: &Wanted, observed: &Observed, id: &str) -> String {
    if observed.instances.len() > 1 {
        return "More than one instance belongs to this object. Decide which one stays and delete the other in the console.".to_owned();
    }
    match &observed.namesake {
        Some(other) if observed.instances.is_empty() => format!(
            "Instance {other} carries the name of this object but belongs to an earlier life of it. Adopt it with spec.adopt in a new object, or remove its ecskms: tags."
        ),
        _ => format!("Instance {id} is not in zone {}. Correct spec.zoneId in a new object.", wanted.zone_id),
    }
}
