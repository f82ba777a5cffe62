//! What a policy and a binding decide, as values that can be compared.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::admissionregistration::v1::{
    MatchResources, NamedRuleWithOperations, ValidatingAdmissionPolicyBindingSpec,
    ValidatingAdmissionPolicySpec, Variable,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde::Serialize;

use crate::alibaba::error::safe_text;
use crate::manifests::{self, admission};

/// An expression that is told is cut here.
const TOLD_MAX: usize = 100;
/// Stands for what the installer may set.
const SET: &str = "set by the installer";
/// The place of the variable that names the operator.
pub const OPERATOR: &str = "variable isOperator";

/// What an object decides: by place, and the rules by their expressions, since their order decides nothing.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Meaning {
    /// By place.
    pub parts: BTreeMap<String, String>,
    rules: BTreeMap<String, Rule>,
}

#[derive(Debug, PartialEq, Eq)]
struct Rule {
    /// What tells it from the others.
    told: String,
    reason: String,
}

impl Meaning {
    /// Of a policy.
    pub fn of_policy(spec: &ValidatingAdmissionPolicySpec) -> Meaning {
        let mut meaning = Meaning::default();
        meaning.put("failurePolicy", spec.failure_policy.clone().unwrap_or_else(|| "Fail".to_owned()));
        meaning.put_all("paramKind", spec.param_kind.as_ref());
        meaning.matching("matchConstraints", spec.match_constraints.as_ref());
        for condition in spec.match_conditions.iter().flatten() {
            meaning.put(&format!("match condition {}", condition.name), condition.expression.clone());
        }
        for variable in spec.variables.iter().flatten() {
            let expression = match is_installers(variable) {
                true => SET.to_owned(),
                false => variable.expression.clone(),
            };
            meaning.put(&format!("variable {}", variable.name), expression);
        }
        for rule in spec.validations.iter().flatten() {
            let told = rule.message.as_ref().unwrap_or(&rule.expression);
            let reason = rule.reason.clone().unwrap_or_else(|| "Invalid".to_owned());
            meaning.rules.insert(rule.expression.clone(), Rule { told: short(told), reason });
        }
        meaning
    }

    /// Of one of ours, where the operator has this user name.
    pub fn of_ours(spec: &ValidatingAdmissionPolicySpec, operator: &str) -> Meaning {
        let mut meaning = Meaning::of_policy(spec);
        for expression in meaning.parts.values_mut() {
            *expression = expression.replace(&admission::operator_user(), operator);
        }
        meaning
    }

    /// Of a binding.
    pub fn of_binding(spec: &ValidatingAdmissionPolicyBindingSpec) -> Meaning {
        let mut meaning = Meaning::default();
        meaning.put("policyName", spec.policy_name.clone());
        meaning.put("validationActions", sorted(Some(&spec.validation_actions)));
        meaning.put_all("paramRef", spec.param_ref.as_ref());
        meaning.matching("matchResources", spec.match_resources.as_ref());
        meaning
    }

    fn put(&mut self, place: &str, value: String) {
        self.parts.insert(place.to_owned(), value);
    }

    fn put_all(&mut self, place: &str, value: Option<&impl Serialize>) {
        value.into_iter().for_each(|value| self.put(place, manifests::to_json(value).to_string()));
    }

    /// Which requests are looked at. What is empty, or what an API server takes for granted, says nothing.
    fn matching(&mut self, place: &str, matching: Option<&MatchResources>) {
        let Some(matching) = matching else { return };
        if let Some(policy) = matching.match_policy.as_ref().filter(|policy| *policy != "Equivalent") {
            self.put(&format!("{place}.matchPolicy"), policy.clone());
        }
        let is_empty = |selector: &LabelSelector| {
            selector.match_labels.iter().flatten().next().is_none()
                && selector.match_expressions.iter().flatten().next().is_none()
        };
        let selectors = [
            ("namespaceSelector", &matching.namespace_selector),
            ("objectSelector", &matching.object_selector),
        ];
        for (field, selector) in selectors {
            let selector = selector.as_ref().filter(|selector| !is_empty(selector));
            self.put_all(&format!("{place}.{field}"), selector);
        }
        let lists = [
            ("resourceRules", &matching.resource_rules),
            ("excludeResourceRules", &matching.exclude_resource_rules),
        ];
        for (field, rules) in lists {
            let rules: BTreeSet<String> = rules.iter().flatten().map(requests).collect();
            if !rules.is_empty() {
                self.put(&format!("{place}.{field}"), rules.into_iter().collect::<Vec<_>>().join(" and "));
            }
        }
    }

    /// Where the two differ, each in words.
    pub fn differences(&self, theirs: &Meaning) -> Vec<String> {
        let places: BTreeSet<&String> = self.parts.keys().chain(theirs.parts.keys()).collect();
        let part = |place: &String| match (self.parts.get(place), theirs.parts.get(place)) {
            (Some(ours), Some(theirs)) if ours == theirs => None,
            (Some(ours), Some(theirs)) => {
                let not = Some(ours).filter(|ours| ours.chars().count() <= TOLD_MAX);
                let not = not.map(|ours| format!(", not {ours}")).unwrap_or_default();
                Some(format!("{} is {}{not}", short(place), short(theirs)))
            }
            (Some(_), None) => Some(format!("{place} is missing in the cluster")),
            (None, theirs) => {
                let theirs = theirs.map(|theirs| short(theirs)).unwrap_or_default();
                Some(format!("{} is only in the cluster: {theirs}", short(place)))
            }
        };
        let rules: BTreeSet<&String> = self.rules.keys().chain(theirs.rules.keys()).collect();
        let rule = |expression: &String| match (self.rules.get(expression), theirs.rules.get(expression)) {
            (Some(ours), Some(theirs)) if ours.reason == theirs.reason => None,
            (Some(ours), Some(theirs)) => Some(format!(
                "the rule \"{}\" refuses with {}, not {}",
                ours.told,
                short(&theirs.reason),
                ours.reason
            )),
            (Some(ours), None) => Some(format!("the rule \"{}\" is missing in the cluster", ours.told)),
            (None, _) => Some(format!("the rule {} is only in the cluster", short(expression))),
        };
        places.into_iter().filter_map(part).chain(rules.into_iter().filter_map(rule)).collect()
    }
}

/// For example `CREATE, UPDATE of ecskms.dev v1alpha1 keyrevocations`. The definition is the cluster's own, so that of the scopes only
/// one leaves it out.
fn requests(rule: &NamedRuleWithOperations) -> String {
    let names = match sorted(rule.resource_names.as_ref()) {
        names if names.is_empty() => names,
        names => format!(" named {names}"),
    };
    let scope = rule.scope.iter().filter(|scope| !["*", "Cluster"].contains(&scope.as_str()));
    let scope = scope.map(|scope| format!(", scope {scope}")).collect::<String>();
    let [operations, groups, versions, resources] =
        [&rule.operations, &rule.api_groups, &rule.api_versions, &rule.resources]
            .map(|list| sorted(list.as_ref()));
    format!("{operations} of {groups} {versions} {resources}{names}{scope}")
}

fn sorted(list: Option<&Vec<String>>) -> String {
    let list: BTreeSet<&str> = list.into_iter().flatten().map(String::as_str).collect();
    list.into_iter().collect::<Vec<_>>().join(", ")
}

/// Safe to show, and not longer than what is read.
fn short(text: &str) -> String {
    let text = safe_text(text);
    match text.chars().count() <= TOLD_MAX {
        true => text,
        false => text.chars().take(TOLD_MAX - 1).chain(['…']).collect(),
    }
}

fn is_installers(variable: &Variable) -> bool {
    [admission::AUTOMATION, admission::APPROVALS_MIN].contains(&variable.name.as_str())
}

/// What the installer has set, for example `approvalsMin is 0`.
pub fn settings(spec: &ValidatingAdmissionPolicySpec) -> Vec<String> {
    let set = spec.variables.iter().flatten().filter(|variable| is_installers(variable));
    set.map(|variable| format!("{} is {}", variable.name, safe_text(&variable.expression))).collect()
}
