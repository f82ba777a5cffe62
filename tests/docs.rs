//! The two READMEs against the code and against each other: headings, commands, fields, reasons, metrics, links.
//!
//! `UPDATE=1 cargo test --test docs` rewrites the tables of reasons. Whether the sentences are true and well put is not tested here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clap::{CommandFactory, Parser};
use ecskms::cli::Cli;
use ecskms::decision::Reason;
use ecskms::decision::reason::Mover;
use ecskms::kind::Kind;
use ecskms::kinds::{CloudAccount, EncryptedDisk, EncryptedImage, EncryptedInstance, EncryptionAudit};

const ENGLISH: &str = "README.md";
const CHINESE: &str = "README-zh_CN.md";
const BEGIN: &str = "<!-- reasons: written by UPDATE=1 cargo test --test docs -->\n";
const END: &str = "<!-- /reasons -->";

#[test]
fn the_first_line_switches_the_language() {
    for file in [ENGLISH, CHINESE] {
        let text = read(file);
        let first = text.lines().next().expect("a first line");
        assert!(first.contains("(README.md)") && first.contains("(README-zh_CN.md)"), "{file}: {first}");
    }
}

#[test]
fn headings_pair_up() {
    let levels = |file| headings(&read(file)).into_iter().map(|(level, _)| level).collect::<Vec<_>>();
    assert!(levels(ENGLISH).len() > 10);
    assert_eq!(levels(ENGLISH), levels(CHINESE), "the same headings in the same order");
}

#[test]
fn commands_and_examples_are_identical() {
    let blocks = |file| {
        let blocks = blocks(&read(file)).into_iter().filter(|(language, _)| language != "mermaid");
        blocks.collect::<Vec<_>>()
    };
    assert!(blocks(ENGLISH).len() > 8);
    assert_eq!(blocks(ENGLISH), blocks(CHINESE));
    let inline = |file| {
        let mut spans = spans(&read(file));
        spans.retain(|span| {
            ["curl ", "kubectl ", "pip ", "cargo ", "ecskms "].iter().any(|start| span.starts_with(start))
        });
        spans
    };
    assert_eq!(inline(ENGLISH), inline(CHINESE));
}

#[test]
fn every_command_line_is_understood_by_the_program() {
    let mut understood = 0;
    for line in commands(&read(ENGLISH)) {
        let Some(arguments) = own_arguments(&line) else { continue };
        if let Err(error) = Cli::try_parse_from(&arguments) {
            // A subcommand that is only named needs no arguments.
            let named =
                arguments.len() == 2 && error.kind() == clap::error::ErrorKind::MissingRequiredArgument;
            assert!(named || !error.use_stderr(), "`{line}`: {error}");
        }
        understood += 1;
    }
    assert!(understood >= 12, "only {understood} command lines were found");
    assert!(Cli::try_parse_from(["ecskms", "dev", "--no-such-flag"]).is_err(), "the parser is the real one");
}

#[test]
fn every_flag_and_subcommand_in_the_text_exists_and_no_subcommand_is_missing() {
    let program = Cli::command();
    let mut flags = BTreeSet::new();
    let mut names = BTreeSet::new();
    for command in program.get_subcommands() {
        names.insert(format!("ecskms {}", command.get_name()));
        flags.extend(
            command.get_arguments().filter_map(|argument| Some(format!("--{}", argument.get_long()?))),
        );
    }
    for file in [ENGLISH, CHINESE] {
        let spans = spans(&read(file));
        for span in spans.iter().filter(|span| span.starts_with("--") && *span != "--help") {
            let flag = span.split(' ').next().unwrap_or_default();
            assert!(flags.contains(flag), "{file}: `{span}`");
        }
        let told: BTreeSet<_> = spans.into_iter().filter(|span| span.starts_with("ecskms ")).collect();
        assert_eq!(told, names, "{file}: the table of commands");
    }
}

#[test]
fn relative_links_and_anchors_lead_somewhere() {
    for file in [ENGLISH, CHINESE, "CHANGELOG.md"] {
        let text = read(file);
        let anchors: BTreeSet<_> = headings(&text).into_iter().map(|(_, title)| slug(&title)).collect();
        for link in links(&text) {
            match link.strip_prefix('#') {
                Some(anchor) => {
                    assert!(anchors.contains(anchor), "{file}: #{anchor} is not one of {anchors:?}")
                }
                None if link.starts_with("https://") => {}
                None => assert!(root().join(&link).exists(), "{file}: {link} does not exist"),
            }
        }
    }
}

#[test]
fn every_field_of_spec_is_described() {
    for file in [ENGLISH, CHINESE] {
        let spans: BTreeSet<_> = spans(&read(file)).into_iter().collect();
        let named =
            |field: &str| spans.iter().any(|span| span == field || span.starts_with(&format!("{field}.")));
        let mut count = 0;
        for crd in ecskms::manifests::crds() {
            let value = serde_json::to_value(&crd).expect("a CRD is JSON");
            let spec = &value["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
            for field in spec.as_object().expect("spec has fields").keys() {
                assert!(named(field), "{file} says nothing of {}.spec.{field}", crd.spec.names.kind);
                count += 1;
            }
        }
        assert!(count > 20);
    }
}

#[test]
fn the_examples_are_valid_objects() {
    let mut count = 0;
    for (_, text) in blocks(&read(ENGLISH)).into_iter().filter(|(language, _)| language == "yaml") {
        let documents: Vec<serde_json::Value> = serde_saphyr::from_multiple(&text).expect("YAML");
        for document in documents {
            match document["kind"].as_str() {
                Some("EncryptedImage") => valid::<EncryptedImage>(document),
                Some("EncryptedDisk") => valid::<EncryptedDisk>(document),
                Some("EncryptedInstance") => valid::<EncryptedInstance>(document),
                Some("CloudAccount") => valid::<CloudAccount>(document),
                Some("EncryptionAudit") => valid::<EncryptionAudit>(document),
                other => panic!("{other:?}"),
            }
            count += 1;
        }
    }
    assert!(count >= 2);
}

#[test]
fn metrics_in_the_table_are_those_that_are_served() {
    use ecskms::engine::pace::Outcome;
    let metrics = ecskms::engine::metrics::Metrics::default();
    metrics.observe_pass("Kind", &Outcome::Settled, std::time::Duration::from_millis(1));
    metrics.count_effect("Kind", "create");
    metrics.count_write("Kind", "status");
    metrics.set_cloud_calls("ecs", "CreateDisk", "ok", 1);
    let served: BTreeSet<String> = metrics
        .encode()
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| Some(line.split(['{', ' ']).next()?.to_owned()))
        .map(|name| {
            ["_bucket", "_sum", "_count"].iter().fold(name, |name, end| name.trim_end_matches(end).to_owned())
        })
        .collect();
    for file in [ENGLISH, CHINESE] {
        let told: BTreeSet<String> =
            spans(&read(file)).into_iter().filter(|span| span.starts_with("ecskms_")).collect();
        assert_eq!(told, served, "{file}");
    }
}

#[test]
fn the_tables_of_reasons_are_those_of_the_code() {
    let english =
        Reason::ALL.iter().map(|reason| row(*reason, reason.explanation(), english_mover(reason.mover())));
    compare(ENGLISH, &table(["Reason", "Meaning", "Who moves next"], english));

    let told = chinese_explanations(&read(CHINESE));
    let missing = "(missing)".to_owned();
    let chinese = Reason::ALL.iter().map(|reason| {
        let explanation = told.get(reason.as_str()).unwrap_or(&missing);
        row(*reason, explanation, chinese_mover(reason.mover()))
    });
    compare(CHINESE, &table(["原因", "含义", "下一步由谁行动"], chinese));
    let untold: Vec<_> = Reason::ALL
        .iter()
        .filter(|reason| told.get(reason.as_str()).is_none_or(|text| *text == missing))
        .collect();
    assert!(untold.is_empty(), "{CHINESE} does not explain {untold:?}");
    let foreign = |text: &String| text.is_ascii();
    assert!(!told.values().any(foreign), "an explanation in {CHINESE} is not Chinese");
}

/// Compares the text between the marks, or rewrites it when `UPDATE` is set.
fn compare(file: &str, wanted: &str) {
    let text = read(file);
    let (head, rest) = text.split_once(BEGIN).expect("the mark before the reasons");
    let (present, tail) = rest.split_once(END).expect("the mark after the reasons");
    if present == wanted {
        return;
    }
    assert!(
        std::env::var_os("UPDATE").is_some(),
        "{file}: the reasons have changed; run UPDATE=1 cargo test --test docs"
    );
    std::fs::write(root().join(file), format!("{head}{BEGIN}{wanted}{END}{tail}"))
        .expect("the README can be written");
}

fn table(head: [&str; 3], rows: impl Iterator<Item = String>) -> String {
    let [first, second, third] = head;
    format!("| {first} | {second} | {third} |\n|---|---|---|\n{}", rows.collect::<String>())
}

fn row(reason: Reason, explanation: &str, mover: &str) -> String {
    format!("| <a id=\"{reason}\"></a>`{reason}` | {explanation} | {mover} |\n")
}

fn english_mover(mover: Mover) -> &'static str {
    match mover {
        Mover::Nobody => "nobody",
        Mover::Time => "nobody; it goes on by itself",
        Mover::Outside => "you, outside of the object",
        Mover::Object => "you, in the object",
    }
}

fn chinese_mover(mover: Mover) -> &'static str {
    match mover {
        Mover::Nobody => "无需行动",
        Mover::Time => "无需行动，会自行继续",
        Mover::Outside => "您，在对象之外",
        Mover::Object => "您，修改对象",
    }
}

fn chinese_explanations(text: &str) -> BTreeMap<String, String> {
    let part = text.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END)).map(|(part, _)| part);
    let rows = part.unwrap_or_default().lines().filter_map(|line| {
        let mut cells = line.split(" | ");
        let word = cells.next()?.split('`').nth(1)?.to_owned();
        Some((word, cells.next()?.trim().to_owned()))
    });
    rows.collect()
}

fn valid<K: Kind>(document: serde_json::Value) {
    let object: K = serde_json::from_value(document).expect("the type fits");
    assert!(object.desired().is_ok(), "{:?}", object.desired().err());
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn read(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap_or_else(|error| unreachable!("{file}: {error}"))
}

/// Language and text of each fenced block.
fn blocks(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in text.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(_), Some(_)) => found.extend(open.take()),
            (Some(language), None) => open = Some((language.to_owned(), String::new())),
            (None, Some((_, body))) => {
                body.push_str(line);
                body.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block is not closed");
    found
}

/// The text without fenced blocks.
fn prose(text: &str) -> String {
    let mut inside = false;
    let mut kept = String::new();
    for line in text.lines() {
        let fence = line.starts_with("```");
        inside ^= fence;
        if !inside && !fence {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

fn headings(text: &str) -> Vec<(usize, String)> {
    let heading = |line: &str| {
        let level = line.bytes().take_while(|byte| *byte == b'#').count();
        let title = line.get(level..)?.strip_prefix(' ')?;
        (level > 0).then(|| (level, title.to_owned()))
    };
    prose(text).lines().filter_map(heading).collect()
}

/// What stands between backticks.
fn spans(text: &str) -> Vec<String> {
    let prose = prose(text);
    prose.lines().flat_map(|line| line.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
}

fn links(text: &str) -> Vec<String> {
    let prose = prose(text);
    let targets = prose.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets.map(str::to_owned).collect()
}

/// The anchor that a heading gets: lower case, spaces as hyphens, no punctuation.
fn slug(title: &str) -> String {
    let kept = title.chars().filter(|c| c.is_alphanumeric() || *c == ' ' || *c == '-');
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

/// Lines of shell blocks, and commands in the text.
fn commands(text: &str) -> Vec<String> {
    let shell = blocks(text).into_iter().filter(|(language, _)| language == "sh");
    let lines = shell.flat_map(|(_, body)| body.lines().map(str::to_owned).collect::<Vec<_>>());
    lines.chain(spans(text)).collect()
}

/// The arguments of our own program in a command line, if it is one.
fn own_arguments(line: &str) -> Option<Vec<String>> {
    let line = line.split(" | ").next()?;
    let rest = match line.strip_prefix("cargo run ") {
        Some(rest) => rest.strip_prefix("-- ").or_else(|| rest.split_once(" -- ").map(|(_, rest)| rest))?,
        None => line.strip_prefix("ecskms ")?,
    };
    Some(std::iter::once("ecskms").chain(rest.split_whitespace()).map(str::to_owned).collect())
}
