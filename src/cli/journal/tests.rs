//! Every form in which a journal may come, whole and tampered with.

use super::*;
use clap::Parser;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: Args,
}

/// A journal as the operator writes it, with its anchor once there are more than fifty entries.
fn written(count: i64) -> (Vec<Value>, Value) {
    let (mut entries, mut anchor) = (Vec::new(), None);
    for number in 0..count {
        let line = journal::Line {
            time: jiff::Timestamp::from_microsecond(1_700_000_000_000_000 + number).expect("in range"),
            action: "DisableKey".into(),
            target: format!("key-{number}"),
            request_id: Some(format!("r-{number}")),
            result: "Accepted".into(),
        };
        journal::append("u-1", &mut entries, &mut anchor, line);
    }
    (entries.iter().map(|entry| json!(entry)).collect(), json!(anchor))
}

fn object(count: i64) -> Value {
    let (journal, anchor) = written(count);
    let mut status = json!({"journal": journal, "conditions": []});
    if !anchor.is_null() {
        status["journalAnchor"] = anchor;
    }
    json!({
        "apiVersion": "ecskms.dev/v1alpha1", "kind": "KeyRevocation",
        "metadata": {"name": "leak", "uid": "u-1"}, "spec": {}, "status": status,
    })
}

/// What is said of a text.
fn said(text: &str) -> String {
    match document::read(text.as_bytes()) {
        Err(why) => format!("unreadable: {why}"),
        Ok(document) => words(&document, &judge(&document)),
    }
}

#[test]
fn every_form_is_read_and_whole() {
    for count in [1, 50, 130] {
        let object = object(count);
        let status = &object["status"];
        let mut report = json!({"name": "leak", "uid": "u-1", "journal": status["journal"]});
        if status["journalAnchor"].is_object() {
            report["journalAnchor"] = status["journalAnchor"].clone();
        }
        let yaml = serde_saphyr::to_string(&object).expect("YAML");
        let map = json!({"kind": "ConfigMap", "data": {"journal.json": report.to_string()}});
        let list = json!({"kind": "List", "items": [object]});
        let revoked = json!({"keyId": "key-a", "uid": "u-1", "status": status});
        let document = document::of(&object).expect("readable");
        let lines: Vec<String> = document.entries.iter().map(|entry| json!(entry).to_string()).collect();
        let printed = format!("{}\n{}\n", lines.join("\n"), result(&document, &judge(&document), 0));
        let by_revoke = format!("{}\n{revoked}\n", lines.last().expect("an entry"));
        for text in [
            object.to_string(),
            serde_json::to_string_pretty(&object).expect("JSON"),
            yaml,
            report.to_string(),
            map.to_string(),
            list.to_string(),
            printed,
            by_revoke,
        ] {
            let said = said(&text);
            assert!(
                said.starts_with("whole: entries ") && said.contains(&format!("to {count} fit")),
                "{said}"
            );
            assert_eq!(said.contains("the 80 before them were dropped"), count == 130, "{said}");
        }
    }
}

#[test]
fn what_was_changed_is_named() {
    let forged = |change: &dyn Fn(&mut Value)| {
        let mut object = object(3);
        change(&mut object);
        said(&object.to_string())
    };
    assert_eq!(
        forged(&|object| object["status"]["journal"][1]["result"] = json!("Denied")),
        "entry 2: an entry was changed"
    );
    let out = forged(&|object| drop(object["status"]["journal"].as_array_mut().map(|list| list.remove(1))));
    assert_eq!(out, "entry 2: an entry is missing or out of order");
    let other = forged(&|object| object["metadata"]["uid"] = json!("u-2"));
    assert_eq!(other, "entry 1: an entry was changed, or it is the journal of another object");
    let told = json!([{"type": "JournalBroken", "status": "True"}]);
    let fits_again = forged(&|object| object["status"]["conditions"] = told.clone());
    assert!(fits_again.contains("found it changed before"), "{fits_again}");
    let emptied = forged(&|object| object["status"] = json!({"priorState": {"keyState": "Enabled"}}));
    assert!(emptied.contains("there is no entry at all"), "{emptied}");
    for status in [
        json!({"phase": "Revoked"}),
        json!({"timings": {"revokedAt": "2026-01-01T00:00:00.000000Z"}, "journal": []}),
        json!({"timings": {"firstCallAt": "2026-01-01T00:00:00.000000Z"}}),
        json!({"stops": {"instances": ["i-a"]}}),
    ] {
        let emptied = forged(&|object| object["status"] = status.clone());
        assert!(emptied.contains("there is no entry at all"), "{status}: {emptied}");
    }
    let held = forged(&|object| object["status"] = json!({"phase": "Held", "timings": {}}));
    assert_eq!(held, "whole: there is no entry yet");
    // What was said to be broken stays so in what this command prints.
    let mut object = object(2);
    object["status"]["conditions"] = told;
    let document = document::of(&object).expect("readable");
    assert_eq!(result(&document, &judge(&document), BROKEN)["journalBroken"], true);
}

#[test]
fn what_was_printed_together_must_agree() {
    let object = object(3);
    let document = document::of(&object).expect("readable");
    let lines: Vec<String> = document.entries.iter().map(|entry| json!(entry).to_string()).collect();
    let last = result(&document, &judge(&document), 0).to_string();
    let printed = |lines: &[String]| said(&[lines, std::slice::from_ref(&last)].concat().join("\n"));
    assert!(printed(&lines).starts_with("whole: entries 1 to 3"), "{}", printed(&lines));
    for kept in [&lines[..2], &lines[..0]] {
        let said = printed(kept);
        assert!(said.starts_with("the last line tells of 3 entries, ending with entry 3, hash "), "{said}");
    }
    // A revocation printed entries that its record does not have, or has otherwise.
    let record = |count: usize| {
        let status = json!({"journal": object["status"]["journal"].as_array().expect("a list")[..count]});
        json!({"keyId": "key-a", "uid": "u-1", "status": status}).to_string()
    };
    let with_record = |lines: &[String], count| said(&[lines, &[record(count)]].concat().join("\n"));
    assert!(with_record(&lines[1..], 3).starts_with("whole: "));
    assert!(with_record(&lines[1..], 2).starts_with("entry 3 was printed before"));
    let forged = lines[1].replace("key-1", "key-9");
    assert!(with_record(&[forged], 3).starts_with("entry 2 was printed before"));
    // Of two objects none is left out in silence.
    let two = said(&format!("{object}\n{object}"));
    assert!(two.starts_with("unreadable: it holds more than one document"), "{two}");
    // What is printed of a journal without an entry can be read back.
    let young = json!({"kind": "KeyRevocation", "metadata": {"name": "leak", "uid": "u"}, "spec": {}});
    let young = document::of(&young).expect("readable");
    let again = said(&result(&young, &judge(&young), 0).to_string());
    assert_eq!(again, "whole: there is no entry yet");
}

#[test]
fn a_file_that_was_taken_by_mistake_is_not_told() {
    let said = said("user: ann\npassword: hunter2\nhosts: [a, b\nother: hunter3\n");
    assert!(said.starts_with("unreadable: it is not YAML: ") && said.contains("line"), "{said}");
    assert!(!said.contains("hunter") && !said.contains('\n'), "{said}");
}

#[test]
fn what_is_no_journal_is_told() {
    for (text, words) in [
        ("", "it is empty"),
        ("{", "it is not JSON"),
        ("a: [", "it is not YAML"),
        ("{}", "it has no journal"),
        (r#"{"journal": []}"#, "it has no uid"),
        (r#"{"uid": "u", "journal": {}}"#, "not a list"),
        (r#"{"uid": "u", "journal": [{"seq": 1}]}"#, "its entry 1 cannot be read: missing field"),
        ("kind: Pod\nmetadata: {uid: u}\n", "it is a Pod, not a KeyRevocation"),
        ("kind: ConfigMap\ndata: {}\n", "without journal.json"),
        (r#"{"kind": "List", "items": []}"#, "a list of 0 objects"),
        ("{\"uid\": \"u\"}\n{\"uid\": \"u\"}\n", "more than one document"),
        ("just words", "it has no"),
    ] {
        let said = said(text);
        assert!(said.starts_with("unreadable: ") && said.contains(words), "{text:?}: {said}");
    }
    assert!(document::read(&[0xff, 0xfe]).is_err());
    let young = r#"{"kind": "KeyRevocation", "metadata": {"name": "leak", "uid": "u"}, "spec": {}}"#;
    assert_eq!(said(young), "whole: there is no entry yet");
}

#[test]
fn either_a_name_or_a_file() {
    let parsed = |line: &[&str]| Line::try_parse_from([&["journal"], line].concat()).is_ok();
    assert!(parsed(&["leak"]) && parsed(&["-f", "-"]) && parsed(&["--file", "a.json", "-o", "table"]));
    assert!(!parsed(&[]) && !parsed(&["leak", "-f", "a"]) && !parsed(&["-f", "a", "--context", "b"]));
    assert!(!parsed(&["leak", "-o", "yaml"]));
}
