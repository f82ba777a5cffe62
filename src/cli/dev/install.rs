//! Takes the samples or the user's manifests, installs the CRDs, and applies objects the way `kubectl apply --server-side` does.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client};
use serde_json::Value;

use crate::cli::manifest::{self, Document};
use crate::cli::output;
use crate::kind::Kind;
use crate::kinds::{self, Visitor};
use crate::manifests;
use crate::resource::GROUP;

/// Field manager of what is applied here.
const MANAGER: &str = "ecskms-dev";
/// How long the API may take to serve a new kind.
const ESTABLISHED_MAX: Duration = Duration::from_secs(10);

/// The samples of `deploy/samples`, as they were when this program was built.
const SAMPLES: &[(&str, &str)] = &include!("samples.in");

/// One object to apply.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// Where it was read.
    pub origin: String,
    /// The kind.
    pub kind: String,
    /// The namespace; `default` where none is given.
    pub namespace: String,
    /// The name.
    pub name: String,
    /// How the API serves it.
    pub resource: ApiResource,
    /// True if the operator reconciles it.
    pub ours: bool,
    /// True if it belongs to no namespace.
    pub cluster: bool,
    body: Value,
}

/// The user's files, or the samples.
pub fn read(files: &[PathBuf]) -> Result<Vec<Manifest>, ExitCode> {
    let mut documents = manifest::read(files)?;
    if files.is_empty() {
        for (name, text) in SAMPLES {
            documents.extend(manifest::parse(&format!("deploy/samples/{name}"), text)?);
        }
    }
    let manifests = documents.into_iter().map(appliable).collect::<Result<Vec<_>, _>>()?;
    if !manifests.iter().any(|manifest| manifest.ours) {
        return Err(output::fail(
            "nothing to do",
            &format!("no object of {GROUP} was given"),
            "See deploy/samples for examples.",
        ));
    }
    Ok(manifests)
}

fn appliable(document: Document) -> Result<Manifest, ExitCode> {
    let Document { origin, api_version, kind, namespace, name, body } = document;
    let Some(Served { resource, ours, cluster }) = served(&api_version, &kind) else {
        let why = format!("{kind} of {api_version} is nothing that this command applies");
        let next =
            format!("Give objects of {GROUP}, and the Namespaces, Secrets and ConfigMaps that they need.");
        return Err(output::fail(&origin, &why, &next));
    };
    let namespace = namespace.unwrap_or_else(|| "default".to_owned());
    Ok(Manifest { origin, kind, namespace, name, resource, ours, cluster, body })
}

/// How the API serves a kind, whether it is the operator's, and whether it belongs to no namespace.
struct Served {
    resource: ApiResource,
    ours: bool,
    cluster: bool,
}

/// The kinds that may be applied here.
fn served(api_version: &str, kind: &str) -> Option<Served> {
    struct Find<'a>(&'a str, &'a str, Option<(ApiResource, bool)>);
    impl Visitor for Find<'_> {
        fn visit<K: Kind>(&mut self) {
            if K::api_version(&()) == self.0 && K::kind(&()) == self.1 {
                self.2 = Some((ApiResource::erase::<K>(&()), K::crd().spec.scope == "Cluster"));
            }
        }
    }
    let mut find = Find(api_version, kind, None);
    kinds::visit(&mut find);
    let core = |kind: &str| ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", kind));
    match (find.2, api_version, kind) {
        (Some((resource, cluster)), _, _) => Some(Served { resource, ours: true, cluster }),
        (None, "v1", "Namespace" | "Secret" | "ConfigMap") => {
            Some(Served { resource: core(kind), ours: false, cluster: kind == "Namespace" })
        }
        _ => None,
    }
}

/// Installs the CRDs and waits until they are served.
pub async fn crds(client: &Client) -> Result<(), ExitCode> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for crd in manifests::crds() {
        let name = crd.metadata.name.clone().unwrap_or_default();
        let fail = |error: &dyn std::fmt::Display| {
            output::fail(&format!("cannot install CRD {name}"), error, "Please report this.")
        };
        api.patch(&name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&crd))
            .await
            .map_err(|error| fail(&error))?;
        let established = kube::runtime::wait::await_condition(
            api.clone(),
            &name,
            kube::runtime::wait::conditions::is_crd_established(),
        );
        match tokio::time::timeout(ESTABLISHED_MAX, established).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(fail(&error)),
            Err(_) => return Err(fail(&"it was not established in time")),
        }
    }
    Ok(())
}

/// Applies the objects; a namespace that is missing is made.
pub async fn apply(client: &Client, manifests: &[Manifest]) -> Result<(), ExitCode> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    for manifest in manifests {
        let fail = |error: kube::Error| {
            let what = format!("{}: {} {}", manifest.origin, manifest.kind, manifest.name);
            let why = match &error {
                kube::Error::Api(status) => status.message.clone(),
                other => other.to_string(),
            };
            output::fail(&what, &why, "Correct the manifest; kubectl explain describes every field.")
        };
        let params = PatchParams {
            field_validation: Some(kube::api::ValidationDirective::Strict),
            ..PatchParams::apply(MANAGER).force()
        };
        if !manifest.cluster {
            let namespace = serde_json::json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": manifest.namespace } });
            let missing = namespaces.get_opt(&manifest.namespace).await.map_err(fail)?.is_none();
            if missing {
                namespaces
                    .patch(&manifest.namespace, &PatchParams::apply(MANAGER), &Patch::Apply(namespace))
                    .await
                    .map_err(fail)?;
            }
        }
        api(client, manifest)
            .patch(&manifest.name, &params, &Patch::Apply(&manifest.body))
            .await
            .map_err(fail)?;
    }
    Ok(())
}

/// The API of one object.
pub fn api(client: &Client, manifest: &Manifest) -> Api<DynamicObject> {
    match manifest.cluster {
        true => Api::all_with(client.clone(), &manifest.resource),
        false => Api::namespaced_with(client.clone(), &manifest.namespace, &manifest.resource),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn every_sample_is_built_in_and_readable() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/samples");
        let on_disk = manifest::expand(&directory).expect("the samples are there");
        let names: Vec<_> = on_disk.iter().filter_map(|file| file.file_name()?.to_str()).collect();
        let built_in: Vec<_> = SAMPLES.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, built_in, "src/cli/dev/samples.in lists them");
        assert!(read(&[]).expect("they are readable").len() >= built_in.len());
    }

    #[test]
    fn a_manifest_that_is_not_ours_is_refused() {
        let text = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\n";
        let document = manifest::parse("x", text).expect("readable").remove(0);
        assert!(appliable(document).is_err());
    }
}
