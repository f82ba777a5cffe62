//! The admission policies of KeyRevocation as values: who may ask, approve, undo and forget.
//!
//! RBAC says who may write the object; it cannot say which change, or in whose name. These policies do, in the API
//! server itself, so that there is no webhook that could be away. `tests/vectors/admission.json` holds what they must
//! allow and refuse. They read only what the API server tells them: user, old object, new object, and RBAC's answer for
//! a verb.

use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, MatchResources, NamedRuleWithOperations, ValidatingAdmissionPolicy,
    ValidatingAdmissionPolicyBinding, ValidatingAdmissionPolicyBindingSpec, ValidatingAdmissionPolicySpec,
    Validation, Variable,
};

use super::{NAME, NAMESPACE, labels, metadata};
use crate::resource::GROUP;

/// Plural of the kind that the policies guard.
pub const REVOCATIONS: &str = "keyrevocations";
/// Annotation with which a record is given up on purpose while its key is cut; its value is the name of the object.
pub const ABANDON: &str = "ecskms.dev/abandon-record";
/// Variable that lists the ServiceAccounts that may act like a person.
pub const AUTOMATION: &str = "automation";
/// Variable that says how many approvals every order must ask for, so that no requester can choose to do without.
pub const APPROVALS_MIN: &str = "approvalsMin";

/// A drill that is longer, or that stops instances, is an outage like any other order.
const REHEARSAL_MINUTES_MAX: u32 = 15;
const FINALIZER: &str = "ecskms.dev/finalizer";

/// The policies; each has a binding of the same name.
pub fn policies() -> Vec<ValidatingAdmissionPolicy> {
    vec![changes(), deletions(), status(), definition()]
}

/// The bindings: a refusal is an error for the caller and an entry in the API server's audit log.
pub fn bindings() -> Vec<ValidatingAdmissionPolicyBinding> {
    let binding = |policy: ValidatingAdmissionPolicy| ValidatingAdmissionPolicyBinding {
        spec: ValidatingAdmissionPolicyBindingSpec {
            policy_name: policy.metadata.name.clone().unwrap_or_default(),
            validation_actions: vec!["Deny".to_owned(), "Audit".to_owned()],
            ..ValidatingAdmissionPolicyBindingSpec::default()
        },
        metadata: policy.metadata,
    };
    policies().into_iter().map(binding).collect()
}

/// The user name of the operator.
pub fn operator_user() -> String {
    format!("system:serviceaccount:{NAMESPACE}:{NAME}")
}

/// Creating and changing.
fn changes() -> ValidatingAdmissionPolicy {
    // What a cluster may set otherwise comes first: deploy/admission-options finds it by its place.
    let mut variables = vec![automation(), variable(APPROVALS_MIN, "0"), is_operator(), is_person()];
    variables.extend([
        may("revoke", "object"),
        may("restore", "object"),
        may("approve", "object"),
        variable("state", "has(object.spec.desiredState) ? object.spec.desiredState : 'Planned'"),
        variable(
            "stateBefore",
            "oldObject != null && has(oldObject.spec.desiredState) ? oldObject.spec.desiredState : 'Planned'",
        ),
        variable("approvals", "has(object.spec.approvals) ? object.spec.approvals : []"),
        variable(
            "approvalsBefore",
            "oldObject != null && has(oldObject.spec.approvals) ? oldObject.spec.approvals : []",
        ),
        variable("approvalsNew", "variables.approvals.filter(a, !(a in variables.approvalsBefore))"),
        variable("running", &running("object")),
        variable("runningBefore", &format!("oldObject == null ? 'Leave' : {}", running("oldObject"))),
        variable("digest", &digest("object")),
        variable("digestBefore", &format!("oldObject == null ? '' : {}", digest("oldObject"))),
        variable(
            "rehearsal",
            &format!(
                "has(object.spec.drill) && object.spec.drill.restoreAfterMinutes <= {REHEARSAL_MINUTES_MAX} && \
                 variables.running == 'Leave'"
            ),
        ),
        live(),
    ]);
    let validations = [requests(), approvals(), record()].concat();
    policy(
        "changes",
        resource_rule(GROUP, "v1alpha1", REVOCATIONS, &["CREATE", "UPDATE"]),
        variables,
        validations,
    )
}

/// Who asks, and for what.
fn requests() -> Vec<Validation> {
    vec![
        Validation {
            message_expression: Some(
                "'spec.requestedBy must be the user who creates the object: ' + request.userInfo.username"
                    .to_owned(),
            ),
            ..rule(
                "oldObject != null || has(object.spec.requestedBy) && \
                 object.spec.requestedBy == request.userInfo.username",
                "spec.requestedBy must be the user who creates the object; kubectl auth whoami tells the name",
            )
        },
        // Also for who restores what somebody else has ordered: a new object has nothing to restore.
        Validation {
            message_expression: Some(
                "'spec.requestedBy cannot change, whoever makes the change; leave it as it is: ' + \
                 (has(oldObject.spec.requestedBy) ? oldObject.spec.requestedBy : '(not there)')"
                    .to_owned(),
            ),
            ..rule(
                "oldObject == null || (has(object.spec.requestedBy) ? object.spec.requestedBy : '') == \
                 (has(oldObject.spec.requestedBy) ? oldObject.spec.requestedBy : '')",
                "spec.requestedBy cannot change, whoever makes the change; leave it as it is",
            )
        },
        rule(
            "variables.state != 'Revoked' || variables.stateBefore == 'Revoked' || variables.mayRevoke",
            "desiredState Revoked needs the verb revoke (ClusterRole ecskms-revocation-revoker); a ServiceAccount must \
             also be named in the variable automation of this policy; without it, apply desiredState Planned",
        ),
        rule(
            "variables.state != 'Restored' || variables.stateBefore == 'Restored' || variables.mayRestore",
            "desiredState Restored needs the verb restore (ClusterRole ecskms-revocation-restorer); a ServiceAccount \
             must also be named in the variable automation of this policy",
        ),
        // The end of a drill is a restoration that its order asked for. To what was recorded, it gives nothing that was not there;
        // to a declared state, it may enable a key that somebody else has disabled.
        rule(
            "variables.state != 'Revoked' || variables.stateBefore == 'Revoked' || !has(object.spec.drill) || \
             !has(object.spec.restoreTo) || object.spec.restoreTo != 'Enabled' || variables.mayRestore",
            "a drill that ends with restoreTo Enabled enables the key by itself, so ordering it needs the verb restore too \
             (ClusterRole ecskms-revocation-restorer); make a new KeyRevocation without spec.restoreTo, which returns the key \
             to the state that it finds",
        ),
        rule(
            "oldObject == null || dyn(object.spec).all(f, f in ['desiredState', 'approvals', 'requestedBy'] || \
             f in dyn(oldObject.spec) && dyn(object.spec)[f] == dyn(oldObject.spec)[f]) && dyn(oldObject.spec).all(f, \
             f in ['desiredState', 'approvals', 'requestedBy'] || f in dyn(object.spec)) || variables.mayRevoke",
            "changing how the key is cut needs the verb revoke (ClusterRole ecskms-revocation-revoker)",
        ),
        rule(
            "oldObject != null || !has(object.spec.safety) || !has(object.spec.safety.acknowledgedDigest) || \
             variables.mayRevoke",
            "acknowledging a blast radius (safety.acknowledgedDigest) needs the verb revoke (ClusterRole \
             ecskms-revocation-revoker)",
        ),
    ]
}

/// As many approvals are asked for as the cluster wants, but for short rehearsals. An approval is added by its approver, who is not
/// the requester, and stays as it is; so does what was approved.
fn approvals() -> Vec<Validation> {
    let exempt = format!(
        "only a drill of at most {REHEARSAL_MINUTES_MAX} minutes with runningInstances Leave needs none"
    );
    vec![
        Validation {
            message_expression: Some(format!(
                "'an order needs spec.approvalsRequired of at least ' + string(variables.approvalsMin) + ' in this \
                 cluster; make a new KeyRevocation; {exempt}'"
            )),
            ..rule(
                "variables.state != 'Revoked' || variables.rehearsal || variables.approvalsMin == 0 || \
                 has(object.spec.approvalsRequired) && object.spec.approvalsRequired >= variables.approvalsMin || \
                 variables.stateBefore == 'Revoked' && (!has(object.spec.drill) || variables.running == \
                 variables.runningBefore)",
                &format!(
                    "an order needs more approvals in this cluster (spec.approvalsRequired); make a new KeyRevocation; {exempt}"
                ),
            )
        },
        // A digest where there was none only holds the cut back more.
        rule(
            "size(variables.approvalsBefore) == 0 || variables.running == variables.runningBefore && \
             (variables.digest == variables.digestBefore || variables.digestBefore == '') || variables.mayApprove && \
             (!has(object.spec.requestedBy) || object.spec.requestedBy != request.userInfo.username)",
            "what was approved stays as it is: safety.acknowledgedDigest and runningInstances change only by somebody other \
             than the requester who has the verbs approve and revoke; otherwise make a new KeyRevocation and have it approved",
        ),
        rule(
            "variables.approvalsBefore.all(a, a in variables.approvals)",
            "an approval can be neither changed nor withdrawn; to stop a plan, leave it Planned",
        ),
        rule(
            "variables.approvalsNew.all(a, a.approver == request.userInfo.username)",
            "you can approve only in your own name; kubectl auth whoami tells it",
        ),
        rule(
            "variables.approvalsNew.all(a, !has(object.spec.requestedBy) || a.approver != object.spec.requestedBy)",
            "the requester cannot approve; somebody else with the verb approve must",
        ),
        rule(
            "size(variables.approvalsNew) == 0 || variables.mayApprove",
            "approving needs the verb approve (ClusterRole ecskms-revocation-approver); a ServiceAccount must also be \
             named in the variable automation of this policy",
        ),
    ]
}

/// The record outlives its key's cut.
fn record() -> Vec<Validation> {
    let holds = |object: &str| {
        format!("has({object}.metadata.finalizers) && '{FINALIZER}' in {object}.metadata.finalizers")
    };
    let note = |object: &str| {
        format!(
            "(has({object}.metadata.annotations) && '{ABANDON}' in {object}.metadata.annotations ? \
             {object}.metadata.annotations['{ABANDON}'] : '')"
        )
    };
    let owners = |object: &str| {
        format!("(has({object}.metadata.ownerReferences) ? {object}.metadata.ownerReferences : [])")
    };
    vec![
        rule(
            &format!(
                "oldObject == null || variables.isOperator || !variables.live || !({}) || {}",
                holds("oldObject"),
                holds("object")
            ),
            "while the key is cut, only the operator removes its finalizer: it writes the journal first; set \
             desiredState Restored instead",
        ),
        rule(
            &format!(
                "{} == (oldObject == null ? '' : {}) || variables.mayRestore",
                note("object"),
                note("oldObject")
            ),
            "giving up a record (annotation ecskms.dev/abandon-record) needs the verb restore (ClusterRole \
             ecskms-revocation-restorer)",
        ),
        // Whoever names an owner that does not exist has the garbage collector delete the record.
        rule(
            &format!(
                "{} == (oldObject == null ? [] : {}) || variables.mayRestore",
                owners("object"),
                owners("oldObject")
            ),
            "a record goes with its owners, so changing metadata.ownerReferences needs the verb restore (ClusterRole \
             ecskms-revocation-restorer)",
        ),
    ]
}

/// Deleting never undoes anything, so a record of a key that is cut stays, whoever deletes: person, pipeline, garbage
/// collector.
fn deletions() -> ValidatingAdmissionPolicy {
    let variables = vec![automation(), is_person(), may("restore", "oldObject"), live()];
    let validations = vec![
        rule(
            &format!(
                "!variables.live || has(oldObject.metadata.annotations) && '{ABANDON}' in \
                 oldObject.metadata.annotations && oldObject.metadata.annotations['{ABANDON}'] == \
                 oldObject.metadata.name"
            ),
            "the key is still cut, or machines that were stopped are not started yet, and deleting would leave it so: set \
             spec.desiredState to Restored, wait for condition Ready, then delete; to give up the record all the same, set \
             the annotation ecskms.dev/abandon-record to the name of the object first",
        ),
        rule(
            "!variables.live || variables.mayRestore",
            "giving up the record of a key that is still cut needs the verb restore (ClusterRole \
             ecskms-revocation-restorer); a ServiceAccount must also be named in the variable automation of this policy",
        ),
    ];
    policy("deletions", resource_rule(GROUP, "v1alpha1", REVOCATIONS, &["DELETE"]), variables, validations)
}

/// What was done and seen is told by the operator alone.
fn status() -> ValidatingAdmissionPolicy {
    let rules = resource_rule(GROUP, "v1alpha1", &format!("{REVOCATIONS}/status"), &["CREATE", "UPDATE"]);
    let validations = vec![rule(
        "variables.isOperator",
        "status is the operator's record; only its ServiceAccount may write it",
    )];
    policy("status", rules, vec![is_operator()], validations)
}

/// Deleting the definition deletes every record, past all policies about records.
fn definition() -> ValidatingAdmissionPolicy {
    let name = format!("{REVOCATIONS}.{GROUP}");
    let rules = resource_rule("apiextensions.k8s.io", "v1", "customresourcedefinitions", &["DELETE"]);
    let validations = vec![rule(
        &format!(
            "has(oldObject.metadata.annotations) && '{ABANDON}' in oldObject.metadata.annotations && \
             oldObject.metadata.annotations['{ABANDON}'] == '{name}'"
        ),
        "deleting this definition deletes every KeyRevocation and gives no key back: restore what is cut, then set the \
         annotation ecskms.dev/abandon-record to the name of the definition and delete again",
    )];
    let mut policy = policy("definition", rules, Vec::new(), validations);
    if let Some(spec) = &mut policy.spec {
        // Names in `resourceNames` are not seen when a whole collection is deleted.
        let expression = format!("oldObject.metadata.name == '{name}'");
        spec.match_conditions = Some(vec![MatchCondition { name: "key-revocations".to_owned(), expression }]);
    }
    policy
}

/// Nobody is named as shipped.
fn automation() -> Variable {
    variable(AUTOMATION, "[]")
}

/// A ServiceAccount counts as a person only where it is named. Controllers of pipelines often hold every verb there is, so
/// that a verb alone says nothing about them.
fn is_person() -> Variable {
    variable(
        "isPerson",
        "!request.userInfo.username.startsWith('system:serviceaccount:') || \
         request.userInfo.username in variables.automation",
    )
}

fn is_operator() -> Variable {
    variable("isOperator", &format!("request.userInfo.username == '{}'", operator_user()))
}

/// `mayRevoke` for `revoke`: the user is a person, and RBAC gives the verb on this object.
fn may(verb: &str, object: &str) -> Variable {
    let (first, rest) = verb.split_at(1);
    let name = format!("may{}{rest}", first.to_uppercase());
    let question = format!(
        "variables.isPerson && authorizer.group('{GROUP}').resource('{REVOCATIONS}')\
         .name({object}.metadata.name).check('{verb}').allowed()"
    );
    variable(&name, &question)
}

/// What is done to running instances; the schema's default where it was not filled in.
fn running(object: &str) -> String {
    format!("has({object}.spec.runningInstances) ? {object}.spec.runningInstances : 'Leave'")
}

/// The digest that was acknowledged, or nothing.
fn digest(object: &str) -> String {
    format!(
        "has({object}.spec.safety) && has({object}.spec.safety.acknowledgedDigest) ? \
         {object}.spec.safety.acknowledgedDigest : ''"
    )
}

/// The key is cut, or is about to be, or is on its way back, or machines that were stopped are. An order that was taken back before anything was recorded, or
/// that could not be carried out, is not live.
fn live() -> Variable {
    let live = "oldObject != null && has(oldObject.spec.desiredState) && oldObject.spec.desiredState != 'Planned' && \
                !(has(oldObject.status) && has(oldObject.status.phase) && oldObject.status.phase == 'Restored' && \
                (!has(oldObject.status.stops) || has(oldObject.status.stops.started) && oldObject.status.stops.started)) && \
                (oldObject.spec.desiredState == 'Revoked' || has(oldObject.status) && has(oldObject.status.priorState))";
    variable("live", live)
}

fn policy(
    name: &str,
    rules: NamedRuleWithOperations,
    variables: Vec<Variable>,
    validations: Vec<Validation>,
) -> ValidatingAdmissionPolicy {
    let constraints = MatchResources {
        match_policy: Some("Equivalent".to_owned()),
        resource_rules: Some(vec![rules]),
        ..MatchResources::default()
    };
    ValidatingAdmissionPolicy {
        metadata: metadata(&format!("{NAME}-revocation-{name}"), labels()),
        spec: Some(ValidatingAdmissionPolicySpec {
            failure_policy: Some("Fail".to_owned()),
            match_constraints: Some(constraints),
            validations: Some(validations),
            variables: Some(variables).filter(|list| !list.is_empty()),
            ..ValidatingAdmissionPolicySpec::default()
        }),
        ..ValidatingAdmissionPolicy::default()
    }
}

fn resource_rule(group: &str, version: &str, resource: &str, operations: &[&str]) -> NamedRuleWithOperations {
    let one = |text: &str| Some(vec![text.to_owned()]);
    NamedRuleWithOperations {
        api_groups: one(group),
        api_versions: one(version),
        operations: Some(operations.iter().map(|operation| (*operation).to_owned()).collect()),
        resources: one(resource),
        scope: Some("Cluster".to_owned()),
        ..NamedRuleWithOperations::default()
    }
}

fn variable(name: &str, expression: &str) -> Variable {
    Variable { name: name.to_owned(), expression: expression.to_owned() }
}

fn rule(expression: &str, message: &str) -> Validation {
    let message = Some(message.to_owned());
    let reason = Some("Forbidden".to_owned());
    Validation { expression: expression.to_owned(), message, message_expression: None, reason }
}
