//! The cloud's part: credentials, identity, clock, the role of ECS, reads, keys. It works without any cluster.

use std::future::Future;

use futures::future::join_all;

use super::line::{CLOCK, CREDENTIALS, Line, is_clock};
use super::{Args, Asking};
use crate::alibaba::error::{local, safe_text};
use crate::alibaba::kms::SERVICE_KEY;
use crate::alibaba::probe::{Page, Read};
use crate::alibaba::ram::{ECS_ROLE_NAME, ECS_ROLE_POLICY, ecs_trust_policy};
use crate::alibaba::{Class, Cloud, EcsRole, Error, Identity, Key, Source};
use crate::decision::Reason;
use crate::kind::key::{key_obstacle, role_obstacle};

/// How far a clock may be off before the cloud refuses a signature (page "Request syntax and signature method V3").
const CLOCK_MINUTES: u32 = 15;

/// What became of one question for a key.
type KeyAnswer = Result<Option<Key>, Error>;

/// Every check that needs no cluster.
pub async fn lines(args: &Args, cloud: &Cloud, asking: &Asking) -> Vec<Line> {
    let part = Part { args, cloud, asking };
    let (line, signs_in) = part.credentials().await;
    let mut lines = vec![line];
    if !signs_in {
        let fix = "Mend the credentials first.";
        return lines.into_iter().chain([not_asked("nothing signs in", fix)]).collect();
    }
    let identity = part.ask("GetCallerIdentity", cloud.caller_identity()).await;
    lines.extend([who(&identity), clock(&identity)]);
    // Nobody else would accept them either. An STS that is out of reach says nothing of the others.
    if let Some(error) = identity.err().filter(|error| error.class == Class::Credentials) {
        lines.push(match is_clock(&error) {
            true => not_asked("the cloud does not accept this machine's date", "Set the clock first."),
            false => not_asked("the cloud does not accept the credentials", "Mend the credentials first."),
        });
        return lines;
    }
    let regions = join_all(args.regions.iter().map(|region| part.region(region)));
    let (role, regions) = tokio::join!(part.ask("GetRole", cloud.ecs_role()), regions);
    lines.push(ecs_role(&role));
    if regions.is_empty() {
        let seen = "no region was named, so neither ECS nor KMS was asked";
        lines.push(Line::unknown(
            "regions",
            seen,
            "Give --region, for example --region cn-hangzhou, or set ECSKMS_REGION.",
        ));
    }
    let mut keys = Vec::new();
    for (region, (reads, answers)) in args.regions.iter().zip(regions) {
        lines.extend(reads);
        keys.push((region.as_str(), answers));
    }
    for (position, key) in args.keys.iter().enumerate() {
        let answers = keys.iter().filter_map(|(region, answers)| Some((*region, answers.get(position)?)));
        lines.extend(key_lines(key, &answers.collect::<Vec<_>>()));
    }
    let seen = "cannot be tried without changing something; deploy/ram/policy.json grants them";
    lines.push(Line::skipped("ram write actions", seen));
    lines
}

fn not_asked(why: &str, fix: &str) -> Line {
    Line::unknown("ecs role, reads and keys", format!("not asked: {why}"), fix)
}

struct Part<'a> {
    args: &'a Args,
    cloud: &'a Cloud,
    asking: &'a Asking,
}

impl Part<'_> {
    async fn ask<T>(
        &self,
        action: &'static str,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let limit = self.asking.limit;
        let answer = tokio::time::timeout(limit, call).await.unwrap_or_else(|_| {
            Err(Error::local(None, action, local::TIMEOUT, &format!("no answer within {limit:?}")))
        });
        self.asking.progress.inc(1);
        answer
    }

    async fn credentials(&self) -> (Line, bool) {
        const CHECK: &str = "credentials";
        let failed = |seen: String, error: &Error| {
            let fix = if is_clock(error) { CLOCK } else { CREDENTIALS };
            let request_id = error.request_id.as_deref().map(str::to_owned);
            (Line { request_id, ..Line::failed(CHECK, seen, fix) }, false)
        };
        let way = match Source::configured() {
            Ok(way) => safe_text(&way),
            Err(error) => return failed(error.message.to_string(), &error),
        };
        match self.ask("Credentials", self.cloud.sign_in()).await {
            Ok(None) => (Line::ok(CHECK, way), true),
            Ok(Some(end)) => (Line::ok(CHECK, format!("{way}, lent until {end}")), true),
            Err(error) => failed(format!("{way}: {}", error.message), &error),
        }
    }

    /// What a region reads, and what became of the keys in it.
    async fn region(&self, region: &str) -> (Vec<Line>, Vec<KeyAnswer>) {
        let probes = Read::ALL.map(|read| self.ask(read.action(), self.cloud.probe(region, read)));
        let service = [SERVICE_KEY.to_owned()];
        let keys = if self.args.keys.is_empty() { &service[..] } else { &self.args.keys[..] };
        let describe = keys.iter().map(|key| self.ask("DescribeKey", self.cloud.key(region, key)));
        let (pages, answers) = tokio::join!(join_all(probes), join_all(describe));
        // A key of another region says nothing of this one; the service key is in every region that has used it.
        let says_nothing = answers.iter().all(|answer| matches!(answer, Ok(None)));
        let service_key = match says_nothing && !keys.iter().any(|key| key == SERVICE_KEY) {
            true => Some(self.ask("DescribeKey", self.cloud.key(region, SERVICE_KEY)).await),
            false => None,
        };
        let pages: Vec<(Read, Result<Page, Error>)> = Read::ALL.into_iter().zip(pages).collect();
        let mut lines: Vec<Line> = match out_of_reach(&pages) {
            Some(error) => vec![Line::of_error(format!("ecs reads {region}"), error)],
            None => pages.iter().map(|(read, page)| of_read(region, *read, page, &pages)).collect(),
        };
        lines.push(of_kms(region, keys, answers.iter().chain(&service_key)));
        (lines, answers)
    }
}

fn who(identity: &Result<Identity, Error>) -> Line {
    const CHECK: &str = "identity";
    match identity {
        Err(error) => Line::of_error(CHECK, error),
        Ok(identity) => {
            let seen = safe_text(&format!("account {}, {}", identity.account_id, identity.arn));
            // Whoever holds the account itself is limited by no policy, so that nothing here says what the operator may.
            let root = identity.identity_type == "Account" || identity.arn.ends_with(":root");
            let told = match root {
                true => format!(
                    "{seen}: the account itself, which may do everything; the operator needs a RAM user or role only"
                ),
                false => seen,
            };
            Line::ok(CHECK, told)
        }
    }
}

/// The cloud tells the time by what it refuses: a signature whose date is too far from its own.
fn clock(identity: &Result<Identity, Error>) -> Line {
    const CHECK: &str = "clock";
    match identity {
        Ok(_) => Line::ok(
            CHECK,
            format!("within {CLOCK_MINUTES} minutes of the cloud's, which accepted a signature"),
        ),
        Err(error) if is_clock(error) => {
            let seen = format!("more than {CLOCK_MINUTES} minutes from the cloud's ({})", error.code);
            Line::failed(CHECK, seen, CLOCK)
        }
        // Who may do what is asked after the signature and its date.
        Err(error) if error.class == Class::Denied => Line::ok(
            CHECK,
            format!(
                "within {CLOCK_MINUTES} minutes of the cloud's, which accepted a signature, though not the call"
            ),
        ),
        Err(error) => {
            let seen = format!("not known: the identity was not told ({})", error.code);
            Line::unknown(CHECK, seen, "Mend the identity first.")
        }
    }
}

fn ecs_role(role: &Result<EcsRole, Error>) -> Line {
    const CHECK: &str = "ecs role";
    let role = match role {
        Ok(role) => role,
        Err(error) => return Line::of_error(CHECK, error),
    };
    let attach = format!(
        "aliyun ram AttachPolicyToRole --PolicyType System --PolicyName {ECS_ROLE_POLICY} --RoleName {ECS_ROLE_NAME}"
    );
    match role_obstacle(role) {
        None => Line::ok(CHECK, format!("{ECS_ROLE_NAME} trusts ECS and has {ECS_ROLE_POLICY}")),
        Some(Reason::EcsRoleForeign) => Line::failed(
            CHECK,
            format!("{ECS_ROLE_NAME} does not trust ECS, so no customer key can be used"),
            format!("Give the role this trust policy: {}", ecs_trust_policy()),
        ),
        Some(_) if role.exists => Line::failed(
            CHECK,
            format!("{ECS_ROLE_NAME} lacks {ECS_ROLE_POLICY}, so no customer key can be used"),
            attach,
        ),
        Some(_) => Line::failed(
            CHECK,
            format!("there is no role {ECS_ROLE_NAME}, so no customer key can be used; the service key can"),
            format!(
                "aliyun ram CreateRole --RoleName {ECS_ROLE_NAME} --AssumeRolePolicyDocument '{}' && {attach}",
                ecs_trust_policy()
            ),
        ),
    }
}

/// The failure that all of them share, where there was nobody to ask: one cause needs one line.
fn out_of_reach(pages: &[(Read, Result<Page, Error>)]) -> Option<&Error> {
    let error = pages.first()?.1.as_ref().err().filter(|error| error.http_status.is_none())?;
    let same = |page: &Result<Page, Error>| page.as_ref().is_err_and(|other| other.code == error.code);
    pages.iter().all(|(_, page)| same(page)).then_some(error)
}

fn of_read(
    region: &str,
    read: Read,
    page: &Result<Page, Error>,
    all: &[(Read, Result<Page, Error>)],
) -> Line {
    let check = format!("ecs:{} {region}", read.action());
    let page = match page {
        Ok(page) => page,
        Err(error) => return Line::of_error(check, error),
    };
    match read {
        _ if page.unavailable => {
            Line::ok(check, "the region does not have this action, and the operator does without")
        }
        Read::Instances if page.items == 0 => no_instance(check, all),
        _ => Line::ok(check, "may be called"),
    }
}

/// The cloud shows an empty list to whoever may not see instances, so an empty list alone says nothing.
fn no_instance(check: String, all: &[(Read, Result<Page, Error>)]) -> Line {
    let disks = all.iter().find(|(read, _)| *read == Read::Disks).map(|(_, page)| page);
    match disks {
        Some(Ok(Page { instance: Some(instance), .. })) => Line::failed(
            check,
            format!(
                "no instance is shown, although a disk is attached to {}: the permission is missing",
                safe_text(instance)
            ),
            "Allow the RAM action ecs:DescribeInstances: attach deploy/ram/policy.json to this identity (README, Permissions).",
        ),
        _ => Line::unknown(
            check,
            "no instance is shown, which is also what the cloud shows to whoever may not see any",
            "See in the console whether the region has instances, and that ecs:DescribeInstances is allowed (deploy/ram/policy.json).",
        ),
    }
}

fn of_kms<'a>(
    region: &str,
    keys: &[String],
    mut answers: impl Iterator<Item = &'a KeyAnswer> + Clone,
) -> Line {
    let check = format!("kms:DescribeKey {region}");
    if let Some(error) = answers.clone().find_map(|answer| answer.as_ref().err()) {
        return Line::of_error(check, error);
    }
    if answers.any(|answer| matches!(answer, Ok(Some(_)))) {
        return Line::ok(check, "may be called; KMS is activated");
    }
    let seen = format!(
        "KMS answers that it does not know {}; whether keys may be read is not known",
        keys.join(", ")
    );
    Line::unknown(check, seen, "Give --key with the id or alias of a key of this region.")
}

/// An id belongs to one region, so that it need not be in the others that were named; an alias may be in each.
fn key_lines(key: &str, answers: &[(&str, &KeyAnswer)]) -> Vec<Line> {
    let somewhere = answers.iter().any(|(_, answer)| matches!(answer, Ok(Some(_))));
    let elsewhere =
        |answer: &KeyAnswer| somewhere && !key.starts_with("alias/") && matches!(answer, Ok(None));
    let told = answers.iter().filter(|(_, answer)| !elsewhere(answer));
    told.map(|(region, answer)| of_key(key, region, answer)).collect()
}

fn of_key(key: &str, region: &str, answer: &KeyAnswer) -> Line {
    let check = format!("key {key} {region}");
    let found = match answer {
        Err(error) => return Line::of_error(check, error),
        Ok(None) if key == SERVICE_KEY => {
            return Line::ok(check, "not there yet: the cloud makes the service key with its first use");
        }
        Ok(None) => {
            let fix =
                "Check the id or alias, and the region: a key and what it encrypts must share a region.";
            return Line::failed(check, "there is no such key in the region", fix);
        }
        Ok(Some(found)) => found,
    };
    let id = safe_text(&found.id);
    let sort = match found.is_service_key {
        true => "the service key, which can never be revoked",
        false => "a customer key",
    };
    let Some(reason) = key_obstacle(found) else {
        return Line::ok(check, format!("{id}, enabled, {}, {sort}", safe_text(&found.spec)));
    };
    let seen = format!("{id}, {sort}: {reason}. {}", reason.explanation());
    let fix = match reason {
        Reason::KeyDisabled => format!(
            "If no revocation holds it (kubectl get keyrevocations), enable it: aliyun kms EnableKey --region {region} --KeyId {id}"
        ),
        Reason::KeyPendingDeletion => {
            format!("Before its date: aliyun kms CancelKeyDeletion --region {region} --KeyId {id}")
        }
        Reason::KeyPendingImport => {
            "Import its key material in the console of Key Management Service.".to_owned()
        }
        Reason::KeySpecUnsupported => format!(
            "Choose a symmetric key, of the spec Aliyun_AES_256 or Aliyun_SM4; this one is {}.",
            safe_text(&found.spec)
        ),
        _ => {
            return Line::unknown(check, seen, "Look at the key in the console of Key Management Service.");
        }
    };
    Line::failed(check, seen, fix)
}

#[cfg(test)]
mod tests {
    use super::super::line::Verdict;
    use super::*;
    use crate::alibaba::KeyState;

    fn pages(disks: Page) -> Vec<(Read, Result<Page, Error>)> {
        vec![(Read::Disks, Ok(disks)), (Read::Instances, Ok(Page::default()))]
    }

    #[test]
    fn an_empty_list_of_instances_never_passes() {
        let judge = |disks| {
            let all = pages(disks);
            of_read("cn-a", Read::Instances, &Ok(Page::default()), &all).result
        };
        assert_eq!(judge(Page::default()), Verdict::Unknown);
        assert_eq!(
            judge(Page { items: 1, instance: Some("i-1".into()), unavailable: false }),
            Verdict::Failed
        );
        let some = Page { items: 1, ..Page::default() };
        assert_eq!(of_read("cn-a", Read::Instances, &Ok(some), &pages(Page::default())).result, Verdict::Ok);
    }

    #[test]
    fn whoever_is_refused_by_name_has_shown_a_date_that_is_accepted() {
        let judge = |class, code: &str| {
            let error = Error::local(None, "GetCallerIdentity", local::TIMEOUT, "text");
            clock(&Err(Error { class, code: code.to_owned(), ..error })).result
        };
        assert_eq!(judge(Class::Denied, "NoPermission"), Verdict::Ok);
        assert_eq!(judge(Class::Credentials, "InvalidTimeStamp.Expired"), Verdict::Failed);
        assert_eq!(judge(Class::Credentials, "SignatureDoesNotMatch"), Verdict::Unknown);
        assert_eq!(judge(Class::Transient, local::TIMEOUT), Verdict::Unknown);
    }

    #[test]
    fn an_endpoint_that_is_out_of_reach_is_told_once_and_a_refusal_with_its_action() {
        let failed = |code| Err(Error::local(None, "DescribeDisks", code, "text"));
        let both = |second| vec![(Read::Disks, failed(local::TIMEOUT)), (Read::Images, second)];
        assert!(out_of_reach(&both(failed(local::TIMEOUT))).is_some());
        assert!(out_of_reach(&both(failed(local::CONNECTION))).is_none());
        assert!(out_of_reach(&both(Ok(Page::default()))).is_none());
    }

    fn found(state: KeyState, spec: &str) -> KeyAnswer {
        Ok(Some(Key {
            id: "key-1".into(),
            arn: String::new(),
            state,
            spec: spec.into(),
            usage: String::new(),
            creator: "1".into(),
            origin: String::new(),
            deletion_date: None,
            is_service_key: false,
        }))
    }

    #[test]
    fn a_key_passes_only_where_it_is_enabled_and_symmetric() {
        let good = "Aliyun_AES_256";
        for (answer, verdict) in [
            (found(KeyState::Enabled, good), Verdict::Ok),
            (found(KeyState::Enabled, "RSA_2048"), Verdict::Failed),
            (found(KeyState::Disabled, good), Verdict::Failed),
            (found(KeyState::PendingDeletion, good), Verdict::Failed),
            (found(KeyState::PendingImport, good), Verdict::Failed),
            (found(KeyState::Unknown("Napping".into()), good), Verdict::Unknown),
            (Ok(None), Verdict::Failed),
        ] {
            assert_eq!(of_key("key-1", "cn-a", &answer).result, verdict, "{answer:?}");
        }
    }

    #[test]
    fn an_id_must_be_in_one_of_the_regions_and_an_alias_in_each() {
        let (here, none) = (found(KeyState::Enabled, "Aliyun_AES_256"), Ok(None));
        let verdicts = |key: &str, answers: &[(&str, &KeyAnswer)]| {
            key_lines(key, answers).into_iter().map(|line| line.result).collect::<Vec<_>>()
        };
        let one = [("cn-a", &none), ("cn-b", &here)];
        assert_eq!(verdicts("key-1", &one), [Verdict::Ok]);
        assert_eq!(verdicts("alias/a", &one), [Verdict::Failed, Verdict::Ok]);
        assert_eq!(verdicts("key-1", &[("cn-a", &none)]), [Verdict::Failed]);
    }

    #[test]
    fn a_kms_that_knows_no_key_says_nothing_of_the_permission() {
        let keys = [SERVICE_KEY.to_owned()];
        let judge = |answers: &[KeyAnswer]| of_kms("cn-a", &keys, answers.iter()).result;
        assert_eq!(judge(&[Ok(None)]), Verdict::Unknown);
        assert_eq!(judge(&[found(KeyState::Disabled, "")]), Verdict::Ok);
        assert_eq!(judge(&[Ok(None), found(KeyState::Enabled, "")]), Verdict::Ok, "the service key tells it");
    }
}
