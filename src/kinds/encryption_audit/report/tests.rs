//! What is carried from one scan to the next, what is cut, and what is said in the end.

use serde_json::json;

use super::super::decide::{AuditMachine, Wanted};
use super::super::judge::{Judgement, Policy};
use super::super::outcome::{ClusterOutcome, Gap, RegionOutcome};
use super::*;
use crate::decision::Machine;
use crate::kind::Kind;

fn object(generation: i64, status: Option<EncryptionAuditStatus>) -> EncryptionAudit {
    let mut object: EncryptionAudit = serde_json::from_value(json!({
        "apiVersion": "ecskms.dev/v1alpha1", "kind": "EncryptionAudit",
        "metadata": {"name": "all", "uid": "u-1", "generation": generation}, "spec": {},
    }))
    .expect("an object");
    object.status = status;
    object
}

fn finding(id: &str, reason: Reason) -> Finding {
    Finding {
        sort: Sort::Disk,
        id: id.to_owned(),
        region: "cn-a".to_owned(),
        instance: None,
        namespace: None,
        reason,
        behind: reason,
        key: None,
        parts: Vec::new(),
    }
}

fn outcome(at: i64, findings: Vec<Finding>) -> Outcome {
    let found = u32::try_from(findings.len()).expect("few");
    let judgement = Judgement { findings, found, ..Judgement::default() };
    let region = RegionOutcome { at, judgement, read: true, ..RegionOutcome::default() };
    Outcome { at, next: at + 600, regions: [("cn-a".to_owned(), region)].into(), cluster: None }
}

fn told(object: &EncryptionAudit, outcome: Outcome, second: i64) -> Report<EncryptionAuditStatus> {
    let policy = Policy::default();
    let wanted = Wanted { policy, regions: Vec::new(), interval_seconds: 600 };
    let desired = Desired::Present(Box::new(wanted));
    let observed = Observed { scan: Scan::Done(Box::new(outcome)), told: false };
    let decision = AuditMachine::decide(&desired, &observed);
    assert_eq!(decision, Decision::Settled, "whatever was found");
    let now = jiff::Timestamp::from_second(second).expect("in range");
    object.report(&desired, &observed, &decision, now)
}

fn fact(report: &Report<EncryptionAuditStatus>, name: &str) -> Option<(&'static str, Reason)> {
    let fact = report.facts.iter().find(|fact| fact.name == name)?;
    Some((fact.truth.as_str(), fact.reason))
}

fn seconds(status: &EncryptionAuditStatus) -> Vec<(String, i64)> {
    status.findings.iter().map(|one| (one.id.clone(), one.first_seen.0.as_second())).collect()
}

#[test]
fn the_time_of_the_first_sight_stays_while_a_finding_does_whatever_its_reason() {
    let first = told(&object(1, None), outcome(100, vec![finding("d-1", Reason::ServiceKey)]), 100);
    assert_eq!(fact(&first, "Compliant"), Some(("False", Reason::ServiceKey)));
    let both = vec![finding("d-1", Reason::NotEncrypted), finding("d-2", Reason::KeyUnknown)];
    let second = told(&object(1, Some(first.status)), outcome(200, both), 200);
    assert_eq!(seconds(&second.status), [("d-1".to_owned(), 100), ("d-2".to_owned(), 200)]);
    assert_eq!(fact(&second, "Compliant"), Some(("False", Reason::NotEncrypted)));
    let third = told(&object(1, Some(second.status)), outcome(300, Vec::new()), 300);
    assert_eq!(
        (third.status.findings.len(), fact(&third, "Compliant")),
        (0, Some(("True", Reason::Compliant)))
    );
    let again =
        told(&object(1, Some(third.status)), outcome(400, vec![finding("d-1", Reason::NotEncrypted)]), 400);
    assert_eq!(seconds(&again.status), [("d-1".to_owned(), 400)]);
}

#[test]
fn what_cannot_be_read_now_has_not_gone_away_unless_another_spec_asked_for_it() {
    let first = told(&object(1, None), outcome(100, vec![finding("d-1", Reason::NotEncrypted)]), 100);
    let mut blind = outcome(200, Vec::new());
    let gap = Gap { text: "disks: no".into(), sorts: vec![Sort::Disk], passing: false };
    blind.regions.entry("cn-a".into()).or_default().gaps.push(gap);
    let same = told(&object(1, Some(first.status.clone())), blind.clone(), 200);
    assert_eq!(seconds(&same.status), [("d-1".to_owned(), 100)]);
    assert_eq!(fact(&same, "Compliant"), Some(("False", Reason::NotEncrypted)));
    assert_eq!(fact(&same, "PartialScan"), Some(("True", Reason::InventoryIncomplete)));
    assert_eq!(same.status.regions[0].error.as_deref(), Some("disks: no"));
    let other = told(&object(2, Some(first.status)), blind, 200);
    assert!(other.status.findings.is_empty());
    assert_eq!(fact(&other, "Compliant"), Some(("Unknown", Reason::InventoryIncomplete)));
}

#[test]
fn a_list_that_is_cut_says_so_and_counts_all() {
    let findings = (0..150).map(|number| finding(&format!("d-{number:03}"), Reason::NotEncrypted)).collect();
    let report = told(&object(1, None), outcome(100, findings), 100);
    assert_eq!((report.status.findings.len(), report.status.truncated), (100, true));
    assert_eq!(report.status.summary.map(|summary| summary.findings), Some(150));
    assert_eq!(report.status.findings[0].id, "d-000");
}

#[test]
fn a_cluster_that_hides_its_volumes_or_classes_is_told_apart() {
    let mut hidden = outcome(100, Vec::new());
    hidden.cluster =
        Some(ClusterOutcome { namespaces_error: Some("no".into()), ..ClusterOutcome::default() });
    let report = told(&object(1, None), hidden.clone(), 100);
    assert_eq!(report.status.namespaces_error.as_deref(), Some("no"));
    assert_eq!(
        fact(&report, "Compliant"),
        Some(("True", Reason::Compliant)),
        "whose a disk is does not matter"
    );
    let gap = Gap { text: "StorageClasses: no".into(), sorts: vec![Sort::StorageClass], passing: false };
    hidden.cluster = Some(ClusterOutcome { gap: Some(gap), ..ClusterOutcome::default() });
    let report = told(&object(1, None), hidden, 100);
    assert_eq!(report.status.storage_classes_error.as_deref(), Some("StorageClasses: no"));
    assert_eq!(fact(&report, "Compliant"), Some(("Unknown", Reason::InventoryIncomplete)));
    assert_eq!(fact(&report, "PartialScan"), Some(("True", Reason::InventoryIncomplete)));
}

#[test]
fn every_reason_of_a_finding_is_told_in_a_sentence_that_fits_into_status() {
    let reasons = [
        Reason::NotEncrypted,
        Reason::EncryptionUnsupported,
        Reason::ExemptionExpired,
        Reason::KeyPendingDeletion,
        Reason::KeyNotFound,
        Reason::KeyDisabled,
        Reason::KeyPendingImport,
        Reason::KeyMismatch,
        Reason::ServiceKey,
        Reason::KeyUnknown,
        Reason::DefaultOff,
    ];
    for reason in reasons {
        assert_ne!(rank(reason), u8::try_from(reasons.len()).expect("few"), "{reason} has a rank");
        for sort in Sort::ALL {
            for parts in 0..3 {
                let parts = (0..parts).map(|number| format!("d-{number}")).collect();
                let text = sentence(&Finding { sort, parts, ..finding("d-1", reason) });
                assert!(text.ends_with('.') && text.len() < 512, "{text}");
            }
        }
    }
    let expired = Finding { behind: Reason::NotEncrypted, ..finding("d-1", Reason::ExemptionExpired) };
    let text = sentence(&expired);
    assert!(text.contains("expired") && text.contains("not encrypted"), "{text}");
}
