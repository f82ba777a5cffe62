//! Injected faults: latency, refusals, dropped watches, forced compaction. For tests; off until asked for.
//!
//! Random choices come from a seed, so that a run can be repeated.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};

use super::statistics::Key;
use super::status::Refusal;

/// Longest delay that a rule may ask for.
const LATENCY_MILLISECONDS_MAX: u64 = 60_000;
/// Rules at one time.
const RULES_MAX: usize = 100;

/// The body of `PUT /_kube/faults`; it replaces what was set before.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Plan {
    /// Seed of the random choices.
    pub seed: u64,
    /// Tried in order; delays add up, the first refusal wins.
    pub rules: Vec<Rule>,
    /// End every present watch now, in the middle of the stream.
    pub drop_watches: bool,
    /// Forget every past revision now, so that older ones answer 410.
    pub compact: bool,
}

/// When to do what. Empty fields match everything.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Rule {
    /// Part of the User-Agent.
    pub agent: String,
    /// Verb, as in the statistics.
    pub verb: String,
    /// `plural.group`.
    pub resource: String,
    /// Subresource; `-` for none.
    pub subresource: String,
    /// Chance from 0 to 1; unset means always.
    pub probability: Option<f64>,
    /// How often it may still strike; unset means for ever.
    pub times: Option<u64>,
    /// How many matching requests pass first.
    pub skip: u64,
    /// Delay before the request is handled.
    pub latency_milliseconds: u64,
    /// 429, 500 or 503; unset means only delay.
    pub status: Option<u16>,
    /// Refuse only after the request has had its effect: the client does not learn that it succeeded.
    pub after_effect: bool,
    /// `Retry-After` of a 429 or 503, in seconds.
    pub retry_after_seconds: Option<u64>,
}

/// The present faults.
#[derive(Debug)]
pub struct Faults {
    plan: Plan,
    random: StdRng,
    drops: u64,
}

impl Default for Faults {
    fn default() -> Faults {
        Faults { plan: Plan::default(), random: StdRng::seed_from_u64(0), drops: 0 }
    }
}

/// What one request suffers.
#[derive(Clone, Debug)]
pub struct Suffering {
    /// Delay first.
    pub latency: Duration,
    /// Then refuse.
    pub refusal: Option<Refusal>,
    /// Whether the refusal replaces the answer instead of the effect.
    pub after_effect: bool,
}

impl Faults {
    /// Replaces the plan; refuses one that is out of bounds.
    pub fn set(&mut self, plan: Plan) -> Result<(), String> {
        if plan.rules.len() > RULES_MAX {
            return Err(format!("at most {RULES_MAX} rules"));
        }
        for rule in &plan.rules {
            if rule.latency_milliseconds > LATENCY_MILLISECONDS_MAX {
                return Err(format!("latencyMilliseconds may be at most {LATENCY_MILLISECONDS_MAX}"));
            }
            if rule.status.is_some_and(|status| ![429, 500, 503].contains(&status)) {
                return Err("status must be 429, 500 or 503".to_owned());
            }
            if rule.probability.is_some_and(|chance| !(0.0..=1.0).contains(&chance)) {
                return Err("probability must be between 0 and 1".to_owned());
            }
        }
        self.random = StdRng::seed_from_u64(plan.seed);
        self.drops += u64::from(plan.drop_watches);
        self.plan = Plan { drop_watches: false, compact: false, ..plan };
        Ok(())
    }

    /// What is set.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Changes whenever watches are to be dropped.
    pub fn drops(&self) -> u64 {
        self.drops
    }

    /// What a request suffers; uses up the rules that strike.
    pub fn strike(&mut self, key: &Key) -> Suffering {
        let mut suffering = Suffering { latency: Duration::ZERO, refusal: None, after_effect: false };
        for rule in self.plan.rules.iter_mut().filter(|rule| rule.matches(key)) {
            if rule.skip > 0 {
                rule.skip -= 1;
                continue;
            }
            let chance = rule.probability.unwrap_or(1.0);
            if rule.times == Some(0) || (chance < 1.0 && !self.random.random_bool(chance)) {
                continue;
            }
            rule.times = rule.times.map(|times| times - 1);
            suffering.latency += Duration::from_millis(rule.latency_milliseconds);
            if let Some(status) = rule.status {
                suffering.refusal = Some(refusal(status, rule.retry_after_seconds));
                suffering.after_effect = rule.after_effect;
                break;
            }
        }
        suffering
    }
}

impl Rule {
    fn matches(&self, key: &Key) -> bool {
        let subresource = if self.subresource == "-" {
            key.subresource.is_empty()
        } else {
            self.subresource == key.subresource
        };
        key.agent.contains(&self.agent)
            && (self.verb.is_empty() || self.verb == key.verb)
            && (self.resource.is_empty() || self.resource == key.resource)
            && (self.subresource.is_empty() || subresource)
    }
}

fn refusal(status: u16, retry_after_seconds: Option<u64>) -> Refusal {
    let (reason, words) = match status {
        429 => ("TooManyRequests", "Too many requests, please try again later."),
        503 => ("ServiceUnavailable", "the server is currently unable to handle the request"),
        _ => ("InternalError", "Internal error occurred: injected fault"),
    };
    let retry_after_seconds = retry_after_seconds.or((status == 429).then_some(1));
    let details = retry_after_seconds.map(|seconds| serde_json::json!({ "retryAfterSeconds": seconds }));
    Refusal { details, retry_after_seconds, ..Refusal::new(status, reason, words) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(verb: &str, resource: &str, subresource: &str) -> Key {
        let text = str::to_owned;
        Key { agent: text("a/1"), verb: text(verb), resource: text(resource), subresource: text(subresource) }
    }

    fn plan(rules: Vec<Rule>) -> Plan {
        Plan { rules, ..Plan::default() }
    }

    #[test]
    fn delays_add_up_until_the_first_refusal() {
        let slow = Rule { latency_milliseconds: 5, ..Rule::default() };
        let refuse = Rule { status: Some(503), latency_milliseconds: 1, ..Rule::default() };
        let mut faults = Faults::default();
        faults.set(plan(vec![slow.clone(), refuse, slow])).unwrap();
        let suffering = faults.strike(&key("get", "things", ""));
        assert_eq!(suffering.latency, Duration::from_millis(6));
        assert_eq!(suffering.refusal.unwrap().code, 503);
    }

    #[test]
    fn a_rule_strikes_only_what_it_names() {
        let rule = Rule {
            subresource: "-".to_owned(),
            verb: "patch".to_owned(),
            status: Some(500),
            ..Rule::default()
        };
        let mut faults = Faults::default();
        faults.set(plan(vec![rule])).unwrap();
        let refused = |faults: &mut Faults, verb, subresource| {
            faults.strike(&key(verb, "things", subresource)).refusal.is_some()
        };
        assert!(refused(&mut faults, "patch", ""));
        assert!(!refused(&mut faults, "patch", "status"));
        assert!(!refused(&mut faults, "get", ""));
    }

    #[test]
    fn plans_out_of_bounds_are_refused_and_change_nothing() {
        let mut faults = Faults::default();
        faults.set(plan(vec![Rule::default(); RULES_MAX])).unwrap();
        let too_slow = Rule { latency_milliseconds: LATENCY_MILLISECONDS_MAX + 1, ..Rule::default() };
        for wrong in [
            vec![Rule::default(); RULES_MAX + 1],
            vec![too_slow],
            vec![Rule { status: Some(418), ..Rule::default() }],
            vec![Rule { probability: Some(1.5), ..Rule::default() }],
        ] {
            assert!(faults.set(plan(wrong)).is_err());
            assert_eq!(faults.plan().rules.len(), RULES_MAX);
        }
    }
}
