//! RAM: roles, policies, which policy is attached to which role, and what a policy document allows.
//!
//! Deliberately no users and groups as resources: the three callers of the account are fixed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::key_use::ECS_ROLE_POLICY;
use super::refusal::{Answer, Refusal};
use super::world::{Call, Moment, World, iso};

/// Roles on one page of ListRoles when the caller names no number.
const ROLES_PER_PAGE: i64 = 100;

/// A role of the account.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Role {
    /// The name.
    pub name: String,
    /// A number of eighteen digits.
    pub id: String,
    /// Who may assume it, as JSON text.
    pub trust: String,
    /// Free text.
    pub description: String,
    /// Seconds.
    pub session_seconds_max: i64,
    /// When it was made.
    pub created: Moment,
    /// Own tags.
    pub tags: BTreeMap<String, String>,
    /// Attached policies by name, with the time of attachment.
    pub attached: BTreeMap<String, Moment>,
}

/// A policy.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    /// The name.
    pub name: String,
    /// `System` or `Custom`.
    pub kind: String,
    /// Free text.
    pub description: String,
    /// What it allows, as JSON.
    pub document: Value,
    /// When it was made.
    pub created: Moment,
}

/// True if a trust policy lets the cloud service of that name take the role on.
pub fn trusts_service(trust: &str, service: &str) -> bool {
    let document: Value = serde_json::from_str(trust).unwrap_or_default();
    let names = |value: &Value, word: &str| {
        value == word || value.as_array().is_some_and(|list| list.iter().any(|one| one == word))
    };
    let trusts = |statement: &Value| {
        statement["Effect"] == "Allow"
            && names(&statement["Action"], "sts:AssumeRole")
            && names(&statement["Principal"]["Service"], service)
    };
    document["Statement"].as_array().is_some_and(|statements| statements.iter().any(trusts))
}

impl Role {
    /// `acs:ram::<account>:role/<lower-case name>`.
    pub fn arn(&self, account: &str) -> String {
        // assumption: role-arn-lower-case
        format!("acs:ram::{account}:role/{}", self.name.to_ascii_lowercase())
    }

    fn view(&self, account: &str) -> Value {
        json!({
            "RoleName": self.name,
            "RoleId": self.id,
            "Arn": self.arn(account),
            "Description": self.description,
            "AssumeRolePolicyDocument": self.trust,
            "MaxSessionDuration": self.session_seconds_max,
            "CreateDate": iso(self.created),
            "UpdateDate": iso(self.created),
        })
    }
}

/// The system policies that every account has.
pub fn system_policies(now: Moment) -> BTreeMap<String, Policy> {
    let everything =
        json!({"Version": "1", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]});
    let encryption = json!({"Version": "1", "Statement": [
        {"Effect": "Allow",
            "Action": ["kms:List*", "kms:DescribeKey", "kms:TagResource", "kms:UntagResource"],
            "Resource": ["acs:kms:*:*:*", "acs:kms:*:*:*/*"]},
        {"Effect": "Allow", "Action": ["kms:Encrypt", "kms:Decrypt", "kms:GenerateDataKey"],
            "Resource": ["acs:kms:*:*:*/*"]}]});
    let reading = json!({"Version": "1", "Statement": [
        {"Effect": "Allow", "Action": ["ecs:Describe*", "ecs:List*"], "Resource": "*"}]});
    [
        ("AdministratorAccess", "Manages all resources.", everything),
        (ECS_ROLE_POLICY, "The policy of the role that ECS uses to encrypt disks.", encryption),
        ("AliyunECSReadOnlyAccess", "Reads ECS.", reading),
    ]
    .into_iter()
    .map(|(name, description, document)| {
        let policy = Policy {
            name: name.into(),
            kind: "System".into(),
            description: description.into(),
            document,
            created: now,
        };
        (name.to_string(), policy)
    })
    .collect()
}

/// GetRole.
pub fn get_role(world: &mut World, call: &Call) -> Answer {
    Ok(json!({ "Role": role(world, call)?.view(&world.account) }))
}

/// CreateRole.
pub fn create_role(world: &mut World, call: &Call) -> Answer {
    let parameters = call.parameters;
    let name = parameters.required("RoleName")?.to_string();
    let alphabet = name.chars().all(|sign| sign.is_ascii_alphanumeric() || ".-_".contains(sign));
    if name.len() > 64 || !alphabet {
        return Err(Refusal::new(
            400,
            "InvalidParameter.RoleName.InvalidChars",
            "The role name is not valid.",
        ));
    }
    let trust = parameters.required("AssumeRolePolicyDocument")?.to_string();
    let document: Result<Value, _> = serde_json::from_str(&trust);
    if !document.is_ok_and(|document| document["Statement"].is_array()) {
        // assumption: ram-codes
        return Err(Refusal::new(
            400,
            "MalformedPolicyDocument",
            "The trust policy is not a policy document.",
        ));
    }
    let session_seconds_max = parameters.whole("MaxSessionDuration")?.unwrap_or(3_600);
    if !(3_600..=43_200).contains(&session_seconds_max) {
        return Err(Refusal::invalid("MaxSessionDuration"));
    }
    let tags = super::key_catalog::tags_in_json(parameters.text("Tag"), "Key", "Value")?;
    if world.roles.contains_key(&name) {
        return Err(Refusal::new(409, "EntityAlreadyExists.Role", "The role exists already."));
    }
    let role = Role {
        id: world.names.number(),
        trust,
        description: parameters.text("Description").unwrap_or_default().to_string(),
        session_seconds_max,
        created: world.now,
        tags,
        attached: BTreeMap::new(),
        name: name.clone(),
    };
    let view = role.view(&world.account);
    world.roles.insert(name, role);
    Ok(json!({ "Role": view }))
}

/// DeleteRole: only without attached policies.
pub fn delete_role(world: &mut World, call: &Call) -> Answer {
    let role = role(world, call)?;
    if !role.attached.is_empty() {
        let text = "The role has attached policies.";
        return Err(Refusal::new(409, "DeleteConflict.Role.Policy", text));
    }
    let name = role.name.clone();
    world.roles.remove(&name);
    Ok(json!({}))
}

/// ListRoles, continued by `Marker`.
pub fn list_roles(world: &mut World, call: &Call) -> Answer {
    let parameters = call.parameters;
    let size = parameters.whole("MaxItems")?.unwrap_or(ROLES_PER_PAGE).clamp(1, 1_000) as usize;
    let after = parameters.text("Marker").map(super::names::read_next_token).transpose()?;
    let mut rest: Vec<&Role> =
        world.roles.values().filter(|role| after.as_ref().is_none_or(|after| role.name > *after)).collect();
    let more = rest.len() > size;
    rest.truncate(size);
    let marker = rest.last().filter(|_| more).map(|role| super::names::next_token(&role.name));
    let views: Vec<Value> = rest.iter().map(|role| role.view(&world.account)).collect();
    Ok(json!({"Roles": {"Role": views}, "IsTruncated": more, "Marker": marker.unwrap_or_default()}))
}

/// ListPoliciesForRole.
pub fn list_policies_for_role(world: &mut World, call: &Call) -> Answer {
    let role = role(world, call)?;
    let view = |(name, attached): (&String, &Moment)| {
        let policy = world.policies.get(name);
        json!({
            "PolicyName": name,
            "PolicyType": policy.map_or("System", |policy| policy.kind.as_str()),
            "Description": policy.map_or("", |policy| policy.description.as_str()),
            "DefaultVersion": "v1",
            "AttachDate": iso(*attached),
        })
    };
    let views: Vec<Value> = role.attached.iter().map(view).collect();
    Ok(json!({"Policies": {"Policy": views}}))
}

/// AttachPolicyToRole.
pub fn attach_policy(world: &mut World, call: &Call) -> Answer {
    let (role_name, policy_name) = pair(world, call)?;
    let now = world.now;
    let role = world.roles.get_mut(&role_name).ok_or_else(role_not_found)?;
    if role.attached.contains_key(&policy_name) {
        // assumption: policy-attached-already
        let text = "The policy is attached to the role already.";
        return Err(Refusal::new(409, "EntityAlreadyExists.Role.Policy", text));
    }
    role.attached.insert(policy_name, now);
    Ok(json!({}))
}

/// DetachPolicyFromRole. Takes effect at once, in every region.
pub fn detach_policy(world: &mut World, call: &Call) -> Answer {
    let (role_name, policy_name) = pair(world, call)?;
    let role = world.roles.get_mut(&role_name).ok_or_else(role_not_found)?;
    // assumption: grants-act-at-once
    if role.attached.remove(&policy_name).is_none() {
        let text = "The policy is not attached to the role.";
        return Err(Refusal::new(404, "EntityNotExist.Role.Policy", text));
    }
    Ok(json!({}))
}

/// GetPolicy.
pub fn get_policy(world: &mut World, call: &Call) -> Answer {
    let name = policy(world, call)?;
    let policy = world.policies.get(&name).ok_or_else(policy_not_found)?;
    let attachments = world.roles.values().filter(|role| role.attached.contains_key(&name)).count();
    let created = iso(policy.created);
    let document = policy.document.to_string();
    Ok(json!({
        "Policy": {
            "PolicyName": policy.name,
            "PolicyType": policy.kind,
            "Description": policy.description,
            "DefaultVersion": "v1",
            "AttachmentCount": attachments,
            "CreateDate": created,
            "UpdateDate": created,
            "PolicyDocument": document,
        },
        "DefaultPolicyVersion": {
            "VersionId": "v1",
            "IsDefaultVersion": true,
            "CreateDate": created,
            "PolicyDocument": document,
        },
    }))
}

/// True if the documents together allow `action` on every resource: at least one Allow each, and no Deny.
pub fn allows(documents: &[&Value], action: &str, resources: &[String]) -> bool {
    resources.iter().all(|resource| {
        let effects = documents.iter().flat_map(|document| matching_effects(document, action, resource));
        let effects: Vec<String> = effects.collect();
        effects.iter().any(|effect| effect == "Allow") && !effects.iter().any(|effect| effect == "Deny")
    })
}

// assumption: conditions-are-not-read
fn matching_effects(document: &Value, action: &str, resource: &str) -> Vec<String> {
    let statements = document["Statement"].as_array().cloned().unwrap_or_default();
    let applies = |statement: &&Value| {
        one_or_many(&statement["Action"]).iter().any(|pattern| matches(pattern, action))
            && one_or_many(&statement["Resource"]).iter().any(|pattern| matches(pattern, resource))
    };
    statements
        .iter()
        .filter(applies)
        .filter_map(|statement| statement["Effect"].as_str().map(str::to_string))
        .collect()
}

fn one_or_many(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(list) => list.iter().filter_map(Value::as_str).map(str::to_string).collect(),
        _ => Vec::new(),
    }
}

/// `*` stands for any text; letter case is ignored.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.to_ascii_lowercase(), text.to_ascii_lowercase());
    let parts: Vec<&str> = pattern.split('*').collect();
    let (first, last) = (parts[0], parts[parts.len() - 1]);
    if parts.len() == 1 {
        return pattern == text;
    }
    let Some(mut rest) = text.strip_prefix(first).and_then(|rest| rest.strip_suffix(last)) else {
        return false;
    };
    for part in &parts[1..parts.len() - 1] {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

fn role<'a>(world: &'a World, call: &Call) -> Result<&'a Role, Refusal> {
    world.roles.get(call.parameters.required("RoleName")?).ok_or_else(role_not_found)
}

fn policy(world: &World, call: &Call) -> Result<String, Refusal> {
    let kind = call.parameters.required("PolicyType")?;
    let name = call.parameters.required("PolicyName")?;
    let found = world.policies.get(name).filter(|policy| policy.kind == kind);
    found.map(|policy| policy.name.clone()).ok_or_else(policy_not_found)
}

fn pair(world: &World, call: &Call) -> Result<(String, String), Refusal> {
    Ok((role(world, call)?.name.clone(), policy(world, call)?))
}

fn role_not_found() -> Refusal {
    Refusal::new(404, "EntityNotExist.Role", "The role does not exist.")
}

fn policy_not_found() -> Refusal {
    Refusal::new(404, "EntityNotExist.Policy", "The policy does not exist.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_match_any_text_in_any_place() {
        for (pattern, text, expected) in [
            ("ecs:Describe*", "ecs:DescribeDisks", true),
            ("ecs:describe*", "ecs:DescribeDisks", true),
            ("ecs:Describe*", "ecs:DeleteDisk", false),
            ("*", "anything", true),
            ("acs:ecs:*:*:disk/*", "acs:ecs:cn-hangzhou:1:disk/d-1", true),
            ("acs:ecs:*:*:disk/*", "acs:ecs:cn-hangzhou:1:image/m-1", false),
            ("a*a", "a", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} on {text}");
        }
    }

    #[test]
    fn a_deny_wins() {
        let document = json!({"Statement": [
            {"Effect": "Allow", "Action": "ecs:*", "Resource": "*"},
            {"Effect": "Deny", "Action": "ecs:DeleteDisk", "Resource": "*"}]});
        assert!(allows(&[&document], "ecs:CreateDisk", &["x".into()]));
        assert!(!allows(&[&document], "ecs:DeleteDisk", &["x".into()]));
        assert!(!allows(&[&document], "kms:ListKeys", &["x".into()]));
    }

    #[test]
    fn a_service_is_trusted_only_where_a_statement_allows_it_by_name() {
        let trust = |effect: &str, principal: Value| {
            json!({"Statement": [{"Effect": effect, "Action": "sts:AssumeRole", "Principal": principal}]})
                .to_string()
        };
        let ecs = || json!({"Service": ["ecs.aliyuncs.com"]});
        assert!(trusts_service(&trust("Allow", ecs()), "ecs.aliyuncs.com"));
        for other in [
            trust("Deny", ecs()),
            trust("Allow", json!({"Service": ["oss.aliyuncs.com"]})),
            trust("Allow", json!({"RAM": ["acs:ram::1:root"]})),
            String::new(),
        ] {
            assert!(!trusts_service(&other, "ecs.aliyuncs.com"), "{other}");
        }
    }
}
