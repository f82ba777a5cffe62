//! What objects of the same files are to one another: what one makes, another may wait for; and what can never come, none gets.

use std::collections::BTreeSet;

use kube::{Api, Client};

use super::{Planned, Planner};
use crate::cli::reading::within;
use crate::decision::Reason;
use crate::engine::rehearse::{End, Rehearsal, Step};
use crate::kind::{Dependency, accounts};

/// Corrects what each was planned to do by what was planned for the others.
pub async fn settle(client: &Client, planners: &[Planner], objects: &mut [Planned]) {
    after_their_account(objects);
    // What waits for something that will not come holds up what waits for it in turn.
    loop {
        let mut news = false;
        for place in 0..objects.len() {
            let waits = |outcome: &Rehearsal| outcome.steps.iter().any(is_for_another);
            if !objects[place].outcome.as_ref().is_ok_and(waits) {
                continue;
            }
            let lacks = lacks(client, planners, objects, &objects[place]).await;
            if let (Some(why), Ok(outcome)) = (lacks, &mut objects[place].outcome) {
                hold(outcome, &why);
                news = true;
            }
        }
        if !news {
            return;
        }
    }
}

/// Where only the role of ECS is missing, which the object's account in the same files makes first, nobody must move.
fn after_their_account(objects: &mut [Planned]) {
    let grants = |one: &&Planned| {
        one.document.kind == accounts::KIND && one.outcome.as_ref().is_ok_and(Rehearsal::changes)
    };
    let names: BTreeSet<String> =
        objects.iter().filter(grants).map(|one| one.document.name.clone()).collect();
    for one in objects {
        let account = one.document.body["spec"]["accountRef"]["name"].as_str();
        let Some(account) = account.filter(|name| names.contains(*name)) else { continue };
        if let Ok(outcome) = &mut one.outcome
            && outcome.reason == Reason::EcsRoleMissing
        {
            outcome.end = End::Waiting;
            outcome.reason = Reason::DependencyNotReady;
            outcome.message = format!(
                "{} {account} makes the role of ECS first. Plan again once it is there.",
                accounts::KIND
            );
        }
    }
}

fn is_for_another(step: &Step) -> bool {
    matches!(step, Step::Wait { reason: Reason::DependencyNotReady, .. })
}

/// Why what the object waits for does not come; None if it comes, as far as anybody can say.
async fn lacks(
    client: &Client,
    planners: &[Planner],
    objects: &[Planned],
    waiting: &Planned,
) -> Option<String> {
    for dependency in &waiting.depends_on {
        let Dependency::Object { kind, name } = dependency else { continue };
        let is_it = |one: &&Planned| {
            one.document.kind == *kind && one.document.name == *name && one.namespace == waiting.namespace
        };
        if let Some(planned) = objects.iter().find(is_it) {
            let comes = planned.outcome.as_ref().is_ok_and(|outcome| outcome.end == End::Settled);
            if !comes {
                return Some(format!("{kind} {name} of the same files is not planned to become Ready."));
            }
            continue;
        }
        let planner = planners.iter().find(|planner| planner.resource.kind == *kind)?;
        let namespace = waiting.namespace.as_deref().unwrap_or_default();
        let api: Api<kube::api::DynamicObject> =
            Api::namespaced_with(client.clone(), namespace, &planner.resource);
        // What cannot be asked for is not called missing.
        if let Ok(None) = within(api.get_opt(name)).await {
            return Some(format!("There is no {kind} {name}, neither in the cluster nor in the files."));
        }
    }
    None
}

/// The plan up to the moment from which it waits.
fn hold(outcome: &mut Rehearsal, why: &str) {
    let Some(first) = outcome.steps.iter().position(is_for_another) else { return };
    outcome.steps.truncate(first);
    outcome.end = End::Waiting;
    outcome.reason = Reason::DependencyNotReady;
    outcome.message = format!("{why} It is waited for.");
}
