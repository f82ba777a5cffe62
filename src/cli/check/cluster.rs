//! The cluster's part: API server, definitions, rights, namespace, Lease, admission policies.

use std::future::Future;

use futures::future::join_all;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::version::Info;
use kube::{Api, Client, ResourceExt};

use super::line::Line;
use super::{Args, Asking, access, definitions, policies};
use crate::alibaba::error::safe_text;
use crate::cli::client;
use crate::cli::reading::lease::{self, Leader};
use crate::manifests;

/// The oldest Kubernetes that the operator runs on.
const OLDEST: (u32, u32) = (1, 33);

/// Every check of the cluster.
pub async fn lines(args: &Args, asking: &Asking) -> Vec<Line> {
    let part = Part { args, asking };
    if args.context().is_none() && !is_named() {
        let (seen, fix) = ("no kubeconfig is there, and this is no pod", "Set KUBECONFIG.");
        return vec![match args.cluster_only {
            true => Line::failed("cluster", seen, fix),
            false => Line::skipped("cluster", seen).with_fix(fix),
        }];
    }
    let client = match part.connect().await {
        Ok(client) => client,
        Err(line) => return vec![line, not_asked()],
    };
    let line = match part.api_server(&client).await {
        Ok(line) => line,
        Err(failed) => return vec![failed, not_asked()],
    };
    let (definitions, rights, namespace, lease, policies) = tokio::join!(
        part.definitions(&client),
        access::lines(&part, &client),
        part.namespace(&client),
        part.leader(&client),
        policies::line(&part, &client),
    );
    let single = [namespace, lease, policies];
    std::iter::once(line).chain(definitions).chain(rights).chain(single).collect()
}

/// True if anybody said where a cluster is. A kubeconfig that is there and cannot be read is no reason to skip it.
fn is_named() -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let default = std::env::home_dir().map(|home| home.join(".kube/config"));
    set("KUBECONFIG") || set("KUBERNETES_SERVICE_HOST") || default.is_some_and(|file| file.exists())
}

fn not_asked() -> Line {
    let check = "crds, rbac, namespace, leader, admission policies";
    Line::unknown(check, "not asked: the Kubernetes API cannot be used", "Mend that first.")
}

/// What is asked, and how.
pub struct Part<'a> {
    pub args: &'a Args,
    pub asking: &'a Asking,
}

/// Why the API server gave no answer to go on with.
#[derive(Clone, Debug)]
pub enum Trouble {
    /// It refused, with this HTTP status.
    Refused(u16, String),
    /// It could not be reached, or said nothing that could be understood.
    Silent(String),
}

impl Trouble {
    /// The check could not be made; `right` is what it takes.
    pub fn line(&self, check: impl Into<String>, right: &str) -> Line {
        match self {
            Trouble::Refused(401, text) => Line::failed(
                check,
                text.clone(),
                "Sign in to the cluster anew; kubectl auth whoami must work.",
            ),
            Trouble::Refused(403, text) => {
                Line::unknown(check, text.clone(), format!("Run it as somebody who may {right}."))
            }
            Trouble::Refused(404, text) => Line::unknown(
                check,
                text.clone(),
                format!("This API server does not serve what it takes ({right})."),
            ),
            Trouble::Refused(_, text) | Trouble::Silent(text) => Line::unknown(
                check,
                text.clone(),
                "Run it again; kubectl get --raw /readyz?verbose says what ails the API server.",
            ),
        }
    }

    fn text(&self) -> &str {
        let (Trouble::Refused(_, text) | Trouble::Silent(text)) = self;
        text
    }
}

impl From<kube::Error> for Trouble {
    fn from(error: kube::Error) -> Trouble {
        if let kube::Error::Api(status) = &error {
            let text = format!("{} {}: {}", status.code, status.reason, status.message);
            return Trouble::Refused(status.code, safe_text(&text));
        }
        // The innermost cause says what happened; the outer ones say that something did.
        let mut cause: &dyn std::error::Error = &error;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        Trouble::Silent(safe_text(&cause.to_string()))
    }
}

impl Part<'_> {
    /// Bounds one question.
    pub async fn ask<T>(&self, call: impl Future<Output = kube::Result<T>>) -> Result<T, Trouble> {
        let limit = self.asking.limit;
        let answer = tokio::time::timeout(limit, call).await;
        self.asking.progress.inc(1);
        match answer {
            Ok(answer) => answer.map_err(Trouble::from),
            Err(_) => Err(Trouble::Silent(format!("no answer within {limit:?}"))),
        }
    }

    /// The client of the kubeconfig, or of the pod. A program that signs in may ask somebody something, and is not waited for.
    async fn connect(&self) -> Result<Client, Line> {
        let failed = |seen: &str| {
            let fix =
                "Check KUBECONFIG, its context, and the program that signs in; kubectl version must work.";
            Line::failed("kubernetes api", safe_text(seen), fix)
        };
        let mut config = client::config(self.args.context()).await.map_err(|error| failed(&error))?;
        config.default_retry = false;
        let (send, receive) = tokio::sync::oneshot::channel();
        let runtime = tokio::runtime::Handle::current();
        std::thread::spawn(move || {
            let _inside = runtime.enter();
            let _ = send.send(client::connect(config));
        });
        match tokio::time::timeout(self.asking.limit, receive).await {
            Ok(Ok(Ok(client))) => Ok(client),
            Ok(Ok(Err(error))) => Err(failed(Trouble::from(error).text())),
            Ok(Err(_)) | Err(_) => Err(failed("signing in to the cluster takes too long")),
        }
    }

    /// The line that is as it should be, or else the one that failed.
    async fn api_server(&self, client: &Client) -> Result<Line, Line> {
        const CHECK: &str = "kubernetes api";
        match self.ask(client.apiserver_version()).await {
            Ok(version) => Ok(supported(CHECK, &version)),
            Err(trouble) => {
                let fix = "Check KUBECONFIG, its context, proxy and firewall; kubectl version must work.";
                Err(Line::failed(CHECK, trouble.text(), fix))
            }
        }
    }

    async fn definitions(&self, client: &Client) -> Vec<Line> {
        let api = Api::all(client.clone());
        let ours = manifests::crds();
        let each = ours.iter().map(|crd| async {
            let name = crd.name_any();
            let theirs = self.ask(async { api.get_opt(&name).await }).await;
            definitions::line(crd, theirs)
        });
        join_all(each).await
    }

    async fn namespace(&self, client: &Client) -> Line {
        let name = &self.args.lease_namespace;
        let check = format!("namespace {name}");
        let api: Api<Namespace> = Api::all(client.clone());
        match self.ask(async { api.get_opt(name).await }).await {
            Err(trouble) => trouble.line(check, "get namespaces"),
            Ok(None) => Line::failed(check, "not there", format!("kubectl create namespace {name}")),
            Ok(Some(found)) if found.metadata.deletion_timestamp.is_some() => {
                let fix =
                    format!("kubectl get namespace {name} -o yaml says what holds it; then make it anew.");
                Line::failed(check, "it is being deleted", fix)
            }
            Ok(Some(_)) => Line::ok(check, "there"),
        }
    }

    async fn leader(&self, client: &Client) -> Line {
        const RIGHT: &str = "get leases.coordination.k8s.io";
        let namespace = &self.args.lease_namespace;
        let check = format!("leader {namespace}/{}", manifests::LEASE_NAME);
        let api: Api<Lease> = Api::namespaced(client.clone(), namespace);
        match lease::look(async || self.ask(async { api.get_opt(manifests::LEASE_NAME).await }).await).await {
            Ok(found) => leader(check, namespace, found, jiff::Timestamp::now()),
            Err(trouble) => trouble.line(check, RIGHT),
        }
    }
}

fn supported(check: &str, version: &Info) -> Line {
    let number = |text: &str| {
        let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
        digits.parse::<u32>().ok()
    };
    let seen = safe_text(&version.git_version);
    let (major, minor) = OLDEST;
    match number(&version.major).zip(number(&version.minor)) {
        Some(found) if found >= OLDEST => Line::ok(check, seen),
        Some(_) => {
            Line::failed(check, seen, format!("The operator needs Kubernetes {major}.{minor} or newer."))
        }
        None => Line::unknown(check, seen, format!("See whether it is Kubernetes {major}.{minor} or newer.")),
    }
}

fn leader(check: String, namespace: &str, found: Leader, now: jiff::Timestamp) -> Line {
    let pods = format!(
        "kubectl get pods --namespace {namespace}, and kubectl logs --namespace {namespace} deployment/ecskms"
    );
    match found {
        Leader::Leads { holder, renewed: Some(renewed), acquired } => {
            let since = acquired.map(|time| format!(", leads for {}", span(age(time, now))));
            let (since, renewed) = (since.unwrap_or_default(), span(age(renewed, now)));
            Line::ok(check, format!("{} holds the Lease, renewed {renewed} ago{since}", safe_text(&holder)))
        }
        Leader::Leads { holder, renewed: None, .. } => {
            let holder = safe_text(&holder);
            let seen = format!("{holder} holds the Lease and renews it; its clock is not this machine's");
            Line::ok(check, seen)
        }
        Leader::Gone { holder: None, .. } => {
            Line::failed(check, "the last leader gave the Lease back, and nobody has taken it", pods)
        }
        Leader::Gone { holder: Some(holder), renewed } => {
            let when = renewed.map_or_else(|| "never".to_owned(), |time| time.to_string());
            let holder = safe_text(&holder);
            let seen = format!("{holder} held the Lease, renewed last {when}; nobody renews it");
            Line::failed(check, seen, pods)
        }
        Leader::Missing => {
            let seen =
                "no Lease: no operator has run here yet, or one without --leader-elect, which writes none";
            Line::unknown(check, seen, pods)
        }
        Leader::Unknown { why, next } => Line::unknown(check, why, next),
    }
}

fn age(then: jiff::Timestamp, now: jiff::Timestamp) -> i64 {
    now.as_second() - then.as_second()
}

/// For people: the largest unit alone.
fn span(seconds: i64) -> String {
    match seconds.max(0) {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::super::line::Verdict;
    use super::*;

    #[test]
    fn a_leader_is_told_by_what_its_lease_says() {
        let time = |text: &str| text.parse::<jiff::Timestamp>().expect("a time");
        let judge = |found| leader("c".into(), "n", found, time("2026-01-01T12:00:00Z"));
        let leads = |renewed: Option<&str>| Leader::Leads {
            holder: "pod-a".into(),
            renewed: renewed.map(time),
            acquired: Some(time("2026-01-01T08:00:00Z")),
        };
        let live = judge(leads(Some("2026-01-01T11:59:57Z")));
        assert_eq!(live.result, Verdict::Ok);
        assert_eq!(live.seen, "pod-a holds the Lease, renewed 3 s ago, leads for 4 h");
        assert_eq!(judge(leads(None)).result, Verdict::Ok, "clocks differ");
        assert_eq!(judge(Leader::Missing).result, Verdict::Unknown);
        for holder in [None, Some("pod-a".to_owned())] {
            assert_eq!(judge(Leader::Gone { holder, renewed: None }).result, Verdict::Failed);
        }
    }

    #[test]
    fn versions_are_numbers_and_not_texts() {
        let judge = |major: &str, minor: &str| {
            let version = Info { major: major.into(), minor: minor.into(), ..Info::default() };
            supported("c", &version).result
        };
        assert_eq!([judge("1", "33"), judge("1", "36+"), judge("2", "0")], [Verdict::Ok; 3]);
        assert_eq!([judge("1", "32"), judge("1", "9")], [Verdict::Failed; 2]);
        assert_eq!(judge("", ""), Verdict::Unknown);
    }

    #[test]
    fn who_may_not_ask_does_not_know() {
        let line = |code| Trouble::Refused(code, "text".into()).line("c", "get things").result;
        assert_eq!([403, 404, 500].map(line), [Verdict::Unknown; 3]);
        assert_eq!(line(401), Verdict::Failed);
        assert_eq!(Trouble::Silent("text".into()).line("c", "get things").result, Verdict::Unknown);
    }
}
