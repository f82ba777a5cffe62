//! Reads manifests from files, directories and standard input, as kubectl's `-f` does.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Deserialize;
use serde_json::Value;

use super::output;

/// The name of standard input among files.
const STANDARD_INPUT: &str = "-";

/// One object of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// Where it stands: the file, and the document's number among those in it that are not empty.
    pub origin: String,
    /// Its apiVersion.
    pub api_version: String,
    /// Its kind.
    pub kind: String,
    /// Its namespace, where it names one.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// All of it.
    pub body: Value,
}

impl Document {
    /// True if its kind belongs to that group, whatever the version.
    pub fn is_of(&self, group: &str) -> bool {
        self.api_version.split_once('/').is_some_and(|(own, _)| own == group)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    api_version: String,
    kind: String,
    metadata: HeadMeta,
}

#[derive(Deserialize)]
struct HeadMeta {
    name: String,
    namespace: Option<String>,
}

/// Every object in the files, in their order; a directory stands for the YAML and JSON files in it, `-` for standard input.
pub fn read(files: &[PathBuf]) -> Result<Vec<Document>, ExitCode> {
    let mut all = Vec::new();
    for file in files {
        let unreadable = |path: &Path, error: &dyn std::fmt::Display| {
            output::fail(&format!("cannot read {}", path.display()), error, "Check the path.")
        };
        if file.as_os_str() == STANDARD_INPUT {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).map_err(|error| unreadable(file, &error))?;
            all.extend(parse("standard input", &text)?);
            continue;
        }
        for file in expand(file)? {
            let text = std::fs::read_to_string(&file).map_err(|error| unreadable(&file, &error))?;
            all.extend(parse(&file.display().to_string(), &text)?);
        }
    }
    Ok(all)
}

/// A directory stands for the files in it.
pub fn expand(path: &Path) -> Result<Vec<PathBuf>, ExitCode> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let unreadable = |error: std::io::Error| {
        output::fail(&format!("cannot read {}", path.display()), &error, "Check the path.")
    };
    let entries = std::fs::read_dir(path).map_err(unreadable)?;
    let is_manifest =
        |path: &PathBuf| path.extension().is_some_and(|end| end == "yaml" || end == "yml" || end == "json");
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    let paths = paths.collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    let mut files: Vec<_> = paths.into_iter().filter(is_manifest).collect();
    files.retain(|file| file.file_name().is_none_or(|name| name != "kustomization.yaml"));
    files.sort();
    Ok(files)
}

/// The objects of one text; those of a List one by one.
pub fn parse(origin: &str, text: &str) -> Result<Vec<Document>, ExitCode> {
    // Without the lines that it stands in: they may be a Secret's.
    let documents: Vec<Value> = serde_saphyr::from_multiple(text)
        .map_err(|error| output::fail(origin, error.without_snippet(), "It must be YAML or JSON."))?;
    let mut all = Vec::new();
    for (index, body) in documents.into_iter().enumerate().filter(|(_, body)| !body.is_null()) {
        let items = match (body["kind"].as_str(), body["items"].as_array()) {
            (Some(kind), Some(items)) if kind.ends_with("List") => items.clone(),
            _ => vec![body],
        };
        for body in items {
            let origin = format!("{origin}, document {}", index + 1);
            // serde would take a sequence for a structure as well.
            let is_object = body.is_object() && body["metadata"].is_object();
            let Some(head) = Head::deserialize(&body).ok().filter(|_| is_object) else {
                return Err(output::fail(
                    &origin,
                    &"apiVersion, kind and metadata.name are needed",
                    "See deploy/samples for examples.",
                ));
            };
            let Head { api_version, kind, metadata: HeadMeta { name, namespace } } = head;
            all.push(Document { origin, api_version, kind, namespace, name, body });
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_taken_apart_and_empty_documents_left_out() {
        let text = "---\n---\nkind: List\napiVersion: v1\nitems:\n- {apiVersion: a/v1, kind: A, metadata: {name: one}}\n\
                    - {apiVersion: a/v1, kind: A, metadata: {name: two, namespace: shop}}\n---\n\
                    {apiVersion: a/v1, kind: B, metadata: {name: three}}\n";
        let all = parse("x", text).expect("readable");
        let seen: Vec<_> = all.iter().map(|one| (&*one.name, one.namespace.as_deref())).collect();
        assert_eq!(seen, [("one", None), ("two", Some("shop")), ("three", None)]);
        assert!(all[2].origin.starts_with("x, document 2"), "{}", all[2].origin);
    }

    #[test]
    fn what_names_no_object_is_refused() {
        assert!(parse("x", "kind: EncryptedImage\n").is_err());
        assert!(parse("x", "apiVersion: v1\nkind: A\nmetadata: {generateName: a-}\n").is_err());
        assert!(parse("x", "{").is_err());
        assert!(parse("x", r#"["a/v1", "A", ["name", "default"]]"#).is_err());
        assert!(
            parse("x", r#"{"apiVersion": "a/v1", "kind": "A", "metadata": ["name", "default"]}"#).is_err()
        );
    }
}
