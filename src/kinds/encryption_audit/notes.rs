//! What this process remembers of each audit between two looks: the scan that is under way, or the last one. Memory only: after a
//! restart, status says when the next scan is due.
//!
//! Bounded: of each region the counts and the worst findings, never its resources.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::outcome::{ClusterOutcome, Outcome, RegionOutcome};
use super::scan::{Read, TRIES_MAX};
use crate::kind::{Fault, FaultClass};

/// Shared by all audits of this process, and by the scans that run beside them.
#[derive(Clone, Default)]
pub struct Notes(Arc<Inner>);

#[derive(Default)]
struct Inner {
    runs: Mutex<HashMap<String, Run>>,
    /// Turns that were ever begun: no number comes twice, also not after an audit was forgotten.
    turns: AtomicU64,
}

/// As what a scan was asked for: another generation or request is another scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Generation of the object.
    pub generation: i64,
    /// Value of the annotation that asks for a look.
    pub request: Option<String>,
}

/// A scan.
struct Run {
    order: Order,
    /// Tells this life of the scan from those before: what a task of another one brings is not taken.
    turn: u64,
    running: bool,
    /// When all regions were read last, in seconds since 1970.
    full_at: i64,
    /// How often regions were tried in this scan.
    tries: u32,
    /// Set by a scan that ended; taken by the first pass that sees it.
    news: bool,
    /// Why the regions could not be listed, or nothing of them be read.
    fault: Option<Fault>,
    /// Why a region could not be read that may be there in a moment.
    passing: Option<Fault>,
    outcome: Outcome,
}

/// What a pass finds.
#[derive(Debug)]
pub enum State {
    /// No scan of this order.
    None,
    /// One is under way.
    Running,
    /// It is tried again, or is to be: the fault says when to look, and true that it has not begun.
    Failing(Box<Fault>, bool),
    /// It has ended.
    Ended(Box<Outcome>, i64),
}

/// What a task is to read.
#[derive(Debug)]
pub struct Turn {
    /// Its number.
    pub number: u64,
    /// The regions; None for all that were asked for.
    pub regions: Option<BTreeSet<String>>,
}

impl Notes {
    /// Audits that are remembered at one time; beyond that, all are forgotten, which costs a new scan of each.
    const OBJECTS_MAX: usize = 256;

    /// How far the scan of this order is.
    pub fn state(&self, uid: &str, order: &Order) -> State {
        let mut runs = self.lock();
        let Some(run) = runs.get_mut(uid).filter(|run| run.order == *order) else { return State::None };
        let first_look = std::mem::take(&mut run.news);
        let lasting = run.fault.clone();
        let trying = run.passing.clone().filter(|_| run.tries < TRIES_MAX);
        match lasting.or(trying) {
            // A pass that only sees that it goes on failing must not call the fault over: the back-off grows with it.
            Some(fault) if run.running => State::Failing(Box::new(without_delay(fault)), false),
            Some(fault) if first_look => State::Failing(Box::new(fault), false),
            Some(fault) => State::Failing(Box::new(without_delay(fault)), true),
            None if run.running => State::Running,
            None => State::Ended(Box::new(run.outcome.clone()), run.full_at),
        }
    }

    /// Begins a scan of all regions, or, with `gaps_only`, of those that the last one could not read.
    pub fn begin(&self, uid: &str, order: &Order, gaps_only: bool) -> Turn {
        let mut runs = self.lock();
        if runs.len() >= Self::OBJECTS_MAX && !runs.contains_key(uid) {
            runs.clear();
        }
        let before = runs.remove(uid).filter(|run| gaps_only && run.order == *order);
        let number = self.0.turns.fetch_add(1, Ordering::Relaxed);
        // A turn that failed as a whole may have left out regions of which nothing is known, not even that they are there.
        let regions = before.as_ref().filter(|run| run.fault.is_none()).map(|run| run.outcome.unread());
        let run = match before {
            Some(run) => Run { turn: number, running: true, tries: run.tries + 1, ..run },
            None => Run {
                order: order.clone(),
                turn: number,
                running: true,
                full_at: 0,
                tries: 1,
                news: false,
                fault: None,
                passing: None,
                outcome: Outcome::default(),
            },
        };
        runs.insert(uid.to_owned(), run);
        Turn { number, regions }
    }

    /// Lets the next tries count from the first.
    pub fn count_anew(&self, uid: &str) {
        if let Some(run) = self.lock().get_mut(uid) {
            run.tries = 0;
        }
    }

    /// True while nobody asked for another scan.
    pub fn is_current(&self, uid: &str, number: u64) -> bool {
        self.lock().get(uid).is_some_and(|run| run.turn == number)
    }

    /// A region was read, or as much of it as could be.
    pub fn put(&self, uid: &str, number: u64, name: &str, region: RegionOutcome) {
        self.of_turn(uid, number, |run| drop(run.outcome.regions.insert(name.to_owned(), region)));
    }

    /// The cluster was read, for the judgement of these regions. In the others stays what was not known of their namespaces.
    pub fn put_cluster(&self, uid: &str, number: u64, cluster: ClusterOutcome, regions: &BTreeSet<String>) {
        self.of_turn(uid, number, |run| {
            let kept = run.outcome.regions.keys().any(|name| !regions.contains(name));
            let before = run.outcome.cluster.take().filter(|_| kept);
            let earlier = before.and_then(|cluster| cluster.namespaces_error);
            let namespaces_error = cluster.namespaces_error.or(earlier);
            run.outcome.cluster = Some(ClusterOutcome { namespaces_error, ..cluster });
        });
    }

    /// The scan has ended. `failed` is why the regions could not be listed; `faults` are those of the regions.
    pub fn end(&self, uid: &str, number: u64, now: i64, failed: Option<Fault>, faults: Vec<Fault>) {
        self.of_turn(uid, number, |run| {
            run.running = false;
            run.news = true;
            run.passing = faults.iter().find(|fault| fault.is_passing()).cloned();
            let nothing = run.outcome.read_nothing().then(|| faults.into_iter().next()).flatten();
            run.fault = failed.or(nothing);
            run.outcome.at = now;
            if run.full_at == 0 && run.fault.is_none() {
                run.full_at = now;
            }
        });
    }

    /// The object is gone, or at rest: a scan that is under way ends with the region that it is at.
    pub fn forget(&self, uid: &str) {
        self.lock().remove(uid);
    }

    /// When the next scan is due, in seconds since 1970.
    pub fn set_next(&self, uid: &str, next: i64) {
        if let Some(run) = self.lock().get_mut(uid) {
            run.outcome.next = next;
        }
    }

    /// True while a scan is under way, and when the next one is due; None if there was none in this process.
    pub fn pace(&self, uid: &str) -> Option<(bool, i64)> {
        self.lock().get(uid).map(|run| (run.running, run.outcome.next))
    }

    fn of_turn(&self, uid: &str, number: u64, change: impl FnOnce(&mut Run)) {
        if let Some(run) = self.lock().get_mut(uid).filter(|run| run.turn == number) {
            change(run);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Run>> {
        self.0.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the other side asked for was counted from the call that failed.
fn without_delay(fault: Fault) -> Fault {
    Fault { retry_after: None, ..fault }
}

/// A scan whose task ended without a word.
pub fn interrupted() -> Fault {
    Fault {
        class: FaultClass::Transient,
        ..Fault::defect("Interrupted", "the scan was interrupted; it is begun again")
    }
}

/// Reads into the notes; says that the scan has ended when it is dropped, whatever happened.
pub struct Ending {
    notes: Notes,
    uid: String,
    number: u64,
    clock: crate::kind::Clock,
    failed: Option<Fault>,
    faults: Vec<Fault>,
}

impl Ending {
    /// For one turn. Until it is told otherwise, the scan counts as interrupted.
    pub fn new(notes: &Notes, uid: &str, number: u64, clock: crate::kind::Clock) -> Ending {
        let failed = Some(interrupted());
        Ending { notes: notes.clone(), uid: uid.to_owned(), number, clock, failed, faults: Vec::new() }
    }

    /// A region was read.
    pub fn take(&mut self, name: &str, (region, fault): Read) {
        self.faults.extend(fault);
        self.notes.put(&self.uid, self.number, name, region);
    }

    /// The scan went through; or the regions could not be listed.
    pub fn finish(mut self, failed: Option<Fault>) {
        self.failed = failed;
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let now = self.clock.now().as_second();
        let (failed, faults) = (self.failed.take(), std::mem::take(&mut self.faults));
        self.notes.end(&self.uid, self.number, now, failed, faults);
    }
}

#[cfg(test)]
mod tests {
    use super::super::outcome::Gap;
    use super::*;
    use crate::decision::Reason;
    use crate::kind::Clock;

    fn order(generation: i64) -> Order {
        Order { generation, request: None }
    }

    fn throttled() -> Fault {
        let retry_after = Some(std::time::Duration::from_secs(40));
        let class = FaultClass::Throttled;
        Fault { class, reason: Reason::Throttled, retry_after, ..Fault::conflict("wait") }
    }

    fn region(passing: bool) -> RegionOutcome {
        let gap = Gap { text: "disks: no".into(), sorts: Vec::new(), passing };
        RegionOutcome {
            read: !passing,
            gaps: passing.then_some(gap).into_iter().collect(),
            ..RegionOutcome::default()
        }
    }

    fn regions(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    /// A turn in which cn-a is read and cn-b is as said.
    fn turn(notes: &Notes, gaps_only: bool, passing: bool) -> BTreeSet<String> {
        let turn = notes.begin("u-1", &order(1), gaps_only);
        let mut ending = Ending::new(notes, "u-1", turn.number, Clock::System);
        let names = turn.regions.unwrap_or_else(|| ["cn-a", "cn-b"].map(str::to_owned).into());
        for name in &names {
            let fails = passing && name == "cn-b";
            ending.take(name, (region(fails), fails.then(throttled)));
        }
        ending.finish(None);
        names
    }

    #[test]
    fn what_is_throttled_is_tried_again_alone_after_what_the_cloud_asked_for_and_not_for_ever() {
        let notes = Notes::default();
        assert!(matches!(notes.state("u-1", &order(1)), State::None));
        assert_eq!(turn(&notes, false, true), regions(&["cn-a", "cn-b"]));
        for tries in 1..TRIES_MAX {
            let State::Failing(fault, idle) = notes.state("u-1", &order(1)) else { panic!("try {tries}") };
            assert_eq!((fault.retry_after.is_some(), idle), (true, false), "first the pause");
            let State::Failing(fault, idle) = notes.state("u-1", &order(1)) else { panic!("try {tries}") };
            assert_eq!((fault.retry_after.is_some(), idle), (false, true), "then the next try");
            assert_eq!(turn(&notes, true, true), regions(&["cn-b"]), "what was read is kept");
        }
        let State::Ended(outcome, _) = notes.state("u-1", &order(1)) else {
            panic!("it ends without the region")
        };
        assert_eq!((outcome.regions.len(), outcome.gaps().count()), (2, 1));
        assert!(matches!(notes.state("u-1", &order(2)), State::None), "another spec is another scan");
    }

    #[test]
    fn a_try_that_works_ends_the_scan_with_all_regions() {
        let notes = Notes::default();
        turn(&notes, false, true);
        turn(&notes, true, false);
        let State::Ended(outcome, _) = notes.state("u-1", &order(1)) else { panic!("it is over") };
        assert_eq!((outcome.regions.len(), outcome.gaps().count()), (2, 0));
    }

    #[test]
    fn where_nothing_is_missing_no_region_is_read_again_and_where_a_turn_broke_off_all_are() {
        let notes = Notes::default();
        turn(&notes, false, false);
        assert_eq!(notes.begin("u-1", &order(1), true).regions, Some(BTreeSet::new()), "only the cluster");
        let notes = Notes::default();
        let broken = notes.begin("u-1", &order(1), false);
        Ending::new(&notes, "u-1", broken.number, Clock::System).take("cn-a", (region(true), None));
        assert_eq!(notes.begin("u-1", &order(1), true).regions, None, "who knows what there is beside cn-a");
    }

    #[test]
    fn what_was_judged_without_namespaces_stays_so_while_it_is_not_read_again() {
        let notes = Notes::default();
        let cluster = |error: Option<&str>| ClusterOutcome {
            namespaces_error: error.map(str::to_owned),
            ..ClusterOutcome::default()
        };
        let all = regions(&["cn-a", "cn-b"]);
        let error = |number, error, read: &BTreeSet<String>| {
            notes.put_cluster("u-1", number, cluster(error), read);
            let runs = notes.lock();
            runs["u-1"].outcome.cluster.as_ref().and_then(|cluster| cluster.namespaces_error.clone())
        };
        let first = notes.begin("u-1", &order(1), false);
        assert_eq!(error(first.number, Some("no"), &all).as_deref(), Some("no"));
        let mut ending = Ending::new(&notes, "u-1", first.number, Clock::System);
        ending.take("cn-a", (region(false), None));
        ending.take("cn-b", (region(true), Some(throttled())));
        ending.finish(None);
        let second = notes.begin("u-1", &order(1), true);
        let some = second.regions.expect("only what is missing");
        assert_eq!(error(second.number, None, &some).as_deref(), Some("no"), "cn-a knows none");
        assert_eq!(error(second.number, None, &all), None);
    }

    #[test]
    fn a_scan_that_is_dropped_or_called_off_is_never_taken_for_a_result() {
        let notes = Notes::default();
        let dropped = notes.begin("u-1", &order(1), false);
        assert!(matches!(notes.state("u-1", &order(1)), State::Running));
        drop(Ending::new(&notes, "u-1", dropped.number, Clock::System));
        assert!(
            matches!(notes.state("u-1", &order(1)), State::Failing(fault, _) if fault.code == "Interrupted")
        );
        let old = notes.begin("u-1", &order(1), false);
        notes.forget("u-1");
        assert!(!notes.is_current("u-1", old.number));
        let mut ending = Ending::new(&notes, "u-1", old.number, Clock::System);
        ending.take("cn-a", (region(false), None));
        ending.finish(None);
        assert!(matches!(notes.state("u-1", &order(1)), State::None));
    }

    #[test]
    fn nothing_read_at_all_is_a_fault_and_not_a_result() {
        let notes = Notes::default();
        let turn = notes.begin("u-1", &order(1), false);
        let mut ending = Ending::new(&notes, "u-1", turn.number, Clock::System);
        let denied =
            Fault { class: FaultClass::Denied, reason: Reason::AccessDenied, ..Fault::conflict("no") };
        ending.take("cn-a", (RegionOutcome::default(), Some(denied)));
        ending.finish(None);
        for _ in 0..3 * TRIES_MAX {
            let State::Failing(fault, _) = notes.state("u-1", &order(1)) else { panic!("it stays one") };
            assert_eq!(fault.reason, Reason::AccessDenied);
        }
    }
}
