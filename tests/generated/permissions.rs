//! What the operator may do, in the cluster and in the account: exactly what the code does, and nothing with
//! a star.
//!
//! Whether a permission suffices is shown by running with it, in `tests/clients`; here it is compared with
//! the source.

use std::collections::BTreeSet;

use ecskms::alibaba::probe::Read;
use ecskms::kind::Kind;
use ecskms::kinds::{
    CloudAccount, EncryptedDisk, EncryptedImage, EncryptedInstance, EncryptionAudit, KeyRevocation,
};
use ecskms::manifests;
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use serde_json::Value;

use crate::calls;
use crate::files::root;

#[test]
fn the_operator_may_do_exactly_this_in_the_cluster() {
    let plurals: Vec<String> = manifests::crds().into_iter().map(|crd| crd.spec.names.plural).collect();
    let mut expected: BTreeSet<String> = BTreeSet::new();
    for plural in &plurals {
        expected.extend(["get", "list", "watch"].map(|verb| format!("{verb} ecskms.dev/{plural}")));
        // An audit never holds its object back, so nothing of it is written but its status.
        if plural != "encryptionaudits" {
            expected.insert(format!("patch ecskms.dev/{plural}"));
        }
        expected.insert(format!("patch ecskms.dev/{plural}/status"));
    }
    expected.extend(["create", "patch"].map(|verb| format!("{verb} events.k8s.io/events")));
    expected.insert("get /namespaces".to_owned());
    expected.extend(["nodes", "persistentvolumes", "pods"].map(|plural| format!("list /{plural}")));
    expected.insert("list storage.k8s.io/storageclasses".to_owned());
    expected.extend(["get apps/replicasets", "get batch/jobs"].map(str::to_owned));
    assert_eq!(granted(manifests::operator_role().rules), expected);
}

#[test]
fn election_is_bound_to_one_lease_in_one_namespace() {
    let role = manifests::election_role();
    assert_eq!(role.metadata.namespace.as_deref(), Some(manifests::NAMESPACE));
    let lease = format!("coordination.k8s.io/leases {}", manifests::LEASE_NAME);
    let expected = BTreeSet::from([
        "create coordination.k8s.io/leases".to_owned(),
        format!("get {lease}"),
        format!("update {lease}"),
        "create /configmaps".to_owned(),
        "patch /configmaps".to_owned(),
    ]);
    assert_eq!(granted(role.rules), expected);
}

#[test]
fn secrets_are_read_and_watched_only_in_the_operators_own_namespace() {
    let role = manifests::credentials_role();
    assert_eq!(role.metadata.namespace.as_deref(), Some(manifests::NAMESPACE));
    assert_eq!(granted(role.rules), ["get", "list", "watch"].map(|verb| format!("{verb} /secrets")).into());
    let everywhere =
        [manifests::operator_role().rules, manifests::edit_role().rules, manifests::view_role().rules];
    assert!(!everywhere.into_iter().flat_map(granted).any(|line| line.contains("secrets")));
}

#[test]
fn people_who_edit_a_namespace_get_no_kind_that_speaks_for_the_account() {
    let edit = granted(manifests::edit_role().rules);
    for crd in manifests::crds() {
        let may_edit = edit.contains(&format!("create ecskms.dev/{}", crd.spec.names.plural));
        assert_eq!(may_edit, crd.spec.scope == "Namespaced", "{}", crd.spec.names.plural);
    }
    assert!(!edit.iter().any(|line| line.contains("keyrevocations")), "{edit:?}");
    assert!(!edit.iter().any(|line| line.contains("/status")), "status is the operator's");
    let into = |role: ClusterRole| -> Vec<String> {
        let labels = role.metadata.labels.unwrap_or_default().into_keys();
        labels.filter_map(|key| key.rsplit_once("/aggregate-to-").map(|(_, role)| role.to_owned())).collect()
    };
    // An object may name any resource of the operator's own account: who may do that is for somebody to decide.
    assert_eq!(into(manifests::edit_role()), [""; 0], "as shipped");
    assert_eq!(into(manifests::edit_role_for_editors()), ["admin", "edit"], "where it is asked for");
    assert_eq!(manifests::edit_role_for_editors().rules, manifests::edit_role().rules);
    assert_eq!(into(manifests::view_role()), ["admin", "edit", "view"]);
    let verbs: BTreeSet<String> = granted(manifests::view_role().rules)
        .iter()
        .map(|line| line.split(' ').next().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(verbs, BTreeSet::from(["get", "list", "watch"].map(str::to_owned)));
}

#[test]
fn the_shipped_files_grant_nothing_with_a_star() {
    for file in ["deploy/rbac.yaml", "charts/ecskms/templates/rbac.yaml"] {
        let text = std::fs::read_to_string(root().join(file)).expect("the file is there");
        assert!(!text.contains('*'), "{file}");
        for word in ["escalate", "impersonate", "nonResourceURLs"] {
            assert!(!text.contains(word), "{file}: {word}");
        }
    }
}

/// In both directions: what is called is allowed in the policy of who calls it, and what is allowed there is called.
#[test]
fn each_ram_policy_allows_exactly_what_its_part_of_the_operator_calls() {
    let ensure = calls::made_by(&["src/kinds/cloud_account/act.rs"], &[]);
    let everyday = calls::made_by(
        &[
            "src/kind",
            "src/kinds/cloud_account",
            "src/kinds/encrypted_disk",
            "src/kinds/encrypted_image",
            "src/kinds/encrypted_instance",
            "src/kinds/encryption_audit",
            "src/cli/run.rs",
        ],
        &["src/kinds/cloud_account/act.rs"],
    );
    let audit = calls::made_by(&["src/kinds/encryption_audit", "src/cli/audit.rs"], &[]);
    let emergency = calls::made_by(&["src/kinds/key_revocation", "src/cli/break_glass"], &[]);
    let sessions = calls::made_by(&["src/alibaba/credentials"], &[]);
    let every: BTreeSet<String> =
        [&ensure, &everyday, &emergency, &sessions].into_iter().flatten().cloned().collect();
    assert_eq!(every, calls::all(), "who calls it?");
    // Asks who has it whatever else they may: for oneself, unsigned, or about no resource (API reference §5).
    let free = ["sts:GetCallerIdentity", "sts:AssumeRoleWithOIDC", "kms:DescribeRegions"];
    let needed = |calls: &BTreeSet<String>| -> BTreeSet<String> {
        calls.iter().filter(|action| !free.contains(&action.as_str())).cloned().collect()
    };
    let looks: BTreeSet<String> =
        needed(&emergency).into_iter().filter(|action| only_looks(action)).collect();
    // Checked by the cloud within RunInstances. It stands apart, because whoever may pass a role may use it.
    let pass = BTreeSet::from(["ram:PassRole".to_owned()]);
    for (name, expected) in [
        ("policy", needed(&everyday)),
        ("ensure-role", needed(&ensure)),
        ("assume-role", needed(&sessions)),
        ("revocation", needed(&emergency)),
        ("read", looks),
        ("pass-role", pass),
        ("audit", needed(&audit)),
    ] {
        assert!(!expected.is_empty(), "{name}");
        assert_eq!(allowed_by(&format!("{name}.json")), expected, "{name}.json");
    }
    // What a check asks is what the everyday policy lets read, no more and no less.
    let asked = calls::made_by(&["src/cli/check.rs", "src/cli/check"], &[]);
    let probed = Read::ALL.map(|read| format!("ecs:{}", read.action()));
    let reads = needed(&everyday).into_iter().filter(|action| only_looks(action)).collect();
    assert_eq!(needed(&asked).into_iter().chain(probed).collect::<BTreeSet<_>>(), reads);
    let idle: Vec<&String> = audit.iter().filter(|action| !only_looks(action)).collect();
    assert!(idle.is_empty(), "an audit changes something: {idle:?}");
    // Whoever holds the everyday policy alone can cut nothing.
    let cuts = ["kms:DisableKey", "kms:EnableKey", "ram:DetachPolicyFromRole", "ram:AttachPolicyToRole"];
    for action in cuts {
        assert!(emergency.contains(action) && !everyday.contains(action), "{action}");
    }
}

/// What `ecskms plan` says that looking takes is what the kind's own files, and the reading of keys, call.
#[test]
fn each_kind_knows_the_ram_actions_that_looking_takes() {
    fn check<K: Kind>(folder: &str, more: &[&str]) {
        let free = ["sts:GetCallerIdentity", "kms:DescribeRegions"];
        let folder = format!("src/kinds/{folder}");
        let files: Vec<&str> =
            more.iter().filter(|file| file.starts_with("src/")).copied().chain([&*folder]).collect();
        let called = calls::made_by(&files, &[]);
        let mut expected: BTreeSet<String> =
            called.into_iter().filter(|action| only_looks(action) && !free.contains(&&**action)).collect();
        expected
            .extend(more.iter().filter(|file| !file.starts_with("src/")).map(|action| (*action).to_owned()));
        let told: BTreeSet<String> = K::READS.iter().map(|action| (*action).to_owned()).collect();
        assert_eq!(told, expected, "{folder}");
    }
    const KEY: &str = "src/kind/key.rs";
    check::<EncryptedImage>("encrypted_image", &[KEY]);
    check::<EncryptedDisk>("encrypted_disk", &[KEY]);
    check::<EncryptedInstance>("encrypted_instance", &[KEY]);
    // The start of a stopped instance is rehearsed, which takes the same right.
    check::<KeyRevocation>("key_revocation", &["ecs:StartInstance"]);
    check::<EncryptionAudit>("encryption_audit", &[]);
    check::<CloudAccount>("cloud_account", &[]);
    // A plan looks at every kind that changes something, and starts nothing, not even as a rehearsal.
    let all = [EncryptedImage::READS, EncryptedDisk::READS, EncryptedInstance::READS, KeyRevocation::READS];
    let looks = all.concat().into_iter().filter(|action| only_looks(action)).map(str::to_owned);
    assert_eq!(allowed_by("plan.json"), looks.collect::<BTreeSet<_>>());
}

#[test]
fn no_ram_policy_allows_what_cannot_be_undone_or_anything_with_a_star() {
    const NEVER: [&str; 7] = [
        "ScheduleKeyDeletion",
        "DeleteKeyMaterial",
        "DeleteRole",
        "DeleteAlias",
        "CreatePolicyVersion",
        "PutKeyPolicy",
        "SetKeyPolicy",
    ];
    let folder = root().join("deploy/ram");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("the folder is there") {
        let name = entry.expect("readable").file_name().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(root().join("deploy/ram").join(&name)).expect("readable");
        for word in NEVER {
            assert!(!text.contains(word), "{name} contains {word}");
        }
        let allowed = allowed_by(&name);
        let deletions: Vec<_> = allowed.iter().filter(|action| action.contains(":Delete")).collect();
        assert!(deletions.is_empty() || name == "policy.json", "{name}: {deletions:?}");
        let changes = allowed.iter().any(|action| !only_looks(action));
        assert!(
            !changes || !["read.json", "plan.json", "audit.json"].contains(&&*name),
            "{name} changes something: {allowed:?}"
        );
        count += 1;
    }
    assert!(count >= 8, "only {count} policies were looked at");
}

/// The actions of a policy in `deploy/ram`: named one by one, each once, and bound to resources where they change
/// something.
fn allowed_by(name: &str) -> BTreeSet<String> {
    // The table of RAM authorization knows no narrower resource for it.
    const UNBOUND: [&str; 1] = ["ecs:RunInstances"];
    let text = std::fs::read_to_string(root().join("deploy/ram").join(name)).expect("the policy is there");
    let policy: Value = serde_json::from_str(&text).expect("it is JSON");
    assert_eq!(policy["Version"], "1", "{name}");
    let mut allowed = BTreeSet::new();
    for statement in policy["Statement"].as_array().expect("statements") {
        assert_eq!(statement["Effect"], "Allow");
        for action in statement["Action"].as_array().expect("a list of actions") {
            let action = action.as_str().expect("an action is text").to_owned();
            assert!(!action.contains('*'), "{name}: {action}");
            let bound = statement["Resource"] != "*";
            assert!(
                only_looks(&action) || bound || UNBOUND.contains(&&*action),
                "{name}: {action} changes something and is bound to nothing"
            );
            assert!(allowed.insert(action.clone()), "{name}: {action} is allowed twice");
        }
    }
    allowed
}

fn only_looks(action: &str) -> bool {
    ["Describe", "Get", "List"].iter().any(|verb| action.contains(&format!(":{verb}")))
}

/// `verb group/resource name`, one line for each thing that is granted.
fn granted(rules: Option<Vec<PolicyRule>>) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for rule in rules.unwrap_or_default() {
        assert!(rule.non_resource_urls.is_none());
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                for verb in &rule.verbs {
                    let names = rule.resource_names.clone().unwrap_or_default();
                    let names = if names.is_empty() { vec![String::new()] } else { names };
                    lines.extend(
                        names
                            .iter()
                            .map(|name| format!("{verb} {group}/{resource} {name}").trim_end().to_owned()),
                    );
                }
            }
        }
    }
    lines
}
