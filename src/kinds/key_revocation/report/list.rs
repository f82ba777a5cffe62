//! Who is hit, in the bounds of status, and whole as JSON. Pure.

use serde_json::{Value, json};

use super::super::api::{
    AffectedItem, BlastRadius, KeyRevocation, StillReadable, StillReadableInstance, Stops,
};
use super::super::blast::Blast;

/// Items in status.
const ITEMS_MAX: usize = 100;
/// Still readable instances in status.
const READABLE_MAX: usize = 50;
/// Bytes of the whole list: a ConfigMap holds one MiB with everything around it.
const DOCUMENT_BYTES_MAX: usize = 900 * 1024;

/// The bounded list.
pub fn radius(blast: &Blast) -> BlastRadius {
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let stopped = blast.instances.values().filter(|instance| instance.is_stopped()).count();
    let workloads = blast.workloads();
    let namespaces = blast.namespaces();
    let items = items(blast);
    let truncated = items.len() > ITEMS_MAX || workloads.len() > ITEMS_MAX || namespaces.len() > ITEMS_MAX;
    let first = |list: std::collections::BTreeSet<&str>| {
        list.into_iter().take(ITEMS_MAX).map(str::to_owned).collect()
    };
    BlastRadius {
        digest: blast.digest(),
        complete: blast.is_all(),
        missing: blast.unlisted().take(16).map(|text| text.chars().take(512).collect()).collect(),
        instances_affected: count(blast.instances.len()),
        instances_running: count(blast.instances.len() - stopped),
        instances_stopped: count(stopped),
        disks: count(blast.disks.len()),
        images: count(blast.images.len()),
        snapshots: count(blast.snapshots.len()),
        persistent_volumes: count(blast.disks.values().filter(|disk| disk.volume.is_some()).count()),
        workloads: first(workloads),
        namespaces: first(namespaces),
        self_lockout: blast.locks_out(),
        items: items.into_iter().take(ITEMS_MAX).collect(),
        truncated,
    }
}

/// Nodes and running instances first, then disks that somebody in this cluster uses, then the rest.
fn items(blast: &Blast) -> Vec<AffectedItem> {
    let mut instances: Vec<_> = blast.instances.iter().collect();
    instances.sort_by_key(|(id, instance)| (instance.node.is_none(), instance.is_stopped(), id.as_str()));
    let instances = instances.into_iter().map(|(id, instance)| AffectedItem {
        kind: "Instance".to_owned(),
        id: id.clone(),
        status: Some(instance.status.clone().unwrap_or_else(|| "Unknown".to_owned())),
        node: instance.node.clone(),
        ..AffectedItem::default()
    });
    let mut disks: Vec<_> = blast.disks.iter().collect();
    disks.sort_by_key(|(id, disk)| (disk.volume.is_none(), disk.instance.is_none(), id.as_str()));
    let disks = disks.into_iter().map(|(id, disk)| AffectedItem {
        kind: "Disk".to_owned(),
        id: id.clone(),
        status: Some(disk.status.clone()),
        instance_id: disk.instance.clone(),
        persistent_volume: disk.volume.clone(),
        claim: disk.claim.clone(),
        workload: disk.workloads.first().cloned(),
        ..AffectedItem::default()
    });
    let images = blast.images.iter().map(|id| AffectedItem {
        kind: "Image".to_owned(),
        id: id.clone(),
        ..AffectedItem::default()
    });
    let snapshots = blast.snapshots.iter().map(|(id, status)| AffectedItem {
        kind: "Snapshot".to_owned(),
        id: id.clone(),
        status: Some(status.clone()),
        ..AffectedItem::default()
    });
    instances.chain(disks).chain(images).chain(snapshots).collect()
}

/// Instances that may still hold a data key, and why they still run.
pub fn still_readable(blast: &Blast, stops: Option<&Stops>) -> StillReadable {
    let full = stops.is_some_and(|stops| super::held(stops) >= super::STOPS_MAX);
    let reason = |id: &String, status: Option<&str>| {
        let refused = stops.and_then(|stops| stops.refused.iter().find(|refused| refused.id == *id));
        let asked = stops.is_some_and(|stops| stops.instances.contains(id) || stops.forced.contains(id));
        match (refused, status) {
            (Some(refused), _) => Some(format!("refused to stop: {}", refused.code)),
            (None, None) => Some("not shown by DescribeInstances".to_owned()),
            (None, _) if asked => Some("asked to stop".to_owned()),
            (None, _) if full => Some("not asked to stop: status can record no more stops".to_owned()),
            (None, _) => Some("left running, as asked".to_owned()),
        }
    };
    let all: Vec<_> = blast.still_readable().collect();
    StillReadable {
        count: u32::try_from(all.len()).unwrap_or(u32::MAX),
        instances: all
            .into_iter()
            .take(READABLE_MAX)
            .map(|(id, instance)| StillReadableInstance {
                id: id.clone(),
                status: instance.status.clone().unwrap_or_else(|| "Unknown".to_owned()),
                reason: reason(id, instance.status.as_deref()),
            })
            .collect(),
    }
}

/// Name of the ConfigMap with the whole list; the uid tells lives of the same name apart, and a long name is cut.
pub fn config_map(object: &KeyRevocation) -> String {
    let name: String = object.metadata.name.as_deref().unwrap_or_default().chars().take(180).collect();
    let uid: String = object.metadata.uid.as_deref().unwrap_or_default().chars().take(8).collect();
    format!("ecskms-revocation-{}-{uid}", name.trim_end_matches(['-', '.']))
}

/// The whole list as JSON. Where it is too long, items are left out from the end and `truncated` says so.
pub fn document(object: &KeyRevocation, blast: &Blast) -> String {
    let all = items(blast);
    let mut kept = all.len();
    loop {
        let text = page(object, blast, &all[..kept], kept < all.len()).to_string();
        if text.len() <= DOCUMENT_BYTES_MAX || kept == 0 {
            return text;
        }
        // The list shrinks by the share that is too much, and a little more.
        kept = (kept * DOCUMENT_BYTES_MAX / text.len()).saturating_sub(1 + kept / 100).min(kept - 1);
    }
}

fn page(object: &KeyRevocation, blast: &Blast, items: &[AffectedItem], truncated: bool) -> Value {
    let workloads = if truncated { Vec::new() } else { blast.workloads().into_iter().collect() };
    let spec = &object.spec;
    json!({
        "keyRevocation": object.metadata.name,
        "uid": object.metadata.uid,
        "region": spec.region,
        "keyId": spec.key_id,
        "reason": spec.reason,
        "incidentRef": spec.incident_ref,
        "requestedBy": spec.requested_by,
        "digest": blast.digest(),
        "complete": blast.is_all(),
        "missing": blast.unlisted().collect::<Vec<_>>(),
        "selfLockout": blast.locks_out(),
        "namespaces": blast.namespaces(),
        "workloads": workloads,
        "items": items,
        "itemsTotal": blast.instances.len() + blast.disks.len() + blast.images.len() + blast.snapshots.len(),
        "truncated": truncated,
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::blast::{DiskHit, InstanceHit};
    use super::*;

    fn blast(disks: usize) -> Blast {
        let disk = |number: usize| {
            let hit = DiskHit {
                status: "In_use".into(),
                instance: Some(format!("i-{number:06}")),
                volume: (number % 2 == 1).then(|| format!("pv-{number:06}")),
                workloads: std::collections::BTreeSet::from([format!("team/Deployment/web-{number:06}")]),
                ..DiskHit::default()
            };
            (format!("d-{number:06}"), hit)
        };
        let instance = |number: usize| {
            let node = (number == disks - 1).then(|| "node".to_owned());
            let status = Some(if number.is_multiple_of(3) { "Stopped" } else { "Running" }.to_owned());
            (format!("i-{number:06}"), InstanceHit { status, node, wish: None })
        };
        Blast {
            disks: (0..disks).map(disk).collect(),
            instances: (0..disks).map(instance).collect(),
            ..Blast::default()
        }
    }

    fn object() -> KeyRevocation {
        let spec = json!({"region": "cn-a", "keyId": "key-a", "reason": "a leaked credential", "requestedBy": "alice"});
        let mut object = KeyRevocation::new("one", serde_json::from_value(spec).expect("a spec"));
        object.metadata.uid = Some("0123456789".into());
        object
    }

    #[test]
    fn status_holds_the_most_urgent_hundred_and_all_counts() {
        let radius = radius(&blast(300));
        assert_eq!((radius.items.len(), radius.truncated), (100, true));
        assert_eq!(radius.items[0].node.as_deref(), Some("node"));
        assert!(radius.items.iter().all(|item| item.status.as_deref() != Some("Stopped")));
        assert_eq!((radius.instances_affected, radius.instances_stopped, radius.disks), (300, 100, 300));
        assert_eq!((radius.workloads.len(), radius.persistent_volumes), (100, 150));
    }

    #[test]
    fn the_whole_list_fits_into_a_config_map_or_says_that_it_was_cut() {
        let read = |disks| {
            let text = document(&object(), &blast(disks));
            assert!(text.len() <= DOCUMENT_BYTES_MAX, "{} bytes", text.len());
            serde_json::from_str::<Value>(&text).expect("JSON")
        };
        let small = read(300);
        assert_eq!(
            (small["items"].as_array().map(Vec::len), &small["truncated"]),
            (Some(600), &json!(false))
        );
        let large = read(20_000);
        assert_eq!((&large["truncated"], &large["itemsTotal"]), (&json!(true), &json!(40_000)));
        assert!(large["items"].as_array().is_some_and(|items| items.len() > 1_000));
        assert_eq!(config_map(&object()), "ecskms-revocation-one-01234567");
    }
}
