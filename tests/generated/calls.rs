//! Which part of the operator calls which action of Alibaba Cloud, read off the source.
//!
//! Knows the shape of the client: each call is a method of `Cloud` that names its action in a text, or that asks another method.
//! What an action needs is `permissions`' business.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::files::root;

/// The files of the client whose methods call the cloud.
const CLIENT: [&str; 9] =
    ["amendments", "attachments", "ecs", "emergency", "instances", "kms", "ram", "sts", "survey"];

/// Every action of the client, as `service:Action`.
pub fn all() -> BTreeSet<String> {
    Client::read().actions().into_values().flatten().collect()
}

/// The actions that these files and folders call.
pub fn made_by(paths: &[&str], except: &[&str]) -> BTreeSet<String> {
    let actions = Client::read().actions();
    let mut files = Vec::new();
    for path in paths {
        collect(&root().join(path), &mut files);
    }
    let except: Vec<PathBuf> = except.iter().map(|path| root().join(path)).collect();
    files.retain(|file| !except.contains(file));
    assert!(!files.is_empty(), "{paths:?} are no sources");
    let mut made = BTreeSet::new();
    for file in files {
        let text: String = code(&file).split_whitespace().collect();
        let called = actions.iter().filter(|(method, _)| text.contains(&format!("cloud.{method}(")));
        made.extend(called.flat_map(|(_, actions)| actions.iter().cloned()));
    }
    made
}

/// The text of each method.
struct Client(BTreeMap<String, String>);

impl Client {
    fn read() -> Client {
        let mut methods = BTreeMap::<String, String>::new();
        for file in CLIENT {
            let mut current = String::new();
            for line in code(&root().join(format!("src/alibaba/{file}.rs"))).lines() {
                if let Some(name) = function(line) {
                    current = name;
                }
                let text = methods.entry(current.clone()).or_default();
                text.push_str(line);
                text.push('\n');
            }
        }
        Client(methods)
    }

    /// What each method calls, itself or by others.
    fn actions(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut found = BTreeMap::new();
        for name in self.0.keys().filter(|name| !name.is_empty()) {
            let reached = self.reached(name);
            let texts: Vec<&String> = reached.iter().filter_map(|name| self.0.get(name)).collect();
            let actions: BTreeSet<String> = texts
                .iter()
                .flat_map(|text| text.lines().flat_map(texts_of))
                .filter(|text| is_action(text))
                .collect();
            let services = ["Ecs", "Kms", "Ram", "Sts"];
            let named =
                |service: &&str| texts.iter().any(|text| text.contains(&format!("Service::{service}")));
            let services: Vec<String> = services.into_iter().filter(named).map(str::to_lowercase).collect();
            if actions.is_empty() || services.is_empty() {
                continue;
            }
            assert_eq!(services.len(), 1, "{name} asks more than one service: {actions:?}");
            let full = actions.into_iter().map(|action| format!("{}:{action}", services[0]));
            found.insert(name.clone(), full.collect());
        }
        found
    }

    /// The method and the methods that it asks.
    fn reached(&self, name: &str) -> BTreeSet<String> {
        let mut reached = BTreeSet::new();
        let mut open = vec![name.to_owned()];
        while let Some(name) = open.pop() {
            let Some(text) = self.0.get(&name) else { continue };
            if reached.insert(name) {
                open.extend(self.0.keys().filter(|other| text.contains(&format!("self.{other}("))).cloned());
            }
        }
        reached
    }
}

/// The name of the function that begins in the line.
fn function(line: &str) -> Option<String> {
    let (before, after) = line.split_once("fn ")?;
    let begins = before.split_whitespace().all(|word| word.starts_with("pub") || word == "async");
    let name: String = after.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (begins && !name.is_empty()).then_some(name)
}

/// The sources below a path, without tests.
fn collect(path: &Path, files: &mut Vec<PathBuf>) {
    if path.is_file() {
        let is_source = path.extension().is_some_and(|end| end == "rs");
        let is_test = path.file_name().is_some_and(|name| name == "tests.rs");
        files.extend((is_source && !is_test).then(|| path.to_owned()));
        return;
    }
    for entry in std::fs::read_dir(path).unwrap_or_else(|error| unreachable!("{}: {error}", path.display())) {
        collect(&entry.expect("readable").path(), files);
    }
}

/// A source without its tests and comments.
fn code(path: &Path) -> String {
    let source = std::fs::read_to_string(path).expect("the source is there");
    let source = source.split("#[cfg(test)]").next().unwrap_or_default();
    source
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .map(|line| format!("{line}\n"))
        .collect()
}

/// Texts that begin with one of the verbs that Alibaba Cloud's actions begin with.
fn is_action(text: &str) -> bool {
    const VERBS: [&str; 24] = [
        "Add", "Apply", "Assume", "Attach", "Cancel", "Copy", "Create", "Delete", "Describe", "Detach",
        "Disable", "Enable", "Get", "List", "Modify", "Reboot", "Remove", "Replace", "Resize", "Run",
        "Schedule", "Start", "Stop", "Tag",
    ];
    // Parameters that read like actions.
    const PARAMETERS: [&str; 2] = ["AssumeRolePolicyDocument", "DeleteWithInstance"];
    let rest = VERBS.iter().find_map(|verb| text.strip_prefix(verb));
    let fits = |rest: &str| rest.starts_with(char::is_uppercase) && rest.chars().all(char::is_alphanumeric);
    !PARAMETERS.contains(&text) && rest.is_some_and(fits)
}

/// The quoted texts of a line, without the names of fields that are read off a reply, such as `DeleteDate`.
fn texts_of(line: &str) -> Vec<String> {
    let parts: Vec<&str> = line.split('"').collect();
    let quoted = parts.windows(2).step_by(2);
    let read =
        |before: &str| ["text(", "required(", "number(", "list("].iter().any(|call| before.ends_with(call));
    quoted.filter(|pair| !read(pair[0])).map(|pair| pair[1].to_owned()).collect()
}
