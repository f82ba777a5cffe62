//! `ecskms plan`: the calls to the cloud that applying manifests would cause, and the RAM actions that they take. Changes nothing.
//!
//! The API server says by a dry run how each object would stand; then the operator's own look and its own decisions are rehearsed
//! over what each of them would lead to.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use kube::api::ApiResource;
use kube::{Api, Client};
use serde_json::{Value, json};

use super::manifest::{self, Document};
use super::output;
use super::reading::{Error, Form, Where};
use crate::decision::Reason;
use crate::engine::rehearse::{End, Rehearsal, rehearse};
use crate::kind::revocations::Hold;
use crate::kind::{Dependency, Kind, Lane, World, accounts};
use crate::kinds::{self, Visitor};
use crate::resource::{GROUP, check};

mod overlay;
mod print;
mod stand;
mod together;
mod world;

use overlay::Overlay;
use stand::{Refused, Way};

/// The calls to the cloud that applying manifests would cause, and the RAM actions that they take; changes nothing.
///
/// Needs the right to apply the objects (nothing is written: the API server is asked for a dry run) and the operator's credentials,
/// or such as may read what the operator reads.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 nothing in the cloud would change; 2 something would; 3 nothing would, but an object would be blocked \
                        or wait for somebody; 1 an object could not be planned, or wrong arguments."
)]
pub struct Args {
    /// A file or directory of manifests, or - for standard input; may be given more than once.
    #[arg(long = "filename", short = 'f', required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Plans the deletion of the objects instead.
    #[arg(long, env = "ECSKMS_PLAN_DELETE", conflicts_with = "server_side")]
    delete: bool,
    #[command(flatten)]
    way: Way,
    #[command(flatten)]
    place: Where,
    /// table: lines for people; or json.
    #[arg(long, short, env = "ECSKMS_OUTPUT", default_value = "table", value_name = "FORM")]
    output: Form,
    /// The region whose STS answers; without it, the central one.
    #[arg(long, env = "ECSKMS_REGION", value_name = "REGION")]
    region: Option<String>,
    /// Sends every product's calls to this address.
    #[arg(long, env = "ECSKMS_CLOUD_ENDPOINT", value_name = "URL")]
    cloud_endpoint: Option<String>,
    /// Uses the cloud's VPC endpoints, which serve only their own region.
    #[arg(long, env = "ECSKMS_VPC")]
    vpc: bool,
}

/// The exit code if something in the cloud would change.
const CHANGES: u8 = 2;
/// The exit code if nothing would, but somebody must move.
const NEEDS: u8 = 3;
/// Objects that are looked at together; the gateway joins their reads.
const AT_ONCE: usize = 16;

type Notice = for<'a> fn(&'a Client, &'a World) -> BoxFuture<'a, Result<(), Error>>;
type Rehearse = for<'a> fn(Value, &'a World, bool) -> BoxFuture<'a, Result<Rehearsal, String>>;

/// A kind, as it is planned.
struct Planner {
    resource: ApiResource,
    is_namespaced: bool,
    reads: &'static [&'static str],
    /// Tells the world of the kind's objects, if it is one that all others ask for.
    notice: Option<Notice>,
    rehearse: Rehearse,
    facts: fn(&Value) -> Facts,
}

/// What only the kind itself can say of an object.
#[derive(Default)]
struct Facts {
    depends_on: Vec<Dependency>,
    hold: Option<Hold>,
}

fn facts<K: Kind>(object: &Value) -> Facts {
    let Ok(object) = K::deserialize(object) else { return Facts::default() };
    Facts { depends_on: object.depends_on(), hold: object.incident().map(|incident| incident.hold) }
}

/// One object of the files.
struct Planned {
    document: Document,
    namespace: Option<String>,
    reads: &'static [&'static str],
    depends_on: Vec<Dependency>,
    /// What would be done about it, or why nobody can say.
    outcome: Result<Rehearsal, String>,
    /// True if there is none of that name yet.
    is_new: bool,
}

impl Planned {
    /// An object of the operator's group that this program knows nothing of: a misspelt kind, or one of another version.
    fn unknown(document: Document) -> Planned {
        let Document { kind, api_version, .. } = &document;
        let why = format!(
            "This program knows no kind {} of {}. Correct the manifest, or use the program of the operator's version.",
            check::quoted(kind),
            check::quoted(api_version)
        );
        Planned {
            namespace: document.namespace.clone(),
            document,
            reads: &[],
            depends_on: Vec::new(),
            outcome: Err(why),
            is_new: false,
        }
    }
}

/// Everything that is printed.
struct Plan {
    objects: Vec<Planned>,
    /// Objects of other kinds, which the operator has nothing to do with.
    others: usize,
    is_deletion: bool,
}

/// Plans, and says so by the exit code.
pub async fn run(args: Args) -> ExitCode {
    match go(&args).await {
        Ok(code) | Err(code) => code,
    }
}

async fn go(args: &Args) -> Result<ExitCode, ExitCode> {
    let planners = planners();
    let all = manifest::read(&args.files)?;
    let given = all.len();
    let (mut ours, mut strange, mut support) = (Vec::new(), Vec::new(), Vec::new());
    for document in all {
        match find(&planners, &document) {
            Some(planner) => ours.push((planner, document)),
            None if document.is_of(GROUP) => strange.push(Planned::unknown(document)),
            None => support.push(document),
        }
    }
    if ours.is_empty() && strange.is_empty() {
        let why = format!("no object of {GROUP} among the {given} that were given");
        return Err(output::fail("nothing to plan", &why, "See deploy/samples for examples."));
    }
    // Its codes mean something else here.
    let (client, namespace) = args.place.connect().await.map_err(|_| ExitCode::FAILURE)?;
    let others = support.len();
    let overlay = Overlay::default();
    if !args.delete {
        support.iter().for_each(|document| overlay.put_support(document, &namespace));
    } else if let Some(whole) = support.iter().find(|document| takes_others_along(document)) {
        let why =
            format!("{} {} takes along more than the files name", whole.kind, check::quoted(&whole.name));
        return Err(output::fail(
            "the deletion cannot be planned",
            &why,
            "Leave it out, and name the objects.",
        ));
    }
    let world = world::world(args, &client, &overlay, &planners).await?;
    let standing = futures::stream::iter(ours)
        .map(|(planner, document)| stand(args, &client, &namespace, planner, document, &overlay));
    let mut standing: Vec<Standing> = standing.buffered(AT_ONCE).collect().await;
    refuse_repetitions(&mut standing);
    // What others stand on comes first, and is then seen as it would be.
    let (first, rest): (Vec<_>, Vec<_>) = standing.into_iter().partition(Standing::comes_first);
    let mut objects = strange;
    for one in first {
        let (planner, path) = (one.planner, one.path.clone());
        let (planned, object) = one.plan(&world).await;
        if let (Ok(outcome), Some(object)) = (&planned.outcome, object) {
            be_seen(planner, path, outcome, object, &overlay, &world);
        }
        objects.push(planned);
    }
    let rest = futures::stream::iter(rest).map(|one| one.plan(&world).map(|(planned, _)| planned));
    objects.extend(rest.buffered(AT_ONCE).collect::<Vec<Planned>>().await);
    together::settle(&client, &planners, &mut objects).await;
    let plan = Plan { objects, others, is_deletion: args.delete };
    match args.output {
        Form::Json => output::say(print::json(&plan)),
        Form::Table => print::table(&plan),
    }
    Ok(ExitCode::from(plan.code()))
}

impl Plan {
    fn code(&self) -> u8 {
        let outcomes = || self.objects.iter().map(|one| one.outcome.as_ref());
        let is_known =
            |outcome: Result<&Rehearsal, &String>| outcome.is_ok_and(|one| one.end != End::Unknown);
        if !outcomes().all(is_known) {
            return 1;
        }
        if outcomes().flatten().any(Rehearsal::changes) {
            return CHANGES;
        }
        let rests = |one: &Rehearsal| one.end == End::Settled || one.reason == Reason::Suspended;
        if outcomes().flatten().all(rests) { 0 } else { NEEDS }
    }
}

fn find<'a>(planners: &'a [Planner], document: &Document) -> Option<&'a Planner> {
    let is = |planner: &&Planner| {
        planner.resource.api_version == document.api_version && planner.resource.kind == document.kind
    };
    planners.iter().find(is)
}

/// Every kind, in the order of the registry.
fn planners() -> Vec<Planner> {
    struct Collector(Vec<Planner>);
    impl Visitor for Collector {
        fn visit<K: Kind>(&mut self) {
            self.0.push(Planner {
                resource: ApiResource::erase::<K>(&()),
                is_namespaced: K::crd().spec.scope == "Namespaced",
                reads: K::READS,
                notice: (K::LANE == Lane::Emergency).then_some(world::notice::<K> as Notice),
                facts: facts::<K>,
                rehearse: |object, world, is_new| {
                    async move {
                        let object: K = serde_json::from_value(object)
                            .map_err(|error| output::clean(&error.to_string()))?;
                        Ok(rehearse(object, world, is_new).await)
                    }
                    .boxed()
                },
            });
        }
    }
    let mut collector = Collector(Vec::new());
    kinds::visit(&mut collector);
    collector.0
}

/// One object before it is planned.
struct Standing<'a> {
    planner: &'a Planner,
    document: Document,
    namespace: Option<String>,
    path: String,
    /// How it would stand: None if there is none, and so nothing to delete; else why nobody can say.
    object: Result<Option<stand::Standing>, String>,
}

impl Standing<'_> {
    /// True for accounts, which others use, and for what holds keys.
    fn comes_first(&self) -> bool {
        self.planner.resource.kind == accounts::KIND || self.planner.notice.is_some()
    }

    /// What would be done about it, and how it would stand.
    async fn plan(self, world: &World) -> (Planned, Option<Value>) {
        let Standing { planner, document, namespace, object, .. } = self;
        let (is_new, object) = match object {
            Ok(Some(stand::Standing { object, is_new })) => (is_new, Ok(Some(object))),
            Ok(None) => (false, Ok(None)),
            Err(why) => (false, Err(why)),
        };
        let outcome = match &object {
            Ok(Some(object)) => (planner.rehearse)(object.clone(), world, is_new).await,
            Ok(None) => Ok(Rehearsal::nothing("There is no such object.")),
            Err(why) => Err(why.clone()),
        };
        let depends_on =
            object.as_ref().ok().and_then(Option::as_ref).map(|object| (planner.facts)(object).depends_on);
        let depends_on = depends_on.unwrap_or_default();
        let planned = Planned { document, namespace, reads: planner.reads, depends_on, outcome, is_new };
        (planned, object.ok().flatten())
    }
}

/// How the object would stand; what is to be there is seen by everything else.
async fn stand<'a>(
    args: &Args,
    client: &Client,
    namespace: &str,
    planner: &'a Planner,
    document: Document,
    overlay: &Overlay,
) -> Standing<'a> {
    let namespace = document.namespace.clone().unwrap_or_else(|| namespace.to_owned());
    let namespace = planner.is_namespaced.then_some(namespace);
    let mut names = std::iter::once(&document.name).chain(&namespace);
    if let Some(name) = names.find(|name| !is_name(name)) {
        // It would become part of a path, and lead to something else.
        let why =
            format!("{} is no name of an object or namespace. Correct the manifest.", check::quoted(name));
        return Standing { planner, document, namespace: None, path: String::new(), object: Err(why) };
    }
    let api = match &namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &planner.resource),
        None => Api::all_with(client.clone(), &planner.resource),
    };
    let path = format!("{}/{}", api.resource_url(), document.name);
    let object = match args.delete {
        true => stand::deleted(&api, &document.name).await,
        false => stand::applied(client, &api, &document, namespace.as_deref(), &args.way).await.map(Some),
    };
    if let Ok(Some(standing)) = &object {
        overlay.put(path.clone(), standing.object.clone());
    }
    let object = object.map_err(|refusal| match refusal {
        Refused::There(error) => refused(args, &error, &planner.resource, namespace.as_deref()),
        Refused::Here(why) => why,
    });
    Standing { planner, document, namespace, path, object }
}

/// True if the API server can have an object of that name.
fn is_name(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    !text.is_empty() && text.len() <= 253 && text.chars().all(fits) && !text.starts_with('.')
}

/// Why the API server would not take it, and what to do.
fn refused(args: &Args, error: &Error, resource: &ApiResource, namespace: Option<&str>) -> String {
    let (plural, flags) = (&resource.plural, args.place.flags());
    let text = error.to_string();
    // What does not fit the schema is told so by the apply on the server's side, as an error of its own.
    let misfits = matches!(error.code(), Some(400 | 422)) || text.contains("typed patch object");
    let install = format!("ecskms crds | kubectl{flags} apply --server-side -f -");
    let next = match (error.code(), namespace) {
        (Some(403), _) => format!(
            "Correct what it names. If you may not do it at all: a plan needs the verbs get, create and patch for {plural}.{GROUP} \
             (delete with --delete), although nothing is written."
        ),
        (Some(404), Some(namespace)) => {
            format!("Is there a namespace {namespace}, and are the CRDs installed ({install})?")
        }
        (Some(404), None) => format!("Are the CRDs installed ({install})?"),
        (Some(409), _) if !args.way.is_server_side() => {
            "Is there a resourceVersion in the manifest? Leave it out, and plan again.".to_owned()
        }
        (Some(409), _) => {
            "Say whose fields they are with --field-manager, or take them with --force-conflicts.".to_owned()
        }
        _ if misfits => "Correct the manifest; kubectl explain describes every field.".to_owned(),
        _ => "Try again; kubectl get --raw /readyz says how the API is.".to_owned(),
    };
    let end = if text.ends_with('.') { "" } else { "." };
    format!("The API server would not take it: {text}{end} {next}")
}

/// True for what kubectl deletes with everything in it.
fn takes_others_along(document: &Document) -> bool {
    matches!(&*document.kind, "Namespace" | "CustomResourceDefinition")
}

/// One object twice is one object, and nobody can say which of the two it would be.
fn refuse_repetitions(all: &mut [Standing]) {
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    for one in all.iter_mut().filter(|one| !one.path.is_empty()) {
        if let Some(first) = seen.get(&one.path) {
            one.object = Err(format!("{first} names the same object. Leave one of the two out."));
        } else {
            seen.insert(one.path.clone(), one.document.origin.clone());
        }
    }
}

/// What was planned for an account, or for a revocation, is what the others see.
fn be_seen(
    planner: &Planner,
    path: String,
    outcome: &Rehearsal,
    object: Value,
    overlay: &Overlay,
    world: &World,
) {
    if outcome.end != End::Settled {
        return;
    }
    if planner.resource.kind == accounts::KIND {
        return overlay.put(path, ready(object));
    }
    let uid = object["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
    match outcome.reason {
        Reason::Revoked => world.revocations.set(&uid, (planner.facts)(&object).hold),
        Reason::Restored => world.revocations.set(&uid, None),
        _ => {}
    }
}

/// An account as it is once somebody has looked at it: others of the same files may use it.
fn ready(mut account: Value) -> Value {
    let generation = account["metadata"]["generation"].clone();
    let condition = json!({ "type": "Ready", "status": "True", "reason": Reason::Available.as_str(), "message": "",
        "observedGeneration": generation, "lastTransitionTime": jiff::Timestamp::now().to_string() });
    if !account["status"].is_object() {
        account["status"] = json!({});
    }
    account["status"]["observedGeneration"] = generation;
    account["status"]["conditions"] = json!([condition]);
    account
}

/// The RAM actions of all objects: those that change something, and those that look.
fn ram_actions(plan: &Plan) -> BTreeMap<&'static str, Vec<String>> {
    let of = |actions: std::collections::BTreeSet<String>| actions.into_iter().collect::<Vec<_>>();
    let done = plan.objects.iter().filter_map(|one| one.outcome.as_ref().ok());
    let change = done.flat_map(|one| one.calls().flat_map(|call| call.ram_actions()).collect::<Vec<_>>());
    let look = plan.objects.iter().flat_map(|one| one.reads.iter().map(|read| (*read).to_owned()));
    BTreeMap::from([("change", of(change.collect())), ("look", of(look.collect()))])
}
