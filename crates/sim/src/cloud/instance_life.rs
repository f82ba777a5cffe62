//! Starting, stopping, rebooting and deleting instances, one by one and in batches.
//!
//! Deliberately keeps a running instance running when its key is taken away: the data key is in the host's
//! memory until the next start.

use serde_json::{Value, json};

use super::instances::{Instance, refuse_locked};
use super::key_use::{self, KeyTable};
use super::refusal::{Answer, Refusal};
use super::world::{Call, Event, World};

/// Simulated seconds in `Pending`.
pub const PENDING_SECONDS: f64 = 3.0;
/// Simulated seconds in `Starting`.
const START_SECONDS: f64 = 15.0;
/// Simulated seconds in `Stopping`.
const STOP_SECONDS: f64 = 10.0;
/// Simulated seconds in `Stopping` when the stop is forced.
const FORCED_STOP_SECONDS: f64 = 2.0;
/// The most instances of one batch.
const BATCH_MAX: usize = 100;

/// What is done to an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// StartInstance(s).
    Start,
    /// StopInstance(s).
    Stop,
    /// RebootInstance(s).
    Reboot,
}

/// StartInstance.
pub fn start(world: &mut World, call: &Call) -> Answer {
    single(world, call, Verb::Start, KeyTable::Start)
}

/// StopInstance.
pub fn stop(world: &mut World, call: &Call) -> Answer {
    single(world, call, Verb::Stop, KeyTable::Stop)
}

/// RebootInstance.
pub fn reboot(world: &mut World, call: &Call) -> Answer {
    single(world, call, Verb::Reboot, KeyTable::Reboot)
}

/// StartInstances.
pub fn start_batch(world: &mut World, call: &Call) -> Answer {
    batch(world, call, Verb::Start)
}

/// StopInstances.
pub fn stop_batch(world: &mut World, call: &Call) -> Answer {
    batch(world, call, Verb::Stop)
}

/// RebootInstances.
pub fn reboot_batch(world: &mut World, call: &Call) -> Answer {
    batch(world, call, Verb::Reboot)
}

fn single(world: &mut World, call: &Call, verb: Verb, table: KeyTable) -> Answer {
    let id = call.parameters.required("InstanceId")?.to_string();
    check(world, &id, verb, table)?;
    // assumption: dry-run-checks-the-key
    if call.parameters.flag("DryRun")? {
        return Err(Refusal::dry_run());
    }
    perform(world, call, &id, verb)?;
    Ok(json!({}))
}

fn batch(world: &mut World, call: &Call, verb: Verb) -> Answer {
    let ids = call.parameters.list("InstanceId");
    if ids.is_empty() {
        return Err(Refusal::missing("InstanceId"));
    }
    if ids.len() > BATCH_MAX {
        let text = "At most 100 instances are allowed.";
        return Err(Refusal::new(403, "InvalidParameter.TooManyInstanceIds", text));
    }
    let each_alone = match call.parameters.text("BatchOptimization") {
        None | Some("AllTogether") => false,
        Some("SuccessFirst") => true,
        Some(_) => return Err(Refusal::invalid("BatchOptimization")),
    };
    let checks: Vec<Result<(), Refusal>> =
        ids.iter().map(|id| check(world, id, verb, KeyTable::Batch)).collect();
    if let Some(Err(refusal)) = checks.iter().find(|check| check.is_err() && !each_alone) {
        return Err(refusal.clone());
    }
    if call.parameters.flag("DryRun")? {
        return Err(Refusal::new(400, "DRYRUN.SUCCESS", "The request passes the dry run."));
    }
    let mut responses = Vec::new();
    for (id, check) in ids.iter().zip(checks) {
        let previous = world.instances.get(id).map(|instance| instance.status.clone()).unwrap_or_default();
        let outcome = check.and_then(|()| perform(world, call, id, verb));
        let current = world.instances.get(id).map(|instance| instance.status.clone()).unwrap_or_default();
        responses.push(response(id, &previous, &current, outcome));
    }
    Ok(json!({"InstanceResponses": {"InstanceResponse": responses}}))
}

fn response(id: &str, previous: &str, current: &str, outcome: Result<(), Refusal>) -> Value {
    let (code, message) = match outcome {
        Ok(()) => ("200".to_string(), "success".to_string()),
        // assumption: batch-response-code
        Err(refusal) => (refusal.code, refusal.message),
    };
    json!({
        "InstanceId": id,
        "PreviousStatus": previous,
        "CurrentStatus": current,
        "Code": code,
        "Message": message,
    })
}

/// Everything that can refuse the verb, without doing it.
fn check(world: &mut World, id: &str, verb: Verb, table: KeyTable) -> Result<(), Refusal> {
    let found = world.instances.get(id).cloned();
    let instance = found.ok_or_else(|| Refusal::not_found("InvalidInstanceId.NotFound"))?;
    refuse_locked(&instance)?;
    if instance.locks.iter().any(|reason| reason == "financial") && verb == Verb::Start {
        return Err(Refusal::new(
            400,
            "InstanceExpiredOrInArrears",
            "The instance is expired or in arrears.",
        ));
    }
    let ready = if verb == Verb::Start { "Stopped" } else { "Running" };
    if instance.status != ready {
        let text = "The instance's status does not allow this.";
        return Err(Refusal::new(403, "IncorrectInstanceStatus", text));
    }
    if verb == Verb::Start && world.settings.arrears {
        return Err(Refusal::new(403, "InsufficientBalance", "Your account does not have enough balance."));
    }
    if verb != Verb::Stop || world.settings.stop_checks_key {
        check_keys(world, &instance, table)?;
    }
    Ok(())
}

fn check_keys(world: &mut World, instance: &Instance, table: KeyTable) -> Result<(), Refusal> {
    let keys: Vec<String> = world
        .disks
        .values()
        .filter(|disk| disk.instance_id.as_ref() == Some(&instance.id))
        .filter_map(|disk| disk.key_id.clone())
        .collect();
    keys.iter().try_for_each(|key_id| key_use::use_key(world, &instance.region, key_id, table))
}

fn perform(world: &mut World, call: &Call, id: &str, verb: Verb) -> Result<(), Refusal> {
    let forced = call.parameters.flag("ForceStop")? || call.parameters.flag("ForceReboot")?;
    let stopped_mode = match call.parameters.text("StoppedMode") {
        None => "KeepCharging",
        Some(mode @ ("KeepCharging" | "StopCharging")) => mode,
        Some(_) => return Err(Refusal::invalid("StoppedMode")),
    };
    let (status, seconds) = match (verb, forced) {
        (Verb::Start, _) => ("Starting", START_SECONDS),
        (Verb::Stop | Verb::Reboot, false) => ("Stopping", STOP_SECONDS),
        (Verb::Stop | Verb::Reboot, true) => ("Stopping", FORCED_STOP_SECONDS),
    };
    let seconds = world.plausible_seconds(seconds, id);
    let pending = world.schedule(seconds, Event::InstanceNext(id.to_string()));
    if let Some(instance) = world.instances.get_mut(id) {
        instance.status = status.into();
        instance.rebooting = verb == Verb::Reboot;
        instance.pending = pending;
        instance.stopped_mode = if verb == Verb::Stop { stopped_mode } else { "Not-applicable" }.into();
    }
    Ok(())
}

/// DeleteInstance. Disks go with it or stay, as each says.
pub fn delete(world: &mut World, call: &Call) -> Answer {
    let id = call.parameters.required("InstanceId")?.to_string();
    let force = call.parameters.flag("Force")? || call.parameters.flag("ForceStop")?;
    let found = world.instances.get(&id).cloned();
    let instance = found.ok_or_else(|| Refusal::not_found("InvalidInstanceId.NotFound"))?;
    if instance.deletion_protection {
        let text = "The instance is protected from deletion.";
        return Err(Refusal::new(403, "InvalidOperation.DeletionProtection", text));
    }
    match instance.status.as_str() {
        "Stopped" => {}
        "Running" if force => {}
        "Pending" => {
            return Err(Refusal::new(
                403,
                "IncorrectInstanceStatus.Initializing",
                "The instance is initializing.",
            ));
        }
        _ => return Err(Refusal::new(403, "IncorrectInstanceStatus", "The instance must be stopped first.")),
    }
    if call.parameters.flag("DryRun")? {
        return Err(Refusal::dry_run());
    }
    world.instances.remove(&id);
    let now = world.now;
    world.disks.retain(|_, disk| disk.instance_id.as_ref() != Some(&id) || !disk.delete_with_instance);
    for disk in world.disks.values_mut().filter(|disk| disk.instance_id.as_ref() == Some(&id)) {
        disk.instance_id = None;
        disk.status = "Available".into();
        disk.device.clear();
        disk.detached = Some(now);
        disk.pending = 0;
    }
    Ok(json!({}))
}

impl World {
    /// True if the instance vanishes instead of starting.
    fn fails_for_want_of_stock(&mut self, id: &str, number: u64) -> bool {
        let pending = self.instances.get(id).is_some_and(|instance| {
            instance.pending == number && instance.status == "Pending" && instance.started.is_none()
        });
        if !pending || self.settings.stock_failures == 0 {
            return false;
        }
        // assumption: stock-failure-removes-all
        self.settings.stock_failures -= 1;
        self.instances.remove(id);
        self.disks.retain(|_, disk| disk.instance_id.as_deref() != Some(id));
        true
    }

    /// The next step of an instance's life.
    pub fn step_instance(&mut self, id: &str, number: u64) {
        let now = self.now;
        if self.fails_for_want_of_stock(id, number) {
            return;
        }
        let Some(instance) = self.instances.get_mut(id).filter(|instance| instance.pending == number) else {
            return;
        };
        let starting = match instance.status.as_str() {
            "Pending" => true,
            "Stopping" => {
                instance.status = "Stopped".into();
                std::mem::take(&mut instance.rebooting)
            }
            "Starting" => {
                instance.status = "Running".into();
                instance.started = Some(now);
                false
            }
            _ => false,
        };
        if starting {
            instance.status = "Starting".into();
            let seconds = self.plausible_seconds(START_SECONDS, id);
            let pending = self.schedule(seconds, Event::InstanceNext(id.to_string()));
            if let Some(instance) = self.instances.get_mut(id) {
                instance.pending = pending;
            }
        }
    }
}
