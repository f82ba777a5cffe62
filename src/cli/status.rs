//! `ecskms status`: what of the cluster's objects is not as promised, by its causes. Reads and changes nothing.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::output;
use super::reading::{self, Form, Picture, Served, Unread, Where, words};
use crate::diagnosis::{Group, Object, State, Urgency};

mod print;
mod revocations;

/// Arguments of `ecskms status`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 everything is as promised, on its way by itself, or suspended; 3 something needs \
                        somebody, which includes an operator that leads no more; 1 not everything could be read, the \
                        operator's Lease included, and nothing that was read needs anybody, or nothing could be read; \
                        2 wrong arguments."
)]
pub struct Args {
    #[command(flatten)]
    place: Where,
    /// Every namespace; goes before --namespace. What belongs to no namespace is always looked at.
    #[arg(long, short = 'A', env = "ECSKMS_ALL_NAMESPACES")]
    all_namespaces: bool,
    /// table, or json with everything.
    #[arg(long, short, env = "ECSKMS_OUTPUT", default_value = "table", value_name = "FORM")]
    output: Form,
    /// Shows all causes, and all objects of each.
    #[arg(long, env = "ECSKMS_ALL")]
    all: bool,
}

/// The exit code if not everything could be read, and nothing that was read needs anybody.
const INCOMPLETE: u8 = 1;
/// The exit code if something needs somebody.
const NEEDS: u8 = 3;

/// What is printed.
struct Findings {
    kinds: Vec<Served>,
    picture: Picture,
    groups: Vec<Group>,
    /// Where was looked; None: in every namespace.
    namespace: Option<String>,
    /// Which cluster.
    place: Where,
    now: jiff::Timestamp,
}

/// Looks at the cluster and says what was found.
pub async fn run(args: Args) -> ExitCode {
    let (form, all) = (args.output, args.all);
    match look(args).await {
        Err(code) => code,
        Ok(found) => {
            match form {
                Form::Json => output::say(json(&found)),
                Form::Table => print::print(&found, all),
            }
            ExitCode::from(found.code())
        }
    }
}

async fn look(args: Args) -> Result<Findings, ExitCode> {
    let (client, namespace) = args.place.connect().await?;
    let namespace = (!args.all_namespaces).then_some(namespace);
    let kinds = reading::served();
    let picture = reading::read(&client, &kinds, namespace.as_deref(), &args.place).await?;
    if let Some(namespace) = &namespace {
        refuse_nowhere(&client, &picture, namespace).await?;
    }
    let groups = picture.diagnosis.groups();
    Ok(Findings { kinds, picture, groups, namespace, place: args.place, now: jiff::Timestamp::now() })
}

/// A namespace that does not exist has no objects, which would look as if all were well.
async fn refuse_nowhere(client: &kube::Client, picture: &Picture, namespace: &str) -> Result<(), ExitCode> {
    let is_inside = |object: &Object| object.id.namespace.as_deref() == Some(namespace);
    if picture.diagnosis.objects().iter().any(is_inside) {
        return Ok(());
    }
    let api: kube::Api<k8s_openapi::api::core::v1::Namespace> = kube::Api::all(client.clone());
    match reading::within(api.get_opt(namespace)).await {
        Ok(None) => Err(output::fail(
            &format!("namespace {}", output::clean(namespace)),
            &"it does not exist",
            "Check -n; -A looks at every namespace.",
        )),
        // Whoever may not read namespaces learns no more than that there is nothing in it.
        Ok(Some(_)) | Err(_) => Ok(()),
    }
}

impl Findings {
    fn objects(&self) -> &[Object] {
        self.picture.diagnosis.objects()
    }

    /// Objects that nobody has looked at as they are now.
    fn unseen(&self) -> usize {
        self.objects().iter().filter(|object| object.state() == State::Unseen).count()
    }

    /// True if somebody should hear of the operator.
    fn tells_of_leader(&self) -> bool {
        let leader = &self.picture.leader;
        self.unseen() > 0 || leader.is_gone() || leader.is_unknown()
    }

    /// True if nothing stayed unread by which it might be otherwise.
    fn is_complete(&self) -> bool {
        self.picture.unread.is_empty() && !self.picture.leader.is_unknown()
    }

    fn leader(&self) -> String {
        self.picture.leader.sentence(&self.place, self.now)
    }

    fn code(&self) -> u8 {
        let needs = self.groups.iter().any(|group| group.urgency <= Urgency::Needs);
        match (needs || self.picture.leader.is_gone(), self.is_complete()) {
            (true, _) => NEEDS,
            (false, false) => INCOMPLETE,
            (false, true) => 0,
        }
    }
}

fn json(found: &Findings) -> Value {
    let diagnosis = &found.picture.diagnosis;
    let counts = diagnosis.counts();
    let counts = found.kinds.iter().filter_map(|kind| {
        let kind = kind.resource.kind.as_str();
        let counts = counts.get(kind)?;
        Some(json!({ "kind": kind, "total": counts.total, "ready": counts.ready, "working": counts.working,
            "needsSomebody": counts.needs, "suspended": counts.suspended, "notLookedAt": counts.unseen }))
    });
    json!({
        "exitCode": found.code(),
        "time": found.now.to_string(),
        "namespace": found.namespace,
        "counts": counts.collect::<Vec<_>>(),
        "causes": found.groups.iter().map(|group| json_of(found, group)).collect::<Vec<_>>(),
        "revocations": revocations::json(found),
        "notRead": found.picture.unread.iter().map(Unread::json).collect::<Vec<_>>(),
        "operator": { "state": found.picture.leader.word(), "message": found.leader() },
    })
}

fn json_of(found: &Findings, group: &Group) -> Value {
    let diagnosis = &found.picture.diagnosis;
    let speaker = &diagnosis.objects()[group.speaker];
    let members = group.members.iter().map(|place| {
        let object = &diagnosis.objects()[*place];
        let detail = found.picture.detail(*place);
        json!({ "kind": object.id.kind, "namespace": object.id.namespace, "name": object.id.name,
            "reason": object.reason, "message": object.message,
            "since": detail.and_then(|detail| detail.since).map(|since| since.to_string()),
            "lastError": detail.map(|detail| detail.status["lastError"].clone()).filter(|error| !error.is_null()) })
    });
    json!({
        "urgency": words::urgency_word(group.urgency),
        "mover": words::mover_word(diagnosis.mover(group)),
        "cause": words::cause_json(&group.cause),
        "reason": speaker.reason,
        "message": speaker.message,
        "alarms": speaker.alarms,
        "concerns": speaker.told_concerns().collect::<Vec<_>>(),
        "next": format!("{}{}", words::why(&speaker.id), found.place.flags()),
        "objects": members.collect::<Vec<_>>(),
    })
}
