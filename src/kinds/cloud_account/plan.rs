//! Reads a CloudAccount into what other objects need of it: how to sign in, who may, and whether it works.

use std::collections::BTreeMap;

use futures::FutureExt;
use futures::future::BoxFuture;
use kube::api::ListParams;
use kube::{Api, Client};

use super::api::{CloudAccount, CloudAccountSpec};
use crate::alibaba::{AssumedRole, Rrsa, Service, Source, endpoint};
use crate::decision::Reason;
use crate::kind::accounts::{Plan, SignIn, Standing};
use crate::kind::{Fault, Invalid};
use crate::resource::SharedStatus;

/// The CloudAccount of that name as it stands; None if there is none.
pub fn load<'a>(kube: &'a Client, name: &'a str) -> BoxFuture<'a, Result<Option<Plan>, Fault>> {
    async move {
        let api: Api<CloudAccount> = Api::all(kube.clone());
        let Some(object) = api.get_opt(name).await? else { return Ok(None) };
        match plan(&object) {
            Ok(plan) => Ok(Some(plan)),
            // The account's own status says the same at length; nobody may use it meanwhile.
            Err(invalid) => {
                let standing = Standing::Barred(invalid.reason, invalid.message);
                // Neither is it told to those whom the account does not allow, as far as that can be read.
                let allowed = object.spec.allowed_namespaces.filter(|selector| selector.check().is_ok());
                Ok(Some(Plan { standing, allowed, ..Plan::unusable(name) }))
            }
        }
    }
    .boxed()
}

/// Names of accounts that are Ready and not suspended.
pub fn usable(kube: &Client) -> BoxFuture<'_, Result<Vec<String>, Fault>> {
    /// Accounts that are looked at; a list for which nothing waits needs no second page.
    const LOOKED_AT_MAX: u32 = 32;
    async move {
        let api: Api<CloudAccount> = Api::all(kube.clone());
        let list = api.list(&ListParams::default().limit(LOOKED_AT_MAX)).await?;
        let is_usable = |account: &CloudAccount| {
            let conditions = account.status.iter().flat_map(|status| &status.shared.conditions);
            let mut ready = conditions.filter(|condition| condition.type_ == "Ready");
            let ready = ready.any(|condition| condition.status == "True");
            ready && !account.spec.suspend && account.metadata.deletion_timestamp.is_none()
        };
        Ok(list.items.into_iter().filter(is_usable).filter_map(|account| account.metadata.name).collect())
    }
    .boxed()
}

/// Validates the object, once more: it may have been stored around the schema's rules.
pub fn plan(object: &CloudAccount) -> Result<Plan, Invalid> {
    let spec = &object.spec;
    if let Some(selector) = &spec.allowed_namespaces {
        selector.check().map_err(|problem| Invalid::field("spec.allowedNamespaces", problem))?;
    }
    Ok(Plan {
        name: object.metadata.name.clone().unwrap_or_default(),
        uid: object.metadata.uid.clone().unwrap_or_default(),
        generation: object.metadata.generation.unwrap_or_default(),
        sign_in: sign_in(spec)?,
        assume: assume(spec)?,
        endpoints: endpoints(spec)?,
        allowed: spec.allowed_namespaces.clone(),
        pinned: object.status.as_ref().and_then(|status| status.shared.account_id.clone()),
        standing: standing(object),
    })
}

fn sign_in(spec: &CloudAccountSpec) -> Result<SignIn, Invalid> {
    let given = &spec.credentials;
    match (&given.secret_ref, &given.rrsa, &given.ecs_ram_role) {
        (Some(secret), None, None) if !secret.name.is_empty() => Ok(SignIn::Secret(secret.name.clone())),
        (None, Some(rrsa), None) => {
            arn(&rrsa.role_arn, ":role/")
                .map_err(|problem| Invalid::field("spec.credentials.rrsa.roleArn", problem))?;
            arn(&rrsa.oidc_provider_arn, ":oidc-provider/")
                .map_err(|problem| Invalid::field("spec.credentials.rrsa.oidcProviderArn", problem))?;
            Ok(SignIn::Source(Source::Rrsa(Rrsa {
                role_arn: rrsa.role_arn.clone(),
                provider_arn: rrsa.oidc_provider_arn.clone(),
                token_file: None,
                session_name: None,
            })))
        }
        (None, None, Some(role)) => Ok(SignIn::Source(Source::EcsRamRole {
            role_name: role.role_name.clone(),
            token_required: false,
        })),
        _ => Err(Invalid::field(
            "spec.credentials",
            "exactly one of secretRef, rrsa and ecsRamRole must be set",
        )),
    }
}

fn assume(spec: &CloudAccountSpec) -> Result<Option<AssumedRole>, Invalid> {
    let Some(role) = &spec.assume_role else { return Ok(None) };
    arn(&role.arn, ":role/").map_err(|problem| Invalid::field("spec.assumeRole.arn", problem))?;
    Ok(Some(AssumedRole { arn: role.arn.clone(), external_id: role.external_id.clone(), session_name: None }))
}

fn arn(value: &str, part: &str) -> Result<(), String> {
    let plain = value.bytes().all(|byte| byte.is_ascii_graphic());
    match plain && value.starts_with("acs:ram::") && value.contains(part) {
        true => Ok(()),
        false => Err(format!("must be an ARN such as acs:ram::1234567890123456{part}name")),
    }
}

fn endpoints(spec: &CloudAccountSpec) -> Result<BTreeMap<Service, String>, Invalid> {
    let given = &spec.endpoints;
    let all = [
        (Service::Ecs, &given.ecs),
        (Service::Kms, &given.kms),
        (Service::Ram, &given.ram),
        (Service::Sts, &given.sts),
    ];
    let mut chosen = BTreeMap::new();
    for (service, address) in all {
        if let Some(address) = address {
            endpoint::check_override(address).map_err(|error| {
                Invalid::field(&format!("spec.endpoints.{}", service.name()), error.message)
            })?;
            chosen.insert(service, address.clone());
        }
    }
    Ok(chosen)
}

/// Whether others may rely on the account, by what its own conditions say of this very generation.
fn standing(object: &CloudAccount) -> Standing {
    if object.metadata.deletion_timestamp.is_some() {
        return Standing::Leaving;
    }
    if object.spec.suspend {
        return Standing::Barred(
            Reason::DependencyNotReady,
            "it is suspended by its spec.suspend; set that to false to go on".to_owned(),
        );
    }
    let fresh = |shared: &&SharedStatus| shared.observed_generation == object.metadata.generation;
    let shared = object.status.as_ref().map(|status| &status.shared).filter(fresh);
    let conditions = shared.map(|shared| shared.conditions.as_slice()).unwrap_or_default();
    let Some(ready) = conditions.iter().find(|condition| condition.type_ == "Ready") else {
        return Standing::Moving("it has not been looked at yet".to_owned());
    };
    match ready.status.as_str() {
        "True" => Standing::Ready,
        "False" => {
            let reason = Reason::parse(&ready.reason).unwrap_or(Reason::DependencyNotReady);
            Standing::Stalled(reason, ready.message.clone())
        }
        _ => Standing::Moving(ready.message.clone()),
    }
}
