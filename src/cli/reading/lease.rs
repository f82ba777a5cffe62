//! Whether an operator leads, by its Lease: objects that nobody looks at are not on their way.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client};

use super::{within, words};
use crate::cli::output;
use crate::manifests::LEASE_NAME;

/// Durations of the Lease without a renewal after which its holder counts as gone: clocks differ.
const DURATIONS_MAX: i64 = 4;
/// Seconds that count as gone at the least.
const GONE_SECONDS_MIN: i64 = 60;

/// What the Lease says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leader {
    /// An operator leads.
    Leads { holder: String, renewed: Timestamp },
    /// One has led, and does no more; a holder that said farewell has no name.
    Gone { holder: Option<String>, renewed: Option<Timestamp>, namespace: String },
    /// There is no Lease.
    Missing,
    /// It could not be read.
    Unknown(String),
}

/// Reads the Lease in the operator's namespace.
pub async fn read(client: &Client, namespace: &str) -> Leader {
    let api: Api<Lease> = Api::namespaced(client.clone(), namespace);
    match within(api.get_opt(LEASE_NAME)).await {
        Err(error) => Leader::Unknown(error.to_string()),
        Ok(None) => Leader::Missing,
        Ok(Some(lease)) => judge(&lease, namespace, Timestamp::now()),
    }
}

fn judge(lease: &Lease, namespace: &str, now: Timestamp) -> Leader {
    let spec = lease.spec.clone().unwrap_or_default();
    let renewed = spec.renew_time.map(|time| time.0);
    let holder =
        spec.holder_identity.map(|holder| output::clean(&holder)).filter(|holder| !holder.is_empty());
    let duration = i64::from(spec.lease_duration_seconds.unwrap_or_default());
    let limit = SignedDuration::from_secs((duration * DURATIONS_MAX).max(GONE_SECONDS_MIN));
    match (holder, renewed) {
        (Some(holder), Some(renewed)) if now.duration_since(renewed) <= limit => {
            Leader::Leads { holder, renewed }
        }
        (holder, renewed) => Leader::Gone { holder, renewed, namespace: namespace.to_owned() },
    }
}

impl Leader {
    /// True if one has led, and does no more.
    pub fn is_gone(&self) -> bool {
        matches!(self, Leader::Gone { .. })
    }

    /// The word for programs.
    pub fn word(&self) -> &'static str {
        match self {
            Leader::Leads { .. } => "Leads",
            Leader::Gone { .. } => "Gone",
            Leader::Missing => "NoLease",
            Leader::Unknown(_) => "Unknown",
        }
    }

    /// What that means, and what to do.
    pub fn sentence(&self, now: Timestamp) -> String {
        match self {
            Leader::Leads { holder, renewed } => format!(
                "An operator leads ({holder}, renewed {} ago). If objects stay without a look, it may watch only another namespace: \
                 see its --namespace and its log.",
                words::ago(*renewed, now)
            ),
            Leader::Gone { holder, renewed, namespace } => {
                let who = holder.as_ref().map_or_else(
                    || "Nobody holds".to_owned(),
                    |holder| format!("{holder} holds, but no longer renews,"),
                );
                let since = renewed.map(|at| format!(", last renewed {} ago", words::ago(at, now)));
                format!(
                    "No operator leads: {who} Lease {LEASE_NAME} in namespace {namespace}{}. Everything below is as old as that. \
                     Next: kubectl get pods -n {namespace}",
                    since.unwrap_or_default()
                )
            }
            Leader::Missing => format!(
                "There is no Lease {LEASE_NAME}: perhaps no operator runs, or it runs without --leader-elect or in a namespace that \
                 --lease-namespace should name."
            ),
            Leader::Unknown(why) => {
                format!(
                    "Whether an operator leads is not known: its Lease {LEASE_NAME} could not be read: {why}."
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::coordination::v1::LeaseSpec;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

    #[test]
    fn a_leader_is_gone_once_it_has_not_renewed_for_long_and_not_for_a_clock_that_differs() {
        let now = Timestamp::from_second(1_000_000).expect("in range");
        let after = |seconds: i64, holder: &str| {
            let renewed = Timestamp::from_second(1_000_000 - seconds).expect("in range");
            let spec = LeaseSpec {
                holder_identity: Some(holder.to_owned()),
                lease_duration_seconds: Some(15),
                renew_time: Some(MicroTime(renewed)),
                ..LeaseSpec::default()
            };
            judge(&Lease { spec: Some(spec), ..Lease::default() }, "own", now)
        };
        assert_eq!(after(60, "a").word(), "Leads");
        assert_eq!(after(-60, "a").word(), "Leads", "its clock is ahead");
        assert!(after(61, "a").is_gone());
        assert!(after(0, "").is_gone(), "released");
        assert!(after(7_200, "a").sentence(now).contains("last renewed 2h ago"));
        assert!(judge(&Lease::default(), "own", now).is_gone());
    }
}
