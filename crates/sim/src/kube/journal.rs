//! The journal: a snapshot and an append-only log in one directory, so that a restarted server goes on where
//! it was.
//!
//! A snapshot is written beside the old one and renamed over it; log entries carry their revision, so a crash
//! between the two steps only leaves entries that are skipped. A half-written last line is dropped. Entries
//! are handed to the operating system one by one, not synced: they outlive a crash of this process, not of
//! the machine.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Entries after which the log is folded into a new snapshot.
const ENTRIES_MAX: usize = 20_000;
const SNAPSHOT: &str = "kube-snapshot.json";
const LOG: &str = "kube-log.jsonl";

/// One change, as the log holds it.
#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Entry<'a> {
    /// An object was written.
    Put {
        /// Revision of the change.
        revision: u64,
        /// Which store.
        store: String,
        /// Key in the store.
        key: String,
        /// The object.
        object: &'a Value,
    },
    /// An object was removed.
    Remove {
        /// Revision of the change.
        revision: u64,
        /// Which store.
        store: String,
        /// Key in the store.
        key: String,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Read {
    Put { revision: u64, store: String, key: String, object: Value },
    Remove { revision: u64, store: String, key: String },
}

#[derive(Deserialize)]
struct Snapshot {
    revision: u64,
    objects: Vec<(String, String, Value)>,
}

/// The open log.
pub struct Journal {
    folder: PathBuf,
    log: File,
    entries: usize,
}

/// What a directory held: the journal, the revision and the objects.
pub type Opened = (Journal, u64, Vec<(String, String, Value)>);

impl Journal {
    /// Opens `folder`, creating it if need be. A snapshot that does not parse is an error, never ignored.
    pub fn open(folder: &Path) -> io::Result<Opened> {
        fs::create_dir_all(folder)?;
        let mut revision = 0;
        let mut objects = std::collections::BTreeMap::new();
        match fs::read(folder.join(SNAPSHOT)) {
            Ok(bytes) => {
                let snapshot: Snapshot = serde_json::from_slice(&bytes).map_err(io::Error::other)?;
                revision = snapshot.revision;
                objects
                    .extend(snapshot.objects.into_iter().map(|(store, key, object)| ((store, key), object)));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        for entry in read_log(&folder.join(LOG))? {
            match entry {
                Read::Put { revision: at, store, key, object } if at > revision => {
                    objects.insert((store, key), object);
                    revision = at;
                }
                Read::Remove { revision: at, store, key } if at > revision => {
                    objects.remove(&(store, key));
                    revision = at;
                }
                _ => {}
            }
        }
        let objects: Vec<_> =
            objects.into_iter().map(|((store, key), object)| (store, key, object)).collect();
        let log = OpenOptions::new().create(true).append(true).open(folder.join(LOG))?;
        let mut journal = Journal { folder: folder.to_owned(), log, entries: 0 };
        journal.rewrite(revision, objects.iter().map(|(store, key, object)| (&**store, &**key, object)))?;
        Ok((journal, revision, objects))
    }

    /// Appends one change.
    pub fn append(&mut self, entry: &Entry<'_>) -> io::Result<()> {
        let mut line = serde_json::to_vec(entry).map_err(io::Error::other)?;
        line.push(b'\n');
        self.entries += 1;
        self.log.write_all(&line)
    }

    /// Whether the log should be folded into a snapshot.
    pub fn is_long(&self) -> bool {
        self.entries > ENTRIES_MAX
    }

    /// Writes a snapshot of `objects` and begins a new log.
    pub fn rewrite<'a>(
        &mut self,
        revision: u64,
        objects: impl Iterator<Item = (&'a str, &'a str, &'a Value)>,
    ) -> io::Result<()> {
        let (new, old) = (self.folder.join(format!("{SNAPSHOT}.new")), self.folder.join(SNAPSHOT));
        let objects: Vec<_> = objects.collect();
        let mut file = BufWriter::new(File::create(&new)?);
        serde_json::to_writer(&mut file, &json!({ "revision": revision, "objects": objects }))
            .map_err(io::Error::other)?;
        file.flush()?;
        file.get_ref().sync_all()?;
        fs::rename(&new, &old)?;
        self.log.set_len(0)?;
        self.entries = 0;
        Ok(())
    }
}

/// Reads the log up to its first line that does not parse, which only a crash in the middle of a write
/// leaves.
fn read_log(path: &Path) -> io::Result<Vec<Read>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut entries = Vec::new();
    for line in BufReader::new(file).split(b'\n') {
        match serde_json::from_slice(&line?) {
            Ok(entry) => entries.push(entry),
            Err(_) => break,
        }
    }
    Ok(entries)
}
