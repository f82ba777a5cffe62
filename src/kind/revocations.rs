//! The keys that are revoked, as the emergency lane sees them; every other kind asks here before it does anything.
//!
//! Written by the kind of the emergency lane from its watch, read by `World::key_fact`. No calls. Before the first list has ended,
//! nobody knows whether a key is held: then whoever asks waits for a moment, and is told so.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{broadcast, watch};

/// How long whoever asks waits for the first list, which comes with the start of the process.
const FIRST_LIST_MAX: Duration = Duration::from_secs(5);

/// One live revocation of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Name of the object that holds the key.
    pub name: String,
    /// Name of the object of the key's account; None: the operator's own account.
    pub account: Option<String>,
    /// Region of the key.
    pub region: String,
    /// Id of the key, which tells it from those of all accounts; None if every customer key of the account is meant.
    pub key_id: Option<String>,
}

impl Hold {
    /// True if the key is held by it.
    pub fn covers(&self, account: Option<&str>, region: &str, key_id: &str) -> bool {
        match &self.key_id {
            None => self.account.as_deref() == account,
            Some(held) => self.region == region && held == key_id,
        }
    }
}

/// A revocation that was ordered and is not over: what people must know of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incident {
    /// What it holds, or will.
    pub hold: Hold,
    /// True while the key is held.
    pub is_held: bool,
    /// How far it has come.
    pub phase: String,
    /// Running instances that may still hold a data key; None: nobody has looked.
    pub still_readable: Option<u32>,
    /// Ids of the first of them.
    pub readers: Vec<String>,
    /// Who is hit; None: nobody has looked.
    pub hit: Option<Hit>,
}

/// Who is hit by a revocation, in numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Instances.
    pub instances: u32,
    /// Disks.
    pub disks: u32,
    /// Namespaces of this cluster with workloads on these disks.
    pub namespaces: Vec<String>,
    /// False if there may be more.
    pub is_complete: bool,
}

/// Live revocations by the uid of their object.
pub struct Revocations {
    holds: Mutex<HashMap<String, Hold>>,
    /// What was seen since a new list began; None outside of one.
    listing: Mutex<Option<BTreeMap<String, Hold>>>,
    regions: Mutex<BTreeSet<String>>,
    accounts: Mutex<BTreeSet<String>>,
    changes: broadcast::Sender<Hold>,
    /// True once a list has ended, or there can be none.
    known: watch::Sender<bool>,
}

impl Default for Revocations {
    fn default() -> Revocations {
        /// Changes that a slow listener may miss; it then looks again within its ordinary round.
        const CHANGES: usize = 64;
        let (changes, _) = broadcast::channel(CHANGES);
        Revocations {
            holds: Mutex::default(),
            listing: Mutex::default(),
            regions: Mutex::default(),
            accounts: Mutex::default(),
            changes,
            known: watch::Sender::new(false),
        }
    }
}

impl Revocations {
    /// An object holds, or no longer holds, a key.
    pub fn set(&self, uid: &str, hold: Option<Hold>) {
        if let (Some(listing), Some(hold)) = (lock(&self.listing).as_mut(), &hold) {
            listing.insert(uid.to_owned(), hold.clone());
        }
        let before = match hold.clone() {
            Some(hold) => lock(&self.holds).insert(uid.to_owned(), hold),
            None => lock(&self.holds).remove(uid),
        };
        if before != hold {
            // Nobody listens before the other lane has started, which is as good.
            before.into_iter().chain(hold).for_each(|hold| drop(self.changes.send(hold)));
        }
    }

    /// A complete list begins: what it does not name any more is gone.
    pub fn begin_list(&self) {
        *lock(&self.listing) = Some(BTreeMap::new());
    }

    /// The list is complete.
    pub fn end_list(&self) {
        let listed = lock(&self.listing).take();
        if let Some(listed) = listed {
            let gone: Vec<String> =
                lock(&self.holds).keys().filter(|uid| !listed.contains_key(*uid)).cloned().collect();
            gone.iter().for_each(|uid| self.set(uid, None));
        }
        self.known.send_replace(true);
    }

    /// The cluster does not know the kind, so that no object of it can hold anything. What was held before stays held.
    pub fn cannot_be(&self) {
        self.known.send_replace(true);
    }

    /// Waits until what is held is known, but not for long. False: nobody knows yet.
    pub async fn known(&self) -> bool {
        let mut known = self.known.subscribe();
        let listed = known.wait_for(|known| *known);
        tokio::time::timeout(FIRST_LIST_MAX, listed).await.is_ok_and(|listed| listed.is_ok())
    }

    /// The name of a revocation that holds the key.
    pub fn holder(&self, account: Option<&str>, region: &str, key_id: &str) -> Option<String> {
        let holds = lock(&self.holds);
        holds.values().filter(|hold| hold.covers(account, region, key_id)).map(|hold| hold.name.clone()).min()
    }

    /// A revocation in this region and of this account exists, if only as a plan.
    pub fn meet(&self, region: &str, account: Option<&str>) {
        /// Regions and accounts that can be real; what is beyond them is a mistake and gets no connection.
        const KNOWN_MAX: usize = 64;
        let met = |known: &Mutex<BTreeSet<String>>, name: &str| {
            let mut known = lock(known);
            if known.len() < KNOWN_MAX && !known.contains(name) {
                known.insert(name.to_owned());
            }
        };
        met(&self.regions, region);
        account.into_iter().for_each(|name| met(&self.accounts, name));
    }

    /// The names of the accounts of which revocations exist, or did.
    pub fn accounts(&self) -> BTreeSet<String> {
        lock(&self.accounts).clone()
    }

    /// The regions in which revocations exist, or did.
    pub fn regions(&self) -> BTreeSet<String> {
        lock(&self.regions).clone()
    }

    /// The other revocations that hold exactly the same.
    pub fn others(&self, uid: &str, hold: &Hold) -> Vec<String> {
        let same = |other: &Hold| match (&other.key_id, &hold.key_id) {
            (None, None) => other.account == hold.account,
            (Some(a), Some(b)) => a == b && other.region == hold.region,
            _ => false,
        };
        let holds = lock(&self.holds);
        let mut names: Vec<String> = holds
            .iter()
            .filter(|(other, held)| *other != uid && same(held))
            .map(|(_, held)| held.name.clone())
            .collect();
        names.sort();
        names
    }

    /// Every change from now on.
    pub fn changes(&self) -> broadcast::Receiver<Hold> {
        self.changes.subscribe()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hold(name: &str, key: Option<&str>) -> Hold {
        Hold { name: name.into(), account: None, region: "cn-a".into(), key_id: key.map(str::to_owned) }
    }

    #[test]
    fn a_key_is_held_until_the_last_hold_is_gone() {
        let all = Revocations::default();
        all.set("u-1", Some(hold("one", Some("key-a"))));
        all.set("u-2", Some(hold("two", Some("key-a"))));
        assert_eq!(all.holder(None, "cn-a", "key-a").as_deref(), Some("one"));
        assert_eq!(all.others("u-1", &hold("one", Some("key-a"))), ["two"]);
        assert_eq!((all.holder(None, "cn-b", "key-a"), all.holder(None, "cn-a", "key-b")), (None, None));
        all.set("u-1", None);
        assert_eq!(all.holder(None, "cn-a", "key-a").as_deref(), Some("two"));
        all.set("u-2", None);
        assert_eq!(all.holder(None, "cn-a", "key-a"), None);
    }

    #[test]
    fn a_hold_on_the_role_covers_every_key_but_overlaps_only_its_like() {
        let all = Revocations::default();
        all.set("u-1", Some(hold("role", None)));
        assert_eq!(all.holder(None, "cn-b", "key-z").as_deref(), Some("role"));
        assert_eq!(all.holder(Some("other"), "cn-b", "key-z"), None, "another account's role is another one");
        assert!(all.others("u-2", &hold("key", Some("key-z"))).is_empty());
        assert!(all.others("u-2", &Hold { account: Some("other".into()), ..hold("role", None) }).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn before_the_first_list_has_ended_nothing_is_known() {
        let all = Revocations::default();
        all.begin_list();
        all.set("u-1", Some(hold("one", Some("key-a"))));
        assert!(!all.known().await);
        let (known, ()) = tokio::join!(all.known(), async { all.end_list() });
        assert!(known);
        assert_eq!(all.holder(None, "cn-a", "key-a").as_deref(), Some("one"));
        all.begin_list();
        assert!(all.known().await, "a later list only corrects");
        let none = Revocations::default();
        none.cannot_be();
        assert!(none.known().await);
    }

    #[test]
    fn what_a_new_list_does_not_name_is_gone() {
        let all = Revocations::default();
        let mut changes = all.changes();
        all.set("u-1", Some(hold("one", Some("key-a"))));
        all.set("u-2", Some(hold("two", Some("key-b"))));
        all.begin_list();
        all.set("u-2", Some(hold("two", Some("key-b"))));
        all.end_list();
        assert_eq!(
            (all.holder(None, "cn-a", "key-a"), all.holder(None, "cn-a", "key-b").is_some()),
            (None, true)
        );
        let told: Vec<String> =
            std::iter::from_fn(|| changes.try_recv().ok()).map(|hold| hold.name).collect();
        assert_eq!(told, ["one", "two", "one"], "a hold that stays is not told again");
    }
}
