//! The CustomResourceDefinitions in the cluster against those of this program.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::Value;

use super::cluster::Trouble;
use super::line::Line;
use crate::manifests;

const APPLY: &str = "ecskms crds | kubectl apply --server-side -f -";

/// One definition.
pub fn line(
    ours: &CustomResourceDefinition,
    theirs: Result<Option<CustomResourceDefinition>, Trouble>,
) -> Line {
    let name = ours.metadata.name.as_deref().unwrap_or_default();
    let check = format!("crd {name}");
    let theirs = match theirs {
        Ok(Some(theirs)) => theirs,
        Ok(None) => return Line::failed(check, "not installed", APPLY),
        Err(trouble) => return trouble.line(check, "get customresourcedefinitions"),
    };
    if theirs.metadata.deletion_timestamp.is_some() {
        let fix = format!("Wait until it is gone, with all its objects, and install it anew: {APPLY}");
        return Line::failed(check, "it is being deleted", fix);
    }
    if !is_established(&theirs) {
        let fix = format!("See kubectl describe crd {name}");
        return Line::failed(check, "installed, but not established, so that nothing serves it", fix);
    }
    match difference(ours, &theirs) {
        None => Line::ok(check, "established, and the same as in this program"),
        Some(place) => Line::failed(
            check,
            format!("another one than in this program, first at {place}"),
            format!("With the ecskms of the version that runs in the cluster: {APPLY}"),
        ),
    }
}

fn is_established(crd: &CustomResourceDefinition) -> bool {
    let conditions = crd.status.iter().filter_map(|status| status.conditions.as_ref()).flatten();
    conditions.into_iter().any(|condition| condition.type_ == "Established" && condition.status == "True")
}

/// Where the two differ first. What an API server adds by itself is no difference.
fn difference(ours: &CustomResourceDefinition, theirs: &CustomResourceDefinition) -> Option<String> {
    let names = |crd: &CustomResourceDefinition| manifests::to_json(&crd.spec.names);
    let (own, other) = (names(ours), names(theirs));
    let added = |field: &&String| own.get(*field) != other.get(*field);
    if let Some(field) = own.as_object().into_iter().flat_map(|fields| fields.keys()).find(added) {
        return Some(format!("names.{field}"));
    }
    for version in &ours.spec.versions {
        let Some(installed) = theirs.spec.versions.iter().find(|other| other.name == version.name) else {
            return Some(format!("{}, which is not there", version.name));
        };
        let first = walk(&version.name, &manifests::to_json(version), &manifests::to_json(installed));
        if first.is_some() {
            return first;
        }
    }
    None
}

fn walk(path: &str, ours: &Value, theirs: &Value) -> Option<String> {
    match (ours, theirs) {
        _ if ours == theirs => None,
        (Value::Object(own), Value::Object(other)) => {
            let fields = own.keys().chain(other.keys().filter(|field| !own.contains_key(*field)));
            fields.into_iter().find_map(|field| match (own.get(field), other.get(field)) {
                (Some(own), Some(other)) => walk(&longer(path, field), own, other),
                (Some(_), None) => Some(format!("{}, which is missing in the cluster", longer(path, field))),
                (None, _) => Some(format!("{}, which is only in the cluster", longer(path, field))),
            })
        }
        _ => Some(path.to_owned()),
    }
}

/// The steps that every path through a schema has say nothing.
fn longer(path: &str, field: &str) -> String {
    match field {
        "schema" | "openAPIV3Schema" | "properties" => path.to_owned(),
        field => format!("{path}.{field}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::line::Verdict;
    use super::*;

    fn installed() -> (CustomResourceDefinition, Value) {
        let ours = manifests::crds().remove(0);
        let mut value = serde_json::to_value(&ours).expect("JSON");
        // What an API server adds.
        value["spec"]["conversion"] = serde_json::json!({"strategy": "None"});
        value["spec"]["names"]["listKind"] = serde_json::json!("List");
        value["status"] = serde_json::json!({
            "acceptedNames": {"plural": "a", "kind": "A"}, "storedVersions": [],
            "conditions": [{"type": "Established", "status": "True"}],
        });
        (ours, value)
    }

    fn judged(change: impl FnOnce(&mut Value)) -> Line {
        let (ours, mut value) = installed();
        change(&mut value);
        line(&ours, Ok(Some(serde_json::from_value(value).expect("a definition"))))
    }

    #[test]
    fn what_an_api_server_adds_is_no_difference() {
        let same = judged(|_| ());
        assert_eq!(same.result, Verdict::Ok, "{same:?}");
    }

    #[test]
    fn the_first_difference_is_named() {
        let spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";
        let field = |value: &mut Value, change: fn(&mut serde_json::Map<String, Value>)| {
            change(
                value
                    .pointer_mut(&format!("{spec}/properties"))
                    .and_then(Value::as_object_mut)
                    .expect("fields"),
            );
        };
        for (line, words) in [
            (
                judged(|value| field(value, |fields| drop(fields.remove("suspend")))),
                "v1alpha1.spec.suspend, which is missing",
            ),
            (
                judged(|value| {
                    field(value, |fields| {
                        drop(fields.insert("also".into(), serde_json::json!({"type": "string"})))
                    })
                }),
                "v1alpha1.spec.also, which is only in the cluster",
            ),
            (
                judged(|value| value["spec"]["versions"][0]["name"] = "v1".into()),
                "v1alpha1, which is not there",
            ),
            (
                judged(|value| value["spec"]["names"]["shortNames"] = serde_json::json!(["x"])),
                "names.shortNames",
            ),
        ] {
            assert_eq!(line.result, Verdict::Failed);
            assert!(line.seen.contains(words), "{}", line.seen);
            assert!(line.fix.is_some_and(|fix| fix.ends_with(APPLY)));
        }
    }

    #[test]
    fn what_is_not_served_has_failed() {
        let off = judged(|value| value["status"]["conditions"][0]["status"] = "False".into());
        let going = judged(|value| value["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into());
        let (ours, _) = installed();
        for line in [off, going, line(&ours, Ok(None))] {
            assert_eq!(line.result, Verdict::Failed, "{line:?}");
        }
    }
}
