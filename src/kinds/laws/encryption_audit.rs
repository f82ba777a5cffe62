//! Random wishes and worlds of an EncryptionAudit.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::json;

use super::super::encryption_audit::decide::{Desired, Observed, Scan, Wanted};
use super::super::encryption_audit::judge::{DefaultFact, Finding, Judgement, Policy, Sort, Tally};
use super::super::encryption_audit::outcome::{ClusterOutcome, Gap, Outcome, RegionOutcome};
use super::super::encryption_audit::{EncryptionAudit, promise};
use super::{Subject, Wish, object};
use crate::decision::Reason;
use crate::decision::key::KeyFact;

pub(super) fn subject() -> Subject<EncryptionAudit> {
    let wanted = Wanted { policy: Policy::default(), regions: Vec::new(), interval_seconds: 600 };
    Subject {
        object: object(json!({})),
        with_status: |object, status| EncryptionAudit { status: Some(status), ..object.clone() },
        desired: prop_oneof![
            4 => Just(Desired::Present(Box::new(wanted))),
            1 => Just(Desired::Suspended),
            1 => Just(Desired::Absent),
        ]
        .boxed(),
        observed: observed().boxed(),
        holds: promise::holds,
        wish: |desired| match desired {
            Desired::Absent => Wish::Absent,
            Desired::Suspended => Wish::Resting,
            Desired::Present(_) => Wish::Managed,
        },
        // It makes nothing and uses no key.
        occupied: |_| false,
        key: |_| &KeyFact::Unasked,
    }
}

fn observed() -> impl Strategy<Value = Observed> {
    let scan = prop_oneof![
        Just(Scan::Resting),
        Just(Scan::Running),
        outcome().prop_map(|outcome| Scan::Done(Box::new(outcome))),
    ];
    (scan, any::<bool>()).prop_map(|(scan, told)| Observed { scan, told })
}

fn outcome() -> impl Strategy<Value = Outcome> {
    let regions =
        proptest::collection::btree_map(select(vec!["cn-a".to_owned(), "cn-b".to_owned()]), region(), 0..3);
    let cluster =
        (judgement(""), proptest::option::of(gap()), any::<bool>()).prop_map(|(judgement, gap, unknown)| {
            let namespaces_error = unknown.then(|| "PersistentVolumes: no.".to_owned());
            ClusterOutcome { judgement, gap, namespaces_error, key_error: None }
        });
    (regions, proptest::option::of(cluster), 1..9_999i64).prop_map(|(regions, cluster, at)| Outcome {
        at,
        next: at + 600,
        regions,
        cluster,
    })
}

fn region() -> impl Strategy<Value = RegionOutcome> {
    let default = prop_oneof![
        Just(None),
        Just(Some(DefaultFact::Unavailable)),
        Just(Some(DefaultFact::Off)),
        Just(Some(DefaultFact::On(Some("key-a".to_owned())))),
    ];
    let gaps = proptest::collection::vec(gap(), 0..2);
    (judgement("cn-a"), gaps, any::<bool>(), default).prop_map(|(judgement, gaps, read, default)| {
        RegionOutcome { at: 1, judgement, gaps, read, key_error: None, default }
    })
}

fn gap() -> impl Strategy<Value = Gap> {
    (select(Sort::ALL.to_vec()), any::<bool>()).prop_map(|(sort, passing)| Gap {
        text: "disks: no.".to_owned(),
        sorts: vec![sort],
        passing,
    })
}

fn judgement(region: &'static str) -> impl Strategy<Value = Judgement> {
    let reasons =
        vec![Reason::NotEncrypted, Reason::ServiceKey, Reason::KeyUnknown, Reason::ExemptionExpired];
    let finding = (select(Sort::ALL.to_vec()), 0..4u8, select(reasons), 0..30usize).prop_map(
        move |(sort, number, reason, parts)| Finding {
            sort,
            id: format!("x-{number}"),
            region: region.to_owned(),
            instance: None,
            namespace: None,
            reason,
            behind: Reason::NotEncrypted,
            key: None,
            parts: (0..parts).map(|part| format!("d-{part}")).collect(),
        },
    );
    let findings = proptest::collection::vec(finding, 0..4);
    let tally = Tally { total: 3, unencrypted: 1, customer_key: 2, violations: 1, ..Tally::default() };
    findings.prop_map(move |mut findings| {
        findings.sort_by(|a, b| (a.sort, &a.id).cmp(&(b.sort, &b.id)));
        findings.dedup_by(|a, b| (a.sort, &a.id) == (b.sort, &b.id));
        Judgement {
            sorts: BTreeMap::from([(Sort::Disk, tally.clone())]),
            namespaces: BTreeMap::from([("team".to_owned(), tally.clone())]),
            found: u32::try_from(findings.len()).unwrap_or_default(),
            findings,
        }
    })
}
