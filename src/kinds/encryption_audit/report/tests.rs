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
fn what_was_compliant_is_in_doubt_once_its_next_look_fails_and_that_is_said_once() {
    let doubt = |object: &EncryptionAudit, second: i64, lasting: bool| {
        let facts = in_doubt(object, jiff::Timestamp::from_second(second).expect("in range"), lasting);
        facts.into_iter().map(|fact| (fact.name, fact.truth.as_str())).collect::<Vec<_>>()
    };
    let with = |status: &EncryptionAuditStatus, conditions: &[(&str, &str)]| {
        let mut object = object(1, Some(status.clone()));
        let list = conditions.iter().map(|(name, truth)| {
            json!({"type": name, "status": truth, "reason": "Any", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"})
        });
        let list = serde_json::from_value(json!(list.collect::<Vec<_>>())).expect("conditions");
        object.status.as_mut().expect("a status").shared.conditions = list;
        object
    };
    assert_eq!(doubt(&object(1, None), 9_999, true), [], "nothing was ever said");
    // The scan after this one is due at 700.
    let status = told(&object(1, None), outcome(100, Vec::new()), 100).status;
    let good = with(&status, &[("Ready", "True"), ("Compliant", "True")]);
    let both = [("PartialScan", "True"), ("Compliant", "Unknown")];
    assert_eq!((doubt(&good, 699, true), doubt(&good, 700, true)), (vec![], both.to_vec()));
    assert_eq!((doubt(&good, 1_299, false), doubt(&good, 1_300, false)), (vec![], both.to_vec()));
    let bad = with(&status, &[("Ready", "True"), ("Compliant", "False")]);
    assert_eq!(doubt(&bad, 700, true), [("PartialScan", "True")], "findings stay");
    let mut other = good.clone();
    other.metadata.generation = Some(2);
    assert_eq!(doubt(&other, 100, false), both, "it was compliant with another spec");
    let mut resting = good.clone();
    resting.spec.suspend = true;
    assert_eq!(doubt(&resting, 9_999, true), [], "what was found last stands");
    let mut said = with(&status, &[("Ready", "False"), ("Compliant", "Unknown"), ("PartialScan", "True")]);
    let words =
        in_doubt(&good, jiff::Timestamp::from_second(700).expect("in range"), true)[0].message.clone();
    said.status.as_mut().expect("a status").shared.conditions[2].message = words;
    assert_eq!(doubt(&said, 9_999, true), []);
}

#[test]
fn a_key_fits_into_status_however_it_is_named() {
    let key = |key: &str| {
        let finding = Finding { key: Some(key.to_owned()), ..finding("fast", Reason::KeyUnknown) };
        listed(&finding, jiff::Timestamp::UNIX_EPOCH).key_id.unwrap_or_default()
    };
    assert_eq!(
        key("acs:kms:cn-hangzhou:1234567890123456:key/key-hzz65f0a1b2c3d4e5f6a7b8"),
        "key-hzz65f0a1b2c3d4e5f6a7b8"
    );
    assert_eq!(key("alias/payments"), "alias/payments");
    assert_eq!(key(&"x".repeat(300)).len(), 64);
}

#[test]
fn nobody_is_told_to_allow_what_may_be_allowed_already() {
    let key = Some("key-1".to_owned());
    for (sort, place) in [(Sort::Disk, "keyError"), (Sort::StorageClass, "storageClassesError")] {
        let text = sentence(&Finding { sort, key: key.clone(), ..finding("d-1", Reason::KeyUnknown) });
        assert!(text.contains(place) && !text.contains("allow"), "{text}");
    }
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
