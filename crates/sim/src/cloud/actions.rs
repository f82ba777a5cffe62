//! The table of all simulated actions, and the order in which a verified call is judged.
//!
//! Deliberately the only place that knows every action: adding one is one line here and one function in the
//! world.

use serde_json::json;

use super::idempotence::TokenRule;
use super::parameters::Parameters;
use super::refusal::{Answer, Refusal};
use super::world::{Call, World};
use super::{
    disk_creation, disks, ecs_tags, encryption_default, image_copies, images, instance_creation,
    instance_life, instances, key_catalog, keys, permissions, ram, snapshots, sts, topology,
};

/// The four services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    /// Elastic Compute Service, 2014-05-26.
    Ecs,
    /// Key Management Service, 2016-01-20.
    Kms,
    /// Resource Access Management, 2015-05-01.
    Ram,
    /// Security Token Service, 2015-04-01.
    Sts,
}

impl Service {
    /// The service that an API version belongs to.
    pub fn of_version(version: &str) -> Option<Service> {
        match version {
            "2014-05-26" => Some(Service::Ecs),
            "2016-01-20" => Some(Service::Kms),
            "2015-05-01" => Some(Service::Ram),
            "2015-04-01" => Some(Service::Sts),
            _ => None,
        }
    }

    /// The lower-case name, as in RAM actions.
    pub fn name(self) -> &'static str {
        match self {
            Service::Ecs => "ecs",
            Service::Kms => "kms",
            Service::Ram => "ram",
            Service::Sts => "sts",
        }
    }
}

/// One action.
pub struct Action {
    /// The service that offers it.
    pub service: Service,
    /// Its name.
    pub name: &'static str,
    /// Whether it changes anything; decides the KMS quota.
    pub writes: bool,
    /// True if the call must name a region.
    pub regional: bool,
    /// True if it needs no permission.
    pub free: bool,
    /// How it treats ClientTokens, if it takes them.
    pub token: Option<TokenRule>,
    /// The resources that permissions are checked on: kind, and after the slash the parameter that names
    /// them.
    pub targets: &'static [&'static str],
    /// What it does.
    pub handler: fn(&mut World, &Call) -> Answer,
}

type Handler = fn(&mut World, &Call) -> Answer;

const fn ecs(name: &'static str, targets: &'static [&'static str], handler: Handler) -> Action {
    Action {
        service: Service::Ecs,
        name,
        writes: true,
        regional: false,
        free: false,
        token: None,
        targets,
        handler,
    }
}

const fn kms(name: &'static str, writes: bool, targets: &'static [&'static str], handler: Handler) -> Action {
    Action {
        service: Service::Kms,
        name,
        writes,
        regional: false,
        free: false,
        token: None,
        targets,
        handler,
    }
}

const fn ram_(name: &'static str, targets: &'static [&'static str], handler: Handler) -> Action {
    Action {
        service: Service::Ram,
        name,
        writes: true,
        regional: false,
        free: false,
        token: None,
        targets,
        handler,
    }
}

const fn sts_(name: &'static str, free: bool, handler: Handler) -> Action {
    let targets = &["role/RoleArn"];
    Action { service: Service::Sts, name, writes: true, regional: false, free, token: None, targets, handler }
}

impl Action {
    const fn regional(mut self) -> Action {
        self.regional = true;
        self
    }

    const fn free(mut self) -> Action {
        self.free = true;
        self
    }

    /// Takes a ClientToken; `mismatch` is what a reused token with other arguments meets.
    const fn token(mut self, mismatch: (u16, &'static str), malformed: (u16, &'static str)) -> Action {
        self.token = Some(TokenRule { mismatch, malformed });
        self
    }
}

// assumption: token-mismatch-codes
const MISMATCH: (u16, &str) = (400, "IdempotentParameterMismatch");
const MALFORMED: (u16, &str) = (400, "InvalidClientToken.ValueNotSupported");

/// Every action of every service.
pub static ACTIONS: &[Action] = &[
    ecs("CopyImage", &["image/ImageId"], image_copies::copy).regional().token(MISMATCH, MALFORMED),
    ecs("CancelCopyImage", &["image/ImageId"], image_copies::cancel).regional(),
    ecs("DescribeImages", &["image/ImageId"], images::describe).regional(),
    ecs("DeleteImage", &["image/ImageId"], images::delete).regional(),
    ecs("ModifyImageAttribute", &["image/ImageId"], images::modify).regional(),
    ecs("CreateImage", &["image/-", "instance/InstanceId"], image_copies::create)
        .regional()
        .token((400, "IdempotenceParamNotMatch"), MALFORMED),
    ecs("CreateDisk", &["disk/-", "snapshot/SnapshotId"], disk_creation::create)
        .regional()
        .token(MISMATCH, MALFORMED),
    ecs("DescribeDisks", &["disk/-"], disks::describe).regional(),
    ecs("DeleteDisk", &["disk/DiskId"], disks::delete),
    ecs("AttachDisk", &["disk/DiskId", "instance/InstanceId"], disks::attach),
    ecs("DetachDisk", &["disk/DiskId", "instance/InstanceId"], disks::detach),
    ecs("ModifyDiskAttribute", &["disk/DiskId"], disks::modify),
    ecs("ResizeDisk", &["disk/DiskId"], disks::resize).token(MISMATCH, MALFORMED),
    ecs("CreateSnapshot", &["disk/DiskId", "snapshot/-"], snapshots::create)
        .token((403, "IdempotentParameterMismatch"), (403, "InvalidClientToken.Malformed")),
    ecs("CopySnapshot", &["snapshot/SnapshotId"], snapshots::copy).regional().token(MISMATCH, MALFORMED),
    ecs("DescribeSnapshots", &["snapshot/-"], snapshots::describe).regional(),
    ecs("DeleteSnapshot", &["snapshot/SnapshotId"], snapshots::delete),
    ecs("RunInstances", &[], instance_creation::run).regional().token(MISMATCH, MALFORMED),
    ecs("DescribeInstances", &["instance/-"], instances::describe).regional(),
    ecs("DescribeInstanceStatus", &["instance/-"], instances::describe_status).regional(),
    ecs("StartInstance", &["instance/InstanceId"], instance_life::start),
    ecs("StartInstances", &["instance/InstanceId"], instance_life::start_batch).regional(),
    ecs("StopInstance", &["instance/InstanceId"], instance_life::stop),
    ecs("StopInstances", &["instance/InstanceId"], instance_life::stop_batch).regional(),
    ecs("RebootInstance", &["instance/InstanceId"], instance_life::reboot),
    ecs("RebootInstances", &["instance/InstanceId"], instance_life::reboot_batch).regional(),
    ecs("DeleteInstance", &["instance/InstanceId"], instance_life::delete),
    ecs("ReplaceSystemDisk", &["instance/InstanceId"], instance_creation::replace_system_disk)
        .token(MISMATCH, MALFORMED),
    ecs("ModifyInstanceAttribute", &["instance/InstanceId"], instances::modify),
    ecs("TagResources", &["*/ResourceId"], ecs_tags::tag).regional(),
    ecs("UntagResources", &["*/ResourceId"], ecs_tags::untag).regional(),
    ecs("ListTagResources", &["*/ResourceId"], ecs_tags::list).regional(),
    ecs("DescribeRegions", &[], topology::describe_regions),
    ecs("DescribeZones", &[], topology::describe_zones).regional(),
    ecs("DescribeAvailableResource", &[], topology::describe_available_resource).regional(),
    ecs("DescribeAccountAttributes", &[], topology::describe_account_attributes).regional(),
    ecs("EnableDiskEncryptionByDefault", &[], encryption_default::enable).regional(),
    ecs("DisableDiskEncryptionByDefault", &[], encryption_default::disable).regional(),
    ecs("DescribeDiskEncryptionByDefaultStatus", &[], encryption_default::status).regional(),
    ecs("ModifyDiskDefaultKMSKeyId", &[], encryption_default::set_key).regional(),
    ecs("ResetDiskDefaultKMSKeyId", &[], encryption_default::reset_key).regional(),
    ecs("DescribeDiskDefaultKMSKeyId", &[], encryption_default::show_key).regional(),
    kms("CreateKey", true, &["key/-"], keys::create),
    kms("DescribeKey", false, &["key/KeyId"], keys::describe),
    kms("ListKeys", false, &["key/-"], key_catalog::list_keys),
    kms("EnableKey", true, &["key/KeyId"], keys::enable),
    kms("DisableKey", true, &["key/KeyId"], keys::disable),
    kms("ScheduleKeyDeletion", true, &["key/KeyId"], keys::schedule_deletion),
    kms("CancelKeyDeletion", true, &["key/KeyId"], keys::cancel_deletion),
    kms("CreateAlias", true, &["key/KeyId", "alias/AliasName"], key_catalog::create_alias),
    kms("UpdateAlias", true, &["key/KeyId", "alias/AliasName"], key_catalog::update_alias),
    kms("DeleteAlias", true, &["alias/AliasName"], key_catalog::delete_alias),
    kms("ListAliases", false, &["alias/-"], key_catalog::list_aliases),
    kms("ListAliasesByKeyId", false, &["key/KeyId"], key_catalog::list_aliases_by_key),
    kms("TagResource", true, &["key/KeyId"], key_catalog::tag_one),
    kms("UntagResource", true, &["key/KeyId"], key_catalog::untag_one),
    kms("TagResources", true, &["key/ResourceId"], key_catalog::tag_many),
    kms("UntagResources", true, &["key/ResourceId"], key_catalog::untag_many),
    kms("ListResourceTags", false, &["key/KeyId"], key_catalog::list_tags),
    kms("DescribeRegions", false, &[], topology::describe_key_regions).free(),
    ram_("GetRole", &["role/RoleName"], ram::get_role),
    ram_("CreateRole", &["role/RoleName"], ram::create_role),
    ram_("DeleteRole", &["role/RoleName"], ram::delete_role),
    ram_("ListRoles", &["role/-"], ram::list_roles),
    // assumption: resource-of-list-policies
    ram_("ListPoliciesForRole", &["role/RoleName"], ram::list_policies_for_role),
    ram_("AttachPolicyToRole", &["role/RoleName", "policy/PolicyName"], ram::attach_policy),
    ram_("DetachPolicyFromRole", &["role/RoleName", "policy/PolicyName"], ram::detach_policy),
    ram_("GetPolicy", &["policy/PolicyName"], ram::get_policy),
    sts_("GetCallerIdentity", true, sts::caller_identity),
    sts_("AssumeRole", false, sts::assume_role),
    sts_("AssumeRoleWithOIDC", true, sts::assume_role_with_oidc),
];

/// The action of that name.
pub fn find(service: Service, name: &str) -> Option<&'static Action> {
    ACTIONS.iter().find(|action| action.service == service && action.name == name)
}

/// Judges a verified call: region, permission, KMS opened, ClientToken, and then the action itself.
pub fn perform(world: &mut World, action: &'static Action, call: &Call) -> Answer {
    if action.regional {
        call.parameters.required("RegionId")?;
        if !topology::region_exists(call.region) {
            return Err(Refusal::not_found("InvalidRegionId.NotFound"));
        }
    }
    if let Err(denial) = permissions::check(world, action, call) {
        // A listing without permission looks like an empty account.
        let empty = world.settings.empty_when_denied.iter().any(|name| name == action.name);
        return if empty { instances::empty_listing(action.name) } else { Err(denial) };
    }
    if action.service == Service::Kms && !world.settings.kms_opened && !action.free {
        return Err(Refusal::new(403, "Forbidden.KmsServiceNotEnabled", "KMS has not been opened."));
    }
    if action.service == Service::Kms && world.settings.arrears && action.writes {
        return Err(Refusal::new(403, "Forbidden.InDebt", "Your account has an outstanding payment."));
    }
    let answer = match action.token.filter(|_| takes_token(action, call.parameters)) {
        None => (action.handler)(world, call),
        Some(rule) => once(world, action, call, rule),
    };
    answer.map(|mut body| {
        if body.is_null() {
            body = json!({});
        }
        body
    })
}

/// CreateDisk forgets its ClientToken when an instance is named.
fn takes_token(action: &Action, parameters: &Parameters) -> bool {
    action.name != "CreateDisk" || parameters.text("InstanceId").is_none()
}

fn once(world: &mut World, action: &'static Action, call: &Call, rule: TokenRule) -> Answer {
    if let Some(answer) = world.tokens.recall(rule, action.name, call.region, call.parameters, world.now)? {
        return answer;
    }
    let answer = (action.handler)(world, call);
    let rehearsal = answer.as_ref().is_err_and(|refusal| refusal.code == "DryRunOperation");
    let kept = answer.is_ok() || world.settings.token_remembers_failures;
    if kept && !rehearsal {
        let until = world.now + (world.settings.token_lifetime_seconds * 1000.0) as i64;
        let now = world.now;
        world.tokens.remember(action.name, call.region, call.parameters, &answer, now, until);
    }
    answer
}
