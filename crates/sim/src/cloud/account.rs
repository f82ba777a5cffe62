//! The starting account: an account worth looking at, with the same ids in every run.
//!
//! Account `1234567890123456`, home region cn-hangzhou, a little in cn-shanghai.
//!
//! | Callers | What |
//! |---|---|
//! | `pretend-access-key` / `pretend-access-key-secret` | RAM user ecskms-administrator, may do everything |
//! | `pretend-limited-key` / `pretend-limited-key-secret` | user ecskms-limited, `limitedPolicy` |
//! | role `ecskms-operator` | trusts the account and OIDC provider `ack-rrsa-pretend`; policy `ecskms-work` |
//! | role `AliyunECSDiskEncryptDefaultRole` | ECS's role, with `AliyunECSDiskEncryptRolePolicy` attached |
//!
//! A second account, `2345678901234567`, has the access key `pretend-second-key` /
//! `pretend-second-key-secret`, the key `key-hzz65f0a1b2c3d4e5f6a9z9` under the same `alias/ecskms-demo`, the role
//! `ecskms-guest`, which the first account may take on with ExternalId `pretend-external-id`, and nothing else: not
//! even ECS's role.
//!
//! The metadata service lends role `ecskms-operator`, and so does the credentials URI `/_sim/credentials`.
//!
//! | Keys of cn-hangzhou | Alias | What |
//! |---|---|---|
//! | `key-hzz65f0a1b2c3d4e5f6a7b8` | `alias/ecskms-demo` | Enabled, in a KMS instance |
//! | `key-hzz65f0a1b2c3d4e5f6a7c9` | `alias/ecskms-second` | Enabled, in the same instance |
//! | `key-hzz65f0a1b2c3d4e5f6a7d0` | `alias/ecskms-disabled` | Disabled |
//! | `key-hzz65f0a1b2c3d4e5f6a7e1` | `alias/ecskms-doomed` | PendingDeletion, 30 days |
//! | `key-hzz65f0a1b2c3d4e5f6a7f2` | `alias/ecskms-rsa` | RSA_2048, which ECS refuses |
//! | `2f3a8c1e-5b7d-4e90-a1c2-d3e4f5a6b7c8` | `alias/ecskms-default` | Enabled, outside of any KMS instance |
//! | `9d1e7f42-6c8b-4a35-b0d1-e2f3a4b5c6d7` | `alias/acs/ecs` | the service key |
//!
//! | Images of cn-hangzhou | Status | What |
//! |---|---|---|
//! | `m-bp1web40g00000000001` ecskms-demo-web | Available | plain, 40 GiB and a data disk of 20 GiB |
//! | `m-bp1app20g00000000002` ecskms-demo-app | Available | plain, 20 GiB |
//! | `m-bp1big600g0000000003` ecskms-demo-big | Available | plain, 600 GiB: too large to copy |
//! | `m-bp1broken00000000004` ecskms-demo-broken | UnAvailable | plain, 20 GiB |
//! | `m-bp1stuck000000000005` ecskms-demo-stuck | Creating | plain, 20 GiB, never finishes |
//! | `m-bp1old10g00000000006` ecskms-demo-old | Deprecated | plain, 10 GiB |
//! | `m-bp1vault40g000000007` ecskms-demo-vault | Available | encrypted under `alias/ecskms-demo`, 40 GiB |
//! | `aliyun_3_x64_20G_alibase_20250117.vhd` | Available | public |
//! | `ubuntu_24_04_x64_20G_alibase_20250113.vhd` | Available | public |
//!
//! | Snapshots of cn-hangzhou | What |
//! |---|---|
//! | `s-bp1plain20g000000001` | plain, 20 GiB, of `d-bp1archive0000000001` |
//! | `s-bp1vault50g000000002` | encrypted under `alias/ecskms-demo`, 50 GiB, of `d-bp1dbdata00000000004` |
//!
//! | Disks of cn-hangzhou (zone i) | What |
//! |---|---|
//! | `d-bp1archive0000000001` | plain data, 20 GiB, Available, was attached before |
//! | `d-bp1websys00000000002` | plain, 40 GiB, system of `i-bp1web000000000000a1` |
//! | `d-bp1webdata0000000003` | plain, 100 GiB, data of `i-bp1web000000000000a1` |
//! | `d-bp1dbsys000000000005` | under `alias/ecskms-demo`, 40 GiB, system of `i-bp1db0000000000000b2` |
//! | `d-bp1dbdata00000000004` | under `alias/ecskms-demo`, 50 GiB, data of `i-bp1db0000000000000b2` |
//! | `d-bp1idlesys0000000006` | plain system of `i-bp1idle00000000000c3` |
//! | `d-bp1lostsys0000000007` | encrypted under the disabled key, system of `i-bp1lost00000000000d4` |
//! | `d-bp1service0000000008` | encrypted under the service key, 40 GiB, Available |
//!
//! | Instances of cn-hangzhou (zone i) | What |
//! |---|---|
//! | `i-bp1web000000000000a1` | Running, plain |
//! | `i-bp1db0000000000000b2` | Running, encrypted |
//! | `i-bp1idle00000000000c3` | Stopped, plain |
//! | `i-bp1lost00000000000d4` | Stopped; its key is disabled, so it cannot start |
//!
//! cn-shanghai: key `4c5d6e7f-8091-4a2b-93c4-d5e6f7a8b9c0` (`alias/ecskms-shanghai`), image
//! `m-uf6app20g00000000001` ecskms-shanghai-app (plain, 20 GiB), disk `d-uf6data0000000000001` (plain, 40
//! GiB, zone b).

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::disks::Disk;
use super::images::Image;
use super::instances::Instance;
use super::key_use::{ECS_KEY_TAG, ECS_ROLE, ECS_ROLE_POLICY};
use super::keys::{self, Alias, Key};
use super::ram::{Policy, Role};
use super::resources::mappings_with_snapshots;
use super::settings::Settings;
use super::snapshots::Snapshot;
use super::world::{ACCOUNT, Event, World};

/// The access key that may do everything.
pub const ACCESS_KEY_ID: &str = "pretend-access-key";
/// Its secret.
pub const ACCESS_KEY_SECRET: &str = "pretend-access-key-secret";
/// The access key whose policy tests may set.
pub const LIMITED_ACCESS_KEY_ID: &str = "pretend-limited-key";
/// Its secret.
pub const LIMITED_ACCESS_KEY_SECRET: &str = "pretend-limited-key-secret";
/// The account number of the second account.
pub const SECOND_ACCOUNT: &str = "2345678901234567";
/// The access key of the second account, which may do everything in it.
pub const SECOND_ACCESS_KEY_ID: &str = "pretend-second-key";
/// Its secret.
pub const SECOND_ACCESS_KEY_SECRET: &str = "pretend-second-key-secret";
/// What whoever takes on role `ecskms-guest` of the second account must know.
pub const EXTERNAL_ID: &str = "pretend-external-id";
/// The OIDC provider that role `ecskms-operator` trusts.
pub const OIDC_PROVIDER_ARN: &str = "acs:ram::1234567890123456:oidc-provider/ack-rrsa-pretend";

const REGION: &str = "cn-hangzhou";
const ZONE: &str = "cn-hangzhou-i";
const KEY: &str = "key-hzz65f0a1b2c3d4e5f6a7b8";
const SECOND_KEY: &str = "key-hzz65f0a1b2c3d4e5f6a9z9";
const DISABLED_KEY: &str = "key-hzz65f0a1b2c3d4e5f6a7d0";
const DOOMED_KEY: &str = "key-hzz65f0a1b2c3d4e5f6a7e1";
const SERVICE_KEY: &str = "9d1e7f42-6c8b-4a35-b0d1-e2f3a4b5c6d7";
const DAY_SECONDS: f64 = 86_400.0;

/// Fills an empty world with the starting account.
pub fn fill(world: &mut World) {
    add_roles(world);
    add_keys(world);
    add_public_images(world);
    add_own_images(world);
    add_machines(world);
    add_loose_disks_and_snapshots(world);
    add_shanghai(world);
}

fn add_roles(world: &mut World) {
    let ecs_trust = json!({"Version": "1", "Statement": [
        {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": ["ecs.aliyuncs.com"]}}]});
    let own_trust = json!({"Version": "1", "Statement": [
        {"Effect": "Allow", "Action": "sts:AssumeRole",
            "Principal": {"RAM": [format!("acs:ram::{ACCOUNT}:root")], "Service": ["ecs.aliyuncs.com"]}},
        {"Effect": "Allow", "Action": "sts:AssumeRoleWithOIDC",
            "Principal": {"Federated": [OIDC_PROVIDER_ARN]},
            "Condition": {"StringEquals": {"oidc:aud": ["sts.aliyuncs.com"]}}}]});
    let work = Policy {
        name: "ecskms-work".into(),
        kind: "Custom".into(),
        description: "The normal work of an encryption operator.".into(),
        document: Settings::default().limited_policy,
        created: world.now,
    };
    world.policies.insert(work.name.clone(), work);
    for (name, trust, policy) in
        [(ECS_ROLE, ecs_trust, ECS_ROLE_POLICY), ("ecskms-operator", own_trust, "ecskms-work")]
    {
        add_role(world, name, &trust, policy);
    }
}

fn add_role(world: &mut World, name: &str, trust: &Value, policy: &str) {
    let role = Role {
        name: name.into(),
        id: world.names.number(),
        trust: trust.to_string(),
        description: String::new(),
        session_seconds_max: 3_600,
        created: world.now,
        tags: BTreeMap::new(),
        attached: BTreeMap::from([(policy.to_string(), world.now)]),
    };
    world.roles.insert(name.to_string(), role);
}

/// Fills the second account: enough to tell it from the first, and no role of ECS.
pub fn fill_second(world: &mut World) {
    let trust = json!({"Version": "1", "Statement": [
        {"Effect": "Allow", "Action": "sts:AssumeRole",
            "Principal": {"RAM": [format!("acs:ram::{ACCOUNT}:root")]},
            "Condition": {"StringEquals": {"sts:ExternalId": EXTERNAL_ID}}}]});
    add_role(world, "ecskms-guest", &trust, "AdministratorAccess");
    add_key(world, REGION, SECOND_KEY, "alias/ecskms-demo", "Enabled", "Aliyun_AES_256", "");
}

fn add_keys(world: &mut World) {
    let instance = "kst-hzz65f0a1b2c3d4e5f6a7b8";
    for (id, alias, state, spec, of) in [
        (KEY, "alias/ecskms-demo", "Enabled", "Aliyun_AES_256", instance),
        ("key-hzz65f0a1b2c3d4e5f6a7c9", "alias/ecskms-second", "Enabled", "Aliyun_AES_256", instance),
        (DISABLED_KEY, "alias/ecskms-disabled", "Disabled", "Aliyun_AES_256", instance),
        (DOOMED_KEY, "alias/ecskms-doomed", "PendingDeletion", "Aliyun_AES_256", instance),
        ("key-hzz65f0a1b2c3d4e5f6a7f2", "alias/ecskms-rsa", "Enabled", "RSA_2048", instance),
        ("2f3a8c1e-5b7d-4e90-a1c2-d3e4f5a6b7c8", "alias/ecskms-default", "Enabled", "Aliyun_AES_256", ""),
    ] {
        add_key(world, REGION, id, alias, state, spec, of);
    }
    for id in [KEY, DISABLED_KEY] {
        if let Some(key) = world.keys.get_mut(id) {
            key.tags.insert(ECS_KEY_TAG.into(), "true".into());
        }
    }
    let pending = world.schedule(30.0 * DAY_SECONDS, Event::KeyGone(DOOMED_KEY.into()));
    let due = world.now + (30.0 * DAY_SECONDS * 1000.0) as i64;
    if let Some(key) = world.keys.get_mut(DOOMED_KEY) {
        key.pending = pending;
        key.delete_at = Some(due);
    }
    keys::insert_service_key(world, REGION, SERVICE_KEY);
}

fn add_key(world: &mut World, region: &str, id: &str, alias: &str, state: &str, spec: &str, instance: &str) {
    let key = Key {
        id: id.into(),
        region: region.into(),
        state: state.into(),
        spec: spec.into(),
        usage: "ENCRYPT/DECRYPT".into(),
        origin: "Aliyun_KMS".into(),
        creator: world.account.clone(),
        instance_id: instance.into(),
        protection_level: "SOFTWARE".into(),
        created: world.now,
        version: world.names.uuid(),
        ..Key::default()
    };
    world.keys.insert(id.into(), key);
    let entry = Alias { region: region.into(), name: alias.into(), key_id: id.into() };
    world.aliases.insert((region.into(), alias.into()), entry);
}

fn add_public_images(world: &mut World) {
    for (id, platform, os_name) in [
        ("aliyun_3_x64_20G_alibase_20250117.vhd", "Aliyun", "Alibaba Cloud Linux 3.2104 LTS 64 bit"),
        ("ubuntu_24_04_x64_20G_alibase_20250113.vhd", "Ubuntu", "Ubuntu 24.04 64 bit"),
    ] {
        let image = Image {
            id: id.into(),
            region: REGION.into(),
            name: id.into(),
            status: "Available".into(),
            owner_alias: "system".into(),
            created: world.now,
            size_gib: 20,
            platform: platform.into(),
            os_name: os_name.into(),
            ..Image::default()
        };
        world.images.insert(id.into(), image);
    }
}

fn add_own_images(world: &mut World) {
    let none: &[u32] = &[];
    for (id, name, status, size, data, key) in [
        ("m-bp1web40g00000000001", "ecskms-demo-web", "Available", 40, &[20][..], None),
        ("m-bp1app20g00000000002", "ecskms-demo-app", "Available", 20, none, None),
        ("m-bp1big600g0000000003", "ecskms-demo-big", "Available", 600, none, None),
        ("m-bp1broken00000000004", "ecskms-demo-broken", "UnAvailable", 20, none, None),
        ("m-bp1stuck000000000005", "ecskms-demo-stuck", "Creating", 20, none, None),
        ("m-bp1old10g00000000006", "ecskms-demo-old", "Deprecated", 10, none, None),
        ("m-bp1vault40g000000007", "ecskms-demo-vault", "Available", 40, none, Some(KEY)),
    ] {
        add_image(world, REGION, id, name, status, size, data, key);
    }
}

#[expect(
    clippy::too_many_arguments,
    reason = "one row of the table above; a struct would only repeat the names"
)]
fn add_image(
    world: &mut World,
    region: &str,
    id: &str,
    name: &str,
    status: &str,
    size_gib: u32,
    data_gib: &[u32],
    key: Option<&str>,
) {
    let image = Image {
        id: id.into(),
        region: region.into(),
        name: name.into(),
        status: status.into(),
        owner_alias: "self".into(),
        created: world.now,
        size_gib,
        mappings: mappings_with_snapshots(world, region, size_gib, data_gib, key),
        platform: "Aliyun".into(),
        os_name: "Alibaba Cloud Linux 3.2104 LTS 64 bit".into(),
        ..Image::default()
    };
    world.images.insert(id.into(), image);
}

fn add_machines(world: &mut World) {
    for (number, (id, name, status, image)) in [
        ("i-bp1web000000000000a1", "ecskms-demo-web", "Running", "m-bp1web40g00000000001"),
        ("i-bp1db0000000000000b2", "ecskms-demo-db", "Running", "m-bp1vault40g000000007"),
        ("i-bp1idle00000000000c3", "ecskms-demo-idle", "Stopped", "aliyun_3_x64_20G_alibase_20250117.vhd"),
        ("i-bp1lost00000000000d4", "ecskms-demo-lost", "Stopped", "aliyun_3_x64_20G_alibase_20250117.vhd"),
    ]
    .into_iter()
    .enumerate()
    {
        let instance = Instance {
            id: id.into(),
            region: REGION.into(),
            zone: ZONE.into(),
            name: name.into(),
            host_name: name.into(),
            status: status.into(),
            stopped_mode: if status == "Stopped" { "KeepCharging" } else { "Not-applicable" }.into(),
            image_id: image.into(),
            instance_type: "ecs.g7.large".into(),
            cpu: 2,
            memory_mib: 8_192,
            security_groups: vec!["sg-bp1demo00000000000001".into()],
            vswitch_id: "vsw-bp1demo0000000000001".into(),
            private_address: format!("192.168.0.{}", number + 10),
            created: world.now,
            started: Some(world.now),
            ..Instance::default()
        };
        world.instances.insert(id.into(), instance);
    }
    for (id, instance, kind, device, size, key) in [
        ("d-bp1websys00000000002", "i-bp1web000000000000a1", "system", "/dev/xvda", 40, None),
        ("d-bp1webdata0000000003", "i-bp1web000000000000a1", "data", "/dev/xvdb", 100, None),
        ("d-bp1dbsys000000000005", "i-bp1db0000000000000b2", "system", "/dev/xvda", 40, Some(KEY)),
        ("d-bp1dbdata00000000004", "i-bp1db0000000000000b2", "data", "/dev/xvdb", 50, Some(KEY)),
        ("d-bp1idlesys0000000006", "i-bp1idle00000000000c3", "system", "/dev/xvda", 40, None),
        ("d-bp1lostsys0000000007", "i-bp1lost00000000000d4", "system", "/dev/xvda", 40, Some(DISABLED_KEY)),
    ] {
        let disk = Disk {
            status: "In_use".into(),
            instance_id: Some(instance.into()),
            device: device.into(),
            kind: kind.into(),
            attached: Some(world.now),
            ever_attached: true,
            delete_with_instance: kind == "system",
            ..plain_disk(world, id, REGION, ZONE, size, key)
        };
        world.disks.insert(id.into(), disk);
    }
}

fn add_loose_disks_and_snapshots(world: &mut World) {
    let archive = Disk {
        ever_attached: true,
        detached: Some(world.now),
        ..plain_disk(world, "d-bp1archive0000000001", REGION, ZONE, 20, None)
    };
    let service = plain_disk(world, "d-bp1service0000000008", REGION, ZONE, 40, Some(SERVICE_KEY));
    for disk in [archive, service] {
        world.disks.insert(disk.id.clone(), disk);
    }
    for (id, disk) in [
        ("s-bp1plain20g000000001", "d-bp1archive0000000001"),
        ("s-bp1vault50g000000002", "d-bp1dbdata00000000004"),
    ] {
        let Some(disk) = world.disks.get(disk) else { continue };
        let snapshot = Snapshot { status: "accomplished".into(), ..Snapshot::of_disk(disk, id, world.now) };
        world.snapshots.insert(id.into(), snapshot);
    }
}

fn plain_disk(world: &World, id: &str, region: &str, zone: &str, size_gib: u32, key: Option<&str>) -> Disk {
    Disk {
        id: id.into(),
        region: region.into(),
        zone: zone.into(),
        name: format!("ecskms-demo-{}", id.get(5..).unwrap_or_default().trim_end_matches(char::is_numeric)),
        status: "Available".into(),
        encrypted: key.is_some(),
        key_id: key.map(str::to_string),
        kind: "data".into(),
        category: "cloud_essd".into(),
        performance_level: "PL1".into(),
        size_gib,
        portable: true,
        delete_auto_snapshot: true,
        created: world.now,
        ..Disk::default()
    }
}

fn add_shanghai(world: &mut World) {
    let region = "cn-shanghai";
    let id = "4c5d6e7f-8091-4a2b-93c4-d5e6f7a8b9c0";
    add_key(world, region, id, "alias/ecskms-shanghai", "Enabled", "Aliyun_AES_256", "");
    add_image(world, region, "m-uf6app20g00000000001", "ecskms-shanghai-app", "Available", 20, &[], None);
    let disk = plain_disk(world, "d-uf6data0000000000001", region, "cn-shanghai-b", 40, None);
    world.disks.insert(disk.id.clone(), disk);
}
