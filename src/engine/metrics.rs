//! Counters in OpenMetrics form. Labels are words of closed lists, never names of objects.

use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::pace::Outcome;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PassLabels {
    kind: String,
    outcome: String,
    reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindWordLabels {
    kind: String,
    what: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CloudLabels {
    service: String,
    action: String,
    class: String,
}

type Counters<L> = Family<L, Counter<u64, AtomicU64>>;

/// The operator's metrics.
pub struct Metrics {
    registry: Registry,
    passes: Counters<PassLabels>,
    effects: Counters<KindWordLabels>,
    writes: Counters<KindWordLabels>,
    cloud_calls: Family<CloudLabels, Gauge<i64, AtomicI64>>,
    seconds: Family<KindLabels, Histogram>,
    leader: Gauge<i64, AtomicI64>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("ecskms");
        let passes = Counters::default();
        let effects = Counters::default();
        let writes = Counters::default();
        let cloud_calls = Family::default();
        let seconds = Family::<KindLabels, Histogram>::new_with_constructor(|| {
            Histogram::new(exponential_buckets(0.001, 4.0, 9))
        });
        let leader = Gauge::default();
        registry.register("passes", "Passes over objects, by outcome and reason", passes.clone());
        registry.register("effects", "Mutations asked of the cloud, by effect", effects.clone());
        registry.register("kubernetes_writes", "Writes to the Kubernetes API", writes.clone());
        registry.register(
            "cloud_calls",
            "Calls to Alibaba Cloud since the start, by action and class of answer",
            cloud_calls.clone(),
        );
        registry.register("pass_seconds", "Duration of a pass", seconds.clone());
        registry.register("leader", "1 while this process leads", leader.clone());
        Metrics { registry, passes, effects, writes, cloud_calls, seconds, leader }
    }
}

impl Metrics {
    /// One pass is over.
    pub fn observe_pass(&self, kind: &str, outcome: &Outcome, took: Duration) {
        let (word, reason) = match outcome {
            Outcome::Settled => ("settled", ""),
            Outcome::Waiting(_) => ("waiting", ""),
            Outcome::Blocked(reason) => ("blocked", reason.as_str()),
            Outcome::Gone => ("gone", ""),
            Outcome::Fault(fault) => ("fault", fault.reason.as_str()),
        };
        let labels =
            PassLabels { kind: kind.to_owned(), outcome: word.to_owned(), reason: reason.to_owned() };
        self.passes.get_or_create(&labels).inc();
        self.seconds.get_or_create(&KindLabels { kind: kind.to_owned() }).observe(took.as_secs_f64());
    }

    /// One effect is about to be performed.
    pub fn count_effect(&self, kind: &str, effect: &str) {
        self.effects.get_or_create(&KindWordLabels { kind: kind.to_owned(), what: effect.to_owned() }).inc();
    }

    /// One write to the Kubernetes API is about to be sent.
    pub fn count_write(&self, kind: &str, what: &str) {
        self.writes.get_or_create(&KindWordLabels { kind: kind.to_owned(), what: what.to_owned() }).inc();
    }

    /// Calls to the cloud since the start; the caller reads them off its gateway.
    pub fn set_cloud_calls(&self, service: &str, action: &str, class: &str, count: u64) {
        let labels =
            CloudLabels { service: service.to_owned(), action: action.to_owned(), class: class.to_owned() };
        self.cloud_calls.get_or_create(&labels).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Whether this process leads.
    pub fn set_leader(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// The text that a scraper reads.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        match prometheus_client::encoding::text::encode(&mut text, &self.registry) {
            Ok(()) => text,
            Err(error) => format!("# metrics could not be written: {error}\n"),
        }
    }
}
