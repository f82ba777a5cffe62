//! What the operator may do, in the cluster and in the account: exactly what the code does, and nothing with
//! a star.
//!
//! Whether a permission suffices is shown by running with it, in `tests/clients`; here it is compared with
//! the source.

use std::collections::BTreeSet;

use ecskms::manifests;
use k8s_openapi::api::rbac::v1::PolicyRule;
use serde_json::Value;

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
    let labels = manifests::edit_role().metadata.labels.unwrap_or_default();
    assert!(!labels.contains_key("rbac.authorization.k8s.io/aggregate-to-view"));
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

#[test]
fn the_ram_policies_allow_each_action_that_the_client_calls_and_no_more() {
    let [everyday, emergency] = ["policy", "revocation"].map(|name| allowed_by(&format!("{name}.json")));
    // Only for who asks for it: to make ECS's role, and to take on another role.
    let [ensure, assume] = ["ensure-role", "assume-role"].map(|name| allowed_by(&format!("{name}.json")));
    let called = called_actions();
    let ordinary: BTreeSet<String> = [&everyday, &ensure, &assume].into_iter().flatten().cloned().collect();
    assert_eq!(ordinary, called);
    // Checked by the cloud within RunInstances. It stands apart, because whoever may pass a role may use it.
    assert_eq!(allowed_by("pass-role.json"), BTreeSet::from(["ram:PassRole".to_owned()]));
    // DescribeRegions of KMS needs no permission (API reference §5).
    for action in actions_in("emergency").into_iter().filter(|action| action != "DescribeRegions") {
        let allowed = emergency.iter().any(|full| full.split(':').next_back() == Some(action.as_str()));
        assert!(allowed, "revocation.json does not allow {action}");
    }
    // An audit needs no more than it looks at, and the operator may do it too.
    let audit = allowed_by("audit.json");
    let looked_at: BTreeSet<String> =
        actions_in("survey").iter().map(|action| format!("ecs:{action}")).collect();
    let others = ["ecs:DescribeImages", "kms:DescribeKey"].map(str::to_owned);
    assert_eq!(audit, looked_at.into_iter().chain(others).collect());
    assert!(audit.is_subset(&everyday) && audit.iter().all(|action| only_looks(action)), "{audit:?}");
    // Whoever holds the everyday policy alone can cut nothing.
    let cuts = ["kms:DisableKey", "kms:EnableKey", "ram:DetachPolicyFromRole", "ram:AttachPolicyToRole"];
    for action in cuts {
        assert!(emergency.contains(action) && !everyday.contains(action), "{action}");
    }
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
            !changes || !["read.json", "audit.json"].contains(&&*name),
            "{name} changes something: {allowed:?}"
        );
        count += 1;
    }
    assert!(count >= 7, "only {count} policies were looked at");
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

/// The actions of the everyday client, each with its service.
fn called_actions() -> BTreeSet<String> {
    // Need no permission: the one asks for oneself, the other is unsigned (STS documentation).
    const FREE: [&str; 2] = ["sts:GetCallerIdentity", "sts:AssumeRoleWithOIDC"];
    let files = [
        ("ecs", "ecs"),
        ("ecs", "amendments"),
        ("ecs", "attachments"),
        ("ecs", "instances"),
        ("ecs", "survey"),
        ("kms", "kms"),
        ("ram", "ram"),
        ("sts", "sts"),
    ];
    let mut actions = BTreeSet::new();
    for (service, file) in files {
        actions.extend(actions_in(file).into_iter().map(|action| format!("{service}:{action}")));
    }
    for free in FREE {
        assert!(actions.remove(free), "{free} is not called any more");
    }
    actions
}

/// The actions in a file of the client: texts that begin with one of the verbs that Alibaba Cloud's actions begin with.
fn actions_in(file: &str) -> BTreeSet<String> {
    const VERBS: [&str; 24] = [
        "Add", "Apply", "Assume", "Attach", "Cancel", "Copy", "Create", "Delete", "Describe", "Detach",
        "Disable", "Enable", "Get", "List", "Modify", "Reboot", "Remove", "Replace", "Resize", "Run",
        "Schedule", "Start", "Stop", "Tag",
    ];
    // Parameters that read like actions.
    const PARAMETERS: [&str; 2] = ["AssumeRolePolicyDocument", "DeleteWithInstance"];
    let path = root().join(format!("src/alibaba/{file}.rs"));
    let source = std::fs::read_to_string(path).expect("the source is there");
    let source = source.split("#[cfg(test)]").next().unwrap_or_default();
    let code = source.lines().filter(|line| !line.trim_start().starts_with("//"));
    let is_action = |text: &String| {
        let rest = VERBS.iter().find_map(|verb| text.strip_prefix(verb));
        let fits =
            |rest: &str| rest.starts_with(char::is_uppercase) && rest.chars().all(char::is_alphanumeric);
        !PARAMETERS.contains(&text.as_str()) && rest.is_some_and(fits)
    };
    code.flat_map(texts_of).filter(is_action).collect()
}

/// The quoted texts of a line, without the names of fields that are read off a reply, such as `DeleteDate`.
fn texts_of(line: &str) -> Vec<String> {
    let parts: Vec<&str> = line.split('"').collect();
    let quoted = parts.windows(2).step_by(2);
    let read =
        |before: &str| ["text(", "required(", "number(", "list("].iter().any(|call| before.ends_with(call));
    quoted.filter(|pair| !read(pair[0])).map(|pair| pair[1].to_owned()).collect()
}
