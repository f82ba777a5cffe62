//! How an object would stand once its manifest was applied, or it was deleted: the API server's own word, by a dry run.

use std::collections::BTreeSet;

use http::header::CONTENT_TYPE;
use http::{Method, Request};
use kube::api::{DeleteParams, DynamicObject};
use kube::{Api, Client, ResourceExt};
use serde_json::{Map, Value, json};

use super::super::manifest::Document;
use super::super::reading::{Error, within};

/// Where kubectl keeps what it applied last.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Who the dry run says that it is, where the user names nobody.
pub const MANAGER: &str = "ecskms-plan";

/// How the manifests would be applied.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Way {
    /// Plans what applying on the server's side would do, as Argo CD and Flux do; without it, what kubectl apply would.
    #[arg(long, env = "ECSKMS_SERVER_SIDE", requires = "field_manager")]
    server_side: bool,
    /// The field manager that applies, for example kustomize-controller: a field that it leaves out goes if it was its own.
    #[arg(long, env = "ECSKMS_FIELD_MANAGER", requires = "server_side", value_parser = manager, value_name = "NAME")]
    field_manager: Option<String>,
    /// Takes fields over from other managers.
    #[arg(long, env = "ECSKMS_FORCE_CONFLICTS", requires = "server_side")]
    force_conflicts: bool,
    /// Asks an account's own endpoints although they are not those that it has now.
    #[arg(long, env = "ECSKMS_ALLOW_NEW_ENDPOINTS")]
    allow_new_endpoints: bool,
}

impl Way {
    /// True for an apply on the server's side.
    pub fn is_server_side(&self) -> bool {
        self.server_side
    }
}

/// Why an object is not planned.
pub enum Refused {
    /// The API server would not have it so, or did not say.
    There(Error),
    /// Nobody can say it truly, or it should not be asked.
    Here(String),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Refused {
        Refused::There(error)
    }
}

/// It becomes part of an address.
fn manager(text: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    match !text.is_empty() && text.len() <= 128 && text.chars().all(is_plain) {
        true => Ok(text.to_owned()),
        false => Err("1 to 128 letters, digits, dots, hyphens and underscores".to_owned()),
    }
}

/// An object as it would stand.
pub struct Standing {
    /// All of it, status included.
    pub object: Value,
    /// True if there is none of that name yet.
    pub is_new: bool,
}

/// What kubectl apply, or apply on the server's side, would make of the object. The namespace is that of its kind, if it has one.
pub async fn applied(
    client: &Client,
    api: &Api<DynamicObject>,
    document: &Document,
    namespace: Option<&str>,
    way: &Way,
) -> Result<Standing, Refused> {
    let live = within(api.get_opt(&document.name)).await?;
    if way.server_side && live.as_ref().is_some_and(|live| last_applied(live).is_some()) {
        return Err(Refused::Here(
            "It was applied with kubectl apply before, and the first apply on the server's side takes those fields over, which a dry \
             run does not show. Plan it without --server-side, or apply it once unchanged on the server's side."
                .to_owned(),
        ));
    }
    let mut body = document.body.clone();
    if let (Some(namespace), Some(meta)) = (namespace, body["metadata"].as_object_mut()) {
        meta.insert("namespace".to_owned(), json!(namespace));
    }
    let all = api.resource_url();
    let one = format!("{all}/{}", document.name);
    let (method, url, form) = match (&live, way.server_side) {
        (_, true) => (Method::PATCH, one, "application/apply-patch+yaml"),
        (Some(live), false) => {
            if let (Some(before), Some(spec)) = (last_applied(live), body.get_mut("spec")) {
                forget(&before["spec"], spec);
            }
            (Method::PATCH, one, "application/merge-patch+json")
        }
        (None, false) => (Method::POST, all.to_owned(), "application/json"),
    };
    let force = if way.server_side && way.force_conflicts { "&force=true" } else { "" };
    let manager = way.field_manager.as_deref().unwrap_or(MANAGER);
    let uri = format!("{url}?dryRun=All&fieldValidation=Strict&fieldManager={manager}{force}");
    let request = Request::builder().method(method).uri(uri).header(CONTENT_TYPE, form);
    let request = request.body(body.to_string().into_bytes());
    let request = request.map_err(|error| Error::from(kube::Error::HttpError(error)))?;
    let mut object: Value = within(client.request(request)).await?;
    if let Some(live) = &live {
        object["status"] = live.data.get("status").cloned().unwrap_or(Value::Null);
    }
    let reviewed = live.as_ref().map(|live| live.data["spec"]["endpoints"].clone()).unwrap_or_default();
    let asked = &object["spec"]["endpoints"];
    if !asked.is_null() && *asked != reviewed && !way.allow_new_endpoints {
        return Err(Refused::Here(
            "Its endpoints are new: planning would send signed requests to addresses that nobody has reviewed. Look at them, and \
             plan it with --allow-new-endpoints."
                .to_owned(),
        ));
    }
    Ok(Standing { object, is_new: live.is_none() })
}

/// The object on its way out; None if there is none.
pub async fn deleted(api: &Api<DynamicObject>, name: &str) -> Result<Option<Standing>, Refused> {
    let Some(live) = within(api.get_opt(name)).await? else { return Ok(None) };
    if live.metadata.deletion_timestamp.is_none() {
        let params = DeleteParams { dry_run: true, ..DeleteParams::default() };
        within(api.delete(name, &params)).await?;
    }
    let object = serde_json::to_value(&live);
    let mut object = object.map_err(|error| Error::from(kube::Error::SerdeError(error)))?;
    object["metadata"]["deletionTimestamp"] = json!(jiff::Timestamp::now().to_string());
    Ok(Some(Standing { object, is_new: false }))
}

fn last_applied(live: &DynamicObject) -> Option<Value> {
    serde_json::from_str(live.annotations().get(LAST_APPLIED)?).ok()
}

/// Adds nulls for what was applied before and is left out now: kubectl takes it away.
fn forget(before: &Value, body: &mut Value) {
    let (Some(before), Some(now)) = (before.as_object(), body.as_object_mut()) else { return };
    let left_out: BTreeSet<&String> = before.keys().filter(|key| !now.contains_key(*key)).collect();
    let nulls: Map<String, Value> = left_out.into_iter().map(|key| (key.clone(), Value::Null)).collect();
    for (key, value) in now.iter_mut() {
        if let Some(old) = before.get(key) {
            forget(old, value);
        }
    }
    now.extend(nulls);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_applied_and_is_left_out_goes_and_what_others_set_stays() {
        let before = json!({ "a": 1, "b": { "c": 1, "d": 2 }, "list": [1, 2] });
        let mut body = json!({ "b": { "d": 3 }, "list": [1], "new": true });
        forget(&before, &mut body);
        assert_eq!(body, json!({ "a": null, "b": { "c": null, "d": 3 }, "list": [1], "new": true }));
    }
}
