//! The admission policies decide every case of `tests/vectors/admission.json` as it says, and none of their rules is
//! idle.
//!
//! Runs the shipped expressions with the CEL library of the embedded API server, and answers `authorizer` from the shipped
//! roles. `tests/clients/admission.py` puts the same cases to a real kube-apiserver, where there is one.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use ecskms::manifests::{self, admission, people};
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicySpec, Validation,
};
use k8s_openapi::api::rbac::v1::PolicyRule;
use kube_cel::KubeCelExt;
use kube_cel::cel::extractors::This;
use kube_cel::cel::{Context, Program, ResolveResult, Value as Cel, to_value};
use serde_json::{Map, Value, json};

use crate::files::root;

/// What is asked of the API server, as the policies see it.
struct Request {
    user: String,
    operation: &'static str,
    resource: &'static str,
    object: Value,
    old_object: Value,
    /// Verbs on revocations that RBAC gives the user.
    verbs: BTreeSet<String>,
}

struct Case {
    name: String,
    request: Request,
    /// `RBAC`, or words of the message of a rule that refuses.
    refused_by: Option<String>,
    /// Variables of the policies that this cluster sets otherwise.
    with: BTreeMap<String, String>,
}

#[test]
fn every_case_is_decided_as_written() {
    let policies = admission::policies();
    let cases = cases();
    assert!(cases.len() > 80, "only {} cases were read", cases.len());
    for case in &cases {
        let refusals = refusals(&policies, case);
        match &case.refused_by {
            None => assert!(refusals.is_empty(), "{}: refused: {refusals:?}", case.name),
            Some(words) => {
                let told = refusals.iter().any(|message| message.contains(words.as_str()));
                assert!(told, "{}: `{words}` is not in {refusals:?}", case.name);
            }
        }
    }
}

#[test]
fn a_policy_that_lacks_any_of_its_rules_decides_a_case_otherwise() {
    let cases = cases();
    let mut count = 0;
    for (index, policy) in admission::policies().iter().enumerate() {
        for rule in 0..spec(policy).validations.as_ref().map_or(0, Vec::len) {
            let mut policies = admission::policies();
            let removed = rules_mut(&mut policies[index]).remove(rule);
            assert!(differs(&policies, &cases), "no case needs the rule: {:?}", removed.message);
            count += 1;
        }
    }
    assert!(count >= 15, "only {count} rules were looked at");
}

#[test]
fn a_fact_that_is_always_true_or_always_false_decides_a_case_otherwise() {
    let cases = cases();
    for (index, policy) in admission::policies().iter().enumerate() {
        for (place, variable) in spec(policy).variables.iter().flatten().enumerate() {
            let is_fact = ["is", "may", "live"].iter().any(|start| variable.name.starts_with(start));
            for fixed in ["true", "false"].iter().filter(|_| is_fact) {
                let mut policies = admission::policies();
                let spec = policies[index].spec.as_mut().expect("a spec");
                spec.variables.as_mut().expect("variables")[place].expression = (*fixed).to_owned();
                assert!(differs(&policies, &cases), "{} may as well be {fixed}", variable.name);
            }
        }
    }
}

#[test]
fn the_policies_fail_closed_match_one_resource_and_are_bound() {
    let policies = admission::policies();
    let bindings = admission::bindings();
    for (policy, binding) in policies.iter().zip(&bindings) {
        let name = policy.metadata.name.clone().expect("a name");
        let bound = &binding.spec;
        assert_eq!(binding.metadata.name.as_deref(), Some(name.as_str()));
        assert_eq!((bound.policy_name.as_str(), &bound.match_resources), (name.as_str(), &None));
        assert_eq!(bound.validation_actions, ["Deny", "Audit"]);
        assert_eq!(spec(policy).failure_policy.as_deref(), Some("Fail"), "{name}");
        let rules = spec(policy).match_constraints.as_ref().and_then(|all| all.resource_rules.as_ref());
        let [rule] = rules.expect("rules").as_slice() else {
            unreachable!("{name} matches more than one thing")
        };
        let words =
            [&rule.api_groups, &rule.api_versions, &rule.resources].map(|list| list.as_ref().expect("said"));
        assert!(words.iter().all(|list| list.len() == 1 && !list[0].contains('*')), "{name}: {words:?}");
        for validation in spec(policy).validations.iter().flatten() {
            let message = validation.message.as_deref().unwrap_or_default();
            assert!(message.len() > 40 && !message.contains('\n'), "{name}: {message:?}");
            assert!(validation.expression.len() <= 5_000 && !validation.expression.contains("{{"), "{name}");
        }
    }
    assert_eq!(policies.len(), bindings.len());
}

#[test]
fn each_role_has_its_own_verb_and_nobody_gets_it_by_being_an_editor() {
    let special = ["revoke", "restore", "approve"];
    for role in people::revocation_roles() {
        let name = role.metadata.name.clone().expect("a name");
        let labels = role.metadata.labels.clone().unwrap_or_default();
        assert!(!labels.keys().any(|key| key.contains("aggregate-to")), "{name}");
        let verbs = verbs_on(role.rules.as_deref().unwrap_or_default(), admission::REVOCATIONS);
        let own: Vec<_> = special.iter().filter(|verb| verbs.contains(**verb)).collect();
        assert!(own.len() <= 1 && !verbs.contains("deletecollection"), "{name}: {verbs:?}");
        assert!(verbs.contains("list"), "{name}");
    }
    for role in [manifests::view_role(), manifests::edit_role()] {
        let verbs = verbs_on(role.rules.as_deref().unwrap_or_default(), admission::REVOCATIONS);
        assert_eq!(verbs, BTreeSet::new(), "{:?}", role.metadata.name);
    }
    let operator = manifests::operator_role();
    let verbs = verbs_on(operator.rules.as_deref().unwrap_or_default(), admission::REVOCATIONS);
    assert!(special.iter().all(|verb| !verbs.contains(*verb)), "{verbs:?}");
}

/// Whether these policies decide a case otherwise than the shipped ones should.
fn differs(policies: &[ValidatingAdmissionPolicy], cases: &[Case]) -> bool {
    cases.iter().any(|case| refusals(policies, case).is_empty() != case.refused_by.is_none())
}

/// Why the request is refused: `RBAC`, or the messages of the rules that do not hold.
fn refusals(policies: &[ValidatingAdmissionPolicy], case: &Case) -> Vec<String> {
    let request = &case.request;
    let (resource, _) = request.resource.split_once('/').unwrap_or((request.resource, ""));
    if resource == admission::REVOCATIONS && !request.verbs.contains("*") {
        let verb = match request.operation {
            "CREATE" => "create",
            "UPDATE" => "patch",
            _ => "delete",
        };
        if !request.verbs.contains(verb) {
            return vec!["RBAC".to_owned()];
        }
    }
    let seen = policies.iter().filter(|policy| matches(policy, request));
    seen.flat_map(|policy| refusals_of(spec(policy), case)).collect()
}

fn matches(policy: &ValidatingAdmissionPolicy, request: &Request) -> bool {
    let rules = spec(policy).match_constraints.iter().flat_map(|all| all.resource_rules.iter().flatten());
    let holds = |list: &Option<Vec<String>>, word: &str| list.iter().flatten().any(|entry| entry == word);
    let matched = rules
        .into_iter()
        .any(|rule| holds(&rule.operations, request.operation) && holds(&rule.resources, request.resource));
    let context = context(request);
    matched
        && spec(policy)
            .match_conditions
            .iter()
            .flatten()
            .all(|condition| holds_in(&context, &condition.expression))
}

fn refusals_of(spec: &ValidatingAdmissionPolicySpec, case: &Case) -> Vec<String> {
    let mut context = context(&case.request);
    let mut variables = BTreeMap::<String, Cel>::new();
    for variable in spec.variables.iter().flatten() {
        // A variable that cannot be told is an error for the rules that use it, and for no others.
        let expression = case.with.get(&variable.name).unwrap_or(&variable.expression);
        if let Ok(value) = compiled(expression).execute(&context) {
            variables.insert(variable.name.clone(), value);
        }
        context.add_variable_from_value("variables", Cel::from(as_map(&variables)));
    }
    let broken = spec.validations.iter().flatten().filter(|rule| !holds_in(&context, &rule.expression));
    broken.map(|rule| told(&context, rule)).collect()
}

/// An error counts as a refusal, because the policies fail closed.
fn holds_in(context: &Context, expression: &str) -> bool {
    matches!(compiled(expression).execute(context), Ok(Cel::Bool(true)))
}

/// Compiles an expression once for each thread: the cases are put to hundreds of variants of the policies.
fn compiled(expression: &str) -> Rc<Program> {
    thread_local!(static PROGRAMS: RefCell<BTreeMap<String, Rc<Program>>> = RefCell::default());
    PROGRAMS.with_borrow_mut(|programs| {
        let compile =
            || Program::compile(expression).unwrap_or_else(|error| unreachable!("{expression}: {error}"));
        programs.entry(expression.to_owned()).or_insert_with(|| Rc::new(compile())).clone()
    })
}

fn told(context: &Context, rule: &Validation) -> String {
    let Some(expression) = &rule.message_expression else { return rule.message.clone().unwrap_or_default() };
    match compiled(expression).execute(context) {
        Ok(Cel::String(text)) => text.to_string(),
        other => unreachable!("{expression}: {other:?}"),
    }
}

fn as_map(variables: &BTreeMap<String, Cel>) -> std::collections::HashMap<String, Cel> {
    variables.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// `object`, `oldObject`, `request` and `authorizer`.
fn context(request: &Request) -> Context<'static> {
    let mut context = Context::default().with_all();
    let value = |value: &Value| to_value(value).expect("JSON becomes a value");
    context.add_variable_from_value("object", value(&request.object));
    context.add_variable_from_value("oldObject", value(&request.old_object));
    let told = json!({"operation": request.operation, "userInfo": {"username": request.user}});
    context.add_variable_from_value("request", value(&told));
    // A question to the authorizer is the list of what was said about it so far.
    context.add_variable_from_value("authorizer", Cel::List(Arc::new(Vec::new())));
    for step in ["group", "resource", "name", "check"] {
        context.add_function(step, |This(this): This<Arc<Vec<Cel>>>, word: Arc<String>| -> ResolveResult {
            Ok(Cel::List(Arc::new(this.iter().cloned().chain([Cel::String(word)]).collect())))
        });
    }
    context.add_function("dyn", |value: Cel| -> ResolveResult { Ok(value) });
    let objects = [&request.object, &request.old_object];
    let name =
        objects.iter().find_map(|object| object.pointer("/metadata/name")?.as_str()).map(str::to_owned);
    let verbs = request.verbs.clone();
    context.add_function("allowed", move |This(this): This<Arc<Vec<Cel>>>| {
        let word = |place: usize| match this.get(place) {
            Some(Cel::String(text)) => text.to_string(),
            other => unreachable!("the authorizer was asked with {other:?}"),
        };
        let about = (word(0), word(1), Some(word(2)));
        assert_eq!(about, ("ecskms.dev".to_owned(), admission::REVOCATIONS.to_owned(), name.clone()));
        verbs.contains("*") || verbs.contains(&word(3))
    });
    context
}

fn spec(policy: &ValidatingAdmissionPolicy) -> &ValidatingAdmissionPolicySpec {
    policy.spec.as_ref().expect("a policy has a spec")
}

fn rules_mut(policy: &mut ValidatingAdmissionPolicy) -> &mut Vec<Validation> {
    policy.spec.as_mut().and_then(|spec| spec.validations.as_mut()).expect("a policy has rules")
}

fn cases() -> Vec<Case> {
    let text =
        std::fs::read_to_string(root().join("tests/vectors/admission.json")).expect("the cases are there");
    let file: Value = serde_json::from_str(&text).expect("they are JSON");
    let list = file["cases"].as_array().expect("a list of cases");
    list.iter().map(|entry| case(&file, entry)).collect()
}

fn case(file: &Value, entry: &Value) -> Case {
    let word = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
    let user = &file["users"][entry["user"].as_str().expect("a user")];
    let before = merged(&file["base"], &entry["before"]);
    let after = merged(&before, &entry["after"]);
    let status = format!("{}/status", admission::REVOCATIONS);
    let (operation, resource, object, old_object) = match entry["do"].as_str() {
        Some("create") => ("CREATE", admission::REVOCATIONS, after, Value::Null),
        Some("update") => ("UPDATE", admission::REVOCATIONS, after, before),
        Some("status") => ("UPDATE", "keyrevocations/status", after, before),
        Some("delete" | "deletecollection") => ("DELETE", admission::REVOCATIONS, Value::Null, before),
        Some("undefine") => ("DELETE", "customresourcedefinitions", Value::Null, before),
        other => unreachable!("{other:?}"),
    };
    let verbs = verbs_of(user, if resource == status { &status } else { admission::REVOCATIONS });
    let name = user["username"].as_str().map_or_else(|| word("user"), str::to_owned);
    let request = Request { user: name, operation, resource, object, old_object, verbs };
    let refused_by = entry["refusedBy"].as_str().map(str::to_owned);
    let with = entry["with"].as_object().into_iter().flatten();
    let with =
        with.map(|(name, text)| (name.clone(), text.as_str().unwrap_or_default().to_owned())).collect();
    Case { name: word("name"), request, refused_by, with }
}

/// What a user of the cases may do with a resource.
fn verbs_of(user: &Value, resource: &str) -> BTreeSet<String> {
    let mut verbs: BTreeSet<String> = user["verbs"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|verb| verb.as_str().map(str::to_owned))
        .collect();
    for name in user["roles"].as_array().into_iter().flatten() {
        let all = people::revocation_roles().into_iter().chain([manifests::operator_role()]);
        let role = all
            .into_iter()
            .find(|role| role.metadata.name.as_deref() == name.as_str())
            .expect("a shipped role");
        verbs.extend(verbs_on(role.rules.as_deref().unwrap_or_default(), resource));
    }
    verbs
}

fn verbs_on(rules: &[PolicyRule], resource: &str) -> BTreeSet<String> {
    let about = rules.iter().filter(|rule| rule.resources.iter().flatten().any(|name| name == resource));
    about.flat_map(|rule| rule.verbs.iter().cloned()).collect()
}

/// A JSON merge patch, as `kubectl patch --type merge` applies it.
fn merged(target: &Value, patch: &Value) -> Value {
    let Value::Object(changes) = patch else {
        return if patch.is_null() { target.clone() } else { patch.clone() };
    };
    let mut result = target.as_object().cloned().unwrap_or_else(Map::new);
    for (key, change) in changes {
        if change.is_null() {
            result.remove(key);
        } else {
            let merged = merged(result.get(key).unwrap_or(&Value::Null), change);
            result.insert(key.clone(), merged);
        }
    }
    Value::Object(result)
}
