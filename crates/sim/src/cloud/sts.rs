//! STS: who am I, and how to become a role.
//!
//! Deliberately does not check the signature of an OIDC token: the simulation has no issuer's keys. It checks
//! shape, audience and expiry.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::account::OIDC_PROVIDER_ARN;
use super::refusal::{Answer, Refusal};
use super::verify::{Caller, Credential};
use super::world::{Call, Moment, World, iso};

/// The shortest session in seconds.
const SESSION_SECONDS_MIN: i64 = 900;
/// The session length when none is asked for, in seconds.
const SESSION_SECONDS_DEFAULT: i64 = 3_600;
/// The most sessions remembered; the oldest access keys go first.
const SESSIONS_MAX: usize = 10_000;

/// GetCallerIdentity. Needs no permission.
pub fn caller_identity(world: &mut World, call: &Call) -> Answer {
    let identity = match call.caller {
        Caller::Administrator => user(world, "ecskms-administrator", "200000000000000001"),
        Caller::Limited => user(world, "ecskms-limited", "200000000000000002"),
        Caller::Session { role, session } => {
            let id = world.roles.get(role).map(|role| role.id.clone()).unwrap_or_default();
            json!({
                "IdentityType": "AssumedRoleUser",
                "AccountId": world.account,
                "RoleId": id,
                "PrincipalId": format!("{id}:{session}"),
                "Arn": session_arn(world, role, session),
            })
        }
        Caller::Anonymous => return Err(no_permission("sts:GetCallerIdentity")),
    };
    Ok(identity)
}

fn user(world: &World, name: &str, id: &str) -> Value {
    json!({
        "IdentityType": "RAMUser",
        "AccountId": world.account,
        "UserId": id,
        "PrincipalId": id,
        "Arn": format!("acs:ram::{}:user/{name}", world.account),
    })
}

fn session_arn(world: &World, role: &str, session: &str) -> String {
    format!("acs:ram::{}:assumed-role/{}/{session}", world.account, role.to_ascii_lowercase())
}

/// AssumeRole, in the account of the role. The role must trust the caller's account.
pub fn assume_role(world: &mut World, call: &Call) -> Answer {
    let account = format!("acs:ram::{}:root", call.account);
    let told = [("sts:ExternalId", call.parameters.text("ExternalId").unwrap_or_default())];
    let role = trusted_role(world, call, "RAM", &account, &told)?;
    open_session(world, call, &role)
}

/// AssumeRoleWithOIDC: unsigned, proved by a token of a known provider.
pub fn assume_role_with_oidc(world: &mut World, call: &Call) -> Answer {
    let provider = call.parameters.required("OIDCProviderArn")?.to_string();
    let token = call.parameters.required("OIDCToken")?;
    if provider != OIDC_PROVIDER_ARN {
        // assumption: oidc-codes
        let text = "The OIDC provider does not exist.";
        return Err(Refusal::new(404, "EntityNotExist.OIDCProvider", text));
    }
    let claims = claims_of(token)?;
    let expires = claims["exp"].as_i64().unwrap_or(0);
    if expires.saturating_mul(1000) <= call.real_now {
        return Err(Refusal::new(400, "AuthenticationFail.OIDCToken.Expired", "The OIDC token is expired."));
    }
    let audience = match &claims["aud"] {
        Value::String(one) => one == "sts.aliyuncs.com",
        Value::Array(many) => many.iter().any(|one| one == "sts.aliyuncs.com"),
        _ => false,
    };
    if !audience {
        return Err(invalid_token());
    }
    let claim = |name: &str| claims[name].as_str().unwrap_or_default();
    let told = [("oidc:aud", "sts.aliyuncs.com"), ("oidc:iss", claim("iss")), ("oidc:sub", claim("sub"))];
    let role = trusted_role(world, call, "Federated", &provider, &told)?;
    let mut answer = open_session(world, call, &role)?;
    answer["OIDCTokenInfo"] = json!({
        "Subject": claims["sub"],
        "Issuer": claims["iss"],
        "ClientIds": "sts.aliyuncs.com",
        "ExpirationTime": iso(expires.saturating_mul(1000)),
        "VerificationInfo": "Success",
    });
    Ok(answer)
}

// assumption: oidc-signature-unchecked
fn claims_of(token: &str) -> Result<Value, Refusal> {
    let parts: Vec<&str> = token.split('.').collect();
    let [header, payload, signature] = parts[..] else { return Err(invalid_token()) };
    if header.is_empty() || signature.is_empty() {
        return Err(invalid_token());
    }
    let bytes = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).map_err(|_| invalid_token())?;
    serde_json::from_slice(&bytes).map_err(|_| invalid_token())
}

/// The role that `RoleArn` names, if its trust policy names the principal and its conditions hold for what was told.
fn trusted_role(
    world: &World,
    call: &Call,
    kind: &str,
    principal: &str,
    told: &[(&str, &str)],
) -> Result<String, Refusal> {
    let arn = call.parameters.required("RoleArn")?;
    if !arn.starts_with("acs:ram::") || !arn.contains(":role/") {
        return Err(Refusal::new(
            400,
            "InvalidParameter.RoleArn",
            "The parameter RoleArn is wrongly formed.",
        ));
    }
    let found = world.roles.values().find(|role| role.arn(&world.account).eq_ignore_ascii_case(arn));
    let role = found.ok_or_else(|| Refusal::new(404, "EntityNotExist.Role", "The role does not exist."))?;
    let trust: Value = serde_json::from_str(&role.trust).unwrap_or_default();
    let trusts = |statement: &Value| {
        let named = &statement["Principal"][kind];
        let named = named == principal
            || named.as_array().is_some_and(|list| list.iter().any(|one| one == principal));
        named && conditions_hold(&statement["Condition"], told)
    };
    let trusted = trust["Statement"].as_array().is_some_and(|statements| statements.iter().any(trusts));
    if !trusted {
        let action = if kind == "RAM" { "sts:AssumeRole" } else { "sts:AssumeRoleWithOIDC" };
        let mut refusal = no_permission(action);
        if kind != "RAM" {
            refusal.code = "AuthenticationFail.NoPermission".into();
        }
        return Err(refusal);
    }
    Ok(role.name.clone())
}

// assumption: trust-conditions
fn conditions_hold(conditions: &Value, told: &[(&str, &str)]) -> bool {
    let holds = |(name, wanted): (&String, &Value)| {
        let given = told.iter().find(|(told, _)| told == name).map(|(_, value)| *value);
        let fits = |one: &Value| given.is_some_and(|given| one == given);
        fits(wanted) || wanted.as_array().is_some_and(|list| list.iter().any(fits))
    };
    conditions.as_object().into_iter().flatten().all(|(operator, wanted)| {
        operator == "StringEquals" && wanted.as_object().is_some_and(|wanted| wanted.iter().all(holds))
    })
}

fn open_session(world: &mut World, call: &Call, role_name: &str) -> Answer {
    let parameters = call.parameters;
    let session = parameters.required("RoleSessionName")?.to_string();
    let alphabet = session.chars().all(|sign| sign.is_ascii_alphanumeric() || ".@_-".contains(sign));
    if !(2..=64).contains(&session.len()) || !alphabet {
        let text = "The parameter RoleSessionName is wrongly formed.";
        return Err(Refusal::new(400, "InvalidParameter.RoleSessionName", text));
    }
    let role = world.roles.get(role_name).cloned().unwrap_or_default();
    let seconds = parameters.whole("DurationSeconds")?.unwrap_or(SESSION_SECONDS_DEFAULT);
    if !(SESSION_SECONDS_MIN..=role.session_seconds_max).contains(&seconds) {
        let text = "The session duration is out of its range.";
        return Err(Refusal::new(400, "InvalidParameter.DurationSeconds", text));
    }
    let credentials = lend(world, role_name, &session, seconds, call.real_now);
    Ok(json!({
        "Credentials": credentials,
        "AssumedRoleUser": {
            "Arn": session_arn(world, &role.name, &session),
            "AssumedRoleId": format!("{}:{session}", role.id),
        },
        "SourceIdentity": parameters.text("SourceIdentity").unwrap_or_default(),
    }))
}

/// Opens a session of a role and answers its credentials. Whoever calls has judged whether it may be opened.
pub fn lend(world: &mut World, role: &str, session: &str, seconds: i64, real_now: Moment) -> Value {
    let key_id = format!("STS.{}", world.names.pretended_secret("session-key"));
    let secret = world.names.pretended_secret("session-secret");
    let token = world.names.pretended_secret("session-token");
    // Expirations are real time: clients compare them with their own clock, which is not simulated.
    let expires = real_now + seconds * 1000;
    let caller = Caller::Session { role: role.to_string(), session: session.to_string() };
    let credential = Credential {
        caller,
        secret: secret.clone(),
        security_token: Some(token.clone()),
        expires: Some(expires),
    };
    if world.sessions.len() >= SESSIONS_MAX {
        world.sessions.pop_first();
    }
    world.sessions.insert(key_id.clone(), credential);
    json!({
        "AccessKeyId": key_id,
        "AccessKeySecret": secret,
        "SecurityToken": token,
        "Expiration": iso(expires),
    })
}

fn invalid_token() -> Refusal {
    Refusal::new(400, "AuthenticationFail.OIDCToken.Invalid", "The OIDC token is not valid.")
}

fn no_permission(action: &str) -> Refusal {
    let text =
        format!("You are not authorized to do this action. You should be authorized by RAM. ({action})");
    Refusal::new(403, "NoPermission", text)
}
