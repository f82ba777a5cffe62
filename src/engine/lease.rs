//! Leader election over a Lease, by client-go's rules: trust no clock but our own monotonic one.
//!
//! A record is expired when *we* have not seen it change for its whole duration. Every write is a compare-and-swap. Election
//! does not fence: the creation protocol is what keeps two leaders harmless; the process exits when it loses the lease.

use std::future::Future;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::time::Instant;

/// How long a lease is valid without renewal; client-go's default.
pub const LEASE_DURATION: Duration = Duration::from_secs(15);
/// How long the holder tries to renew before it gives up.
pub const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// Pause between attempts.
pub const RETRY_PERIOD: Duration = Duration::from_secs(2);
/// How long one call may take.
const CALL_MAX: Duration = Duration::from_secs(3);

/// What is known of the lease, and when this process last saw it change. Pure: the clock is an argument.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Observation<T> {
    /// The record as last seen; None if there was none.
    pub record: Option<Record>,
    /// When this process saw the record change last.
    pub changed_at: T,
}

/// The part of a Lease that election reads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Record {
    /// Who holds it; empty after a release.
    pub holder: String,
    /// When the holder renewed it, in its own words; compared, never interpreted.
    pub renewed: String,
    /// How often it changed hands.
    pub transitions: i32,
    /// Its duration in seconds, as the holder wrote it.
    pub duration_seconds: u64,
}

/// What a candidate does with the lease.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Move {
    /// There is none: create it.
    Create,
    /// It is ours, released or expired: write it, on the version that was seen.
    Take {
        /// Whether it changes hands.
        transition: bool,
    },
    /// Somebody else holds it.
    Wait,
}

/// The rule: `unchanged` is how long this process has seen the record stand still.
pub fn next_move(record: Option<&Record>, unchanged: Duration, identity: &str) -> Move {
    let Some(record) = record else { return Move::Create };
    if record.holder == identity {
        return Move::Take { transition: false };
    }
    let expired = unchanged >= Duration::from_secs(record.duration_seconds);
    match record.holder.is_empty() || expired {
        true => Move::Take { transition: true },
        false => Move::Wait,
    }
}

/// One candidate.
pub struct Elector {
    api: Api<Lease>,
    name: String,
    identity: String,
    seen: Observation<Instant>,
    version: Option<String>,
    /// When the last attempt that won the lease began.
    renewed: Instant,
}

impl Elector {
    /// For the Lease `name` in `namespace`.
    pub fn new(client: Client, namespace: &str, name: &str, identity: &str) -> Elector {
        Elector {
            api: Api::namespaced(client, namespace),
            name: name.to_owned(),
            identity: identity.to_owned(),
            seen: Observation { record: None, changed_at: Instant::now() },
            version: None,
            renewed: Instant::now(),
        }
    }

    /// Waits until this process leads.
    pub async fn acquire(&mut self) {
        loop {
            match self.attempt().await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => tracing::warn!("leader election: {error}"),
            }
            tokio::time::sleep(RETRY_PERIOD.mul_f64(1.0 + rand::random::<f64>() * 0.2)).await;
        }
    }

    /// Renews until the lease is lost, or `shutdown` asks for its release. True if it may be released.
    ///
    /// The deadline counts from the moment at which the last successful attempt began, and ends a renewal that is still under
    /// way: the others count from when they saw the record change, which can be as early as that.
    pub async fn hold(&mut self, shutdown: impl Future<Output = ()>) -> bool {
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            let deadline = self.renewed + RENEW_DEADLINE;
            tokio::select! {
                biased;
                () = &mut shutdown => return true,
                () = tokio::time::sleep_until(deadline) => return false,
                () = tokio::time::sleep(RETRY_PERIOD) => {}
            }
            match tokio::time::timeout_at(deadline, self.attempt()).await {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) | Err(_) => return false,
                Ok(Err(error)) => tracing::warn!("lease renewal: {error}"),
            }
        }
    }

    /// Gives the lease back, so that the next leader need not wait for it to expire. Call only after all work has stopped.
    pub async fn release(&mut self) {
        let Some(record) = self.seen.record.clone().filter(|record| record.holder == self.identity) else {
            return;
        };
        let spec = LeaseSpec { holder_identity: Some(String::new()), ..self.spec(&record, false) };
        if let Err(error) = self.write(spec).await {
            tracing::debug!("the lease was not released: {error}");
        }
    }

    /// One look and at most one write. True if this process holds the lease now.
    async fn attempt(&mut self) -> Result<bool, String> {
        let began = Instant::now();
        let found = within(self.api.get_opt(&self.name)).await?;
        let record = found.as_ref().map(record_of);
        self.version = found.and_then(|lease| lease.metadata.resource_version);
        if record != self.seen.record {
            self.seen = Observation { record: record.clone(), changed_at: Instant::now() };
        }
        let transition = match next_move(record.as_ref(), self.seen.changed_at.elapsed(), &self.identity) {
            Move::Wait => return Ok(false),
            Move::Create => true,
            Move::Take { transition } => transition,
        };
        let spec = self.spec(&record.unwrap_or_default(), transition);
        let won = self.write(spec).await?;
        if won {
            self.renewed = began;
        }
        Ok(won)
    }

    fn spec(&self, record: &Record, transition: bool) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(LEASE_DURATION.as_secs() as i32),
            acquire_time: transition.then(|| now.clone()),
            renew_time: Some(now),
            lease_transitions: Some(record.transitions.saturating_add(i32::from(transition))),
            ..LeaseSpec::default()
        }
    }

    /// False if somebody else was faster.
    async fn write(&mut self, spec: LeaseSpec) -> Result<bool, String> {
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                resource_version: self.version.clone(),
                ..ObjectMeta::default()
            },
            spec: Some(spec),
        };
        let written = match &self.version {
            None => within(self.api.create(&PostParams::default(), &lease)).await,
            Some(_) => within(self.api.replace(&self.name, &PostParams::default(), &lease)).await,
        };
        match written {
            Ok(lease) => {
                self.seen = Observation { record: Some(record_of(&lease)), changed_at: Instant::now() };
                self.version = lease.metadata.resource_version;
                Ok(true)
            }
            Err(error)
                if error.contains("409") || error.contains("Conflict") || error.contains("AlreadyExists") =>
            {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}

async fn within<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, String> {
    match tokio::time::timeout(CALL_MAX, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(kube::Error::Api(status))) => {
            Err(format!("{} {}: {}", status.code, status.reason, status.message))
        }
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the Kubernetes API did not answer in time".to_owned()),
    }
}

fn record_of(lease: &Lease) -> Record {
    let spec = lease.spec.clone().unwrap_or_default();
    Record {
        holder: spec.holder_identity.unwrap_or_default(),
        renewed: spec.renew_time.map(|time| time.0.to_string()).unwrap_or_default(),
        transitions: spec.lease_transitions.unwrap_or_default(),
        duration_seconds: u64::try_from(spec.lease_duration_seconds.unwrap_or_default()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held_by(holder: &str) -> Record {
        Record { holder: holder.into(), renewed: "t".into(), transitions: 1, duration_seconds: 15 }
    }

    #[test]
    fn a_lease_is_taken_only_when_it_stood_still_for_its_whole_duration() {
        let other = held_by("b");
        assert_eq!(next_move(Some(&other), Duration::from_secs(14), "a"), Move::Wait);
        assert_eq!(next_move(Some(&other), Duration::from_secs(15), "a"), Move::Take { transition: true });
    }

    #[test]
    fn a_released_or_missing_lease_is_taken_at_once_and_our_own_is_renewed() {
        assert_eq!(next_move(None, Duration::ZERO, "a"), Move::Create);
        assert_eq!(next_move(Some(&held_by("")), Duration::ZERO, "a"), Move::Take { transition: true });
        assert_eq!(next_move(Some(&held_by("a")), Duration::ZERO, "a"), Move::Take { transition: false });
    }
}
