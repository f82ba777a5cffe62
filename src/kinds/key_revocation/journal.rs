//! The journal: append-only, bounded, each entry's hash over the one before. Pure.
//!
//! It shows a changed, removed or reordered entry to whoever reads it later, also one that was cut off from the front: an anchor
//! stands only before a full journal. Entries cut off from its end are noticed by processes that have seen them. It cannot show a
//! journal that somebody with write access to status has written anew as a whole, be it from the beginning or as a full one that
//! claims to have dropped older entries; that is why every entry is logged too.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use sha2::{Digest, Sha256};

use super::api::{JournalAnchor, JournalEntry};
use super::promise;

/// Entries that status keeps. A journal that has dropped some is exactly this long, and recognised by that.
pub const ENTRIES_MAX: usize = 50;

/// Characters of request ids in an entry.
const REQUEST_ID_MAX: usize = 128;

/// The entry that says that somebody took the revocation back.
pub const REVERTED: &str = "RevocationReverted";

/// What an entry says, before it has a number and a hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// When.
    pub time: jiff::Timestamp,
    /// What.
    pub action: String,
    /// To what.
    pub target: String,
    /// The cloud's request id.
    pub request_id: Option<String>,
    /// What came of it.
    pub result: String,
}

/// Where a journal was tampered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Number of the first entry that does not fit.
    pub seq: i64,
    /// How.
    pub how: &'static str,
}

/// The hash before the first entry; `scope` is the object's uid, or whatever else the journal is of.
pub fn genesis(scope: &str) -> String {
    hex(Sha256::digest(format!("ecskms journal of {scope}")))
}

/// Adds an entry; the oldest one goes when there are too many, and the anchor takes its place.
pub fn append(scope: &str, journal: &mut Vec<JournalEntry>, anchor: &mut Option<JournalAnchor>, line: Line) {
    let (seq, before) = match (journal.last(), anchor.as_ref()) {
        (Some(last), _) => (last.seq, last.hash.clone()),
        (None, Some(anchor)) => (anchor.seq, anchor.hash.clone()),
        (None, None) => (0, genesis(scope)),
    };
    let cut = |text: String, most: usize| text.chars().take(most).collect::<String>();
    let mut entry = JournalEntry {
        seq: seq + 1,
        time: MicroTime(micros(line.time)),
        action: cut(line.action, 64),
        target: cut(line.target, 256),
        request_id: line.request_id.map(|id| cut(id, REQUEST_ID_MAX)),
        result: cut(line.result, 256),
        hash: String::new(),
    };
    entry.hash = hash(&before, &entry);
    journal.push(entry);
    while journal.len() > ENTRIES_MAX {
        let dropped = journal.remove(0);
        *anchor = Some(JournalAnchor { seq: dropped.seq, hash: dropped.hash });
    }
}

/// The entry of what stood before.
pub const PRIOR: &str = "RecordPriorState";

/// True unless the journal says that another state was recorded than the one that status has now.
pub fn tells_prior(journal: &[JournalEntry], key_state: &str) -> bool {
    let told = journal.iter().rev().find(|entry| entry.action == PRIOR);
    let rest = told.map(|entry| entry.result.strip_prefix(key_state));
    rest.is_none_or(|rest| rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(", as ")))
}

/// What an entry says of the requests of a step: all ids, or as many as there is room for and how many more the log has.
pub fn requests(ids: &[String]) -> Option<String> {
    let mut told = ids.first()?.clone();
    for (index, id) in ids.iter().enumerate().skip(1) {
        let more = format!(" and {} more", ids.len() - index);
        let next = format!("{told} {id}");
        let last = index + 1 == ids.len();
        let room = if last { next.len() } else { next.len() + more.len() };
        if room > REQUEST_ID_MAX {
            return Some(told + &more);
        }
        told = next;
    }
    Some(told)
}

/// Whether every entry fits to the one before, from the beginning on or from an anchor that has a right to be there.
pub fn verify(scope: &str, journal: &[JournalEntry], anchor: Option<&JournalAnchor>) -> Result<(), Broken> {
    let (mut seq, mut before) = match anchor {
        // `append` drops an entry only to make room for another one.
        Some(anchor) if journal.len() != ENTRIES_MAX => {
            return Err(Broken { seq: anchor.seq, how: "entries were cut off from the front" });
        }
        Some(anchor) => (anchor.seq, anchor.hash.clone()),
        None => (0, genesis(scope)),
    };
    for entry in journal {
        if entry.seq != seq + 1 {
            return Err(Broken { seq: seq + 1, how: "an entry is missing or out of order" });
        }
        if entry.hash != hash(&before, entry) {
            return Err(Broken { seq: entry.seq, how: "an entry was changed" });
        }
        (seq, before) = (entry.seq, entry.hash.clone());
    }
    Ok(())
}

/// True if `journal` still holds what was last known to be its end; older ends may have been dropped from the front.
pub fn continues(journal: &[JournalEntry], anchor: Option<&JournalAnchor>, end: &(i64, String)) -> bool {
    let (seq, known) = end;
    match journal.iter().find(|entry| entry.seq == *seq) {
        Some(entry) => entry.hash == *known,
        None => {
            anchor.is_some_and(|anchor| anchor.seq > *seq || (anchor.seq == *seq && anchor.hash == *known))
        }
    }
}

/// SHA-256 over the hash before and all other fields. Lengths come before texts, so that no two entries read the same.
fn hash(before: &str, entry: &JournalEntry) -> String {
    let mut hasher = Sha256::new();
    let mut add = |text: &str| hasher.update(format!("{}:{text}\n", text.len()));
    add(before);
    add(&entry.seq.to_string());
    add(&micros(entry.time.0).as_microsecond().to_string());
    add(&entry.action);
    add(&entry.target);
    add(entry.request_id.as_deref().unwrap_or("-"));
    add(&entry.result);
    hex(hasher.finalize())
}

/// The server keeps microseconds, so nothing finer may enter the hash.
pub fn micros(time: jiff::Timestamp) -> jiff::Timestamp {
    jiff::Timestamp::from_microsecond(time.as_microsecond()).unwrap_or(time)
}

fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// True if a cut was accepted that nobody is known to have taken back since.
pub fn tells_cut(journal: &[JournalEntry]) -> bool {
    journal
        .iter()
        .rev()
        .take_while(|entry| entry.action != REVERTED)
        .any(|entry| promise::CUTS.contains(&entry.action.as_str()) && entry.result == promise::ACCEPTED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(number: i64) -> Line {
        Line {
            time: jiff::Timestamp::from_microsecond(1_700_000_000_000_000 + number).expect("in range"),
            action: "DisableKey".into(),
            target: format!("key-{number}"),
            request_id: (number % 2 == 0).then(|| format!("r-{number}")),
            result: "Accepted".into(),
        }
    }

    fn written(count: i64) -> (Vec<JournalEntry>, Option<JournalAnchor>) {
        let (mut journal, mut anchor) = (Vec::new(), None);
        (0..count).for_each(|number| append("u-1", &mut journal, &mut anchor, line(number)));
        (journal, anchor)
    }

    #[test]
    fn a_journal_verifies_from_its_beginning_and_from_its_anchor() {
        for count in [0, 1, 49, 50, 51, 130] {
            let (journal, anchor) = written(count);
            assert_eq!(verify("u-1", &journal, anchor.as_ref()), Ok(()), "{count}");
            assert!(journal.len() <= ENTRIES_MAX);
            assert_eq!(journal.last().map_or(0, |entry| entry.seq), count);
        }
        let (journal, anchor) = written(3);
        assert!(verify("u-2", &journal, anchor.as_ref()).is_err(), "it is the journal of another object");
    }

    #[test]
    fn entries_that_are_cut_off_from_the_front_are_missed() {
        for count in [2, 49, 50, 51, 130] {
            let (whole, _) = written(count);
            for cut in 1..=whole.len() {
                let last = &whole[cut - 1];
                let anchor = JournalAnchor { seq: last.seq, hash: last.hash.clone() };
                let broken = verify("u-1", &whole[cut..], Some(&anchor)).expect_err("it was cut");
                assert_eq!(broken.seq, last.seq, "{count}: {cut}");
            }
        }
        let (fifty, _) = written(50);
        let unfounded = JournalAnchor { seq: 0, hash: genesis("u-1") };
        assert_eq!(verify("u-1", &fifty[..49], Some(&unfounded)).map_err(|broken| broken.seq), Err(0));
    }

    #[test]
    fn it_survives_the_way_through_the_api_server() {
        let (mut journal, anchor) = written(2);
        let nanos = jiff::Timestamp::from_nanosecond(1_700_000_000_123_456_789).expect("in range");
        let mut anchor = anchor;
        append("u-1", &mut journal, &mut anchor, Line { time: nanos, ..line(3) });
        let text = serde_json::to_string(&journal).expect("JSON");
        let read: Vec<JournalEntry> = serde_json::from_str(&text).expect("JSON");
        assert_eq!(verify("u-1", &read, anchor.as_ref()), Ok(()));
    }

    #[test]
    fn a_shortened_or_replaced_journal_does_not_continue_what_was_known() {
        let (journal, anchor) = written(5);
        let end = (5, journal[4].hash.clone());
        assert!(continues(&journal, anchor.as_ref(), &end));
        assert!(!continues(&journal[..4], None, &end), "its end was cut off");
        assert!(!continues(&[], None, &end), "it was emptied");
        let (longer, dropped) = written(130);
        assert!(continues(&longer, dropped.as_ref(), &end), "it has only grown");
    }

    proptest! {
        #[test]
        fn every_change_of_any_entry_is_detected(count in 2_i64..60, at in 0_usize..60, field in 0_u8..7) {
            let (mut journal, anchor) = written(count);
            let at = at % journal.len();
            match field {
                0 => journal[at].action.push('x'),
                1 => journal[at].target.clear(),
                2 => journal[at].result = "Denied".into(),
                3 => journal[at].request_id = Some("forged".into()),
                4 => journal[at].time = MicroTime(jiff::Timestamp::UNIX_EPOCH),
                5 if at + 1 < journal.len() => drop(journal.remove(at)),
                _ if at + 1 < journal.len() => journal.swap(at, at + 1),
                _ => journal[at].seq += 1,
            }
            prop_assert!(verify("u-1", &journal, anchor.as_ref()).is_err());
        }
    }

    #[test]
    fn an_entry_names_as_many_requests_as_it_has_room_for() {
        let ids =
            |count: usize| -> Vec<String> { (0..count).map(|number| format!("{number:036}")).collect() };
        assert_eq!(requests(&ids(0)), None);
        assert_eq!(requests(&ids(1)), Some(ids(1)[0].clone()));
        assert_eq!(requests(&ids(3)), Some(ids(3).join(" ")));
        let many = requests(&ids(12)).expect("some");
        assert!(many.len() <= REQUEST_ID_MAX && many.starts_with(&ids(3).join(" ")), "{many}");
        assert!(many.ends_with(" and 9 more"), "{many}");
    }

    #[test]
    fn the_prior_state_is_the_one_that_the_journal_tells() {
        let recorded = |result: &str| {
            let mut journal = Vec::new();
            let line = Line { action: PRIOR.into(), result: result.into(), ..line(1) };
            append("u", &mut journal, &mut None, line);
            journal
        };
        assert!(tells_prior(&recorded("Disabled"), "Disabled"));
        assert!(tells_prior(&recorded("Disabled, as one recorded first"), "Disabled"));
        assert!(!tells_prior(&recorded("Disabled"), "Enabled") && !tells_prior(&recorded("Disabled"), "Dis"));
        assert!(tells_prior(&[], "Enabled"), "an entry that was dropped says nothing");
    }
}
