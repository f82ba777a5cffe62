//! Whether an operator leads, by its Lease: objects that nobody looks at are not on their way.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::{Api, Client};

use super::{Where, within, words};
use crate::cli::output;
use crate::engine::lease;
use crate::manifests::LEASE_NAME;

/// A leader that lives has written its Lease again after this long, whatever the clocks say.
const RENEWED_AFTER: Duration = lease::RETRY_PERIOD.saturating_add(Duration::from_secs(3));

/// What the Lease says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leader {
    /// An operator leads; where only its renewal was seen, its clock is not this machine's, and its times say nothing.
    Leads { holder: String, renewed: Option<Timestamp>, acquired: Option<Timestamp> },
    /// One has led, and does no more; a holder that said farewell has no name.
    Gone { holder: Option<String>, renewed: Option<Timestamp> },
    /// There is no Lease.
    Missing,
    /// It could not be read: why, and what to do.
    Unknown { why: String, next: String },
}

/// Reads the Lease in the operator's namespace.
pub async fn read(client: &Client, place: &Where) -> Leader {
    let api: Api<Lease> = Api::namespaced(client.clone(), &place.lease_namespace);
    look(async || within(api.get_opt(LEASE_NAME)).await).await.unwrap_or_else(|error| {
        let next = match error.code() {
            Some(403) => format!(
                "Somebody who administers the cluster can let you get leases.coordination.k8s.io in namespace {}.",
                output::clean(&place.lease_namespace)
            ),
            _ => format!("Try again; kubectl get --raw /readyz{} says how the API is.", place.kubectl()),
        };
        Leader::Unknown { why: error.to_string(), next }
    })
}

/// Looks at the Lease, and once more where its times prove nothing: clocks differ, and a leader that lives writes again.
pub async fn look<E>(read: impl AsyncFn() -> Result<Option<Lease>, E>) -> Result<Leader, E> {
    let Some(first) = read().await? else { return Ok(Leader::Missing) };
    let first = first.spec.unwrap_or_default();
    if let Some(leader) = judge(&first, Timestamp::now()) {
        return Ok(leader);
    }
    tokio::time::sleep(RENEWED_AFTER).await;
    let second = read().await?.and_then(|lease| lease.spec);
    Ok(moved(&first, second.as_ref()))
}

fn holder(spec: &LeaseSpec) -> Option<String> {
    let holder = spec.holder_identity.as_deref().map(output::clean);
    holder.filter(|holder| !holder.is_empty())
}

/// None: it has expired by our clock, or is of a time to come.
fn judge(spec: &LeaseSpec, now: Timestamp) -> Option<Leader> {
    let renewed = spec.renew_time.as_ref().map(|time| time.0);
    let Some(holder) = holder(spec) else { return Some(Leader::Gone { holder: None, renewed }) };
    let seconds = now.as_second() - renewed?.as_second();
    let duration = i64::from(spec.lease_duration_seconds.unwrap_or_default());
    let acquired = spec.acquire_time.as_ref().map(|time| time.0);
    // A holder whose clock is a little ahead writes a time to come.
    (-duration..=duration).contains(&seconds).then_some(Leader::Leads { holder, renewed, acquired })
}

fn moved(first: &LeaseSpec, second: Option<&LeaseSpec>) -> Leader {
    let after = second.filter(|second| *second != first).and_then(holder);
    match after {
        Some(holder) => Leader::Leads { holder, renewed: None, acquired: None },
        None => {
            let renewed = first.renew_time.as_ref().map(|time| time.0);
            Leader::Gone { holder: holder(first), renewed }
        }
    }
}

impl Leader {
    /// True if one has led, and does no more.
    pub fn is_gone(&self) -> bool {
        matches!(self, Leader::Gone { .. })
    }

    /// True if nobody can say whether one leads.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Leader::Unknown { .. })
    }

    /// The word for programs.
    pub fn word(&self) -> &'static str {
        match self {
            Leader::Leads { .. } => "Leads",
            Leader::Gone { .. } => "Gone",
            Leader::Missing => "NoLease",
            Leader::Unknown { .. } => "Unknown",
        }
    }

    /// What that means, and what to do.
    pub fn sentence(&self, place: &Where, now: Timestamp) -> String {
        let namespace = output::clean(&place.lease_namespace);
        let pods = format!("Next: kubectl get pods -n {namespace}{}", place.kubectl());
        match self {
            Leader::Leads { holder, renewed, .. } => {
                let how = match renewed {
                    Some(renewed) => format!("renewed {} ago", words::ago(*renewed, now)),
                    None => "which renews its Lease, with another clock than this machine's".to_owned(),
                };
                format!(
                    "An operator leads ({holder}, {how}). If objects stay without a look, it may watch only another namespace: \
                     see its --namespace and its log."
                )
            }
            Leader::Gone { holder, renewed } => {
                let who = holder.as_ref().map_or_else(
                    || "Nobody holds".to_owned(),
                    |holder| format!("{holder} holds, but no longer renews,"),
                );
                let since = renewed.map(|at| match at <= now {
                    true => format!(", last renewed {} ago", words::ago(at, now)),
                    false => format!(", last renewed at {at} by a clock that is ahead"),
                });
                let since = since.unwrap_or_default();
                format!(
                    "No operator leads: {who} Lease {LEASE_NAME} in namespace {namespace}{since}. Everything here is as old as \
                     that. {pods}"
                )
            }
            Leader::Missing => format!(
                "There is no Lease {LEASE_NAME} in namespace {namespace}: perhaps no operator runs, or it runs without \
                 --leader-elect or in a namespace that --lease-namespace should name. {pods}"
            ),
            Leader::Unknown { why, next } => format!(
                "Whether an operator leads is not known: Lease {LEASE_NAME} in namespace {namespace} could not be read: {why}. \
                 {next}"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
    use std::sync::Mutex;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    fn held(holder: &str, renewed: i64) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: Some(15),
            renew_time: Some(MicroTime(at(renewed))),
            ..LeaseSpec::default()
        }
    }

    #[test]
    fn a_fresh_renewal_proves_a_leader_and_an_old_or_early_one_nothing() {
        let now = 1_000_000;
        for (age, word) in
            [(0, Some("Leads")), (15, Some("Leads")), (-15, Some("Leads")), (16, None), (-3_600, None)]
        {
            let told = judge(&held("a", now - age), at(now)).map(|leader| leader.word());
            assert_eq!(told, word, "{age}");
        }
        let released = judge(&held("", now), at(now)).expect("told at once");
        assert!(released.is_gone());
        assert_eq!(judge(&LeaseSpec { renew_time: None, ..held("a", now) }, at(now)), None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_proves_nothing_is_looked_at_again() {
        let looked = async |specs: Vec<Option<LeaseSpec>>| {
            let specs = Mutex::new(specs.into_iter());
            let next = || specs.lock().expect("nobody panics").next().flatten();
            let read =
                async || Ok::<_, ()>(next().map(|spec| Lease { spec: Some(spec), ..Lease::default() }));
            look(read).await.expect("read")
        };
        let ahead = Timestamp::now().as_second() + 3_600;
        for time in [ahead, 5] {
            let (old, new) = (held("a", time), held("a", time + 2));
            let leads = looked(vec![Some(old.clone()), Some(new)]).await;
            assert_eq!(leads, Leader::Leads { holder: "a".to_owned(), renewed: None, acquired: None });
            for second in [Some(old.clone()), None, Some(held("", time + 2))] {
                let gone = looked(vec![Some(old.clone()), second]).await;
                assert_eq!(gone, Leader::Gone { holder: Some("a".to_owned()), renewed: Some(at(time)) });
            }
        }
        assert_eq!(looked(Vec::new()).await, Leader::Missing);
    }
}
