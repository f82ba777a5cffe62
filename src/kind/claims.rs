//! The claims that this process holds: who may send a creation request, and what became of it.
//!
//! Memory only. A crash forgets every claim, which is safe: the recorded intent then looks like one whose answer was lost.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::{Fault, World};
use crate::alibaba;
use crate::decision::Creation;
use crate::decision::creation::{Claim, Intent};
use crate::resource::IntentRecord;

/// The claims of one process, by object uid.
#[derive(Default)]
pub struct Claims(Mutex<HashMap<String, Held>>);

/// What is known of an answered send.
pub struct Answered(Held);

#[derive(Clone)]
struct Held {
    attempt: u32,
    taken: Instant,
    claim: Claim,
    id: Option<String>,
    /// True if the same request was, or may have been, sent before.
    replay: bool,
}

impl Claims {
    /// Called once the compare-and-swap that recorded the attempt is known to be won.
    ///
    /// `taken` is a moment before that write was sent. Counted from the answer, the send window of a process that was paused
    /// in between would begin when the others may already take the attempt for aged. `replay` says that the same request may have
    /// been sent before.
    pub fn open(&self, uid: &str, attempt: u32, taken: Instant, replay: bool) {
        let held = Held { attempt, taken, claim: Claim::Open, id: None, replay };
        self.lock().insert(uid.to_owned(), held);
    }

    /// What this process knows about the recorded attempt, and the id that the cloud answered.
    pub fn view(&self, uid: &str, attempt: u32, send_window: Duration) -> (Claim, Option<String>) {
        match self.lock().get_mut(uid) {
            Some(held) if held.attempt == attempt => {
                if held.claim == Claim::Open && held.taken.elapsed() >= send_window {
                    held.claim = Claim::Refused;
                }
                (held.claim, held.id.clone())
            }
            _ => (Claim::None, None),
        }
    }

    /// Takes out what is known of an answered send, right before it is written to status.
    ///
    /// Before and not after, because a write whose own answer is lost may have counted it: counted twice, it would pass another
    /// send for answered. An answer that is lost uncounted only makes its attempt age.
    pub fn take_answered(&self, uid: &str) -> Option<Answered> {
        let mut held = self.lock();
        let answered =
            held.get(uid).is_some_and(|held| matches!(held.claim, Claim::Accepted | Claim::Refused));
        if answered { held.remove(uid).map(Answered) } else { None }
    }

    /// Puts back what was taken out, after a write that certainly did not take effect.
    pub fn put_back(&self, uid: &str, answered: Answered) {
        self.lock().insert(uid.to_owned(), answered.0);
    }

    /// Gives up the right to send, before the finalizer goes: if the answer to that write is lost, an old version of the
    /// object in the store must find nothing that it could still send.
    pub fn renounce(&self, uid: &str) {
        if let Some(held) = self.lock().get_mut(uid).filter(|held| held.claim == Claim::Open) {
            held.claim = Claim::Refused;
        }
    }

    /// Called when the object is gone.
    pub fn forget(&self, uid: &str) {
        self.lock().remove(uid);
    }

    fn is_replay(&self, uid: &str) -> bool {
        self.lock().get(uid).is_some_and(|held| held.replay)
    }

    fn settle(&self, uid: &str, claim: Claim, id: Option<String>) {
        if let Some(held) = self.lock().get_mut(uid) {
            held.claim = claim;
            held.id = id;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Held>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl World {
    /// The creation facts of an object, for a look at the world that began at `began`.
    pub fn creation(&self, uid: &str, recorded: Option<&IntentRecord>, began: Timestamp) -> Creation {
        let Some(record) = recorded else { return Creation::default() };
        let settle =
            jiff::SignedDuration::try_from(self.settings.settle).unwrap_or(jiff::SignedDuration::MAX);
        let aged = record.recorded_at.0.checked_add(settle).is_ok_and(|settled| began > settled);
        // Once the attempt has aged, lookups by tag alone tell the truth: the resource that was answered may be gone, while
        // another send of the same attempt made a second one after that.
        let claim = match aged {
            true => Claim::None,
            false => self.claims.view(uid, record.attempt, self.settings.send_window).0,
        };
        let intent = Intent {
            attempt: record.attempt,
            sends: record.sends,
            answered: record.answered,
            accepted: record.accepted,
        };
        Creation { intent: Some(intent), claim, aged }
    }

    /// Sends the recorded request once, under the claim that this process holds, and remembers what became of it.
    ///
    /// The claim is looked at immediately before the send, because a paused process may wake up long after its decision.
    /// A request that was throttled, or found no connection, was definitely not executed and leaves the claim open, so that
    /// trying again costs no write.
    pub async fn send_once(
        &self,
        uid: &str,
        attempt: u32,
        send: impl Future<Output = Result<alibaba::Created, alibaba::Error>>,
    ) -> Result<(), Fault> {
        if self.claims.view(uid, attempt, self.settings.send_window).0 != Claim::Open {
            return Err(Fault::conflict("the right to send the creation request has passed; looking again"));
        }
        self.claims.settle(uid, Claim::Unclear, None);
        match send.await {
            Ok(created) => {
                self.claims.settle(uid, Claim::Accepted, Some(created.id));
                Ok(())
            }
            // The name is most likely taken by what the first send made: it appears, or the attempt ages. Told as a refusal, somebody
            // would be asked to remove it.
            Err(error) if error.class == alibaba::Class::NameTaken && self.claims.is_replay(uid) => {
                self.claims.settle(uid, Claim::Accepted, None);
                Ok(())
            }
            Err(error) => {
                let claim = match (error.definite(), error.class) {
                    (true, alibaba::Class::Throttled | alibaba::Class::Transient) => Claim::Open,
                    (true, _) => Claim::Refused,
                    (false, _) => Claim::Unclear,
                };
                self.claims.settle(uid, claim, None);
                Err(Fault::from(error))
            }
        }
    }
}
