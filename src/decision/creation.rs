//! "Intend, replay, adopt": what may be done about the one creation that an object is allowed to have.
//!
//! Pure facts and one function. Reading status, building parameters and sending requests happen elsewhere; the proof that a
//! crash between any two steps leaves exactly one resource is the model in `tests/model/`, which runs this very code.

use super::Take;

/// What is known of the creation when a complete lookup found no resource.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Creation {
    /// The recorded attempt, from status; None before the first.
    pub intent: Option<Intent>,
    /// What this very process knows of its own claim on the recorded attempt.
    pub claim: Claim,
    /// True if this look at the world began later than the settle time after the last moment the intent could be sent.
    ///
    /// Only then does an empty lookup prove that no request of the attempt has made, or ever will make, anything.
    pub aged: bool,
}

/// One recorded attempt. All requests of an attempt are identical: same token, same tags, same parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Intent {
    /// Counts from 1; never reused.
    pub attempt: u32,
    /// How often some process was allowed to send the request.
    pub sends: u32,
    /// How many of these sends are known to have been answered definitely (accepted, or refused before any effect).
    pub answered: u32,
    /// True once any send was accepted.
    pub accepted: bool,
}

/// This process's own knowledge of the attempt; lost in a crash, which is safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Claim {
    /// This process holds no right to send.
    #[default]
    None,
    /// This process won the compare-and-swap and may send once, now. Nothing was sent under it yet, or all was throttled.
    Open,
    /// The cloud accepted the request; not yet recorded in status.
    Accepted,
    /// The cloud refused definitely, or the claim ran out unused: this send made nothing. Not yet recorded in status.
    Refused,
    /// Nobody knows whether the request was executed.
    Unclear,
}

/// The next step once a complete lookup found nothing. Kinds translate it into their own effects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Write intent `attempt` by compare-and-swap, with freshly built parameters.
    Record { attempt: u32 },
    /// Write one more send of the same intent by compare-and-swap: the right to replay the same request.
    Replay { attempt: u32 },
    /// Send the recorded request; this process holds the claim.
    Send { attempt: u32 },
    /// Accepted, but lookups do not show it yet.
    Appearing,
    /// The attempt must age before anything may be concluded.
    Settle,
}

impl Creation {
    /// How often one attempt may be sent before it must age.
    pub const SENDS_MAX: u32 = 3;

    /// What to do next, given that a complete lookup found nothing.
    pub fn step(&self) -> Step {
        let Some(intent) = self.intent else { return Step::Record { attempt: 1 } };
        if self.claim == Claim::Open {
            return Step::Send { attempt: intent.attempt };
        }
        if self.aged {
            return Step::Record { attempt: intent.attempt + 1 };
        }
        if self.is_accepted() {
            return Step::Appearing;
        }
        if self.every_send_answered() {
            return Step::Record { attempt: intent.attempt + 1 };
        }
        if intent.sends < Self::SENDS_MAX {
            return Step::Replay { attempt: intent.attempt };
        }
        Step::Settle
    }

    /// True if an empty lookup proves that nothing is there and nothing will be. Holds the finalizer, never a creation, back.
    ///
    /// What was accepted exists, though lookups may not show it yet; so an accepted send must also have been `seen`, by the
    /// id that status remembers. After several sends one of them may have made a second resource once the first was deleted,
    /// because the cloud may forget a token with its resource: only age rules that out.
    pub fn nothing_in_flight(&self, seen: bool) -> bool {
        let Some(intent) = self.intent else { return true };
        self.aged || (self.every_send_answered() && (!self.is_accepted() || (seen && intent.sends == 1)))
    }

    /// What is known once the right to send was taken.
    pub fn claimed(&self, take: Take) -> Creation {
        let intent = match (take, self.intent) {
            (Take::Replay { .. }, Some(intent)) => Intent { sends: intent.sends + 1, ..intent },
            (Take::Record { attempt } | Take::Replay { attempt }, _) => {
                Intent { attempt, sends: 1, answered: 0, accepted: false }
            }
        };
        Creation { intent: Some(intent), claim: Claim::Open, aged: false }
    }

    /// What is known once the send was accepted.
    pub fn accepted(&self) -> Creation {
        Creation { claim: Claim::Accepted, ..self.clone() }
    }

    /// True if a send is known to have been accepted.
    pub fn is_accepted(&self) -> bool {
        self.claim == Claim::Accepted || self.intent.is_some_and(|intent| intent.accepted)
    }

    /// An open claim counts as answered: its holder is the one deciding, and has sent nothing under it.
    fn every_send_answered(&self) -> bool {
        let own = matches!(self.claim, Claim::Open | Claim::Accepted | Claim::Refused);
        self.intent.is_some_and(|intent| intent.answered + u32::from(own) >= intent.sends)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn creation(sends: u32, answered: u32, accepted: bool, claim: Claim, aged: bool) -> Creation {
        Creation { intent: Some(Intent { attempt: 4, sends, answered, accepted }), claim, aged }
    }

    #[test]
    fn the_first_attempt_is_recorded_before_anything_is_sent() {
        assert_eq!(Creation::default().step(), Step::Record { attempt: 1 });
        assert!(Creation::default().nothing_in_flight(false));
    }

    #[test]
    fn only_the_holder_of_the_claim_sends() {
        assert_eq!(creation(1, 0, false, Claim::Open, false).step(), Step::Send { attempt: 4 });
        assert_eq!(creation(1, 0, false, Claim::None, false).step(), Step::Replay { attempt: 4 });
        assert_eq!(creation(1, 0, false, Claim::Unclear, false).step(), Step::Replay { attempt: 4 });
    }

    #[test]
    fn a_new_attempt_needs_every_send_refused_or_the_attempt_aged() {
        assert_eq!(creation(1, 0, false, Claim::Refused, false).step(), Step::Record { attempt: 5 });
        assert_eq!(creation(2, 1, false, Claim::Refused, false).step(), Step::Record { attempt: 5 });
        assert_eq!(creation(2, 0, false, Claim::Refused, false).step(), Step::Replay { attempt: 4 });
        assert_eq!(creation(3, 2, false, Claim::None, false).step(), Step::Settle);
        assert_eq!(creation(3, 2, false, Claim::None, true).step(), Step::Record { attempt: 5 });
    }

    #[test]
    fn an_accepted_request_is_waited_for_and_never_replayed() {
        assert_eq!(creation(1, 0, false, Claim::Accepted, false).step(), Step::Appearing);
        assert_eq!(creation(2, 1, true, Claim::None, false).step(), Step::Appearing);
    }

    #[test]
    fn the_finalizer_waits_for_sends_that_nobody_saw_answered() {
        assert!(!creation(1, 0, false, Claim::None, false).nothing_in_flight(true));
        assert!(!creation(2, 1, true, Claim::None, false).nothing_in_flight(true));
        assert!(creation(1, 1, false, Claim::None, false).nothing_in_flight(false));
        assert!(creation(2, 1, false, Claim::Refused, false).nothing_in_flight(false));
        assert!(creation(2, 0, false, Claim::Unclear, true).nothing_in_flight(false));
    }

    #[test]
    fn the_finalizer_waits_for_an_accepted_resource_that_nobody_has_seen() {
        for accepted in
            [creation(1, 0, false, Claim::Accepted, false), creation(1, 1, true, Claim::None, false)]
        {
            assert!(!accepted.nothing_in_flight(false), "lists may lag behind the answer");
            assert!(accepted.nothing_in_flight(true));
        }
        let twice = creation(2, 1, true, Claim::Accepted, false);
        assert!(
            !twice.nothing_in_flight(true),
            "the second may have come after the deletion of what the first made"
        );
        assert!(Creation { aged: true, ..twice }.nothing_in_flight(false));
    }
}
