//! The admission policies of revocations in the cluster against those of this program.
//!
//! Compared is what decides: which requests a policy sees, what it refuses, and whom its binding leaves out. What an installer may
//! set, the names of another release and what an API server fills in by itself are no difference.

use std::collections::BTreeSet;

use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding, ValidatingAdmissionPolicyBindingSpec,
};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

use super::cluster::Part;
use super::line::Line;
use crate::alibaba::error::safe_text;
use crate::manifests::{self, NAME, admission};
use meaning::{Meaning, OPERATOR, settings};

mod meaning;

const CHECK: &str = "admission policies of revocations";
const INSTALL: &str = "kubectl apply --server-side -k deploy, or helm upgrade";

/// Looks at all of them, since a Helm release gives names of its own.
pub async fn line(part: &Part<'_>, client: &Client) -> Line {
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(client.clone());
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(client.clone());
    let every = ListParams::default();
    let (policies, bindings) = tokio::join!(
        part.ask(async { policies.list(&every).await }),
        part.ask(async { bindings.list(&every).await })
    );
    match (policies, bindings) {
        (Ok(policies), Ok(bindings)) => {
            let account = part.args.as_service_account.as_deref();
            judged(&policies.items, &bindings.items, &part.args.lease_namespace, account)
        }
        (Err(trouble), _) | (_, Err(trouble)) => {
            trouble.line(CHECK, "list validatingadmissionpolicies and validatingadmissionpolicybindings")
        }
    }
}

/// What is wrong, in the order of the policies.
#[derive(Default)]
struct Wrong {
    told: Vec<String>,
    /// What must go before it is installed anew, as kubectl names it.
    other: BTreeSet<String>,
    names_another_operator: bool,
}

/// Whoever uses no revocations needs none of them. Half of them would be believed in, and guard nothing.
fn judged(
    policies: &[ValidatingAdmissionPolicy],
    bindings: &[ValidatingAdmissionPolicyBinding],
    namespace: &str,
    account: Option<&str>,
) -> Line {
    let releases: BTreeSet<String> = policies.iter().filter_map(release).collect();
    if releases.is_empty() {
        let seen = "none: RBAC alone says who may order and undo";
        let fix = format!("{INSTALL}; optional where nobody uses revocations.");
        return Line::skipped(CHECK, seen).with_fix(fix);
    }
    let mut wrong = Wrong::default();
    let mut set = BTreeSet::new();
    for release in &releases {
        let operator = format!("system:serviceaccount:{namespace}:{}", account.unwrap_or(release));
        for (ours, binding) in admission::policies().iter().zip(admission::bindings()) {
            let name = ours.name_any().replacen(NAME, release, 1);
            let Some(theirs) = policies.iter().find(|policy| policy.name_any() == name) else {
                wrong.told.push(format!("{name} is not there"));
                continue;
            };
            let (ours, theirs) =
                (ours.spec.clone().unwrap_or_default(), theirs.spec.clone().unwrap_or_default());
            set.extend(settings(&theirs));
            wrong.policy(&name, &Meaning::of_ours(&ours, &operator), &Meaning::of_policy(&theirs));
            wrong.bound(&name, &binding.spec, bindings);
        }
    }
    if releases.len() > 1 {
        let names = releases.iter().map(|name| safe_text(name)).collect::<Vec<_>>().join(", ");
        wrong.told.push(format!("there are those of {names}, and each refuses the others' operator"));
        let fix = "Uninstall all but the one whose operator runs, or delete what is left of them, and run it again.";
        return Line::failed(CHECK, wrong.told.join("; "), fix);
    }
    if wrong.told.is_empty() {
        let set = set.into_iter().map(|one| format!("; {one}")).collect::<String>();
        let count = admission::policies().len();
        return Line::ok(
            CHECK,
            format!("{count} policies, the same as in this program, each bound to Deny{set}"),
        );
    }
    let fix = wrong.fix();
    Line::failed(CHECK, wrong.told.join("; "), fix)
}

/// The name that the policy's begins with, if it is one of ours: other names are a release's of Helm, which keeps the label.
fn release(policy: &ValidatingAdmissionPolicy) -> Option<String> {
    let name = policy.name_any();
    let labels = policy.labels();
    let is_labelled = manifests::labels().iter().all(|(key, value)| labels.get(key) == Some(value));
    let ours = admission::policies();
    let mut ends = ours.iter().map(ResourceExt::name_any);
    let start = ends.find_map(|ours| name.strip_suffix(ours.strip_prefix(NAME)?).map(str::to_owned))?;
    (start == NAME || is_labelled && !start.is_empty()).then_some(start)
}

impl Wrong {
    fn policy(&mut self, name: &str, ours: &Meaning, theirs: &Meaning) {
        let differences = ours.differences(theirs);
        if differences.is_empty() {
            return;
        }
        self.other.insert(format!("validatingadmissionpolicy/{name}"));
        self.names_another_operator |= ours.parts.get(OPERATOR) != theirs.parts.get(OPERATOR);
        self.told.push(format!("{name}: {}", differences.join(", ")));
    }

    /// One binding that leaves nobody out is enough: no other one takes anything from it.
    fn bound(
        &mut self,
        name: &str,
        ours: &ValidatingAdmissionPolicyBindingSpec,
        bindings: &[ValidatingAdmissionPolicyBinding],
    ) {
        let ours = ValidatingAdmissionPolicyBindingSpec { policy_name: name.to_owned(), ..ours.clone() };
        let of_it = bindings.iter().filter(|one| one.spec.policy_name == name || one.name_any() == name);
        let ours = Meaning::of_binding(&ours);
        let judged: Vec<(String, Vec<String>)> =
            of_it.map(|one| (one.name_any(), ours.differences(&Meaning::of_binding(&one.spec)))).collect();
        if judged.is_empty() {
            self.told.push(format!("{name} is not bound"));
        }
        if judged.iter().any(|(_, differences)| differences.is_empty()) {
            return;
        }
        for (binding, differences) in judged {
            let binding = safe_text(&binding);
            self.other.insert(format!("validatingadmissionpolicybinding/{binding}"));
            self.told.push(format!("binding {binding}: {}", differences.join(", ")));
        }
    }

    fn fix(&self) -> String {
        if self.other.is_empty() {
            return format!("{INSTALL}; optional where nobody uses revocations.");
        }
        let other = self.other.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
        let elsewhere = match self.names_another_operator {
            true => "If the operator is in another namespace, name that with --lease-namespace. ",
            false => "",
        };
        format!(
            "{elsewhere}With the ecskms of the version that runs in the cluster: kubectl delete {other}, because what somebody has \
             added stays otherwise; then {INSTALL}."
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::line::Verdict;
    use super::*;
    use serde_json::{Value, json};

    /// As an API server keeps them: with all that it fills in.
    struct Kept {
        policies: Vec<Value>,
        bindings: Vec<Value>,
    }

    impl Kept {
        fn new() -> Kept {
            let mut policies: Vec<Value> = admission::policies().iter().map(manifests::to_json).collect();
            for policy in &mut policies {
                policy["metadata"]["uid"] = json!("1");
                policy["spec"]["matchConstraints"]["namespaceSelector"] = json!({});
                policy["spec"]["matchConstraints"]["objectSelector"] = json!({});
                policy["status"] = json!({"observedGeneration": 1, "typeChecking": {}});
            }
            let bindings = admission::bindings().iter().map(manifests::to_json).collect();
            Kept { policies, bindings }
        }

        /// Under the names of another release, in another namespace.
        fn renamed(&self) -> Kept {
            let renamed = |value: &Value| {
                let text = value
                    .to_string()
                    .replace(&admission::operator_user(), "system:serviceaccount:own:team-ecskms");
                serde_json::from_str(&text.replace("ecskms-revocation-", "team-ecskms-revocation-"))
                    .expect("JSON")
            };
            Kept {
                policies: self.policies.iter().map(renamed).collect(),
                bindings: self.bindings.iter().map(renamed).collect(),
            }
        }

        fn judged(&self, namespace: &str) -> Line {
            let policies: Vec<_> = self
                .policies
                .iter()
                .cloned()
                .map(|one| serde_json::from_value(one).expect("a policy"))
                .collect();
            let bindings: Vec<_> = self
                .bindings
                .iter()
                .cloned()
                .map(|one| serde_json::from_value(one).expect("a binding"))
                .collect();
            judged(&policies, &bindings, namespace, None)
        }
    }

    /// What is seen of the first policy and its binding after a change.
    #[track_caller]
    fn seen(change: impl FnOnce(&mut Value, &mut Value)) -> (Verdict, String) {
        let mut kept = Kept::new();
        change(&mut kept.policies[0]["spec"], &mut kept.bindings[0]["spec"]);
        let line = kept.judged("ecskms-system");
        if line.result == Verdict::Failed {
            let fix = line.fix.expect("a fix");
            assert!(fix.contains("/ecskms-revocation-changes, because"), "{fix}");
        }
        (line.result, line.seen)
    }

    #[test]
    fn what_an_api_server_fills_in_and_an_installer_sets_is_no_difference() {
        let line = Kept::new().judged("ecskms-system");
        assert_eq!((line.result, line.fix), (Verdict::Ok, None), "{}", line.seen);
        let (result, told) = seen(|policy, binding| {
            policy["variables"][0]["expression"] = json!("['system:serviceaccount:ci:argo']");
            policy["variables"][1]["expression"] = json!("2");
            policy["validations"].as_array_mut().expect("a list").reverse();
            policy["validations"][0]["message"] = json!("in other words");
            let constraints = &mut policy["matchConstraints"];
            constraints["resourceRules"][0]["operations"] = json!(["UPDATE", "CREATE"]);
            constraints["resourceRules"][0]["scope"] = json!("*");
            let constraints = constraints.as_object_mut().expect("an object");
            constraints.remove("matchPolicy");
            constraints.insert("excludeResourceRules".to_owned(), json!([]));
            policy.as_object_mut().expect("an object").remove("failurePolicy");
            binding["validationActions"] = json!(["Audit", "Deny"]);
            binding["matchResources"] = json!({"matchPolicy": "Equivalent", "namespaceSelector": {}, "objectSelector": {"matchLabels": {}}});
        });
        assert_eq!(result, Verdict::Ok, "{told}");
        assert!(told.contains("approvalsMin is 2") && told.contains("ci:argo"), "{told}");
    }

    type Change = fn(&mut Value, &mut Value);

    #[track_caller]
    fn are_told(cases: &[(Change, &str)]) {
        for (change, words) in cases {
            let (result, told) = seen(*change);
            assert_eq!(result, Verdict::Failed, "{words}");
            assert!(told.contains(words), "{words} is not in {told}");
            assert!(!told.contains("deletions"), "{told}");
        }
    }

    #[test]
    fn what_a_policy_sees_otherwise_or_not_is_named() {
        are_told(&[
            (|policy, _| policy["failurePolicy"] = json!("Ignore"), "failurePolicy is Ignore, not Fail"),
            (
                |policy, _| policy["matchConstraints"]["resourceRules"][0]["operations"] = json!(["CREATE"]),
                "matchConstraints.resourceRules is CREATE of ecskms.dev v1alpha1 keyrevocations, not CREATE, UPDATE",
            ),
            (
                |policy, _| policy["matchConstraints"]["resourceRules"][0]["resourceNames"] = json!(["a"]),
                "keyrevocations named a",
            ),
            (
                |policy, _| policy["matchConstraints"]["resourceRules"][0]["scope"] = json!("Namespaced"),
                "scope Namespaced",
            ),
            (
                |policy, _| policy["matchConstraints"]["matchPolicy"] = json!("Exact"),
                "matchPolicy is only in the cluster: Exact",
            ),
            (
                |policy, _| {
                    policy["matchConstraints"]["excludeResourceRules"] =
                        json!([{"resources": ["keyrevocations"]}])
                },
                "matchConstraints.excludeResourceRules is only in the cluster",
            ),
            (
                |policy, _| policy["matchConditions"] = json!([{"name": "never", "expression": "false"}]),
                "match condition never is only in the cluster: false",
            ),
            (
                |policy, _| policy["paramKind"] = json!({"apiVersion": "v1", "kind": "ConfigMap"}),
                "paramKind is only",
            ),
        ]);
    }

    #[test]
    fn what_a_policy_or_its_binding_lets_pass_is_named() {
        are_told(&[
            (
                |policy, _| policy["validations"][2]["expression"] = json!("true"),
                "the rule \"desiredState Revoked needs the verb revoke",
            ),
            (
                |policy, _| policy["validations"][2]["expression"] = json!("true"),
                "the rule true is only in the cluster",
            ),
            (
                |policy, _| policy["validations"][2]["reason"] = json!("Invalid"),
                "refuses with Invalid, not Forbidden",
            ),
            (
                |policy, _| policy["variables"][2]["expression"] = json!("true"),
                "variable isOperator is true, not request.userInfo.username == 'system:serviceaccount:ecskms-system:ecskms'",
            ),
            (
                |policy, _| drop(policy["variables"].as_array_mut().expect("a list").remove(1)),
                "variable approvalsMin is missing in the cluster",
            ),
            (
                |_, binding| binding["validationActions"] = json!(["Audit"]),
                "validationActions is Audit, not Audit, Deny",
            ),
            (
                |_, binding| binding["policyName"] = json!("other"),
                "policyName is other, not ecskms-revocation-changes",
            ),
            (
                |_, binding| {
                    binding["matchResources"] = json!({"objectSelector": {"matchLabels": {"no": "one"}}})
                },
                "binding ecskms-revocation-changes: matchResources.objectSelector is only in the cluster",
            ),
            (|_, binding| binding["paramRef"] = json!({"name": "a"}), "paramRef is only in the cluster"),
        ]);
    }

    #[test]
    fn another_release_has_names_of_its_own_and_two_refuse_each_other() {
        let renamed = Kept::new().renamed();
        let line = renamed.judged("own");
        assert_eq!(line.result, Verdict::Ok, "{}", line.seen);
        // Moved without its policies, which let nobody write status then.
        let moved = Kept::new().judged("own");
        let told = "'system:serviceaccount:ecskms-system:ecskms', not request.userInfo.username == 'system:serviceaccount:own:ecskms'";
        assert!(moved.seen.contains(told), "{}", moved.seen);
        let elsewhere = renamed.judged("ecskms-system");
        assert!(
            elsewhere.seen.contains("team-ecskms-revocation-status: variable isOperator is"),
            "{}",
            elsewhere.seen
        );
        assert!(elsewhere.fix.is_some_and(|fix| fix.contains("--lease-namespace")));
        let mut both = Kept::new();
        both.policies.extend(renamed.policies);
        both.bindings.extend(renamed.bindings);
        let line = both.judged("own");
        assert!(line.seen.contains("there are those of ecskms, team-ecskms"), "{}", line.seen);
        // Somebody else's, who has no label of ours.
        let mut foreign = Kept::new().renamed();
        foreign.policies.iter_mut().for_each(|policy| policy["metadata"]["labels"] = json!({}));
        assert_eq!(foreign.judged("own").result, Verdict::Skipped);
    }

    #[test]
    fn no_policy_is_a_choice_and_half_of_them_is_a_defect() {
        let none = Kept { policies: Vec::new(), bindings: Vec::new() };
        assert_eq!(none.judged("ecskms-system").result, Verdict::Skipped);
        let mut half = Kept::new();
        half.policies.remove(1);
        half.bindings.remove(2);
        let line = half.judged("ecskms-system");
        let told = "ecskms-revocation-deletions is not there; ecskms-revocation-status is not bound";
        assert_eq!((line.result, line.seen.as_str()), (Verdict::Failed, told));
        assert!(line.fix.is_some_and(|fix| fix.starts_with(INSTALL)));
        let mut twice = Kept::new();
        let mut narrow = twice.bindings[0].clone();
        narrow["metadata"]["name"] = json!("narrow");
        narrow["spec"]["validationActions"] = json!(["Warn"]);
        twice.bindings.push(narrow);
        assert_eq!(twice.judged("ecskms-system").result, Verdict::Ok, "one that leaves nobody out is enough");
    }
}
