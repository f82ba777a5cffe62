//! May this caller do this? Policy documents against the action and its resources, and the denials of each
//! service.
//!
//! Deliberately no conditions, no control policies and no resource groups.

use serde_json::{Value, json};

use super::actions::{Action, Service};
use super::ram;
use super::refusal::Refusal;
use super::verify::Caller;
use super::world::{Call, World};

/// What it takes to give a role to an instance, beside the call itself.
const PASS_ROLE: &str = "ram:PassRole";

/// Refuses a caller whose policies do not allow the action.
pub fn check(world: &World, action: &Action, call: &Call) -> Result<(), Refusal> {
    if action.free {
        return Ok(());
    }
    let name = ram_action(action);
    if !allowed(world, call, &name, &resources(action, call)) {
        return Err(denial(action.service, &name, call));
    }
    // assumption: pass-role
    let passed = call.parameters.text("RamRoleName").filter(|_| action.name == "RunInstances");
    let passed: Vec<String> =
        passed.iter().map(|role| format!("acs:ram:*:{}:role/{role}", call.account)).collect();
    if !passed.is_empty() && !allowed(world, call, PASS_ROLE, &passed) {
        return Err(denial(action.service, PASS_ROLE, call));
    }
    Ok(())
}

fn allowed(world: &World, call: &Call, name: &str, resources: &[String]) -> bool {
    let documents: Vec<&Value> = match call.caller {
        Caller::Administrator => return true,
        Caller::Anonymous => return false,
        Caller::Limited => vec![&world.settings.limited_policy],
        Caller::Session { role, .. } => {
            let attached = world.roles.get(role).map(|role| role.attached.keys().collect::<Vec<_>>());
            let names = attached.unwrap_or_default().into_iter();
            names.filter_map(|name| world.policies.get(name)).map(|policy| &policy.document).collect()
        }
    };
    ram::allows(&documents, name, resources)
}

/// The RAM action, for example `ecs:CopyImage`.
pub fn ram_action(action: &Action) -> String {
    format!("{}:{}", action.service.name(), action.name)
}

/// The ARNs that the call concerns. `disk/DiskId` in the table stands for the disks that the parameter
/// `DiskId` names, and the kind `*` for the one that `ResourceType` names.
fn resources(action: &Action, call: &Call) -> Vec<String> {
    let place = match action.service {
        Service::Ecs => format!("acs:ecs:{}:{}:", call.region, call.account),
        Service::Kms => format!("acs:kms:{}:{}:", call.region, call.account),
        Service::Ram => format!("acs:ram:*:{}:", call.account),
        Service::Sts => format!("acs:sts:*:{}:", call.account),
    };
    let mut arns = Vec::new();
    for target in action.targets {
        let (kind, parameter) = target.split_once('/').unwrap_or((target, ""));
        let kind = if kind == "*" { call.parameters.text("ResourceType").unwrap_or(kind) } else { kind };
        let mut ids = call.parameters.list(parameter);
        ids.extend(call.parameters.text(parameter).map(str::to_string));
        if ids.is_empty() {
            ids.push("*".into());
        }
        for id in ids {
            arns.push(match (kind, id.as_str()) {
                ("policy", id) => format!("acs:ram:*:system:policy/{id}"),
                (_, id) if id.starts_with("acs:") => id.to_string(),
                // An alias already carries its own kind.
                (_, id) if id.starts_with("alias/") => format!("{place}{id}"),
                (kind, id) => format!("{place}{kind}/{id}"),
            });
        }
    }
    if arns.is_empty() {
        arns.push(format!("{place}*"));
    }
    arns
}

fn denial(service: Service, name: &str, call: &Call) -> Refusal {
    let (code, text) = match service {
        Service::Ecs => ("Forbidden.RAM", "User not authorized to operate on the specified resource."),
        Service::Kms => ("Forbidden.NoPermission", "This operation is forbidden by permission system."),
        Service::Ram | Service::Sts => ("NoPermission", "You are not authorized to do this action."),
    };
    let mut refusal = Refusal::new(403, code, format!("{text} Action: {name}"));
    let (kind, display) = match call.caller {
        Caller::Session { role, session } => ("AssumedRoleUser", format!("{role}:{session}")),
        Caller::Limited => ("SubUser", "ecskms-limited".to_string()),
        Caller::Administrator | Caller::Anonymous => ("SubUser", String::new()),
    };
    // assumption: access-denied-detail
    refusal.access_denied_detail = Some(json!({
        "AuthAction": name,
        "AuthPrincipalType": kind,
        "AuthPrincipalOwnerId": call.account,
        "AuthPrincipalDisplayName": display,
        "NoPermissionType": "ImplicitDeny",
        "PolicyType": "AccountLevelIdentityBasedPolicy",
        "EncodedDiagnosticMessage": "AQEAAAAAAAAA",
    }));
    refusal
}
