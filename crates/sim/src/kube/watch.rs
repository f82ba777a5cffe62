//! Watches: the initial events, the changes, bookmarks, the end.
//!
//! A watch holds a revision and reads what came after it from the store when it is woken; it queues nothing,
//! so a slow client costs no memory. One that falls behind the store's memory gets 410, as in a real cluster.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, Stream};
use rand::RngExt;
use serde_json::{Value, json};
use tokio::sync::watch::Receiver;
use tokio::time::{Instant, sleep_until};

use super::call::Call;
use super::options::ListOptions;
use super::read;
use super::selector::Selector;
use super::server::{Server, Signal};
use super::state::State;
use super::status::Refusal;
use super::store::{Change, Event};
use super::view::View;

/// Shortest length of a watch that names none, in seconds; the longest is twice that, as in kube-apiserver.
const SECONDS_MIN: u64 = 1800;
/// Time between bookmarks of a quiet watch.
const BOOKMARK_SECONDS: u64 = 60;
/// How long before the end the last bookmark comes.
const BOOKMARK_BEFORE_END_SECONDS: u64 = 2;
/// Events turned into frames under one hold of the lock.
const BATCH_MAX: usize = 256;

/// A watch in progress.
pub struct Watch {
    server: Server,
    call: Call,
    selector: Selector,
    view: View,
    options: ListOptions,
    signal: Receiver<Signal>,
    cursor: u64,
    drops: u64,
    first: bool,
    ended: bool,
    frames: VecDeque<io::Result<Vec<u8>>>,
    deadline: Instant,
    bookmark: Instant,
}

impl Watch {
    /// Judges the request and takes the initial events.
    pub fn begin(server: &Server, state: &State, call: Call, view: View) -> Result<Watch, Refusal> {
        let options = ListOptions::parse(&call.query)?;
        let selector = Selector::parse(&call.query, call.resource())?;
        let seconds =
            options.timeout_seconds.unwrap_or_else(|| SECONDS_MIN + rand::rng().random_range(0..SECONDS_MIN));
        let deadline = Instant::now() + Duration::from_secs(seconds);
        let cursor = state.store.revision();
        let mut watch = Watch {
            server: server.clone(),
            selector,
            view,
            signal: server.subscribe(),
            cursor,
            drops: state.faults.drops(),
            first: true,
            ended: false,
            frames: VecDeque::new(),
            deadline,
            bookmark: next_bookmark(deadline),
            options,
            call,
        };
        watch.start(state)?;
        Ok(watch)
    }

    /// The frames as a body.
    pub fn into_stream(self) -> impl Stream<Item = io::Result<Vec<u8>>> {
        stream::unfold(self, |mut watch| async move { watch.next().await.map(|frame| (frame, watch)) })
    }

    fn start(&mut self, state: &State) -> Result<(), Refusal> {
        let asked = self.options.version;
        let initial = match self.options.initial_events {
            Some(initial) => initial,
            None => asked.is_none_or(|version| version == 0),
        };
        if !initial {
            self.cursor = asked.filter(|version| *version > 0).unwrap_or(self.cursor);
            return Ok(());
        }
        read::check_not_future(&state.store, asked.unwrap_or(0))?;
        for (_, object) in state.store.list(&self.call.resource().store, &read::prefix(&self.call)) {
            if self.selector.matches(&object) {
                self.push("ADDED", |watch| watch.view.event(&object, watch.first));
            }
        }
        if self.options.initial_events == Some(true) && self.options.bookmarks {
            self.push("BOOKMARK", |watch| watch.view.bookmark(watch.cursor, true, watch.first));
        }
        Ok(())
    }

    fn push(&mut self, kind: &str, object: impl Fn(&Watch) -> Value) {
        let object = object(self);
        self.first = false;
        let mut frame = json!({ "type": kind, "object": object }).to_string().into_bytes();
        frame.push(b'\n');
        self.frames.push_back(Ok(frame));
    }

    async fn next(&mut self) -> Option<io::Result<Vec<u8>>> {
        loop {
            if let Some(frame) = self.frames.pop_front() {
                return Some(frame);
            }
            if self.ended {
                return None;
            }
            let more = self.collect();
            if more || !self.frames.is_empty() || self.ended {
                continue;
            }
            let now = Instant::now();
            if now >= self.deadline {
                return None;
            }
            if self.options.bookmarks && now >= self.bookmark {
                self.bookmark = next_bookmark(self.deadline);
                self.push("BOOKMARK", |watch| watch.view.bookmark(watch.cursor, false, watch.first));
                continue;
            }
            let wake = if self.options.bookmarks { self.bookmark.min(self.deadline) } else { self.deadline };
            tokio::select! {
                changed = self.signal.changed() => self.ended |= changed.is_err(),
                () = sleep_until(wake) => {}
            }
        }
    }

    /// Turns what happened since the cursor into frames; returns whether there may be more.
    fn collect(&mut self) -> bool {
        let signal = *self.signal.borrow_and_update();
        if signal.closing {
            self.ended = true;
            return false;
        }
        let server = self.server.clone();
        let state = server.lock();
        if state.faults.drops() != self.drops {
            self.frames.push_back(Err(io::Error::other("the watch was dropped by a fault")));
            self.ended = true;
            return false;
        }
        let Some(changes) = state.store.changes_after(self.cursor) else {
            let words = format!("too old resource version: {} ({})", self.cursor, state.store.compacted());
            let status = Refusal::expired(words).to_json();
            self.push("ERROR", |_| status.clone());
            self.ended = true;
            return false;
        };
        let (store, prefix) = (Arc::clone(&self.call.resource().store), read::prefix(&self.call));
        let mut more = false;
        for event in changes {
            if self.frames.len() >= BATCH_MAX {
                more = true;
                break;
            }
            self.cursor = event.revision;
            if event.store == store && event.key.starts_with(&prefix) {
                self.push_change(event);
            }
        }
        more
    }

    /// An object that enters a selector is ADDED, one that leaves it is DELETED in its last matching state.
    fn push_change(&mut self, event: &Event) {
        let before = event.previous.as_ref().is_some_and(|previous| self.selector.matches(previous));
        let after = event.change != Change::Deleted && self.selector.matches(&event.object);
        match (before, after) {
            (false, false) => {}
            (false, true) => self.push("ADDED", |watch| watch.view.event(&event.object, watch.first)),
            (true, true) => self.push("MODIFIED", |watch| watch.view.event(&event.object, watch.first)),
            (true, false) => {
                let mut last = event.previous.as_deref().cloned().unwrap_or_default();
                last["metadata"]["resourceVersion"] = json!(event.revision.to_string());
                let last = Arc::new(last);
                self.push("DELETED", |watch| watch.view.event(&last, watch.first));
            }
        }
    }
}

fn next_bookmark(deadline: Instant) -> Instant {
    let regular = Instant::now() + Duration::from_secs(BOOKMARK_SECONDS);
    let last = deadline.checked_sub(Duration::from_secs(BOOKMARK_BEFORE_END_SECONDS)).unwrap_or(deadline);
    if last > Instant::now() { regular.min(last) } else { regular }
}
