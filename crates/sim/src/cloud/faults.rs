//! Faults that tests plan: which call meets what, before or after its effect.
//!
//! Deliberately deterministic: a fault with a probability carries its own seed and its own count.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// When a fault strikes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum When {
    /// Before the call is looked at: a fault with a reply then leaves no effect.
    #[default]
    Before,
    /// After the effect: the caller cannot know that it happened.
    After,
}

/// What a fault puts in place of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Body {
    /// An HTML page, as a proxy would send.
    Html,
    /// The first half of the true body.
    Truncated,
    /// Nothing.
    Empty,
    /// The true body with every list emptied.
    EmptyList,
    /// A JSON array where an object belongs.
    Array,
    /// Plain text.
    Text,
    /// Six MiB of JSON.
    Huge,
    /// The true body with every status set to a word that nobody knows.
    UnknownStatus,
}

/// One planned fault. Without `nth` and `probability` it strikes every matching call.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Fault {
    /// The action, or `*` for all; `ecs:*` for all of one service.
    pub action: String,
    /// Strikes only the nth matching call, counted from 1 since the fault was set.
    pub nth: Option<u64>,
    /// Strikes each matching call with this probability, 0 to 1.
    pub probability: Option<f64>,
    /// The seed of the probability.
    pub seed: u64,
    /// Before or after the effect.
    pub when: When,
    /// Real milliseconds to wait first.
    pub delay_ms: u64,
    /// The HTTP status of the reply; 500 if only a code is given.
    pub status: Option<u16>,
    /// The error code of the reply.
    pub code: Option<String>,
    /// The message of the reply.
    pub message: Option<String>,
    /// Puts `x-acs-retry-after` on the reply, in milliseconds.
    pub retry_after_ms: Option<u64>,
    /// Replaces the body.
    pub body: Option<Body>,
    /// Breaks the connection off instead of answering.
    pub drop_connection: bool,
    /// Strikes at most so often.
    pub times: Option<u64>,
    /// How many matching calls it has seen; kept by the simulation.
    pub seen: u64,
    /// How often it has struck; kept by the simulation.
    pub struck: u64,
}

impl Fault {
    /// True if it does more than wait.
    pub fn replies(&self) -> bool {
        self.status.is_some() || self.code.is_some() || self.body.is_some() || self.drop_connection
    }

    fn matches(&self, service: &str, action: &str) -> bool {
        match self.action.as_str() {
            "*" | "" => true,
            pattern => match pattern.split_once(':') {
                Some((of, "*")) => of == service,
                Some((of, name)) => of == service && name == action,
                None => pattern == action,
            },
        }
    }

    fn strikes(&mut self, service: &str, action: &str) -> bool {
        if !self.matches(service, action) {
            return false;
        }
        self.seen += 1;
        let spent = self.times.is_some_and(|times| self.struck >= times);
        let turn = self.nth.is_none_or(|nth| nth == self.seen);
        let luck = self.probability.is_none_or(|probability| self.draw() < probability);
        let strikes = !spent && turn && luck;
        self.struck += u64::from(strikes);
        strikes
    }

    /// A number in 0..1 that depends on the seed and on how many calls were seen.
    fn draw(&self) -> f64 {
        let digest = Sha256::digest(format!("{}|{}", self.seed, self.seen));
        let bytes = [digest[0], digest[1], digest[2], digest[3]];
        f64::from(u32::from_be_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
    }
}

/// All planned faults.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// In the order in which they were set; the first that strikes wins.
    pub planned: Vec<Fault>,
}

impl Faults {
    /// The fault that strikes this call now. Every planned fault counts the call, whether an earlier one
    /// strikes or not.
    pub fn strike(&mut self, service: &str, action: &str, when: When) -> Option<Fault> {
        let mut struck = None;
        for fault in self.planned.iter_mut().filter(|fault| fault.when == when) {
            if struck.is_some() {
                fault.seen += u64::from(fault.matches(service, action));
            } else if fault.strikes(service, action) {
                struck = Some(fault.clone());
            }
        }
        struck
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(action: &str) -> Fault {
        Fault { action: action.into(), status: Some(500), ..Fault::default() }
    }

    #[test]
    fn the_nth_call_alone_is_struck() {
        let mut faults = Faults { planned: vec![Fault { nth: Some(2), ..fault("CopyImage") }] };
        let hits: Vec<bool> =
            (0..4).map(|_| faults.strike("ecs", "CopyImage", When::Before).is_some()).collect();
        assert_eq!(hits, [false, true, false, false]);
        assert!(faults.strike("ecs", "DescribeImages", When::Before).is_none());
    }

    #[test]
    fn a_probability_repeats_itself_for_the_same_seed() {
        let run = |seed| {
            let mut faults = Faults { planned: vec![Fault { probability: Some(0.3), seed, ..fault("*") }] };
            (0..200).map(|_| faults.strike("ecs", "X", When::Before).is_some()).collect::<Vec<bool>>()
        };
        assert_eq!(run(4), run(4));
        assert_ne!(run(4), run(5));
        let hits = run(4).into_iter().filter(|hit| *hit).count();
        assert!((30..=90).contains(&hits), "{hits}");
    }

    #[test]
    fn times_end_a_fault() {
        let mut faults = Faults { planned: vec![Fault { times: Some(2), ..fault("ecs:*") }] };
        let hits = (0..5).filter(|_| faults.strike("ecs", "X", When::Before).is_some()).count();
        assert_eq!(hits, 2);
        assert!(faults.strike("kms", "X", When::Before).is_none());
    }
}
