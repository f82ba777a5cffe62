//! EncryptionAudit: what in an account is encrypted, under which sort of key, and what is not. Reads only, by type.
//!
//! Wires the files of the kind together. There is no `act`: the effect of this kind has no values. Cluster-scoped, because an account
//! belongs to no namespace.

use std::collections::BTreeMap;
use std::time::Duration;

use kube::core::DeserializeGuard;
use kube::{Api, Client};

use crate::decision::report::{Fact, Report};
use crate::decision::{Decision, Reason};
use crate::kind::{Call, Fault, Invalid, Kind, KindStatus, Owner, World};
use crate::resource::{AccountReference, SharedStatus, check};

pub mod api;
pub mod decide;
pub mod judge;
pub mod notes;
pub mod observe;
pub mod outcome;
pub mod promise;
pub mod report;
pub mod scan;

use api::{AccountDefaultPolicy, AuditExemption, Requirement};
pub use api::{EncryptionAudit, EncryptionAuditSpec, EncryptionAuditStatus};
use decide::{AuditMachine, Desired, NoEffect, Observed, Wanted};
use judge::{Exemption, Policy, Target};
use notes::Notes;

/// How soon a pass looks whether a scan that is under way has ended.
const POLL: Duration = Duration::from_secs(1);
/// Seconds from one scan to the next, at least and at most.
const INTERVAL_SECONDS: std::ops::RangeInclusive<u64> = 600..=7 * 24 * 3600;

/// The RAM actions that a scan takes.
const READS: &[&str] = &[
    "ecs:DescribeDiskDefaultKMSKeyId",
    "ecs:DescribeDiskEncryptionByDefaultStatus",
    "ecs:DescribeDisks",
    "ecs:DescribeImages",
    "ecs:DescribeInstances",
    "ecs:DescribeRegions",
    "ecs:DescribeSnapshots",
    "kms:DescribeKey",
];

impl KindStatus for EncryptionAuditStatus {
    fn shared(&self) -> &SharedStatus {
        &self.shared
    }

    fn shared_mut(&mut self) -> &mut SharedStatus {
        &mut self.shared
    }
}

impl Kind for EncryptionAudit {
    type Machine = AuditMachine;
    type Status = EncryptionAuditStatus;
    type Shared = Notes;
    const LOOKS_ONLY: bool = true;
    const READS: &[&str] = READS;
    const CONCERNS: &[&str] = &["Compliant", "PartialScan"];
    const FINALIZES: bool = false;

    fn api(client: Client, _namespace: Option<&str>) -> Api<Self> {
        Api::all(client)
    }

    fn guarded(client: Client, _namespace: Option<&str>) -> Api<DeserializeGuard<Self>> {
        Api::all(client)
    }

    fn account(&self) -> Option<&AccountReference> {
        self.spec.account_ref.as_ref()
    }

    fn status(&self) -> Option<&EncryptionAuditStatus> {
        self.status.as_ref()
    }

    fn desired(&self) -> Result<Desired, Invalid> {
        if self.metadata.deletion_timestamp.is_some() {
            return Ok(Desired::Absent);
        }
        let wanted = wanted(&self.spec)?;
        if self.spec.suspend {
            return Ok(Desired::Suspended);
        }
        Ok(Desired::Present(Box::new(wanted)))
    }

    async fn observe(&self, desired: &Desired, world: &World, notes: &Notes) -> Result<Observed, Fault> {
        observe::observe(self, desired, world, notes).await
    }

    async fn act(&self, _world: &World, _notes: &Notes, effect: &NoEffect) -> Result<(), Fault> {
        match *effect {}
    }

    /// An audit creates nothing.
    fn request(&self, _: &Desired, _: &Observed, _: &Owner, _: u32) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    /// What a scan will find, nobody can say before.
    fn foresee(&self, _: &Desired, _: &Observed, _: &Decision<NoEffect>) -> Option<Observed> {
        None
    }

    fn calls(&self, _: &Desired, _: &Observed, _: &Owner, effect: &NoEffect) -> Vec<Call> {
        match *effect {}
    }

    fn report(
        &self,
        desired: &Desired,
        observed: &Observed,
        decision: &Decision<NoEffect>,
        now: jiff::Timestamp,
    ) -> Report<EncryptionAuditStatus> {
        report::report(self, desired, observed, decision, now)
    }

    fn settled(&self, _desired: &Desired, _observed: &Observed) -> Reason {
        Reason::Scanned
    }

    fn in_doubt(&self, now: jiff::Timestamp, lasting: bool) -> Vec<Fact> {
        report::in_doubt(self, now, lasting)
    }

    /// By the outcome of the scan that was asked for, and not before.
    fn answered(&self, status: &EncryptionAuditStatus) -> bool {
        status.scanned_request == observe::order(self).request
    }

    fn gone(&self, notes: &Notes) {
        notes.forget(self.metadata.uid.as_deref().unwrap_or_default());
    }

    /// There is nothing to let go of.
    fn wants_finalizer(&self, _decision: &Decision<NoEffect>) -> bool {
        false
    }

    fn look_again(&self, notes: &Notes, now: jiff::Timestamp) -> Option<Duration> {
        let uid = self.metadata.uid.as_deref().unwrap_or_default();
        let next = match notes.pace(uid) {
            Some((true, _)) => return Some(POLL),
            Some((false, next)) => next,
            None => self.status.as_ref()?.next_scan_time.as_ref()?.0.as_second(),
        };
        let seconds = u64::try_from(next - now.as_second()).unwrap_or_default();
        Some(Duration::from_secs(seconds).max(POLL))
    }
}

/// The spec, checked once more: objects may have been stored around the schema's rules.
pub fn wanted(spec: &EncryptionAuditSpec) -> Result<Wanted, Invalid> {
    for region in &spec.regions {
        check::place(region).map_err(|problem| Invalid::field("spec.regions", problem))?;
    }
    let interval = check::duration(&spec.interval).filter(|seconds| INTERVAL_SECONDS.contains(seconds));
    let interval = interval.and_then(|seconds| i64::try_from(seconds).ok()).ok_or_else(|| {
        let text = check::quoted(&spec.interval);
        Invalid::field(
            "spec.interval",
            format!("{text} is not a duration such as 6h or 90m, between 10m and 168h"),
        )
    })?;
    for key in &spec.allowed_key_ids {
        let plain = key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if !plain || key.is_empty() || key.len() > 64 {
            let text = check::quoted(key);
            return Err(Invalid::field(
                "spec.allowedKeyIds",
                format!(
                    "{text} is not the id of a key; an alias or an ARN is none, DescribeKey shows the id"
                ),
            ));
        }
    }
    let exemptions = spec.exemptions.iter().enumerate().map(|(place, exemption)| exempted(place, exemption));
    let policy = Policy {
        customer_key: spec.require == Requirement::CustomerKey,
        allowed: spec.allowed_key_ids.iter().cloned().collect(),
        exemptions: exemptions.collect::<Result<_, _>>()?,
        account_default: spec.account_default == AccountDefaultPolicy::Report,
    };
    Ok(Wanted { policy, regions: spec.regions.clone(), interval_seconds: interval })
}

fn exempted(place: usize, exemption: &AuditExemption) -> Result<Exemption, Invalid> {
    const REASON_MIN: usize = 10;
    let invalid = |field: &str, problem: &str| {
        Err(Invalid::field(&format!("spec.exemptions[{place}]{field}"), problem))
    };
    if exemption.reason.trim().chars().count() < REASON_MIN {
        return invalid(".reason", "must say why, in 10 characters or more");
    }
    let expires_at = exemption.expires_at.0.as_second();
    match (&exemption.resource_id, &exemption.tag) {
        (Some(id), None) if !id.is_empty() => {
            Ok(Exemption { target: Target::Resource(id.clone()), expires_at })
        }
        (None, Some(tag)) if !tag.key.is_empty() => {
            let target = Target::Tag(tag.key.clone(), tag.value.clone());
            Ok(Exemption { target, expires_at })
        }
        _ => invalid("", "exactly one of resourceId and tag must be set, and not be empty"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn invalid(spec: Value) -> Option<String> {
        let spec: EncryptionAuditSpec = serde_json::from_value(spec).expect("it fits the type");
        wanted(&spec).err().map(|invalid| invalid.message)
    }

    #[test]
    fn a_spec_around_the_schema_is_refused_with_the_field_and_what_to_do() {
        assert_eq!(invalid(json!({})), None);
        let exemption = |fields: Value| {
            let mut one = json!({"reason": "a legacy machine", "expiresAt": "2026-01-01T00:00:00Z"});
            one.as_object_mut().expect("fields").extend(fields.as_object().expect("fields").clone());
            json!({"exemptions": [one]})
        };
        assert_eq!(invalid(exemption(json!({"resourceId": "d-1"}))), None);
        assert_eq!(invalid(exemption(json!({"tag": {"key": "audit", "value": ""}}))), None);
        for (spec, words) in [
            (json!({"interval": "5m"}), "spec.interval: \"5m\" is not a duration such as 6h"),
            (json!({"interval": "soon"}), "spec.interval"),
            (json!({"regions": ["Hangzhou"]}), "spec.regions: \"Hangzhou\" is not a region"),
            (json!({"allowedKeyIds": ["alias/a"]}), "an alias or an ARN is none"),
            (exemption(json!({})), "spec.exemptions[0]: exactly one of resourceId and tag"),
            (exemption(json!({"resourceId": "d-1", "tag": {"key": "a"}})), "exactly one of"),
            (exemption(json!({"resourceId": "d-1", "reason": "  because   "})), "spec.exemptions[0].reason"),
        ] {
            let message = invalid(spec.clone()).unwrap_or_default();
            assert!(message.contains(words), "{spec}: {message}");
        }
        let no_end = json!({"exemptions": [{"resourceId": "d-1", "reason": "a legacy machine"}]});
        assert!(serde_json::from_value::<EncryptionAuditSpec>(no_end).is_err(), "the end is mandatory");
    }
}
