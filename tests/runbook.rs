//! The runbook in both languages: the same headings, commands, tables and links; and every field, role and file that it
//! names is there.
//!
//! Whether the sentences are true and well put is not tested here.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::Parser;
use ecskms::cli::Cli;
use ecskms::manifests::{self, admission, people};
use serde_json::Value;

const ENGLISH: &str = "docs/runbook-revocation.md";
const CHINESE: &str = "docs/runbook-revocation_zh.md";

#[test]
fn headings_steps_and_tables_pair_up() {
    let shape = |file| {
        let kind = |line: &str| {
            let mark = line.split(' ').next().unwrap_or_default();
            let numbered = mark.strip_suffix('.').is_some_and(|number| number.parse::<u8>().is_ok());
            (mark.starts_with('#') || numbered || mark == "-" || mark == "|").then(|| mark.to_owned())
        };
        prose(&read(file)).lines().filter_map(kind).collect::<Vec<_>>()
    };
    assert!(shape(ENGLISH).iter().filter(|mark| mark.starts_with('#')).count() > 12);
    assert_eq!(shape(ENGLISH), shape(CHINESE));
}

#[test]
fn commands_are_identical() {
    assert!(blocks(&read(ENGLISH)).len() > 12);
    assert_eq!(blocks(&read(ENGLISH)), blocks(&read(CHINESE)));
    assert_eq!(spans(&read(ENGLISH)), spans(&read(CHINESE)));
}

#[test]
fn links_lead_somewhere_and_are_the_same() {
    let files = |file| {
        let text = read(file);
        let anchors: BTreeSet<_> = headings(&text).iter().map(|title| slug(title)).collect();
        let (inner, outer): (Vec<_>, Vec<_>) =
            links(&text).into_iter().partition(|link| link.starts_with('#'));
        for link in &inner {
            assert!(anchors.contains(&link[1..]), "{file}: {link} is not one of {anchors:?}");
        }
        for link in &outer {
            assert!(root().join("docs").join(link).exists(), "{file}: {link} does not exist");
        }
        (inner.len(), outer)
    };
    assert_eq!(files(ENGLISH), files(CHINESE));
}

#[test]
fn every_field_that_is_named_is_in_the_definition() {
    let text =
        std::fs::read_to_string(root().join("crds/keyrevocations.ecskms.dev.yaml")).expect("the definition");
    let crd: Value = serde_saphyr::from_str(&text).expect("it is YAML");
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let mut count = 0;
    for path in paths(&read(ENGLISH)) {
        let mut node = schema;
        for name in path.split('.') {
            node = if node["items"].is_null() { node } else { &node["items"] };
            node = &node["properties"][name];
        }
        assert!(!node.is_null(), "{path} is no field");
        count += 1;
    }
    assert!(count > 12, "only {count} fields were found");
    assert!(
        schema["properties"]["spec"]["properties"]["drill"]["properties"]["restoreAfterMinutes"].is_object()
    );
}

#[test]
fn refusals_that_are_quoted_are_those_of_the_policies_and_the_definition() {
    let policies = serde_json::to_string(&admission::policies()).expect("policies are JSON");
    let crds = serde_json::to_string(&manifests::crds()).expect("definitions are JSON");
    for file in [ENGLISH, CHINESE] {
        let text = read(file);
        let (_, table) = text.rsplit_once("\n## ").expect("the last part is the table of what may be seen");
        let seen = table.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
        // Sentences; the other spans are words of status.
        let is_sentence = |span: &&str| span.starts_with(char::is_lowercase) && span.contains(' ');
        let quoted = seen.flat_map(|cell| cell.split('`').skip(1).step_by(2)).filter(is_sentence);
        let begins: Vec<&str> = quoted.map(|words| words.trim_end_matches(['…', ' ', ':'])).collect();
        assert!(begins.len() >= 4, "{file}: {begins:?}");
        for words in begins {
            assert!(policies.contains(words) || crds.contains(words), "{file}: nothing says `{words}`");
        }
    }
}

#[test]
fn the_roles_that_are_bound_are_those_that_are_shipped() {
    let mut shipped: BTreeSet<String> =
        people::revocation_roles().into_iter().filter_map(|role| role.metadata.name).collect();
    shipped.extend(people::reports_role().metadata.name);
    let text = read(ENGLISH);
    let words =
        text.split([' ', '\n']).filter_map(|word| word.split_once("role=").map(|(_, name)| name.to_owned()));
    assert_eq!(words.collect::<BTreeSet<_>>(), shipped);
    for role in shipped
        .iter()
        .filter_map(|name| name.strip_prefix("ecskms-revocation-"))
        .filter(|name| *name != "reports")
    {
        assert!(text.contains(&format!("| {role} |")), "the table says nothing of {role}");
    }
}

#[test]
fn the_program_understands_every_command() {
    let lines = blocks(&read(ENGLISH))
        .into_iter()
        .flat_map(|block| block.lines().map(str::to_owned).collect::<Vec<_>>());
    let own: Vec<String> = lines.filter(|line| line.starts_with("ecskms ")).collect();
    assert!(own.len() >= 3, "{own:?}");
    for line in own {
        let words: Vec<&str> = line.split_whitespace().collect();
        let read = Cli::try_parse_from(&words).map(|_| ());
        assert!(read.is_ok(), "`{line}`: {read:?}");
    }
}

/// `status.…` and `spec.…` in commands and between backticks, `{.status.…}` included.
fn paths(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for start in ["status.", "spec.", "safety.", "drill."] {
        for (index, _) in text.match_indices(start) {
            let before = text[..index].chars().next_back();
            let rest: String =
                text[index..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '.').collect();
            let rest = rest.trim_end_matches('.');
            let inner = ["safety", "drill"].iter().any(|field| rest.starts_with(field));
            let ours = matches!(before, Some('`' | '.' | '{')) && !rest.starts_with("status.userInfo");
            if ours && rest.contains('.') && !text[..index].ends_with("spec.") {
                found.insert(if inner { format!("spec.{rest}") } else { rest.to_owned() });
            }
        }
    }
    found
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn read(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap_or_else(|error| unreachable!("{file}: {error}"))
}

/// The text in fences and the text around them.
fn split(text: &str) -> (Vec<String>, String) {
    let (mut blocks, mut prose, mut inside) = (Vec::new(), String::new(), false);
    for line in text.lines() {
        if line.starts_with("```") {
            inside = !inside;
            if inside {
                blocks.push(String::new());
            }
        } else {
            let target = if inside { blocks.last_mut().expect("an open block") } else { &mut prose };
            target.push_str(line);
            target.push('\n');
        }
    }
    assert!(!inside, "a block is not closed");
    (blocks, prose)
}

fn blocks(text: &str) -> Vec<String> {
    split(text).0
}

fn prose(text: &str) -> String {
    split(text).1
}

fn headings(text: &str) -> Vec<String> {
    let title = |line: &str| line.trim_start_matches('#').strip_prefix(' ').map(str::to_owned);
    prose(text).lines().filter(|line| line.starts_with('#')).filter_map(title).collect()
}

/// What stands between backticks, sorted: languages order words differently.
fn spans(text: &str) -> Vec<String> {
    let prose = prose(text);
    let mut spans: Vec<String> =
        prose.lines().flat_map(|line| line.split('`').skip(1).step_by(2)).map(str::to_owned).collect();
    spans.sort();
    spans
}

fn links(text: &str) -> Vec<String> {
    let prose = prose(text);
    prose.split("](").skip(1).filter_map(|rest| rest.split(')').next()).map(str::to_owned).collect()
}

/// The anchor that a heading gets: lower case, spaces as hyphens, no punctuation.
fn slug(title: &str) -> String {
    let kept = title.chars().filter(|c| c.is_alphanumeric() || *c == ' ' || *c == '-');
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}
