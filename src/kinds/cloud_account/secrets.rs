//! Watches the Secrets of the operator's own namespace by their metadata: what one holds is read when it is needed, and what
//! changed is known at once.

use std::collections::HashMap;
use std::pin::pin;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::core::PartialObjectMeta;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};

use crate::kind::World;

/// Errors in a row after which the watch is begun anew from a list: one on a version that the server has forgotten never recovers.
const FAILURES_MAX: u32 = 4;
/// The pause before that.
const PAUSE: Duration = Duration::from_secs(5);

/// Tells the accounts which Secret changed, for as long as the operator leads.
pub async fn watch(world: &World) {
    let mut seen = Seen::default();
    let mut told = false;
    loop {
        let api: Api<PartialObjectMeta<Secret>> =
            Api::namespaced(world.kube.clone(), &world.settings.namespace);
        let mut events = pin!(watcher::watcher(api, watcher::Config::default()).default_backoff());
        let mut failures = 0;
        while failures < FAILURES_MAX {
            match events.next().await {
                Some(Ok(event)) => {
                    (failures, told) = (0, false);
                    seen.take(event).iter().for_each(|name| world.accounts.secret_changed(name));
                }
                Some(Err(error)) => {
                    failures += 1;
                    if !std::mem::replace(&mut told, true) {
                        tracing::warn!(
                            "Secrets are not watched, so a changed one is noticed with the next look only: {error}"
                        );
                    }
                }
                None => break,
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The versions of the Secrets that were seen last.
#[derive(Default)]
struct Seen {
    versions: HashMap<String, String>,
    /// What a list that is under way has brought so far.
    listing: Option<HashMap<String, String>>,
}

impl Seen {
    /// The names that the event shows to have changed since they were seen last.
    fn take(&mut self, event: Event<PartialObjectMeta<Secret>>) -> Vec<String> {
        let id = |object: PartialObjectMeta<Secret>| {
            let version = object.metadata.resource_version.unwrap_or_default();
            (object.metadata.name.unwrap_or_default(), version)
        };
        match event {
            Event::Init => {
                self.listing = Some(HashMap::new());
                Vec::new()
            }
            Event::InitApply(object) => {
                self.listing.get_or_insert_default().extend([id(object)]);
                Vec::new()
            }
            Event::InitDone => {
                let listed = self.listing.take().unwrap_or_default();
                let before = std::mem::replace(&mut self.versions, listed);
                let changed =
                    self.versions.iter().filter(|(name, version)| before.get(*name) != Some(*version));
                let gone = before.keys().filter(|name| !self.versions.contains_key(*name));
                changed.map(|(name, _)| name).chain(gone).cloned().collect()
            }
            Event::Apply(object) => {
                let (name, version) = id(object);
                let changed = self.versions.insert(name.clone(), version.clone()) != Some(version);
                changed.then_some(name).into_iter().collect()
            }
            Event::Delete(object) => {
                let (name, _) = id(object);
                self.versions.remove(&name).map(|_| name).into_iter().collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(name: &str, version: &str) -> PartialObjectMeta<Secret> {
        let mut object = PartialObjectMeta::<Secret>::default();
        object.metadata.name = Some(name.to_owned());
        object.metadata.resource_version = Some(version.to_owned());
        object
    }

    fn list(seen: &mut Seen, secrets: &[(&str, &str)]) -> Vec<String> {
        assert!(seen.take(Event::Init).is_empty());
        for (name, version) in secrets {
            assert!(seen.take(Event::InitApply(secret(name, version))).is_empty());
        }
        let mut changed = seen.take(Event::InitDone);
        changed.sort();
        changed
    }

    #[test]
    fn what_changed_is_named_once_also_when_a_list_shows_it() {
        let mut seen = Seen::default();
        assert_eq!(list(&mut seen, &[("a", "1"), ("b", "1")]), ["a", "b"]);
        assert_eq!(seen.take(Event::Apply(secret("a", "1"))), Vec::<String>::new());
        assert_eq!(seen.take(Event::Apply(secret("a", "2"))), ["a"]);
        assert_eq!(list(&mut seen, &[("a", "2"), ("c", "1")]), ["b", "c"], "b went while nobody watched");
        assert_eq!(seen.take(Event::Delete(secret("c", "2"))), ["c"]);
        assert_eq!(seen.take(Event::Delete(secret("c", "2"))), Vec::<String>::new());
    }
}
