//! The accounts that objects name: who may use which, and the one client that all of an account's objects share.
//!
//! A look at an account is good for five seconds and shared by all objects of it: one GET of the CloudAccount, one of its Secret.
//! A Secret that the watch on their metadata shows to have changed ends it at once. Nothing that a Secret holds is kept but in the
//! client that was made of it.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::os::unix::ffi::OsStringExt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::{Api, Client};
use tokio::sync::broadcast;
use tokio::time::Instant;

use super::{Fault, FaultClass, Kind, Lane, World};
use crate::alibaba::credentials::{ACCESS_KEY_ID, ACCESS_KEY_SECRET};
use crate::alibaba::{AssumedRole, Cloud, Credentials, Service, Source};
use crate::decision::Reason;
use crate::resource::SharedStatus;
use crate::resource::selector::NamespaceSelector;

/// The kind of the objects that stand for accounts.
pub const KIND: &str = "CloudAccount";
/// How long a look at an account counts as fresh.
const FRESH: Duration = Duration::from_secs(5);
/// How long a look that failed for the moment is shared: by those who waited for it, and hardly longer, because an emergency waits.
const FAILED_FRESH: Duration = Duration::from_millis(100);
/// How long the labels of a namespace count as fresh.
const LABELS_FRESH: Duration = Duration::from_secs(30);
/// How long one call to the Kubernetes API may take.
const CALL_MAX: Duration = Duration::from_secs(15);
/// Accounts and namespaces that are remembered at one time, at most.
const SLOTS_MAX: usize = 1_024;

/// Reads the account of that name; None if there is none.
pub type Load = for<'a> fn(&'a Client, &'a str) -> BoxFuture<'a, Result<Option<Plan>, Fault>>;

/// Names accounts whose objects are as they should be.
pub type Usable = for<'a> fn(&'a Client) -> BoxFuture<'a, Result<Vec<String>, Fault>>;

/// What an account's object asks for.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its generation: anything else that is read of it follows from that.
    pub generation: i64,
    /// How to sign in.
    pub sign_in: SignIn,
    /// A role to take on with that.
    pub assume: Option<AssumedRole>,
    /// Addresses of products, where they differ from the operator's own.
    pub endpoints: BTreeMap<Service, String>,
    /// Which namespaces may use it; None: none may.
    pub allowed: Option<NamespaceSelector>,
    /// The account id that it stands for, once it is known.
    pub pinned: Option<String>,
    /// Whether it can be used.
    pub standing: Standing,
}

impl Plan {
    /// The plan of an object that cannot be read as one.
    pub fn unusable(name: &str) -> Plan {
        Plan {
            name: name.to_owned(),
            uid: String::new(),
            generation: 0,
            sign_in: SignIn::Secret(String::new()),
            assume: None,
            endpoints: BTreeMap::new(),
            allowed: Some(NamespaceSelector::default()),
            pinned: None,
            standing: Standing::Moving(String::new()),
        }
    }
}

/// How to sign in.
#[derive(Clone, Debug)]
pub enum SignIn {
    /// With the access key in this Secret of the operator's own namespace.
    Secret(String),
    /// With what a source lends.
    Source(Source),
}

/// Whether an account can be used, by its own conditions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is Ready.
    Ready,
    /// It will be, or it will say why not.
    Moving(String),
    /// Somebody must mend it.
    Stalled(Reason, String),
    /// Its spec forbids it, or says nothing that could be used.
    Barred(Reason, String),
    /// It is being deleted.
    Leaving,
}

/// Why an object's account cannot be used now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// The reason to show.
    pub reason: Reason,
    /// What is the matter, and the next step.
    pub message: String,
}

/// The accounts of one process.
pub struct Accounts {
    load: Load,
    usable: Usable,
    slots: Mutex<HashMap<(Lane, String), Slot>>,
    clients: Mutex<HashMap<String, Opened>>,
    labels: Mutex<HashMap<String, Labels>>,
    secrets: broadcast::Sender<String>,
}

/// One look at a time for each account; who comes meanwhile waits for its result.
type Slot = Arc<tokio::sync::Mutex<Option<Held>>>;
/// The account's client, or why nobody can have it now.
type Answer = Result<Result<Cloud, Obstacle>, Fault>;
/// What a namespace's labels were, and when; None: there was no such namespace.
type Labels = (Instant, Option<BTreeMap<String, String>>);

/// The result of a look: for everybody who asked before it ended, because they have waited for it, and for all until then.
struct Held {
    ended: Instant,
    until: Instant,
    result: Result<Look, Fault>,
}

/// What was seen of an account.
#[derive(Clone)]
enum Look {
    Missing,
    Leaving,
    Seen { allowed: Option<NamespaceSelector>, client: Answer },
}

impl Look {
    /// What went wrong on the way to the client.
    fn fault(&self) -> Option<&Fault> {
        match self {
            Look::Seen { client, .. } => client.as_ref().err(),
            Look::Missing | Look::Leaving => None,
        }
    }
}

/// What a client was made of: uid and generation of the account's object; uid and version of its Secret, if it has one.
#[derive(PartialEq, Eq)]
struct Print {
    object: (String, i64),
    secret: Option<(Option<String>, Option<String>)>,
}

/// A client and what it was made of.
struct Opened {
    print: Print,
    client: Cloud,
}

impl World {
    /// The world as the object's account shows it, or why the object cannot have it.
    pub async fn of<K: Kind>(&self, object: &K) -> Result<Result<Cow<'_, World>, Obstacle>, Fault> {
        let Some(account) = object.account() else { return Ok(Ok(Cow::Borrowed(self))) };
        let namespace = object.meta().namespace.as_deref();
        let client = self.accounts.resolve(self, K::LANE, &account.name, namespace).await?;
        let account = Some(account.name.clone());
        Ok(client.map(|cloud| Cow::Owned(World { cloud, account, ..self.clone() })))
    }

    /// The account whose cloud this is; a fault if status says that what was made for the object is in another one: there it would
    /// not be found, and taken for gone.
    pub async fn same_account(&self, shared: Option<&SharedStatus>) -> Result<String, Fault> {
        let found = self.cloud.account_id().await?;
        // Creations that were refused for certain have left nothing behind.
        let is_nothing = |shared: &&SharedStatus| {
            shared.intent.as_ref().is_some_and(|intent| !intent.accepted && intent.answered >= intent.sends)
        };
        let bound = shared.filter(|shared| !is_nothing(shared));
        match bound.and_then(|shared| shared.account_id.as_deref()).filter(|pinned| *pinned != found) {
            None => Ok(found),
            Some(pinned) => Err(mismatch(format!(
                "The {} belong to account {found} now, but what was made for this object is in account {pinned}. Nothing is looked \
                 for or changed in the other account, also not on deletion. Give back the credentials of account {pinned}; without \
                 them, only removing the finalizer by hand lets the object go, and the resource stays.",
                match &self.account {
                    Some(name) => format!("credentials of CloudAccount {name}"),
                    None => "operator's own credentials".to_owned(),
                }
            ))),
        }
    }
}

impl Accounts {
    /// No account is known yet.
    pub fn new(load: Load, usable: Usable) -> Accounts {
        /// Changes that a slow listener may miss; it then looks again within its ordinary round.
        const CHANGES: usize = 64;
        let (secrets, _) = broadcast::channel(CHANGES);
        Accounts {
            load,
            usable,
            slots: Mutex::default(),
            clients: Mutex::default(),
            labels: Mutex::default(),
            secrets,
        }
    }

    /// A Secret of the operator's own namespace is another one than before, or gone: every account is looked at anew.
    pub fn secret_changed(&self, name: &str) {
        lock(&self.slots).clear();
        // Nobody listens before the controllers have started, which is as good.
        drop(self.secrets.send(name.to_owned()));
    }

    /// The names of Secrets that change from now on.
    pub fn changed_secrets(&self) -> broadcast::Receiver<String> {
        self.secrets.subscribe()
    }

    /// Names of accounts that are Ready: the first of them, not all.
    pub async fn usable(&self, world: &World) -> Result<Vec<String>, Fault> {
        within((self.usable)(&world.kube)).await
    }

    /// The client of the account of that name, for an object in this namespace; or why it cannot have it.
    ///
    /// In an emergency the account is used whatever its conditions say: they may be of an older generation, or nobody may be there
    /// who looks.
    pub async fn resolve(
        &self,
        world: &World,
        lane: Lane,
        name: &str,
        namespace: Option<&str>,
    ) -> Result<Result<Cloud, Obstacle>, Fault> {
        let (allowed, client) = match self.look(world, lane, name).await? {
            Look::Missing => return Ok(Err(missing(name, "does not exist"))),
            Look::Leaving => return Ok(Err(missing(name, "is being deleted"))),
            Look::Seen { allowed, client } => (allowed, client),
        };
        // What belongs to no namespace speaks for the whole cluster, as the account itself does.
        let Some(namespace) = namespace else { return client };
        let labels = self.labels(world, namespace).await?;
        // Before anything else is told: what is the matter with an account is nothing to those who may not use it.
        match allowed.zip(labels).is_some_and(|(selector, labels)| selector.matches(&labels)) {
            true => client,
            false => Ok(Err(Obstacle {
                reason: Reason::NamespaceNotAllowed,
                message: format!(
                    "CloudAccount {name} does not allow namespace {namespace}. An administrator can label the namespace as \
                     spec.allowedNamespaces of the account asks, or widen it."
                ),
            })),
        }
    }

    async fn look(&self, world: &World, lane: Lane, name: &str) -> Result<Look, Fault> {
        let asked = Instant::now();
        let slot = bounded(&mut lock(&self.slots)).entry((lane, name.to_owned())).or_default().clone();
        let mut held = slot.lock().await;
        if let Some(held) = held.as_ref().filter(|held| asked < held.ended || Instant::now() < held.until) {
            return held.result.clone();
        }
        let began = Instant::now();
        let result = self.look_anew(world, lane, name).await;
        let ended = Instant::now();
        // What was seen is as old as the beginning of the look; a failure may have taken long, and is as new as its end.
        let until = match result.as_ref().map(Look::fault) {
            Ok(None) => began + FRESH,
            Err(fault) | Ok(Some(fault)) if passes(fault) => ended + FAILED_FRESH,
            Err(_) | Ok(Some(_)) => ended + FRESH,
        };
        *held = Some(Held { ended, until, result: result.clone() });
        result
    }

    async fn look_anew(&self, world: &World, lane: Lane, name: &str) -> Result<Look, Fault> {
        let obstacle = |reason, message| Err(Obstacle { reason, message });
        let Some(mut plan) = within((self.load)(&world.kube, name)).await? else {
            lock(&self.clients).remove(name);
            return Ok(Look::Missing);
        };
        if lane == Lane::Emergency && matches!(plan.standing, Standing::Moving(_) | Standing::Stalled(..)) {
            plan.standing = Standing::Ready;
        }
        let client = match &plan.standing {
            Standing::Leaving => return Ok(Look::Leaving),
            Standing::Moving(what) => Ok(obstacle(
                Reason::DependencyNotReady,
                format!("CloudAccount {name} is not Ready yet: {what}"),
            )),
            Standing::Stalled(reason, why) | Standing::Barred(reason, why) => {
                Ok(obstacle(*reason, format!("CloudAccount {name} is not Ready: {why}")))
            }
            Standing::Ready => self.client(world, &plan).await.map(Ok),
        };
        Ok(Look::Seen { allowed: plan.allowed, client })
    }

    /// The client of an account, the same as long as neither the object nor its Secret changes.
    ///
    /// One that is made anew for an account that is known already is asked whose it is, before anybody can use it: a Secret
    /// that now holds another account's key must not make objects look, and create, in that account.
    pub async fn client(&self, world: &World, plan: &Plan) -> Result<Cloud, Fault> {
        let (source, secret) = match &plan.sign_in {
            SignIn::Source(source) => (source.clone(), None),
            SignIn::Secret(name) => {
                let secret = secret(world, &plan.name, name).await?;
                let print = (secret.metadata.uid.clone(), secret.metadata.resource_version.clone());
                (Source::Static(credentials(world, &plan.name, name, &secret)?), Some(print))
            }
        };
        let print = Print { object: (plan.uid.clone(), plan.generation), secret };
        let known = |opened: &&Opened| opened.print == print;
        if let Some(opened) = lock(&self.clients).get(&plan.name).filter(known) {
            return Ok(opened.client.clone());
        }
        let source = match &plan.assume {
            None => source,
            Some(role) => Source::Assumed { base: Box::new(source), role: role.clone() },
        };
        let client = world.cloud.sibling(source, &plan.endpoints)?;
        if let Some(pinned) = &plan.pinned {
            let found = client.account_id().await?;
            if found != *pinned && plan.standing == Standing::Ready {
                return Err(mismatch(format!(
                    "The credentials of CloudAccount {} belong to account {found} now, but it stands for {pinned}.",
                    plan.name
                )));
            }
        }
        let opened = Opened { print, client: client.clone() };
        bounded(&mut lock(&self.clients)).insert(plan.name.clone(), opened);
        Ok(client)
    }

    async fn labels(
        &self,
        world: &World,
        namespace: &str,
    ) -> Result<Option<BTreeMap<String, String>>, Fault> {
        let held = lock(&self.labels).get(namespace).cloned();
        if let Some((_, labels)) = held.filter(|(at, _)| at.elapsed() < LABELS_FRESH) {
            return Ok(labels);
        }
        let began = Instant::now();
        let api: Api<Namespace> = Api::all(world.kube.clone());
        let found = within(async { Ok(api.get_opt(namespace).await?) }).await?;
        let labels = found.map(|found| found.metadata.labels.unwrap_or_default());
        bounded(&mut lock(&self.labels)).insert(namespace.to_owned(), (began, labels.clone()));
        Ok(labels)
    }
}

fn missing(name: &str, what: &str) -> Obstacle {
    Obstacle {
        reason: Reason::AccountNotFound,
        message: format!(
            "CloudAccount {name} {what}. Create it, or correct spec.accountRef in a new object. An object that is being deleted \
             waits for it too; without it, only removing the finalizer by hand lets the object go, and the resource stays."
        ),
    }
}

async fn secret(world: &World, account: &str, name: &str) -> Result<Secret, Fault> {
    let namespace = &world.settings.namespace;
    let api: Api<Secret> = Api::namespaced(world.kube.clone(), namespace);
    let found = within(async { Ok(api.get_opt(name).await?) }).await?;
    found.ok_or_else(|| {
        invalid("SecretNotFound", format!(
            "Secret {namespace}/{name}, which CloudAccount {account} names, does not exist. Create it in the operator's \
             namespace with {ACCESS_KEY_ID} and {ACCESS_KEY_SECRET}."
        ))
    })
}

fn credentials(world: &World, account: &str, name: &str, secret: &Secret) -> Result<Credentials, Fault> {
    let data = secret.data.clone().unwrap_or_default();
    let read =
        Credentials::from_variables(|key| Some(std::ffi::OsString::from_vec(data.get(key)?.0.clone())));
    read.map_err(|error| {
        let namespace = &world.settings.namespace;
        invalid(
            &error.code,
            format!("Secret {namespace}/{name} of CloudAccount {account}: {}.", error.message),
        )
    })
}

fn mismatch(message: String) -> Fault {
    let class = FaultClass::Denied;
    Fault { class, reason: Reason::AccountMismatch, ..Fault::defect("AccountMismatch", message) }
}

fn invalid(code: &str, message: String) -> Fault {
    let class = FaultClass::Denied;
    Fault { class, reason: Reason::CredentialsInvalid, ..Fault::defect(code, message) }
}

/// Bounds a call to the Kubernetes API: the client itself would wait for ever.
async fn within<T>(call: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    tokio::time::timeout(CALL_MAX, call).await.unwrap_or_else(|_| {
        Err(Fault {
            class: FaultClass::Transient,
            reason: Reason::CloudUnavailable,
            ..Fault::defect("Timeout", "the Kubernetes API did not answer in time")
        })
    })
}

/// True if the next look may well succeed although nobody has mended anything.
fn passes(fault: &Fault) -> bool {
    matches!(fault.class, FaultClass::Transient | FaultClass::Throttled | FaultClass::Conflict)
}

/// Forgets everything rather than growing without limit: what is asked for is looked up anew.
fn bounded<K, V>(map: &mut HashMap<K, V>) -> &mut HashMap<K, V> {
    if map.len() >= SLOTS_MAX {
        map.clear();
    }
    map
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
