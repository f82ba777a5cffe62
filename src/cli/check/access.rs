//! RBAC: every right of the roles that `deploy` brings, asked of the API server one by one.

use futures::{StreamExt, stream};
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec, SubjectAccessReview,
    SubjectAccessReviewSpec, SubjectAccessReviewStatus,
};
use k8s_openapi::api::rbac::v1::PolicyRule;
use kube::api::PostParams;
use kube::{Api, Client};

use super::cluster::{Part, Trouble};
use super::line::Line;
use crate::alibaba::error::safe_text;
use crate::manifests;

/// Questions that are asked at the same time.
const AT_ONCE: usize = 8;
/// What brings all the roles, whichever way was used.
const FIX: &str = "kubectl apply --server-side -k deploy, or helm upgrade; both bring the roles and bind them to the operator's \
                   ServiceAccount.";

/// What helps a person who lacks a right: most often the operator is somebody else.
const FIX_PERSON: &str = "Where the operator runs as a ServiceAccount, ask for that: --as-service-account. To run it as this user, bind \
                          the roles of deploy/rbac.yaml to it.";

/// Whose rights are asked for.
enum Who {
    /// Whoever runs the command; the user's name, if the API server says it.
    Caller(Option<String>),
    /// A ServiceAccount: the user's name.
    Account(String),
}

/// One line for each role.
pub async fn lines(part: &Part<'_>, client: &Client) -> Vec<Line> {
    let namespace = part.args.lease_namespace.as_str();
    let who = match &part.args.as_service_account {
        Some(name) => Who::Account(format!("system:serviceaccount:{namespace}:{name}")),
        None => Who::Caller(caller(part, client).await),
    };
    let everywhere = manifests::operator_role();
    let own = [manifests::election_role(), manifests::credentials_role()];
    let mut roles = vec![(
        format!("rbac ClusterRole {}", everywhere.metadata.name.unwrap_or_default()),
        rights(everywhere.rules, None),
    )];
    for role in own {
        let name = role.metadata.name.unwrap_or_default();
        roles.push((format!("rbac Role {name}"), rights(role.rules, Some(namespace))));
    }
    let mut lines = Vec::new();
    for (check, rights) in roles {
        let answers = stream::iter(&rights)
            .map(|right| {
                let asked = review(client, &who, namespace, right);
                async move { (right, part.ask(asked).await) }
            })
            .buffered(AT_ONCE)
            .collect::<Vec<_>>()
            .await;
        lines.push(judged(check, &who, &answers));
    }
    lines
}

/// Whom the API server takes the caller for. Only told, so that a server without this question loses nothing.
async fn caller(part: &Part<'_>, client: &Client) -> Option<String> {
    let api: Api<SelfSubjectReview> = Api::all(client.clone());
    let review =
        part.ask(async { api.create(&PostParams::default(), &SelfSubjectReview::default()).await }).await;
    review.ok()?.status?.user_info?.username
}

/// The single rights of some rules.
fn rights(rules: Option<Vec<PolicyRule>>, namespace: Option<&str>) -> Vec<ResourceAttributes> {
    let mut rights = Vec::new();
    for rule in rules.unwrap_or_default() {
        let names = match rule.resource_names.unwrap_or_default() {
            names if names.is_empty() => vec![None],
            names => names.into_iter().map(Some).collect(),
        };
        for group in rule.api_groups.iter().flatten() {
            for plural in rule.resources.iter().flatten() {
                let (resource, subresource) = match plural.split_once('/') {
                    Some((resource, subresource)) => (resource, Some(subresource)),
                    None => (plural.as_str(), None),
                };
                for (verb, name) in
                    rule.verbs.iter().flat_map(|verb| names.iter().map(move |name| (verb, name)))
                {
                    rights.push(ResourceAttributes {
                        group: Some(group.clone()),
                        resource: Some(resource.to_owned()),
                        subresource: subresource.map(str::to_owned),
                        verb: Some(verb.clone()),
                        name: name.clone(),
                        namespace: namespace.map(str::to_owned),
                        ..ResourceAttributes::default()
                    });
                }
            }
        }
    }
    rights
}

async fn review(
    client: &Client,
    who: &Who,
    namespace: &str,
    right: &ResourceAttributes,
) -> kube::Result<Option<SubjectAccessReviewStatus>> {
    let resource_attributes = Some(right.clone());
    match who {
        Who::Caller(_) => {
            let spec = SelfSubjectAccessReviewSpec { resource_attributes, ..Default::default() };
            let asked = SelfSubjectAccessReview { spec, ..Default::default() };
            let api: Api<SelfSubjectAccessReview> = Api::all(client.clone());
            Ok(api.create(&PostParams::default(), &asked).await?.status)
        }
        Who::Account(user) => {
            // The groups that every ServiceAccount is in; roles may be bound to them.
            let groups = vec![
                "system:serviceaccounts".to_owned(),
                format!("system:serviceaccounts:{namespace}"),
                "system:authenticated".to_owned(),
            ];
            let (user, groups) = (Some(user.clone()), Some(groups));
            let spec = SubjectAccessReviewSpec { user, groups, resource_attributes, ..Default::default() };
            let asked = SubjectAccessReview { spec, ..Default::default() };
            let api: Api<SubjectAccessReview> = Api::all(client.clone());
            Ok(api.create(&PostParams::default(), &asked).await?.status)
        }
    }
}

type Answer<'a> = (&'a ResourceAttributes, Result<Option<SubjectAccessReviewStatus>, Trouble>);

fn judged(check: String, who: &Who, answers: &[Answer]) -> Line {
    let subject = match who {
        Who::Caller(Some(name)) => format!("you, {}", safe_text(name)),
        Who::Caller(None) => "you".to_owned(),
        Who::Account(name) => name.clone(),
    };
    let refused: Vec<String> = answers
        .iter()
        .filter(|(_, answer)| matches!(answer, Ok(Some(status)) if !status.allowed))
        .map(|(right, _)| words(right))
        .collect();
    if !refused.is_empty() {
        let seen =
            format!("{subject} may not {} ({} of {})", refused.join(", "), refused.len(), answers.len());
        return Line::failed(check, seen, if is_person(who) { FIX_PERSON } else { FIX });
    }
    let asks = match who {
        Who::Caller(_) => "create selfsubjectaccessreviews.authorization.k8s.io",
        Who::Account(_) => "create subjectaccessreviews.authorization.k8s.io",
    };
    for (_, answer) in answers {
        match answer {
            Err(trouble) => return trouble.line(check, asks),
            Ok(None) => return Trouble::Silent("an answer without a status".to_owned()).line(check, asks),
            Ok(Some(_)) => {}
        }
    }
    let other = match is_person(who) {
        true => "; --as-service-account asks for the operator's ServiceAccount",
        false => "",
    };
    Line::ok(check, format!("{subject} may do all {} things{other}", answers.len()))
}

/// True unless the API server says, or was told, that it is a ServiceAccount, as the operator in its pod.
fn is_person(who: &Who) -> bool {
    match who {
        Who::Caller(name) => !name.as_ref().is_some_and(|name| name.starts_with("system:serviceaccount:")),
        Who::Account(_) => false,
    }
}

/// For example `patch ecskms.dev/encrypteddisks/status`.
fn words(right: &ResourceAttributes) -> String {
    let text = |part: &Option<String>| part.clone().unwrap_or_default();
    let group = right
        .group
        .iter()
        .filter(|group| !group.is_empty())
        .map(|group| format!("{group}/"))
        .collect::<String>();
    let subresource = right.subresource.iter().map(|name| format!("/{name}")).collect::<String>();
    let name = right.name.iter().map(|name| format!(" {name}")).collect::<String>();
    format!("{} {group}{}{subresource}{name}", text(&right.verb), text(&right.resource))
}

#[cfg(test)]
mod tests {
    use super::super::line::Verdict;
    use super::*;

    fn answer(allowed: bool) -> Result<Option<SubjectAccessReviewStatus>, Trouble> {
        Ok(Some(SubjectAccessReviewStatus { allowed, ..Default::default() }))
    }

    #[test]
    fn the_rights_are_those_of_the_shipped_roles_each_once() {
        let all = rights(manifests::operator_role().rules, None);
        let told: std::collections::BTreeSet<String> = all.iter().map(words).collect();
        assert_eq!(told.len(), all.len());
        for right in
            ["get namespaces", "patch ecskms.dev/encrypteddisks/status", "create events.k8s.io/events"]
        {
            assert!(told.contains(right), "{right}: {told:?}");
        }
        let own = rights(manifests::election_role().rules, Some("a"));
        assert!(own.iter().all(|right| right.namespace.as_deref() == Some("a")));
        assert!(own.iter().any(|right| words(right) == "update coordination.k8s.io/leases ecskms-leader"));
    }

    #[test]
    fn one_refusal_fails_and_one_missing_answer_leaves_it_open() {
        let right =
            ResourceAttributes { verb: Some("get".into()), resource: Some("a".into()), ..Default::default() };
        let judge = |answers: Vec<_>| {
            let answers: Vec<Answer> = answers.into_iter().map(|answer| (&right, answer)).collect();
            judged("c".into(), &Who::Caller(None), &answers)
        };
        let silent = || Err(Trouble::Silent("nothing".into()));
        assert_eq!(judge(vec![answer(true), answer(true)]).result, Verdict::Ok);
        assert_eq!(judge(vec![answer(true), silent()]).result, Verdict::Unknown);
        assert_eq!(judge(vec![answer(true), Ok(None)]).result, Verdict::Unknown);
        let failed = judge(vec![silent(), answer(false), answer(true)]);
        assert_eq!(failed.result, Verdict::Failed);
        assert!(failed.seen.contains("you may not get a (1 of 3)"), "{}", failed.seen);
        assert_eq!(failed.fix.as_deref(), Some(FIX_PERSON));
        let pod = Who::Caller(Some("system:serviceaccount:a:b".into()));
        let refused = judged("c".into(), &pod, &[(&right, answer(false))]);
        assert_eq!(refused.fix.as_deref(), Some(FIX), "the operator itself, in its pod");
    }
}
