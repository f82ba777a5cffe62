//! Typed calls of a revocation: switching a key, or ECS's grant, off and on, and finding what is under a key.
//!
//! Nothing here is irreversible, and nothing is remembered: every reading asks the cloud. The permissions that these calls
//! need belong to an identity of their own (API reference §5.2).

use super::ecs::{refuse, unique};
use super::endpoint::check_region;
use super::error::{Class, Error};
use super::facts::{Image, Snapshot};
use super::gateway::Cloud;
use super::kms::Key;
use super::ram::{ECS_ROLE_NAME, ECS_ROLE_POLICY};
use super::reply::Fields;
use super::request::{Parameters, Service, check_id, check_key, parameters};

/// Snapshots per page of a list; the limit of DescribeSnapshots.
const SNAPSHOTS_PER_PAGE: &str = "100";

/// What a reading found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading<T> {
    /// What stands there.
    pub found: T,
    /// The cloud's id of the request.
    pub request_id: Option<String>,
}

/// What a change of a key or a grant answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// The cloud's id of the request.
    pub request_id: Option<String>,
    /// True if there was nothing to change.
    pub already: bool,
}

/// A policy that is attached to a role.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AttachedPolicy {
    /// `System` or `Custom`.
    pub kind: String,
    /// The name.
    pub name: String,
}

impl AttachedPolicy {
    /// True for the policy through which ECS uses customer keys.
    pub fn is_ecs_grant(&self) -> bool {
        self.name == ECS_ROLE_POLICY && self.kind.eq_ignore_ascii_case("System")
    }
}

/// What the rehearsal of a start said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartProbe {
    /// It would have started: the key is usable.
    WouldStart,
    /// Refused for the key, with this code.
    CutOff(String),
    /// Says nothing of the key.
    Unclear(String),
}

impl Cloud {
    /// The key as it stands now, past every memory; None if there is none of that id in the region.
    pub async fn key_now(&self, region: &str, key_id: &str) -> Result<Reading<Option<Key>>, Error> {
        check_region(Service::Kms, "DescribeKey", region)?;
        check_key("DescribeKey", key_id)?;
        self.read_key(region, key_id).await
    }

    /// Switches a key off, for every service that uses it. Switching off what is off succeeds.
    pub async fn disable_key(&self, region: &str, key_id: &str) -> Result<Accepted, Error> {
        self.switch_key(region, "DisableKey", key_id).await
    }

    /// Switches a key on. Switching on what is on succeeds.
    pub async fn enable_key(&self, region: &str, key_id: &str) -> Result<Accepted, Error> {
        self.switch_key(region, "EnableKey", key_id).await
    }

    async fn switch_key(&self, region: &str, action: &'static str, key_id: &str) -> Result<Accepted, Error> {
        check_region(Service::Kms, action, region)?;
        check_key(action, key_id)?;
        let reply = self.call(Service::Kms, region, action, parameters([("KeyId", key_id)])).await?;
        Ok(Accepted { request_id: reply.request_id, already: false })
    }

    /// The policies of the role through which ECS uses customer keys; None if there is no such role.
    pub async fn ecs_role_policies(&self) -> Result<Reading<Option<Vec<AttachedPolicy>>>, Error> {
        const ACTION: &str = "ListPoliciesForRole";
        let reply = self.call(Service::Ram, "", ACTION, parameters([("RoleName", ECS_ROLE_NAME)])).await;
        let reply = match reply {
            Err(error) if error.class == Class::NotFound && error.code == "EntityNotExist.Role" => {
                return Ok(Reading { found: None, request_id: error.request_id.map(String::from) });
            }
            other => other?,
        };
        let fields = Fields::new(&reply.value, Service::Ram, ACTION);
        let read = |policy: &Fields| {
            Some(AttachedPolicy { kind: policy.text("PolicyType")?, name: policy.text("PolicyName")? })
        };
        let mut policies: Vec<AttachedPolicy> =
            fields.list("Policies", "Policy")?.iter().filter_map(read).collect();
        policies.sort();
        Ok(Reading { found: Some(policies), request_id: reply.request_id })
    }

    /// Takes the grant from ECS, in every region and for every customer key of the account.
    pub async fn detach_ecs_grant(&self) -> Result<Accepted, Error> {
        self.switch_grant("DetachPolicyFromRole", "EntityNotExist.Role.Policy").await
    }

    /// Gives the grant back to ECS.
    pub async fn attach_ecs_grant(&self) -> Result<Accepted, Error> {
        self.switch_grant("AttachPolicyToRole", "EntityAlreadyExists.Role.Policy").await
    }

    async fn switch_grant(&self, action: &'static str, already: &str) -> Result<Accepted, Error> {
        let parameters = parameters([
            ("PolicyType", "System"),
            ("PolicyName", ECS_ROLE_POLICY),
            ("RoleName", ECS_ROLE_NAME),
        ]);
        match self.call(Service::Ram, "", action, parameters).await {
            Ok(reply) => Ok(Accepted { request_id: reply.request_id, already: false }),
            Err(error) if error.code == already => {
                let request_id = error.request_id.as_deref().map(str::to_owned);
                Ok(Accepted { request_id, already: true })
            }
            Err(error) => Err(error),
        }
    }

    /// All snapshots under a key, automatic ones included; all pages, or an error.
    pub async fn snapshots_under_key(&self, region: &str, key_id: &str) -> Result<Vec<Snapshot>, Error> {
        const ACTION: &str = "DescribeSnapshots";
        check_region(Service::Ecs, ACTION, region)?;
        if key_id.is_empty() {
            return Err(refuse(ACTION, "an empty key would mean every snapshot"));
        }
        let filter = parameters([("KMSKeyId", key_id), ("MaxResults", SNAPSHOTS_PER_PAGE)]);
        let found = self.walk(region, ACTION, filter, "Snapshots", "Snapshot", Snapshot::read).await?;
        Ok(unique(found, |snapshot| snapshot.id.clone()))
    }

    /// All images of the account itself, in whatever state.
    pub async fn own_images(&self, region: &str) -> Result<Vec<Image>, Error> {
        check_region(Service::Ecs, "DescribeImages", region)?;
        self.images(region, parameters([("ImageOwnerAlias", "self")])).await
    }

    /// Rehearses the start of a stopped instance: it starts nothing, and is refused if its key cannot be used.
    pub async fn start_probe(&self, region: &str, id: &str) -> Result<StartProbe, Error> {
        const ACTION: &str = "StartInstance";
        check_id(Service::Ecs, ACTION, "InstanceId", id)?;
        let rehearsal = parameters([("RegionId", region), ("InstanceId", id), ("DryRun", "true")]);
        match self.call(Service::Ecs, region, ACTION, rehearsal).await {
            // A rehearsal is always answered with an error; a success would mean that it was none.
            Ok(_) => Ok(StartProbe::WouldStart),
            Err(error) if error.code == "DryRunOperation" => Ok(StartProbe::WouldStart),
            Err(error) if error.class == Class::KeyUnusable => Ok(StartProbe::CutOff(error.code)),
            Err(error) if error.definite() && error.http_status.is_some() => {
                Ok(StartProbe::Unclear(error.code))
            }
            Err(error) => Err(error),
        }
    }

    /// Keeps a connection to KMS open by a call that needs no permission.
    pub async fn keep_warm(&self, region: &str) -> Result<(), Error> {
        check_region(Service::Kms, "DescribeRegions", region)?;
        self.call(Service::Kms, region, "DescribeRegions", Parameters::new()).await.map(drop)
    }
}

/// Calls that change a key are few, and whoever makes them cannot wait for a turn.
pub(crate) fn is_urgent(action: &str) -> bool {
    matches!(action, "DisableKey" | "EnableKey")
}
