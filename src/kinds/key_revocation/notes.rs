//! What this process remembers of each revocation between two looks. Memory only: after a crash, status and a new look say it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::api::{JournalAnchor, JournalEntry};
use super::blast::Blast;
use super::decide::{Deed, Inventory, Probe};
use super::journal;
use super::promise::ACCEPTED;

/// Shared by all revocations of this process, and by the listings that run beside them.
#[derive(Clone, Default)]
pub struct Notes(Arc<Inner>);

#[derive(Default)]
struct Inner {
    objects: Mutex<HashMap<String, Note>>,
    /// None until they were listed for the first time.
    own_keys: Mutex<Option<HashSet<(String, String)>>>,
    own_nodes: Mutex<Option<BTreeSet<String>>>,
    /// True once somebody has tried to list them.
    guarded: watch::Sender<bool>,
}

#[derive(Default)]
struct Note {
    deeds: Vec<Deed>,
    listing: Option<Listing>,
    end: Option<(i64, String)>,
    asked_at: Option<jiff::Timestamp>,
    on: Option<Instant>,
    stops_answered: Option<i64>,
    evidence_taken: bool,
    cut_tried: bool,
    cut_open: bool,
    published: Option<Published>,
    starts: BTreeMap<String, Started>,
}

/// What came of the last call that asked an instance to start.
struct Started {
    outcome: String,
    times: u32,
    at: Instant,
}

/// The same, as it stands now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartTry {
    /// Accepted, or the cloud's code.
    pub outcome: String,
    /// How often it was asked.
    pub times: u32,
    /// How long ago that was.
    pub age: Duration,
}

impl StartTry {
    /// How long it is left alone: what has no stock, or must be paid for, does not change within seconds.
    pub fn pause(&self) -> Duration {
        const FIRST: Duration = Duration::from_secs(4);
        const LONGEST: Duration = Duration::from_secs(300);
        let doubled = 1_u32.checked_shl(self.times.saturating_sub(1)).unwrap_or(u32::MAX);
        FIRST.saturating_mul(doubled).min(LONGEST)
    }
}

#[derive(Clone)]
struct Published {
    content: u64,
    accepted: bool,
}

/// One listing of what is hit.
struct Listing {
    begun: Instant,
    running: bool,
    found: Option<Found>,
}

/// What a listing found.
#[derive(Clone)]
pub struct Found {
    /// Who is hit.
    pub blast: Arc<Blast>,
    /// What the rehearsal of a start said, if one was made.
    pub probe: Option<Probe>,
    /// True if it began after the cut was seen.
    pub after_cut: bool,
    /// True if the owners of instances were asked what they want.
    pub wishes: bool,
    /// How often the revocation had been taken back when it began.
    pub reverts: u32,
    /// When it ended.
    pub at: Instant,
}

/// How good a listing must be.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// An older one is made anew, and used meanwhile.
    pub age_max: Duration,
    /// How long the first one is waited for.
    pub patience: Duration,
    /// True if one from before the cut is not enough.
    pub after_cut: bool,
    /// True if it must say what the owners of instances want.
    pub wishes: bool,
    /// How often the revocation has been taken back: what ran meanwhile is in no list from before.
    pub reverts: u32,
}

impl Wish {
    fn accepts(&self, found: &Found) -> bool {
        let of_this_cut = found.after_cut && found.reverts == self.reverts;
        (of_this_cut || !self.after_cut) && (found.wishes || !self.wishes)
    }
}

impl Notes {
    /// Objects that are remembered at one time; beyond that, all are forgotten, which costs a new look at each.
    const OBJECTS_MAX: usize = 4_096;
    /// Deeds of one object that wait for a write.
    const DEEDS_MAX: usize = 32;

    fn with<T>(&self, uid: &str, change: impl FnOnce(&mut Note) -> T) -> T {
        let mut objects = lock(&self.0.objects);
        if objects.len() > Self::OBJECTS_MAX {
            objects.clear();
        }
        change(objects.entry(uid.to_owned()).or_default())
    }

    /// Remembers what was done until the journal says it. The same refusal again says nothing new.
    pub fn add(&self, uid: &str, deed: Deed) {
        self.with(uid, |note| {
            let same = |other: &Deed| {
                (other.action, &other.target, &other.result) == (deed.action, &deed.target, &deed.result)
            };
            let repeated = deed.result != ACCEPTED && note.deeds.last().is_some_and(same);
            if repeated {
                return;
            }
            if note.deeds.len() >= Self::DEEDS_MAX {
                // What was accepted is never forgotten for what was refused.
                let refused = note.deeds.iter().position(|deed| deed.result != ACCEPTED);
                note.deeds.remove(refused.unwrap_or_default());
            }
            note.deeds.push(deed);
        });
    }

    /// What was done and stands in no journal yet.
    pub fn deeds(&self, uid: &str, journal: &[JournalEntry]) -> Vec<Deed> {
        let stands = |deed: &Deed| {
            journal
                .iter()
                .any(|entry| entry.action == deed.action && entry.time.0.as_microsecond() == deed.at)
        };
        self.with(uid, |note| {
            note.deeds.retain(|deed| !stands(deed));
            note.deeds.clone()
        })
    }

    /// True if the journal is one that this process has seen before, or a later one; remembers its end.
    pub fn continues(&self, uid: &str, journal: &[JournalEntry], anchor: Option<&JournalAnchor>) -> bool {
        self.with(uid, |note| {
            let known = note.end.as_ref();
            let fits = known.is_none_or(|end| journal::continues(journal, anchor, end));
            if fits && let Some(last) = journal.last() {
                note.end = Some((last.seq, last.hash.clone()));
            }
            fits
        })
    }

    /// When this process first saw that the revocation was asked for.
    pub fn asked_at(&self, uid: &str, now: jiff::Timestamp) -> jiff::Timestamp {
        self.with(uid, |note| *note.asked_at.get_or_insert(now))
    }

    /// The switch was read to be on; None takes the reading back.
    pub fn saw_on(&self, uid: &str, at: Option<Instant>) {
        self.with(uid, |note| note.on = at);
    }

    /// True if the switch was read to be on a moment ago.
    pub fn just_on(&self, uid: &str) -> bool {
        /// Longer than a write of status takes.
        const MOMENT: Duration = Duration::from_secs(2);
        self.with(uid, |note| note.on.is_some_and(|at| at.elapsed() < MOMENT))
    }

    /// The stop calls that were allowed at that time were answered, or ran out of time.
    pub fn answer_stops(&self, uid: &str, requested_at: i64) {
        self.with(uid, |note| note.stops_answered = Some(requested_at));
    }

    /// True if they were.
    pub fn stops_answered(&self, uid: &str, requested_at: i64) -> bool {
        self.with(uid, |note| note.stops_answered == Some(requested_at))
    }

    /// The cut was asked for without a look; `open` if it may have come, or may come when it is asked for again.
    pub fn try_cut(&self, uid: &str, open: bool) {
        self.with(uid, |note| (note.cut_tried, note.cut_open) = (true, open));
    }

    /// True if the next step after a cut without a look is to look and to record it. Said once for each try: where neither works,
    /// the cut comes before they are tried again.
    pub fn take_tried_cut(&self, uid: &str) -> bool {
        self.with(uid, |note| std::mem::take(&mut note.cut_tried))
    }

    /// True unless the last try was refused for good.
    pub fn may_have_cut(&self, uid: &str) -> bool {
        self.with(uid, |note| note.cut_open)
    }

    /// The snapshots were asked for.
    pub fn take_evidence(&self, uid: &str) {
        self.with(uid, |note| note.evidence_taken = true);
    }

    /// True if they were.
    pub fn evidence_taken(&self, uid: &str) -> bool {
        self.with(uid, |note| note.evidence_taken)
    }

    /// An instance was asked to start. True if it answered otherwise than the time before.
    pub fn try_start(&self, uid: &str, instance: &str, outcome: &str) -> bool {
        self.with(uid, |note| {
            let before = note.starts.get(instance);
            let news = before.is_none_or(|before| before.outcome != outcome);
            let times = before.map_or(1, |before| before.times.saturating_add(1));
            let started = Started { outcome: outcome.to_owned(), times, at: Instant::now() };
            note.starts.insert(instance.to_owned(), started);
            news
        })
    }

    /// What came of it the last time.
    pub fn start_try(&self, uid: &str, instance: &str) -> Option<StartTry> {
        self.with(uid, |note| {
            let Started { outcome, times, at } = note.starts.get(instance)?;
            Some(StartTry { outcome: outcome.clone(), times: *times, age: at.elapsed() })
        })
    }

    /// The whole list of this content was put into its ConfigMap, or that was refused.
    pub fn publish(&self, uid: &str, content: u64, accepted: bool) {
        self.with(uid, |note| note.published = Some(Published { content, accepted }));
    }

    /// True if this content need not be put anywhere any more.
    pub fn published(&self, uid: &str, content: u64) -> bool {
        self.with(uid, |note| note.published.as_ref().is_some_and(|done| done.content == content))
    }

    /// True if a whole list lies in its ConfigMap.
    pub fn is_published(&self, uid: &str) -> bool {
        self.with(uid, |note| note.published.as_ref().is_some_and(|done| done.accepted))
    }

    /// The list as far as it is there; `begin` starts a new listing where one is due.
    pub fn inventory(&self, uid: &str, wish: Wish, begin: impl FnOnce(Notes)) -> (Inventory, Option<Probe>) {
        let due = self.with(uid, |note| {
            let due = match &note.listing {
                None => true,
                Some(listing) if listing.running => false,
                Some(listing) => listing
                    .found
                    .as_ref()
                    .is_none_or(|found| found.at.elapsed() >= wish.age_max || !wish.accepts(found)),
            };
            if due {
                let found = note.listing.take().and_then(|listing| listing.found);
                note.listing = Some(Listing { begun: Instant::now(), running: true, found });
            }
            due
        });
        if due {
            begin(self.clone());
        }
        self.with(uid, |note| {
            let Some(listing) = &note.listing else { return (Inventory::Unasked, None) };
            match &listing.found {
                Some(found) if wish.accepts(found) => {
                    (Inventory::Done(Box::new((*found.blast).clone())), found.probe.clone())
                }
                _ if listing.begun.elapsed() >= wish.patience => (Inventory::Late, None),
                _ => (Inventory::Running, None),
            }
        })
    }

    /// A listing has ended.
    pub fn list(&self, uid: &str, found: Found) {
        self.with(uid, |note| {
            let begun = note.listing.as_ref().map_or(found.at, |listing| listing.begun);
            note.listing = Some(Listing { begun, running: false, found: Some(found) });
        });
    }

    /// The latest list, however old.
    pub fn latest(&self, uid: &str) -> Option<Arc<Blast>> {
        self.with(uid, |note| Some(note.listing.as_ref()?.found.as_ref()?.blast.clone()))
    }

    /// The customer keys of the operator's own account under which nodes of this cluster have disks: region and key.
    pub fn set_own_keys(&self, keys: HashSet<(String, String)>, nodes: BTreeSet<String>) {
        *lock(&self.0.own_keys) = Some(keys);
        *lock(&self.0.own_nodes) = Some(nodes);
        self.0.guarded.send_replace(true);
    }

    /// The uids of the nodes of which that was said.
    pub fn own_nodes(&self) -> Option<BTreeSet<String>> {
        lock(&self.0.own_nodes).clone()
    }

    /// They could not be listed, so that nobody need wait for them.
    pub fn miss_own_keys(&self) {
        self.0.guarded.send_replace(true);
    }

    /// Waits until they were listed once, or could not be: a process that has just begun knows of no node yet.
    pub async fn look_for_own_keys(&self) {
        /// Longer than a list of nodes and disks takes, and short beside the time that people need to order a cut.
        const PATIENCE: Duration = Duration::from_secs(5);
        let mut guarded = self.0.guarded.subscribe();
        let listed = async { guarded.wait_for(|done| *done).await.is_ok() };
        if !tokio::time::timeout(PATIENCE, listed).await.unwrap_or_default() {
            self.miss_own_keys();
        }
    }

    /// True if nodes of this cluster are known to have disks under the key; under any customer key, if none is named. None if they
    /// could not be listed yet.
    pub fn is_own_key(&self, region: &str, key_id: Option<&str>) -> Option<bool> {
        let keys = lock(&self.0.own_keys);
        let keys = keys.as_ref()?;
        Some(match key_id {
            None => !keys.is_empty(),
            Some(key_id) => keys.contains(&(region.to_owned(), key_id.to_owned())),
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deed(at: i64, result: &str) -> Deed {
        Deed {
            at,
            action: "DisableKey",
            target: "key-a".into(),
            request_id: None,
            result: result.into(),
            details: Vec::new(),
        }
    }

    #[test]
    fn a_deed_is_kept_until_the_journal_has_it_and_a_repeated_refusal_is_one() {
        let notes = Notes::default();
        notes.add("u-1", deed(1, "Rejected.Throttling"));
        notes.add("u-1", deed(2, "Rejected.Throttling"));
        notes.add("u-1", deed(3, ACCEPTED));
        assert_eq!(notes.deeds("u-1", &[]).len(), 2);
        let (mut journal, mut anchor) = (Vec::new(), None);
        let line = journal::Line {
            time: jiff::Timestamp::from_microsecond(3).expect("in range"),
            action: "DisableKey".into(),
            target: "key-a".into(),
            request_id: None,
            result: ACCEPTED.into(),
        };
        journal::append("u-1", &mut journal, &mut anchor, line);
        assert_eq!(notes.deeds("u-1", &journal), [deed(1, "Rejected.Throttling")]);
        assert!(notes.deeds("u-2", &[]).is_empty());
        for number in 0..100 {
            notes.add("u-1", deed(10 + number, ["Timeout", "Throttling"][number as usize % 2]));
            if number == 5 {
                notes.add("u-1", deed(5, ACCEPTED));
            }
        }
        let kept = notes.deeds("u-1", &journal);
        assert!(kept.len() <= Notes::DEEDS_MAX && kept.contains(&deed(5, ACCEPTED)), "{kept:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_listing_is_begun_once_waited_for_and_renewed_while_the_old_one_serves() {
        let notes = Notes::default();
        let wish = Wish {
            age_max: Duration::from_secs(60),
            patience: Duration::from_secs(10),
            after_cut: false,
            wishes: false,
            reverts: 0,
        };
        let look = |wish| {
            let mut begun = false;
            let (inventory, _) = notes.inventory("u-1", wish, |_| begun = true);
            (inventory, begun)
        };
        assert_eq!(look(wish), (Inventory::Running, true));
        assert_eq!(look(wish), (Inventory::Running, false));
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(look(wish), (Inventory::Late, false));
        let blast = Arc::new(Blast::default());
        let found = |after_cut| Found {
            blast: blast.clone(),
            probe: None,
            after_cut,
            wishes: false,
            reverts: 0,
            at: Instant::now(),
        };
        notes.list("u-1", found(false));
        let done = || Inventory::Done(Box::new((*blast).clone()));
        assert_eq!(look(wish), (done(), false));
        assert_eq!(look(Wish { after_cut: true, ..wish }), (Inventory::Running, true));
        notes.list("u-1", found(true));
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(look(wish), (done(), true), "the old one serves meanwhile");
        notes.list("u-1", found(true));
        let again = Wish { after_cut: true, reverts: 1, ..wish };
        assert_ne!(look(again).0, done(), "what ran while the key was on is in no list from before");
    }
}
