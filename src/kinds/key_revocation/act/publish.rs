//! What is too large for status, and what must outlive the object: in ConfigMaps of the operator's own namespace.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::super::api::KeyRevocation;
use super::super::notes::Notes;
use super::super::{observe, report};
use crate::kind::{Fault, FaultClass, World};

/// Who owns the list in a ConfigMap.
const LIST_OWNER: &str = "ecskms";
/// Who owns the journal in it: written by itself, it takes nothing from the list.
const JOURNAL_OWNER: &str = "ecskms-journal";

/// Puts the whole list into ConfigMaps. Whoever may not, or cannot, revokes all the same.
pub async fn list(object: &KeyRevocation, world: &World, notes: &Notes) -> Result<(), Fault> {
    let uid = object.metadata.uid.as_deref().unwrap_or_default();
    let Some(blast) = notes.latest(uid) else { return Ok(()) };
    let content = observe::content_of(&blast);
    let mut written = Ok(());
    // The first page, which says how many there are, comes last.
    for (index, text) in report::documents(object, &blast).into_iter().enumerate().rev() {
        let name = report::config_map(object, index);
        written = put(world, &name, LIST_OWNER, "report.json", &text).await;
        if let Err(fault) = &written {
            tracing::warn!(config_map = name, "the whole list could not be written: {fault}");
            break;
        }
    }
    notes.publish(uid, content, written.is_ok());
    Ok(())
}

/// Puts the journal beside the list before the object goes. Whoever may not write it, lets go all the same: the log has every entry.
pub async fn journal(object: &KeyRevocation, world: &World) -> Result<(), Fault> {
    let Some(text) = report::journal_alone(object) else { return Ok(()) };
    let name = report::config_map(object, 0);
    match put(world, &name, JOURNAL_OWNER, "journal.json", &text).await {
        Err(fault) if matches!(fault.class, FaultClass::Denied | FaultClass::Refused | FaultClass::Gone) => {
            tracing::warn!(config_map = name, "the journal could not be written: {fault}");
            Ok(())
        }
        other => other,
    }
}

async fn put(world: &World, name: &str, owner: &str, key: &str, text: &str) -> Result<(), Fault> {
    let body = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": name, "labels": { "app.kubernetes.io/part-of": "ecskms" } },
        "data": { key: text },
    });
    let api: Api<ConfigMap> = Api::namespaced(world.kube.clone(), &world.settings.namespace);
    world.read(api.patch(name, &PatchParams::apply(owner).force(), &Patch::Apply(body))).await.map(drop)
}
