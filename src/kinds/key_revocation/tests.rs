//! What a spec means before any call, and what a revocation says about itself.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;

fn object(fields: Value) -> KeyRevocation {
    let mut spec = json!({
        "region": "cn-hangzhou", "keyId": "key-a", "desiredState": "Revoked",
        "reason": "a leaked credential", "requestedBy": "alice",
    });
    spec.as_object_mut().expect("an object").extend(fields.as_object().expect("fields").clone());
    KeyRevocation::new("one", serde_json::from_value(spec).expect("a spec"))
}

fn refusal(fields: Value) -> Invalid {
    object(fields).desired().expect_err("a bad spec")
}

#[test]
fn bad_specs_are_refused_before_any_call() {
    let service = refusal(json!({"keyId": "alias/acs/ecs"}));
    assert_eq!(service.reason, Reason::ServiceKeyNotRevocable);
    for fields in [
        json!({"keyId": "alias/payments"}),
        json!({"keyId": "acs:kms:cn-hangzhou:1:key/key-a"}),
        json!({"keyId": ""}),
        json!({"reason": "  short  "}),
        json!({"requestedBy": " "}),
        json!({"region": "nowhere"}),
        json!({"approvals": [{"approver": "alice"}]}),
        json!({"method": "DetachEcsRole"}),
        json!({"method": "DetachEcsRole", "safety": {"acknowledgeAccountWide": true, "maxAffectedInstances": 1}}),
        json!({"method": "DetachEcsRole", "safety": {"acknowledgeAccountWide": true, "acknowledgedDigest": "ab12"}}),
    ] {
        assert_eq!(refusal(fields.clone()).reason, Reason::InvalidSpec, "{fields}");
    }
}

#[test]
fn a_bad_spec_never_blocks_a_deletion() {
    let mut leaving = object(json!({"reason": "short"}));
    leaving.metadata.deletion_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH));
    assert_eq!(leaving.desired(), Ok(Desired::Absent));
}

#[test]
fn the_guard_for_own_nodes_is_of_what_is_taken_from_them() {
    let notes = Notes::default();
    let hit = |fields: Value| own_nodes::are_hit(&object(fields), &notes);
    let role = json!({"method": "DetachEcsRole", "safety": {"acknowledgeAccountWide": true}});
    let elsewhere = |mut fields: Value| {
        fields["accountRef"] = json!({"name": "second"});
        fields
    };
    assert!(!hit(role.clone()), "no node is known to use a customer key");
    let told = |status: Value| {
        let mut object = object(role.clone());
        object.status = Some(serde_json::from_value(status).expect("a status"));
        own_nodes::are_hit(&object, &notes)
    };
    let condition = json!({"type": "SelfLockout", "status": "True", "reason": "SelfLockout", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let held = json!({"phase": "Held", "conditions": [condition]});
    assert!(told(held.clone()), "until they are listed, what was seen earlier counts");
    assert!(told(
        json!({"blastRadius": {"digest": "d", "complete": false, "instancesAffected": 0, "instancesRunning": 0, "instancesStopped": 0, "disks": 0, "images": 0, "snapshots": 0, "persistentVolumes": 0, "selfLockout": true, "truncated": false}})
    ));
    notes.set_own_keys([].into(), BTreeSet::new());
    assert!(!told(held), "the nodes are gone");
    notes.set_own_keys([("cn-hangzhou".to_owned(), "key-b".to_owned())].into(), BTreeSet::new());
    assert!(hit(role.clone()) && hit(json!({"keyId": "key-b"})) && !hit(json!({"keyId": "key-a"})));
    assert!(!hit(elsewhere(role)), "the role of another account");
    assert!(hit(elsewhere(json!({"keyId": "key-b"}))), "the id of a key tells it from those of all accounts");
}

#[test]
fn approvers_are_counted_once_each() {
    let missing = |fields: Value| match object(fields).desired() {
        Ok(Desired::Present(wanted)) => wanted.approvals_missing,
        other => panic!("{other:?}"),
    };
    assert_eq!(missing(json!({"approvalsRequired": 2})), 2);
    let twice = json!([{"approver": "bob"}, {"approver": "bob"}]);
    assert_eq!(missing(json!({"approvalsRequired": 2, "approvals": twice})), 1);
    let two = json!([{"approver": "bob"}, {"approver": "eve"}]);
    assert_eq!(missing(json!({"approvalsRequired": 2, "approvals": two})), 0);
}

#[test]
fn a_revocation_is_live_from_its_record_until_what_it_recorded_stands_again() {
    let with = |status: Value| {
        let mut revocation = object(json!({}));
        revocation.status = Some(serde_json::from_value(status).expect("a status"));
        revocation
    };
    let time = "2026-01-01T00:00:00.000000Z";
    let prior = json!({"keyState": "Enabled", "capturedAt": time});
    assert!(!is_live(&object(json!({}))));
    assert!(!is_live(&with(json!({"phase": "Held"}))));
    for phase in ["Revoking", "Revoked", "Contained", "Restoring"] {
        assert!(is_live(&with(json!({"phase": phase, "priorState": prior}))), "{phase}");
    }
    let restored = json!({"phase": "Restored", "priorState": prior, "timings": {"restoredAt": time}});
    assert!(!is_live(&with(restored)));
}

#[test]
fn the_log_has_every_entry_that_the_journal_got_and_no_other() {
    use std::io::Write;
    use std::sync::{Arc, Mutex};
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);
    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().map_err(|_| std::io::ErrorKind::Other)?.write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let entry = |seq: i64| {
        json!({"seq": seq, "time": "2026-01-01T00:00:00.000000Z", "action": "DisableKey", "target": "key-a",
            "requestId": format!("R-{seq}"), "result": "Accepted", "hash": format!("hash-{seq}")})
    };
    let object = |entries: Vec<Value>| -> KeyRevocation {
        let spec = json!({"region": "cn-a", "keyId": "key-a", "reason": "a leaked credential", "requestedBy": "alice"});
        let mut object = KeyRevocation::new("one", serde_json::from_value(spec).expect("a spec"));
        object.status = serde_json::from_value(json!({"journal": entries})).expect("a status");
        object
    };
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().json().with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(subscriber, || {
        object(vec![entry(1)]).written(&object(vec![entry(1), entry(2), entry(3)]));
    });
    let text = String::from_utf8(log.0.lock().expect("nobody panicked").clone()).expect("text");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let told = |line: &Value| {
        (line["fields"]["seq"].clone(), line["fields"]["hash"].clone(), line["fields"]["request_id"].clone())
    };
    let told: Vec<_> = lines.iter().map(told).collect();
    let expected = |seq: i64| (json!(seq), json!(format!("hash-{seq}")), json!(format!("R-{seq}")));
    assert_eq!(told, [expected(2), expected(3)]);
}
