//! The role of the ECS instance.

use super::*;

fn instance(role_name: Option<&str>, token_required: bool) -> Source {
    Source::EcsRamRole { role_name: role_name.map(str::to_owned), token_required }
}

const ROLES: &str = "/latest/meta-data/ram/security-credentials/";

/// A metadata service that knows one role and demands a token, or knows none.
fn metadata(knows_tokens: bool) -> impl Fn(&Asked) -> Answer + Send + Sync + 'static {
    let plain = |status: u16, body: &str| (status, body.to_owned(), Duration::from_millis(5));
    move |asked| match (asked.method.as_str(), asked.path.as_str()) {
        ("PUT", "/latest/api/token")
            if knows_tokens && asked.headers.contains_key("x-aliyun-ecs-metadata-token-ttl-seconds") =>
        {
            plain(200, "metadata-token")
        }
        ("PUT", _) => plain(404, ""),
        ("GET", _)
            if knows_tokens
                && asked
                    .headers
                    .get("x-aliyun-ecs-metadata-token")
                    .is_none_or(|token| token != "metadata-token") =>
        {
            plain(403, "")
        }
        ("GET", ROLES) => plain(200, "node-role\n"),
        ("GET", "/latest/meta-data/ram/security-credentials/node-role") => {
            let mut body = lent(7, 6 * HOUR);
            body["Code"] = "Success".into();
            soon(200, body)
        }
        ("GET", _) => plain(404, ""),
        _ => identity(),
    }
}

#[tokio::test(start_paused = true)]
async fn the_instance_role_is_read_with_a_token_and_without_one_only_where_tokens_are_unknown() {
    for (knows_tokens, required, role) in
        [(true, true, None), (true, false, Some("node-role")), (false, false, None)]
    {
        let script = Script::new(instance(role, required), metadata(knows_tokens));
        script.call().await.expect("an identity");
        let own = script.asked("GetCallerIdentity");
        assert_eq!(own[0].headers["x-acs-security-token"], "token-7");
        assert_eq!(
            script.asked(ROLES).len(),
            usize::from(role.is_none()),
            "a name that is given is not asked for"
        );
    }
    let strict = Script::new(instance(None, true), metadata(false));
    assert_eq!(strict.call().await.expect_err("no token").code, local::CREDENTIALS_REFUSED);
    assert!(strict.asked(ROLES).is_empty(), "nothing is read without a token");
    let other = Script::new(instance(Some("other"), false), metadata(true));
    let error = other.call().await.expect_err("no such role");
    assert!(error.message.contains("attach a RAM role"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_metadata_service_that_hangs_costs_one_second_for_all_who_ask() {
    for hanging in ["PUT", "GET"] {
        let script = Script::new(instance(None, false), move |asked| {
            if asked.method == hanging {
                (200, String::new(), TOTAL_TIMEOUT * 100)
            } else {
                metadata(true)(asked)
            }
        });
        let began = tokio::time::Instant::now();
        let all = futures::future::join_all((0..200).map(|_| script.call())).await;
        assert!(all.iter().all(|result| result.as_ref().is_err_and(|error| error.definite())));
        assert!(began.elapsed() <= metadata::TIMEOUT + Duration::from_millis(50), "{:?}", began.elapsed());
        assert!(
            all[0].as_ref().is_err_and(|error| error.message.contains("did not answer within 1s")
                || error.message.contains("no complete answer within 1s")),
            "{:?}",
            all[0]
        );
    }
}
