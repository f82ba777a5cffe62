//! What is as the audit requires and what is not: facts of one region in, counts and findings out. Pure.
//!
//! What is not known never passes. Disks and snapshots hold the data and are what totals count; images and instances are judged by
//! them and counted apart, so that nothing is counted twice.

use std::collections::{BTreeMap, BTreeSet};

use crate::decision::Reason;

mod count;
mod terms;

use count::{Class, Verdict};
pub use count::{Finding, Judgement, Tally, rank};
pub use terms::{DefaultFact, Exemption, Facts, ImageFact, KeyClass, Policy, Sort, Storage, Tags, Target};

impl Policy {
    /// How it is protected, and what is wrong with that.
    fn look(&self, storage: &Storage, keys: &BTreeMap<String, KeyClass>) -> (Class, Option<Reason>) {
        if !storage.encrypted {
            let reason = if storage.local { Reason::EncryptionUnsupported } else { Reason::NotEncrypted };
            return (Class::Plain, Some(reason));
        }
        let Some(key) = &storage.key else { return (Class::Unknown, Some(Reason::KeyUnknown)) };
        let foreign = !self.allowed.is_empty() && !self.allowed.contains(key);
        let foreign = foreign.then_some(Reason::KeyMismatch);
        match keys.get(key).copied().unwrap_or(KeyClass::Unknown) {
            KeyClass::Unknown => (Class::Unknown, Some(Reason::KeyUnknown)),
            KeyClass::Missing => (Class::Unknown, Some(Reason::KeyNotFound)),
            KeyClass::Service if self.customer_key => (Class::Service, Some(Reason::ServiceKey)),
            KeyClass::Service => (Class::Service, foreign),
            KeyClass::Unusable(reason) => (Class::Customer, Some(reason)),
            KeyClass::Customer | KeyClass::Held => (Class::Customer, foreign),
        }
    }
}

/// `open` if what may let it off could not be read.
fn verdict(wrong: Option<Reason>, let_off: Option<bool>, open: bool) -> Verdict {
    match (wrong, let_off) {
        (None, _) => Verdict::Passes,
        (Some(_), Some(true)) => Verdict::Exempt,
        (Some(_), _) if open => Verdict::Open,
        (Some(reason), Some(false)) => Verdict::Violates(Reason::ExemptionExpired, reason),
        (Some(reason), None) => Verdict::Violates(reason, reason),
    }
}

/// Judges a region.
pub fn region(policy: &Policy, facts: &Facts, now: i64) -> Judgement {
    let mut judgement = Judgement::default();
    let disks = disks(policy, facts, now, &mut judgement);
    groups(Sort::Instance, &disks, facts, &mut judgement);
    let snapshots = snapshots(policy, facts, now, &mut judgement);
    groups(Sort::Image, &snapshots, facts, &mut judgement);
    let default = match &facts.default {
        None | Some(DefaultFact::Unavailable) => return judgement,
        Some(DefaultFact::Off) => Storage::default(),
        Some(DefaultFact::On(key)) => Storage { encrypted: true, key: key.clone(), ..Storage::default() },
    };
    if policy.account_default {
        let (class, wrong) = policy.look(&default, &facts.keys);
        let wrong = wrong.map(|reason| if class == Class::Plain { Reason::DefaultOff } else { reason });
        let verdict = verdict(wrong, policy.lets_off(&facts.region, None, now), false);
        let id = (facts.region.as_str(), facts.region.as_str());
        setting(Sort::AccountDefault, id, &default, class, &verdict, &mut judgement);
    }
    judgement
}

/// Judges a class by what it gives to the driver; `keys` are those of the cluster's region.
pub fn storage_class(
    policy: &Policy,
    name: &str,
    parameters: &BTreeMap<String, String>,
    keys: &BTreeMap<String, KeyClass>,
    now: i64,
    judgement: &mut Judgement,
) {
    let given = |name: &str| parameters.get(name).map(String::as_str).filter(|value| !value.is_empty());
    let key = given("kmsKeyId").map(str::to_owned);
    let storage = Storage { encrypted: given("encrypted") == Some("true"), key, ..Storage::default() };
    let (class, wrong) = match (storage.encrypted, &storage.key) {
        // Without a key the driver names none, and ECS takes the service key.
        (true, None) => {
            let allowed = policy.allowed.is_empty() && !policy.customer_key;
            (Class::Service, (!allowed).then_some(Reason::ServiceKey))
        }
        _ => policy.look(&storage, keys),
    };
    let verdict = verdict(wrong, policy.lets_off(name, None, now), false);
    setting(Sort::StorageClass, (name, ""), &storage, class, &verdict, judgement);
}

/// The key that must be known to judge a class.
pub fn class_key(parameters: &mut BTreeMap<String, String>) -> Option<&mut String> {
    let encrypts = parameters.get("encrypted").is_some_and(|value| value == "true");
    parameters.get_mut("kmsKeyId").filter(|key| encrypts && !key.is_empty())
}

fn setting(
    sort: Sort,
    (id, region): (&str, &str),
    storage: &Storage,
    class: Class,
    verdict: &Verdict,
    judgement: &mut Judgement,
) {
    judgement.tally(sort).count(class);
    judgement.tally(sort).judge(verdict);
    if let Verdict::Violates(reason, behind) = *verdict {
        judgement.find(Finding {
            sort,
            id: id.to_owned(),
            region: region.to_owned(),
            instance: None,
            namespace: None,
            reason,
            behind,
            key: storage.key.clone(),
            parts: Vec::new(),
        });
    }
}

/// The disks of an instance, or the snapshots of an image: class, verdict and key of each.
type Groups = BTreeMap<String, Vec<(String, Class, Verdict, Option<String>)>>;

fn disks(policy: &Policy, facts: &Facts, now: i64, judgement: &mut Judgement) -> Groups {
    let mut instances = Groups::new();
    let tags_unread = facts.instances_unread && policy.may_let_off_instances(now);
    for (id, disk) in &facts.disks {
        let owners = &disk.instances;
        // A disk of two instances is let off with them if both are.
        let by_owner = |owner: &String| policy.lets_off(owner, facts.instances.get(owner), now);
        let by_owners = owners.iter().map(by_owner).min().flatten();
        let let_off = policy.lets_off(id, Some(&disk.tags), now).max(by_owners);
        let (class, wrong) = policy.look(disk, &facts.keys);
        let verdict = verdict(wrong, let_off, tags_unread && !owners.is_empty());
        let namespace = facts.namespaces.get(id);
        let of_namespace = namespace.map(|name| judgement.namespaces.entry(name.clone()).or_default());
        if let Some(tally) = of_namespace {
            tally.count(class);
            tally.judge(&verdict);
        }
        judgement.tally(Sort::Disk).count(class);
        judgement.tally(Sort::Disk).judge(&verdict);
        // What is attached is told with its instance, unless a team of this cluster has its data on it.
        if let Verdict::Violates(reason, behind) = verdict
            && (owners.is_empty() || namespace.is_some())
        {
            let (instance, namespace) = (owners.first().cloned(), namespace.cloned());
            judgement.find(Finding {
                instance,
                namespace,
                reason,
                behind,
                ..bare(Sort::Disk, id, facts, disk)
            });
        }
        for owner in owners {
            let part = (id.clone(), class, verdict.clone(), disk.key.clone());
            instances.entry(owner.clone()).or_default().push(part);
        }
    }
    instances
}

fn snapshots(policy: &Policy, facts: &Facts, now: i64, judgement: &mut Judgement) -> Groups {
    let mut owners: BTreeMap<&str, Vec<Option<bool>>> = BTreeMap::new();
    for (id, image) in &facts.images {
        let let_off = policy.lets_off(id, Some(&image.tags), now);
        for snapshot in image.snapshots.iter().flatten() {
            owners.entry(snapshot).or_default().push(let_off);
        }
    }
    let open = facts.images_unread && policy.may_let_off_images(now);
    let mut judged = BTreeMap::new();
    for (id, snapshot) in &facts.snapshots {
        // A snapshot of two images is let off with them if both are.
        let by_owners = owners.get(id.as_str()).and_then(|all| all.iter().copied().min().flatten());
        let let_off = policy.lets_off(id, Some(&snapshot.tags), now).max(by_owners);
        let (class, wrong) = policy.look(snapshot, &facts.keys);
        let verdict = verdict(wrong, let_off, open);
        judgement.tally(Sort::Snapshot).count(class);
        judgement.tally(Sort::Snapshot).judge(&verdict);
        // What is behind an image is told with it.
        if let Verdict::Violates(reason, behind) = verdict
            && !owners.contains_key(id.as_str())
        {
            judgement.find(Finding { reason, behind, ..bare(Sort::Snapshot, id, facts, snapshot) });
        }
        judged.insert(id.as_str(), (class, verdict, snapshot.key.clone()));
    }
    let mut images = Groups::new();
    for (id, image) in &facts.images {
        let let_off = policy.lets_off(id, Some(&image.tags), now);
        let unknown = || (Class::Unknown, verdict(Some(Reason::KeyUnknown), let_off, false), None);
        let part = |snapshot: &Option<String>| {
            let name = snapshot.clone().unwrap_or_default();
            let (class, verdict, key) = judged.get(name.as_str()).cloned().unwrap_or_else(unknown);
            (name, class, verdict, key)
        };
        let mut parts: Vec<_> = image.snapshots.iter().map(part).collect();
        if parts.is_empty() && !image.unfinished {
            let (class, verdict, key) = unknown();
            parts.push((String::new(), class, verdict, key));
        }
        images.insert(id.clone(), parts);
    }
    images.retain(|_, parts| !parts.is_empty());
    images
}

/// Instances by their disks, images by their snapshots: the worst part counts.
fn groups(sort: Sort, groups: &Groups, facts: &Facts, judgement: &mut Judgement) {
    for (id, parts) in groups {
        let class = parts.iter().map(|(_, class, ..)| *class).min().unwrap_or(Class::Unknown);
        judgement.tally(sort).count(class);
        let wrong = parts.iter().filter_map(|(part, _, verdict, key)| match verdict {
            Verdict::Violates(reason, behind) => Some((rank(*reason), part, *reason, *behind, key)),
            Verdict::Passes | Verdict::Exempt | Verdict::Open => None,
        });
        let mut wrong: Vec<_> = wrong.collect();
        wrong.sort();
        let Some((_, _, reason, behind, key)) = wrong.first() else {
            let any = |wanted: &Verdict| parts.iter().any(|(_, _, verdict, _)| verdict == wanted);
            let rest = [Verdict::Open, Verdict::Exempt].into_iter().find(any).unwrap_or(Verdict::Passes);
            judgement.tally(sort).judge(&rest);
            continue;
        };
        judgement.tally(sort).judge(&Verdict::Violates(*reason, *behind));
        let named: BTreeSet<&String> = wrong.iter().map(|part| part.1).filter(|id| !id.is_empty()).collect();
        let (reason, behind, key) = (*reason, *behind, (*key).clone());
        let parts = named.into_iter().cloned().collect();
        judgement.find(Finding { reason, behind, key, parts, ..bare(sort, id, facts, &Storage::default()) });
    }
}

fn bare(sort: Sort, id: &str, facts: &Facts, storage: &Storage) -> Finding {
    Finding {
        sort,
        id: id.to_owned(),
        region: facts.region.clone(),
        instance: None,
        namespace: None,
        reason: Reason::KeyUnknown,
        behind: Reason::KeyUnknown,
        key: storage.key.clone(),
        parts: Vec::new(),
    }
}

#[cfg(test)]
mod tests;
