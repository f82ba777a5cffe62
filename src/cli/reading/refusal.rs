//! Why a list could not be read, and what to do about it.

use std::fmt;
use std::process::ExitCode;

use k8s_openapi::api::rbac::v1::ClusterRole;
use serde_json::{Value, json};

use super::{PAGE, PAGES_MAX, Served, words};
use crate::cli::output;
use crate::diagnosis::Id;
use crate::manifests::{self, people};
use crate::resource::GROUP;

/// Why a list was not read to its end.
#[derive(Debug)]
pub enum Error {
    /// The cluster, or the way to it.
    Kube(kube::Error),
    /// No answer in time.
    Late,
    /// More pages than there can be.
    Endless,
}

impl From<kube::Error> for Error {
    fn from(error: kube::Error) -> Error {
        Error::Kube(error)
    }
}

impl Error {
    /// The status code that the API answered.
    pub fn code(&self) -> Option<u16> {
        match self {
            Error::Kube(kube::Error::Api(status)) => Some(status.code),
            Error::Kube(_) | Error::Late | Error::Endless => None,
        }
    }

    /// True if beginning anew may help: a continuation that has expired, and what passes by itself.
    pub fn passes(&self) -> bool {
        match self {
            Error::Kube(kube::Error::Api(_)) => matches!(self.code(), Some(410 | 429 | 500..)),
            Error::Kube(kube::Error::Service(_) | kube::Error::HyperError(_)) => true,
            Error::Kube(_) | Error::Late | Error::Endless => false,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Kube(kube::Error::Api(status)) => formatter.write_str(&output::clean(&status.message)),
            Error::Kube(error) => formatter.write_str(&output::causes(error)),
            Error::Late => formatter.write_str("the Kubernetes API did not answer in time"),
            Error::Endless => write!(formatter, "there are more than {} objects", PAGE * PAGES_MAX),
        }
    }
}

/// A kind, or one object of it, that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// The name of the kind.
    pub kind: String,
    /// The object; None: the whole kind.
    pub object: Option<Id>,
    /// What is the matter.
    pub why: String,
    /// What to do.
    pub next: String,
}

impl Unread {
    /// Of one object that does not fit its type: what only its kind can say of it is not known.
    pub fn object(id: Id, error: &str) -> Unread {
        let why = format!("it does not fit this program: {}", output::clean(error));
        let next = "Use the ecskms of the version that runs in the cluster.".to_owned();
        Unread { kind: id.kind.clone(), object: Some(id), why, next }
    }

    /// What was not read, in words.
    pub fn what(&self) -> String {
        self.object.as_ref().map_or_else(|| self.kind.clone(), words::object)
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let (namespace, name) = self.object.as_ref().map(|id| (&id.namespace, &id.name)).unzip();
        json!({ "kind": self.kind, "namespace": namespace, "name": name, "why": self.why, "next": self.next })
    }

    /// Of one list; `flags` make kubectl reach the same cluster.
    pub fn of(kind: &Served, namespace: Option<&str>, flags: &str, error: &Error) -> Unread {
        let plural = &kind.resource.plural;
        let (why, next) = match error.code() {
            Some(404) => (
                format!("the cluster does not know it: CRD {plural}.{GROUP} is not installed"),
                format!("Install the CRDs: ecskms crds | kubectl apply --server-side -f -{flags}"),
            ),
            Some(403) => {
                let place = match namespace.filter(|_| kind.is_namespaced) {
                    Some(namespace) => format!("in namespace {namespace}"),
                    None => "in the whole cluster".to_owned(),
                };
                let next = format!(
                    "Somebody who administers the cluster can let you list {plural}.{GROUP} {place}: ClusterRole {} does.",
                    reader(plural)
                );
                (format!("it is forbidden: {error}"), next)
            }
            _ => {
                let next = format!("Try again; kubectl get --raw /readyz{flags} says how the API is.");
                (error.to_string(), next)
            }
        };
        Unread { kind: kind.resource.kind.clone(), object: None, why, next }
    }
}

/// The ClusterRole that allows reading the kind and nothing else, if there is one: the last that allows reading it.
fn reader(plural: &str) -> String {
    let rules = |role: &ClusterRole| role.rules.clone().unwrap_or_default();
    let reads = |role: &ClusterRole| {
        rules(role).iter().any(|rule| rule.resources.iter().flatten().any(|resource| resource == plural))
    };
    let all = std::iter::once(manifests::view_role()).chain(people::revocation_roles());
    all.rev().find(reads).and_then(|role| role.metadata.name).unwrap_or_default()
}

/// Said once where not a single list was answered for a reason of its own: then it is the cluster that cannot be read.
pub fn whole<T>(lists: &[Result<T, Error>], flags: &str) -> Option<ExitCode> {
    let is_of_all = |error: &Error| !matches!(error.code(), Some(403 | 404));
    let errors: Vec<&Error> = lists.iter().filter_map(|list| list.as_ref().err()).collect();
    if errors.len() < lists.len() || !errors.iter().all(|error| is_of_all(error)) {
        return None;
    }
    let error = errors.first()?;
    let next = match error.code() {
        Some(401) => {
            "Sign in again: the cluster does not accept the credentials of the kubeconfig.".to_owned()
        }
        _ => format!(
            "Check KUBECONFIG and --context; kubectl cluster-info{flags} says whether the cluster answers."
        ),
    };
    Some(output::fail("the cluster cannot be read", error, &next))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::reading::served;

    #[test]
    fn every_kind_has_a_role_that_reads_it_and_no_more() {
        for kind in served() {
            let role = reader(&kind.resource.plural);
            assert!(role == manifests::VIEW_ROLE || role == "ecskms-revocation-auditor", "{role}");
        }
        assert_eq!(reader("keyrevocations"), "ecskms-revocation-auditor");
    }
}
