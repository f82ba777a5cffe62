//! Which version of an object this process has just had from the API server itself, past every cache.
//!
//! Memory only, and only for kinds of the emergency lane: before they switch anything, the object must have been read afresh.
//! A compare-and-swap that was won is such a reading, and so is a watch event a moment after the creation that it tells of.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kube::Resource;
use tokio::time::Instant;

/// Versions by uid.
#[derive(Default)]
pub struct Fresh(Mutex<HashMap<String, (String, Instant)>>);

impl Fresh {
    /// How long a reading counts as fresh.
    pub const AGE_MAX: Duration = Duration::from_secs(2);
    /// Readings that are remembered at one time, at most.
    const ENTRIES_MAX: usize = 4_096;

    /// The server has just answered with this version; `asked` is a moment before it was asked.
    pub fn note<K: Resource>(&self, object: &K, asked: Instant) {
        let meta = object.meta();
        let (Some(uid), Some(version)) = (meta.uid.clone(), meta.resource_version.clone()) else { return };
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= Self::ENTRIES_MAX {
            seen.retain(|_, (_, at)| at.elapsed() < Self::AGE_MAX);
        }
        seen.insert(uid, (version, asked));
    }

    /// True if this very version was the server's a moment ago.
    pub fn holds<K: Resource>(&self, object: &K) -> bool {
        let meta = object.meta();
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = meta.uid.as_ref().and_then(|uid| seen.get(uid));
        found.is_some_and(|(version, at)| {
            Some(version) == meta.resource_version.as_ref() && at.elapsed() < Self::AGE_MAX
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Namespace;

    fn object(version: &str) -> Namespace {
        let mut object = Namespace::default();
        object.metadata.uid = Some("u-1".into());
        object.metadata.resource_version = Some(version.into());
        object
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_version_that_was_read_a_moment_ago_is_fresh() {
        let fresh = Fresh::default();
        assert!(!fresh.holds(&object("1")));
        fresh.note(&object("1"), Instant::now());
        assert!(fresh.holds(&object("1")) && !fresh.holds(&object("2")));
        tokio::time::advance(Fresh::AGE_MAX).await;
        assert!(!fresh.holds(&object("1")), "a process that was paused must read again");
    }
}
