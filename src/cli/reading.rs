//! Reads the objects of every kind, whole, and says what could not be read. Changes nothing.
//!
//! What a list does not bring is never taken for nothing: a kind that the cluster does not know, and a list that is forbidden, are
//! told with the next step.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::time::Duration;

use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use kube::api::{ApiResource, DynamicObject, ListParams};
use kube::{Api, Client};
use serde_json::Value;

use super::{client, output};
use crate::diagnosis::{Diagnosis, Id, Object, State};
use crate::kind::dependency;
use crate::kind::{Dependency, Incident, Kind};
use crate::kinds::{self, Visitor};
use crate::manifests::NAMESPACE;
use crate::resource::check;

pub mod lease;
mod refusal;
mod translate;
pub mod words;

use lease::Leader;
pub use refusal::{Error, Unread};
pub use translate::{amiss, clean, conditions};

/// The exit code of arguments that cannot work.
pub const WRONG: u8 = 2;
/// Objects in one page of a list.
const PAGE: u32 = 500;
/// Pages of one list, at most.
const PAGES_MAX: u32 = 1_000;
/// How long one answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// How long an incident may stay without a look.
const LOOK_MAX: SignedDuration = SignedDuration::from_mins(1);
/// How often a list is begun that fails for the moment, or whose continuation has expired.
const TRIES_MAX: u32 = 3;
/// The pause before it is begun again.
const PAUSE: Duration = Duration::from_millis(500);

/// Which cluster, and where in it.
#[derive(Debug, clap::Args)]
pub struct Where {
    /// The namespace; without it, that of the kubeconfig's context.
    #[arg(long, short, env = "ECSKMS_NAMESPACE", value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// The context of the kubeconfig; without it, the current one.
    #[arg(long, env = "ECSKMS_CONTEXT", value_name = "CONTEXT")]
    pub context: Option<String>,
    /// The operator's own namespace, where its Lease is.
    #[arg(long, env = "ECSKMS_LEASE_NAMESPACE", default_value = NAMESPACE, value_name = "NAMESPACE")]
    pub lease_namespace: String,
}

/// For whom the outcome is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// Lines for people.
    #[value(alias = "text")]
    Table,
    /// One JSON object.
    Json,
}

impl Where {
    /// What a command of this program must add, to reach the same cluster and the same operator.
    pub fn flags(&self) -> String {
        let lease = match self.lease_namespace == NAMESPACE {
            true => String::new(),
            false => format!(" --lease-namespace {}", output::clean(&self.lease_namespace)),
        };
        format!("{}{lease}", self.kubectl())
    }

    /// What kubectl must add, to reach the same cluster.
    pub fn kubectl(&self) -> String {
        let Some(context) = &self.context else { return String::new() };
        let context = output::clean(context);
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.:/@".contains(c);
        match !context.is_empty() && context.chars().all(is_plain) {
            true => format!(" --context {context}"),
            false => format!(" --context '{}'", context.replace('\'', r"'\''")),
        }
    }

    /// The client, and the namespace that is meant.
    pub async fn connect(&self) -> Result<(Client, String), ExitCode> {
        // They become parts of paths, and a wrong path looks like something that is not there.
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let given = self.namespace.as_ref().filter(|name| !name.is_empty());
        for (name, flag) in
            given.map(|name| (name, "-n")).into_iter().chain([(&self.lease_namespace, "--lease-namespace")])
        {
            if name.is_empty() || !name.chars().all(plain) {
                let name = check::quoted(name);
                output::note(format_args!("ecskms: {name} is not the name of a namespace. Check {flag}."));
                return Err(ExitCode::from(WRONG));
            }
        }
        let unusable = |error: &dyn std::fmt::Display| {
            output::fail(
                "no cluster",
                error,
                "Set KUBECONFIG; with --context, kubectl config get-contexts names the contexts.",
            )
        };
        let config = client::config(self.context.as_deref()).await.map_err(|error| unusable(&error))?;
        let namespace = self.namespace.clone().filter(|name| !name.is_empty());
        let namespace = namespace.unwrap_or_else(|| config.default_namespace.clone());
        let client = client::connect(config).map_err(|error| unusable(&error))?;
        Ok((client, namespace))
    }
}

/// A kind, as the cluster serves it and as people call it.
pub struct Served {
    /// Names and version.
    pub resource: ApiResource,
    /// True if its objects live in namespaces.
    pub is_namespaced: bool,
    /// Everything that kubectl calls it, in lower case.
    pub names: Vec<String>,
    alarms: &'static [&'static str],
    concerns: &'static [&'static str],
    facts: fn(&Value) -> Result<Facts, String>,
}

/// What only the kind itself can say of an object that fits the type.
#[derive(Default)]
struct Facts {
    account: Option<Dependency>,
    dependencies: Vec<Dependency>,
    incident: Option<Incident>,
}

/// What is known of an object besides what its cause is found by.
pub struct Detail {
    /// Its uid.
    pub uid: String,
    /// Since when Ready is as it is.
    pub since: Option<Timestamp>,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// True if it is being deleted.
    pub is_leaving: bool,
    /// Its status.
    pub status: Value,
    /// The incident that it is.
    pub incident: Option<Incident>,
}

/// What was read.
pub struct Picture {
    /// The objects, and how to find their causes.
    pub diagnosis: Diagnosis,
    /// The same objects in full.
    pub details: BTreeMap<Id, Detail>,
    /// What could not be read.
    pub unread: Vec<Unread>,
    /// Whether an operator leads.
    pub leader: Leader,
}

impl Picture {
    /// The object in that place in full.
    pub fn detail(&self, place: usize) -> Option<&Detail> {
        self.details.get(&self.diagnosis.objects()[place].id)
    }
}

/// Every kind, in the order of the registry.
pub fn served() -> Vec<Served> {
    struct Collector(Vec<Served>);
    impl Visitor for Collector {
        fn visit<K: Kind>(&mut self) {
            let crd = K::crd();
            let names = crd.spec.names;
            let all = [Some(names.kind), names.singular, Some(names.plural)];
            let all = all.into_iter().flatten().chain(names.short_names.unwrap_or_default());
            let mut all: Vec<String> = all.map(|name| name.to_lowercase()).collect();
            // The singular of most kinds is the kind.
            all.dedup();
            self.0.push(Served {
                resource: ApiResource::erase::<K>(&()),
                is_namespaced: crd.spec.scope == "Namespaced",
                names: all,
                alarms: K::ALARMS,
                concerns: K::CONCERNS,
                facts: facts::<K>,
            });
        }
    }
    let mut collector = Collector(Vec::new());
    kinds::visit(&mut collector);
    collector.0
}

fn facts<K: Kind>(value: &Value) -> Result<Facts, String> {
    let object = K::deserialize(value).map_err(|error| error.to_string())?;
    Ok(Facts {
        account: dependency::account(&object),
        dependencies: object.depends_on(),
        incident: object.incident(),
    })
}

impl Served {
    /// The API of its objects; a namespace is of no account for what belongs to the cluster.
    pub fn api(&self, client: &Client, namespace: Option<&str>) -> Api<DynamicObject> {
        match namespace.filter(|_| self.is_namespaced) {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &self.resource),
            None => Api::all_with(client.clone(), &self.resource),
        }
    }
}

/// Reads all kinds: the objects of the namespace, or of all, and those of the cluster; and whether an operator leads. Fails if the
/// cluster itself cannot be read.
pub async fn read(
    client: &Client,
    kinds: &[Served],
    namespace: Option<&str>,
    place: &Where,
) -> Result<Picture, ExitCode> {
    let lists = join_all(kinds.iter().map(|kind| list(client, kind, namespace)));
    let (lists, leader) = futures::join!(lists, lease::read(client, place));
    if let Some(error) = refusal::whole(&lists, &place.kubectl()) {
        return Err(error);
    }
    let (mut raw, mut unread, mut complete) = (Vec::new(), Vec::new(), BTreeSet::new());
    for (kind, listed) in kinds.iter().zip(lists) {
        match listed {
            Ok(objects) => {
                complete.insert(kind.resource.kind.clone());
                raw.extend(objects.into_iter().map(|object| (kind, object)));
            }
            Err(error) => unread.push(Unread::of(kind, namespace, &place.kubectl(), &error)),
        }
    }
    let (mut objects, details, unfit) = translate::all(raw);
    unread.extend(unfit);
    let now = Timestamp::now();
    for object in &mut objects {
        object.forsaken = is_forsaken(object, details.get(&object.id), &leader, now);
    }
    Ok(Picture { diagnosis: Diagnosis::new(objects, complete), details, unread, leader })
}

/// True if nobody will look at the object by itself. An incident waits for no leader: somebody should look at it at once,
/// whatever the Lease says.
fn is_forsaken(object: &Object, detail: Option<&Detail>, leader: &Leader, now: Timestamp) -> bool {
    let made = detail.filter(|detail| detail.incident.is_some()).and_then(|detail| detail.created);
    let is_overdue = || made.is_some_and(|made| now.duration_since(made) > LOOK_MAX);
    match leader {
        Leader::Gone { .. } => true,
        Leader::Missing => object.state() == State::Unseen,
        Leader::Leads { .. } | Leader::Unknown { .. } => object.state() == State::Unseen && is_overdue(),
    }
}

/// All objects of one kind, page by page.
pub async fn list(
    client: &Client,
    kind: &Served,
    namespace: Option<&str>,
) -> Result<Vec<DynamicObject>, Error> {
    let api = kind.api(client, namespace);
    let mut tries = 1;
    loop {
        match pages(&api).await {
            Err(error) if error.passes() && tries < TRIES_MAX => tokio::time::sleep(PAUSE).await,
            other => return other,
        }
        tries += 1;
    }
}

/// Bounds one reading: the client itself would wait for ever.
pub async fn within<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, Error> {
    match tokio::time::timeout(ANSWER_MAX, call).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Error::Late),
    }
}

async fn pages(api: &Api<DynamicObject>) -> Result<Vec<DynamicObject>, Error> {
    let mut params = ListParams::default().limit(PAGE);
    let mut all = Vec::new();
    for _ in 0..PAGES_MAX {
        let page = within(api.list(&params)).await?;
        all.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(all),
        }
    }
    Err(Error::Endless)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nobody_looks_at_what_no_operator_leads_and_at_an_incident_that_stays_unseen() {
        let kinds = served();
        let kind = kinds.iter().find(|kind| kind.names.iter().any(|name| name == "krev")).expect("a kind");
        let body = json!({ "apiVersion": "ecskms.dev/v1alpha1", "kind": kind.resource.kind,
            "metadata": { "name": "inc", "uid": "u", "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z" },
            "spec": { "region": "cn-a", "keyId": "key-a", "desiredState": "Revoked", "reason": "it was found in public",
                "requestedBy": "ann" } });
        let raw = vec![(kind, serde_json::from_value(body).expect("an object"))];
        let (objects, mut details, unfit) = translate::all(raw);
        let (object, made) = (&objects[0], "2026-01-01T00:00:00Z".parse::<Timestamp>().expect("a time"));
        assert!(unfit.is_empty() && object.state() == State::Unseen);
        let detail = details.get_mut(&object.id).expect("it is there");
        let leads = Leader::Leads { holder: "a".to_owned(), renewed: None, acquired: None };
        let gone = Leader::Gone { holder: None, renewed: None };
        let forsaken = |detail: &Detail, leader: &Leader, seconds: i64| {
            is_forsaken(object, Some(detail), leader, made + SignedDuration::from_secs(seconds))
        };
        assert!(!forsaken(detail, &leads, 60) && forsaken(detail, &leads, 61));
        assert!(forsaken(detail, &Leader::Missing, 0) && forsaken(detail, &gone, 0));
        detail.incident = None;
        assert!(!forsaken(detail, &leads, 3_600), "another kind waits for its leader's turn");
    }
}
