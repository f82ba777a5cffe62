//! Holds the house to its plan: who may import whom, how long things may be, what may not be called where.
//!
//! Reads the sources as text, without their comments and unit tests. It sees `use` lines and paths; what a macro would
//! hide from it, review must see.

use std::fs;
use std::path::{Path, PathBuf};

/// One row of the import table.
struct Room {
    /// Its name in this table.
    name: &'static str,
    /// Module paths that belong to it; `*` stands for one name. The first row that matches wins.
    modules: &'static [&'static str],
    /// Rooms that it may import. A room may always import itself, but never another kind's files.
    may: &'static [&'static str],
    /// Crates and modules outside of this package that it must not name.
    never: &'static [&'static str],
    /// Why.
    reason: &'static str,
}

/// Everything through which a pure function could learn the time, the surroundings or chance.
const IMPURE: &[&str] = &[
    "tokio",
    "futures",
    "kube",
    "k8s_openapi",
    "reqwest",
    "axum",
    "jiff",
    "rand",
    "serde",
    "serde_json",
    "tracing",
    "std::time",
    "std::env",
    "std::fs",
    "std::net",
    "std::process",
    "std::io",
    "std::thread",
    "std::sync",
];

/// The plan. In dependency order, except that the first match wins.
const ROOMS: &[Room] = &[
    Room {
        name: "decision",
        modules: &["decision"],
        may: &[],
        never: IMPURE,
        reason: "the vocabulary of decisions must be readable, and checkable, without any outside",
    },
    Room {
        name: "diagnosis",
        modules: &["diagnosis"],
        may: &["decision"],
        never: IMPURE,
        reason: "which objects share a cause is a function of values",
    },
    Room {
        name: "brain",
        modules: &[
            "kinds::*::decide",
            "kinds::*::promise",
            "kinds::*::blast",
            "kinds::*::judge",
            "kinds::*::outcome",
        ],
        may: &["decision"],
        never: IMPURE,
        reason: "a function of two values cannot depend on what it cannot name; models run these files",
    },
    Room {
        name: "face",
        modules: &[
            "kinds::*::api",
            "kinds::*::foresee",
            "kinds::*::report",
            "kinds::*::request",
            "kinds::*::journal",
        ],
        may: &["decision", "resource", "brain", "kind"],
        never: &[
            "tokio",
            "futures",
            "reqwest",
            "rand",
            "std::env",
            "std::fs",
            "std::net",
            "kube::Client",
            "kube::Api",
        ],
        reason: "what users read and what is sent are values built of values",
    },
    Room {
        name: "hands",
        modules: &["kinds::*"],
        may: &["decision", "resource", "brain", "face", "kind", "alibaba"],
        never: &["reqwest", "std::env", "std::fs", "std::net"],
        reason: "observe and act reach reality through World and through nothing else",
    },
    Room {
        name: "resource",
        modules: &["resource"],
        may: &[],
        never: &[
            "tokio",
            "futures",
            "reqwest",
            "rand",
            "kube::Client",
            "kube::Api",
            "std::env",
            "std::fs",
            "std::net",
        ],
        reason: "shared fields of the API: types and checks of values",
    },
    Room {
        name: "alibaba",
        modules: &["alibaba"],
        may: &[],
        never: &["kube", "k8s_openapi", "schemars"],
        reason: "the client speaks to the cloud and has never heard of Kubernetes",
    },
    Room {
        name: "kind",
        modules: &["kind"],
        may: &["decision", "resource", "alibaba"],
        never: &["reqwest", "std::env", "std::fs", "std::net"],
        reason: "what a kind must provide, without naming any",
    },
    Room {
        name: "engine",
        modules: &["engine"],
        may: &["decision", "resource", "kind"],
        never: &["reqwest", "std::env", "std::fs"],
        reason: "the loop is generic: it knows no kind and no cloud operation",
    },
    Room {
        name: "registry",
        modules: &["kinds"],
        may: &["kind", "engine", "hands", "face", "brain"],
        never: &["reqwest", "std::env", "std::fs", "std::net"],
        reason: "the registry stands above the engine and wires; the engine never lists",
    },
    Room {
        name: "manifests",
        modules: &["manifests"],
        may: &["kind", "registry", "resource"],
        never: &["reqwest", "tokio", "std::env", "std::net"],
        reason: "CRDs and access rules are values derived from the registry",
    },
    Room {
        name: "cli",
        modules: &["cli"],
        may: &[
            "decision",
            "diagnosis",
            "resource",
            "alibaba",
            "kind",
            "engine",
            "registry",
            "hands",
            "face",
            "brain",
            "manifests",
        ],
        never: &[],
        reason: "the outermost room; nobody imports it",
    },
];

/// Where a kind may be named besides `src/kinds`, each with a reason. Unit tests may name what they like.
const KIND_NAMES_ALLOWED: &[(&str, &str)] = &[
    ("src/decision/key.rs", "says who holds a key that is revoked"),
    ("src/decision/report.rs", "messages name the object that holds a key"),
    ("src/manifests/admission.rs", "policies guard the one kind that cuts keys"),
    ("src/cli/break_glass.rs", "the command line revokes without a cluster"),
    ("src/cli/break_glass/account.rs", "the command line revokes without a cluster"),
    ("src/cli/break_glass/neighbours.rs", "the command line revokes without a cluster"),
    ("src/cli/break_glass/record.rs", "the command line revokes without a cluster"),
    ("src/cli/break_glass/restore.rs", "the command line revokes without a cluster"),
    ("src/cli/break_glass/revoke.rs", "the command line revokes without a cluster"),
    ("src/cli/break_glass/tell.rs", "the command line revokes without a cluster"),
    ("src/cli/journal.rs", "the command line verifies the journal of the one kind that has one"),
    ("src/cli/journal/document.rs", "the command line verifies the journal of the one kind that has one"),
    ("src/cli/journal/tests.rs", "the command line verifies the journal of the one kind that has one"),
    ("src/cli/audit.rs", "the command line audits without a cluster"),
    ("src/cli/audit/table.rs", "the command line audits without a cluster"),
    ("src/decision/reason.rs", "reasons say which object stands in the way"),
    ("src/kind/accounts.rs", "messages name the object that somebody must mend"),
    ("src/manifests.rs", "says which Secrets may be read"),
    ("src/cli/run.rs", "a flag says where these objects' Secrets are"),
    ("src/resource.rs", "a field of every other kind refers to it"),
];

/// Longest function, in lines from its signature to its closing brace.
const FUNCTION_LINES_MAX: usize = 70;
/// Longest file.
const FILE_LINES_MAX: usize = 500;

struct Source {
    /// Relative to the package, with `/`.
    path: String,
    text: String,
}

impl Source {
    /// Without comments, the contents of strings, and the unit tests at the end.
    fn code(&self) -> String {
        let bare = without_comments_and_strings(&self.text);
        bare.split("#[cfg(test)]\nmod tests").next().unwrap_or_default().to_owned()
    }

    /// `kinds::encrypted_disk::decide` for `src/kinds/encrypted_disk/decide.rs`.
    fn module(&self) -> String {
        let inner = self.path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
        inner.replace('/', "::")
    }

    fn is_test(&self) -> bool {
        self.path.ends_with("/tests.rs") || self.path.ends_with("/laws.rs") || self.path.contains("/laws/")
    }
}

fn sources(folder: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut folders = vec![root.join(folder)];
    while let Some(folder) = folders.pop() {
        let entries =
            fs::read_dir(&folder).expect("a readable folder").map(|entry| entry.expect("an entry").path());
        for path in entries.collect::<Vec<PathBuf>>() {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let inner = path
                    .strip_prefix(root)
                    .expect("inside of the package")
                    .to_string_lossy()
                    .replace('\\', "/");
                found.push(Source { path: inner, text: fs::read_to_string(&path).expect("readable text") });
            }
        }
    }
    assert!(!found.is_empty(), "{folder} holds no source");
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// Blanks comments, strings and character literals, and keeps every line break.
fn without_comments_and_strings(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut bare = String::with_capacity(text.len());
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text[at..];
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if let Some(raw) = rest.strip_prefix("r#\"") {
            raw.find("\"#").map_or(rest.len(), |end| end + 5)
        } else if rest.starts_with('"') {
            string_length(rest)
        } else if rest.starts_with("'\"'") || rest.starts_with("'{'") || rest.starts_with("'}'") {
            3
        } else if let Some(escaped) = rest.strip_prefix("'\\") {
            escaped.find('\'').map_or(rest.len(), |end| end + 3).max(4)
        } else {
            let width = rest.chars().next().map_or(1, char::len_utf8);
            bare.push_str(&rest[..width]);
            at += width;
            continue;
        };
        bare.extend(rest[..skipped].chars().filter(|c| *c == '\n'));
        at += skipped;
    }
    bare
}

fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (index, c) in text.char_indices().skip(1) {
        match c {
            '"' if !escaped => return index + 1,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    text.len()
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Where `path` stands in the code as a path of its own, not as the tail of another name.
fn occurrences<'a>(code: &'a str, path: &'a str) -> impl Iterator<Item = &'a str> {
    code.match_indices(path).filter_map(move |(index, _)| {
        let before = code[..index].chars().next_back();
        let after = &code[index + path.len()..];
        let starts = !before.is_some_and(|c| is_name(c) || c == ':' || c == '.');
        (starts && !after.starts_with(is_name)).then_some(after)
    })
}

/// Every module of this package that the code names, as absolute paths.
fn imports(module: &str, code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for after in occurrences(code, "crate") {
        expand("", after, &mut found);
    }
    for after in occurrences(code, "super") {
        let mut parents = 1;
        let mut rest = after;
        while let Some(further) = rest.strip_prefix("::super") {
            parents += 1;
            rest = further;
        }
        let mut segments: Vec<&str> = module.split("::").collect();
        segments.truncate(segments.len().saturating_sub(parents));
        expand(&segments.join("::"), rest, &mut found);
    }
    found
}

/// Reads `::a::b` or `::{a::b, c}` behind a base.
fn expand(base: &str, after: &str, found: &mut Vec<String>) {
    let Some(rest) = after.strip_prefix("::") else { return };
    let join = |name: &str| if base.is_empty() { name.to_owned() } else { format!("{base}::{name}") };
    if let Some(list) = rest.strip_prefix('{') {
        let mut depth = 0;
        let mut start = 0;
        for (index, c) in list.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth > 0 => depth -= 1,
                ',' | '}' if depth == 0 => {
                    let name = list[start..index].trim();
                    if !name.is_empty() {
                        expand(base, &format!("::{name}"), found);
                    }
                    start = index + 1;
                    if c == '}' {
                        return;
                    }
                }
                _ => {}
            }
        }
        return;
    }
    let name: String = rest.chars().take_while(|c| is_name(*c)).collect();
    if name.is_empty() {
        return;
    }
    let longer = &rest[name.len()..];
    let lower = name.starts_with(|c: char| c.is_ascii_lowercase());
    if lower && longer.starts_with("::") {
        expand(&join(&name), longer, found);
    } else {
        found.push(join(&name));
    }
}

fn matches(pattern: &str, module: &str) -> bool {
    let mut segments = module.split("::");
    pattern.split("::").all(|part| segments.next().is_some_and(|segment| part == "*" || part == segment))
}

/// The room of a module, or of an item in one. Names of kinds are the folders of `src/kinds`.
fn room_of(module: &str) -> Option<&'static Room> {
    let kind = kind_of(module);
    ROOMS.iter().find(|room| {
        room.modules
            .iter()
            .any(|pattern| matches(pattern, module) && (!pattern.contains('*') || kind.is_some()))
    })
}

fn kind_of(module: &str) -> Option<&str> {
    let name = module.strip_prefix("kinds::")?.split("::").next()?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/kinds").join(name);
    folder.is_dir().then_some(name)
}

/// What a file imports against the table.
fn import_violations(module: &str, code: &str) -> Vec<String> {
    let Some(room) = room_of(module) else { return vec![format!("{module} belongs to no room")] };
    let mut found = Vec::new();
    for target in imports(module, code) {
        let Some(other) = room_of(&target) else {
            continue;
        };
        let foreign =
            kind_of(&target).is_some() && kind_of(module).is_some() && kind_of(&target) != kind_of(module);
        if foreign {
            found.push(format!("{module} imports {target}: kinds never import one another"));
        } else if room.name != other.name && !room.may.contains(&other.name) {
            found
                .push(format!("{module} ({}) imports {target} ({}): {}", room.name, other.name, room.reason));
        }
    }
    let outside = room.never.iter().chain(if room.name == "cli" { &[][..] } else { &["sim"][..] });
    for name in outside {
        if names(code, name) {
            found.push(format!("{module} ({}) names {name}: {}", room.name, room.reason));
        }
    }
    found
}

/// True if the code names a crate, or a path in one, also within a list in braces.
fn names(code: &str, path: &str) -> bool {
    let root = path.split("::").next().unwrap_or_default();
    let mut found = Vec::new();
    for after in occurrences(code, root) {
        expand(root, after, &mut found);
    }
    found
        .iter()
        .any(|named| named == path || named.strip_prefix(path).is_some_and(|rest| rest.starts_with("::")))
}

#[track_caller]
fn none(violations: Vec<String>) {
    assert!(violations.is_empty(), "{} violations:\n{}", violations.len(), violations.join("\n"));
}

#[test]
fn every_room_imports_only_what_it_may() {
    let inner = sources("src")
        .into_iter()
        .filter(|source| !["src/main.rs", "src/lib.rs"].contains(&source.path.as_str()));
    none(
        inner
            .filter(|source| !source.is_test())
            .flat_map(|source| import_violations(&source.module(), &source.code()))
            .collect(),
    );
}

#[test]
fn the_simulator_does_not_know_the_operator() {
    let names = |source: &Source| occurrences(&source.code(), "ecskms").any(|after| after.starts_with("::"));
    none(sources("crates/sim/src").into_iter().filter(names).map(|source| source.path).collect());
}

#[test]
fn every_file_begins_with_what_it_does() {
    let begins =
        |source: &Source| source.text.starts_with("//! ") || source.text.starts_with("#![doc = include_str!");
    let all = ["src", "crates/sim/src", "tests"].into_iter().flat_map(sources);
    none(all.filter(|source| !begins(source)).map(|source| source.path).collect());
}

#[test]
fn files_and_functions_can_be_read_at_once() {
    let mut violations = Vec::new();
    for source in ["src", "crates/sim/src"].into_iter().flat_map(sources) {
        let lines = source.text.lines().count();
        if lines > FILE_LINES_MAX {
            violations.push(format!("{}: {lines} lines", source.path));
        }
        violations.extend(
            long_functions(&source.text).into_iter().map(|found| format!("{}: {found}", source.path)),
        );
    }
    none(violations);
}

/// Functions from the line of their `fn` to the brace that closes them.
fn long_functions(text: &str) -> Vec<String> {
    let bare = without_comments_and_strings(text);
    let lines: Vec<&str> = bare.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let Some(signature) = occurrences(line, "fn").next().filter(|after| after.starts_with(' ')) else {
            continue;
        };
        let name: String = signature.trim_start().chars().take_while(|c| is_name(*c)).collect();
        let mut depth = 0_usize;
        let mut opened = false;
        for (index, line) in lines[start..].iter().enumerate() {
            for c in line.chars() {
                match c {
                    '{' => (depth, opened) = (depth + 1, true),
                    '}' => depth = depth.saturating_sub(1),
                    _ => {}
                }
            }
            if opened && depth == 0 || (!opened && line.trim_end().ends_with(';')) {
                if index + 1 > FUNCTION_LINES_MAX && !name.is_empty() {
                    found.push(format!("fn {name} has {} lines", index + 1));
                }
                break;
            }
        }
    }
    found
}

#[test]
fn nothing_outside_of_tests_may_panic_on_purpose() {
    let mut violations = Vec::new();
    for source in ["src", "crates/sim/src"].into_iter().flat_map(sources).filter(|source| !source.is_test()) {
        let code = source.code();
        for word in [".unwrap()", "panic!(", "todo!(", "unimplemented!(", "dbg!("] {
            if code.contains(word) {
                violations.push(format!("{}: {word}", source.path));
            }
        }
    }
    none(violations);
}

#[test]
fn a_kind_is_named_only_in_its_own_folder() {
    let names = [
        "EncryptedImage",
        "EncryptedDisk",
        "EncryptedInstance",
        "CloudAccount",
        "KeyRevocation",
        "EncryptionAudit",
        "encrypted_image",
        "encrypted_disk",
        "encrypted_instance",
        "cloud_account",
        "key_revocation",
        "encryption_audit",
    ];
    let mut violations = Vec::new();
    for source in ["src", "crates/sim/src"].into_iter().flat_map(sources) {
        let allowed =
            KIND_NAMES_ALLOWED.iter().any(|(path, reason)| *path == source.path && !reason.is_empty());
        if source.path.starts_with("src/kinds/") || allowed {
            continue;
        }
        let bare = source.text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default().to_owned();
        violations.extend(
            names.iter().filter(|name| bare.contains(**name)).map(|name| format!("{}: {name}", source.path)),
        );
    }
    none(violations);
    let stale = KIND_NAMES_ALLOWED.iter().filter(|(path, _)| {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap_or_default();
        !names.iter().any(|name| text.contains(name))
    });
    none(stale.map(|(path, _)| format!("{path} needs no exception any more")).collect());
}

#[test]
fn no_room_is_called_common() {
    let vague = ["common", "util", "utils", "helper", "helpers", "misc", "shared", "prelude"];
    let stem =
        |source: &Source| source.module().rsplit("::").next().is_some_and(|name| vague.contains(&name));
    none(
        ["src", "crates/sim/src"]
            .into_iter()
            .flat_map(sources)
            .filter(stem)
            .map(|source| source.path)
            .collect(),
    );
}

#[test]
fn the_scanner_sees_what_it_is_meant_to_see() {
    let wrong = |module: &str, code: &str| import_violations(module, code).len();
    assert_eq!(wrong("kinds::encrypted_disk::decide", "use crate::decision::creation::Step;"), 0);
    assert_eq!(wrong("kinds::encrypted_disk::decide", "use super::api::EncryptedDisk;"), 1);
    assert_eq!(wrong("kinds::encrypted_disk::decide", "let now = jiff::Timestamp::now();"), 1);
    assert_eq!(wrong("kinds::encrypted_disk::decide", "use std::{fmt, time::Instant};"), 1);
    assert_eq!(wrong("kinds::encrypted_disk::api", "use kube::{Api, CustomResource};"), 1);
    assert_eq!(wrong("kinds::encrypted_disk::api", "use kube::CustomResource;"), 0);
    assert_eq!(wrong("kinds::encrypted_disk::promise", "crate::alibaba::ecs::look()"), 1);
    assert_eq!(
        wrong("kinds::encrypted_disk::observe", "use crate::kinds::encrypted_image::queue::CopyQueue;"),
        1
    );
    assert_eq!(wrong("kinds::encrypted_disk::observe", "use super::super::encrypted_image::api;"), 1);
    assert_eq!(wrong("engine::reconcile", "use crate::{decision::Decision, kinds::{visit, Visitor}};"), 2);
    assert_eq!(wrong("engine::reconcile", "use crate::alibaba::ecs;"), 1);
    assert_eq!(wrong("decision::creation", "use serde::Serialize;"), 1);
    assert_eq!(wrong("engine::reconcile", "sim::cloud::Cloud::new()"), 1);
    let text = "let a = \"// not a comment {\"; // use crate::cli;\nlet b = '{';";
    assert_eq!(without_comments_and_strings(text), "let a = ; \nlet b = ;");
    let long = format!("fn long() {{\n{}}}\n", "    step();\n".repeat(FUNCTION_LINES_MAX));
    assert_eq!(long_functions(&long), [format!("fn long has {} lines", FUNCTION_LINES_MAX + 2)]);
}
