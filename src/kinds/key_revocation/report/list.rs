//! Who is hit, in the bounds of status, and whole as JSON. Pure.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::super::api::{
    AffectedItem, BlastRadius, KeyRevocation, StillReadable, StillReadableInstance, Stops,
};
use super::super::blast::Blast;

/// Items in status.
const ITEMS_MAX: usize = 100;
/// Still readable instances in status.
const READABLE_MAX: usize = 50;
/// Bytes of one page of the whole list: a ConfigMap holds one MiB with everything around it.
const DOCUMENT_BYTES_MAX: usize = 900 * 1024;
/// Bytes of the workloads' names on the first page.
const WORKLOADS_BYTES_MAX: usize = 512 * 1024;
/// Bytes of what stands on the other pages beside their items.
const PAGE_HEADER_BYTES: usize = 1024;
/// Pages; more than a hundred thousand items.
const PAGES_MAX: usize = 32;

/// The bounded list.
pub fn radius(blast: &Blast) -> BlastRadius {
    let count = |number: usize| Some(u32::try_from(number).unwrap_or(u32::MAX));
    let stopped = blast.instances.values().filter(|instance| instance.is_stopped()).count();
    let workloads = blast.workloads();
    let namespaces = blast.namespaces();
    let items = items(blast);
    let truncated = items.len() > ITEMS_MAX || workloads.len() > ITEMS_MAX || namespaces.len() > ITEMS_MAX;
    let first = |list: BTreeSet<&str>| list.into_iter().take(ITEMS_MAX).map(str::to_owned).collect();
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

/// What is said while the list takes longer than anybody waits for it.
pub fn not_yet() -> BlastRadius {
    let missing = vec!["everything: the list did not come in time, and is waited for".to_owned()];
    BlastRadius { complete: false, missing, ..BlastRadius::default() }
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
    disks.sort_by_key(|(id, disk)| (disk.volume.is_none(), disk.instances.is_empty(), id.as_str()));
    let disks = disks.into_iter().map(|(id, disk)| AffectedItem {
        kind: "Disk".to_owned(),
        id: id.clone(),
        status: Some(disk.status.clone()),
        instance_id: disk.instances.first().cloned(),
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

/// Name of the ConfigMap with a page of the whole list; the uid tells lives of the same name apart, and a long name is cut.
pub fn config_map(object: &KeyRevocation, page: usize) -> String {
    let name: String = object.metadata.name.as_deref().unwrap_or_default().chars().take(180).collect();
    let uid: String = object.metadata.uid.as_deref().unwrap_or_default().chars().take(8).collect();
    let number = if page == 0 { String::new() } else { format!("-{}", page + 1) };
    format!("ecskms-revocation-{}-{uid}{number}", name.trim_end_matches(['-', '.']))
}

/// The whole list as JSON, in pages of which each fits into a ConfigMap. The first one says how many there are, and names
/// the teams; `truncated` says that there were more than fit into all of them.
pub fn documents(object: &KeyRevocation, blast: &Blast) -> Vec<String> {
    let all: Vec<Value> = items(blast).iter().map(|item| whole(item, blast)).collect();
    let mut pages: Vec<Vec<Value>> = vec![Vec::new()];
    let header = header(object, blast);
    let mut used = header.to_string().len();
    let total = all.len();
    let mut kept = 0;
    for item in all {
        let size = item.to_string().len() + 1;
        if used + size > DOCUMENT_BYTES_MAX {
            if pages.len() == PAGES_MAX {
                break;
            }
            pages.push(Vec::new());
            used = PAGE_HEADER_BYTES;
        }
        used += size;
        kept += 1;
        if let Some(page) = pages.last_mut() {
            page.push(item);
        }
    }
    let count = pages.len();
    let page = |(index, items): (usize, Vec<Value>)| {
        let mut page = match index {
            0 => header.clone(),
            _ => {
                json!({"keyRevocation": object.metadata.name, "uid": object.metadata.uid, "digest": blast.digest()})
            }
        };
        page["page"] = json!(index + 1);
        page["pages"] = json!(count);
        page["truncated"] = json!(kept < total);
        page["items"] = Value::Array(items);
        page.to_string()
    };
    pages.into_iter().enumerate().map(page).collect()
}

/// An item with everything that is known of it: status names only one workload of a disk.
fn whole(item: &AffectedItem, blast: &Blast) -> Value {
    let mut value = json!(item);
    if let Some(disk) = blast.disks.get(&item.id).filter(|disk| disk.instances.len() > 1) {
        value["instanceIds"] = json!(disk.instances);
    }
    if let Some(disk) = blast.disks.get(&item.id).filter(|_| item.kind == "Disk" && item.workload.is_some()) {
        value["workloads"] = json!(disk.workloads);
        value["pods"] = json!(disk.pods);
    }
    value
}

fn header(object: &KeyRevocation, blast: &Blast) -> Value {
    let all = blast.workloads();
    let mut room = WORKLOADS_BYTES_MAX;
    let fits = |name: &&&str| {
        let left = room.checked_sub(name.len() + 3);
        room = left.unwrap_or_default();
        left.is_some()
    };
    let workloads: Vec<&&str> = all.iter().take_while(fits).collect();
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
        "workloadsTotal": all.len(),
        "itemsTotal": blast.instances.len() + blast.disks.len() + blast.images.len() + blast.snapshots.len(),
    })
}

/// The journal by itself, for whoever reads it once the object is gone.
pub fn journal_alone(object: &KeyRevocation) -> Option<String> {
    let status = object.status.as_ref().filter(|status| !status.journal.is_empty())?;
    let mut journal = json!({
        "name": object.metadata.name, "uid": object.metadata.uid, "journal": status.journal,
    });
    if let Some(anchor) = &status.journal_anchor {
        journal["journalAnchor"] = json!(anchor);
    }
    Some(journal.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::super::blast::{DiskHit, InstanceHit};
    use super::*;

    fn blast(disks: usize) -> Blast {
        let disk = |number: usize| {
            let hit = DiskHit {
                status: "In_use".into(),
                instances: BTreeSet::from([format!("i-{number:06}")]),
                volume: (number % 2 == 1).then(|| format!("pv-{number:06}")),
                pods: BTreeSet::from([format!("team/web-{number}")]),
                workloads: BTreeSet::from([format!("team/Deployment/web-{number:06}")]),
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
        assert_eq!(
            (radius.instances_affected, radius.instances_stopped, radius.disks),
            (Some(300), Some(100), Some(300))
        );
        assert_eq!((radius.workloads.len(), radius.persistent_volumes), (100, Some(150)));
    }

    #[test]
    fn the_whole_list_fits_into_config_maps_of_which_the_first_names_the_teams() {
        let read = |disks| -> Vec<Value> {
            let pages = documents(&object(), &blast(disks));
            assert!(pages.iter().all(|page| page.len() <= DOCUMENT_BYTES_MAX));
            pages.iter().map(|page| serde_json::from_str(page).expect("JSON")).collect()
        };
        let ids = |pages: &[Value]| -> BTreeSet<String> {
            let items = pages.iter().flat_map(|page| page["items"].as_array().expect("items"));
            items.map(|item| item["id"].as_str().expect("an id").to_owned()).collect()
        };
        let small = read(300);
        assert_eq!((small.len(), &small[0]["pages"], ids(&small).len()), (1, &json!(1), 600));
        let disk = small[0]["items"].as_array().expect("items").iter().find(|item| item["id"] == "d-000001");
        let disk = disk.expect("the disk is listed");
        assert_eq!(
            (&disk["pods"], &disk["workloads"]),
            (&json!(["team/web-1"]), &json!(["team/Deployment/web-000001"]))
        );
        let large = read(20_000);
        assert!(large.len() > 3 && large.iter().all(|page| page["pages"] == json!(large.len())));
        assert_eq!((ids(&large).len(), &large[0]["itemsTotal"]), (40_000, &json!(40_000)));
        assert!(
            large.iter().all(|page| page["truncated"] == json!(false) && page["uid"] == json!("0123456789"))
        );
        assert_eq!(large[0]["workloadsTotal"], json!(20_000));
        assert!(large[0]["workloads"].as_array().is_some_and(|all| all.len() > 10_000));
        assert_eq!(config_map(&object(), 0), "ecskms-revocation-one-01234567");
        assert_eq!(config_map(&object(), 1), "ecskms-revocation-one-01234567-2");
    }

    #[test]
    fn what_fits_into_no_page_is_told() {
        let pages = documents(&object(), &blast(200_000));
        let first: Value = serde_json::from_str(&pages[0]).expect("JSON");
        assert_eq!((pages.len(), &first["truncated"]), (PAGES_MAX, &json!(true)));
    }
}
