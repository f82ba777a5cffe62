//! Whose account it is. A key's id belongs to one account only, but a role of the same name is in every account: whatever the
//! credentials of the moment belong to would lose it, or be told that it has it back.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use super::{NOT_YET, may_have_acted, wrong};
use crate::alibaba::Cloud;
use crate::cli::output;
use crate::kinds::KeyRevocation;
use crate::kinds::key_revocation::api::Method;

/// The account of the credentials. None if STS does not say it and the key's id is enough.
pub async fn ask(cloud: &Cloud, method: Method) -> Result<Option<String>, ExitCode> {
    let patience = match method {
        // A cut does not wait for what it does not need.
        Method::DisableKey => Duration::from_secs(2),
        Method::DetachEcsRole => Duration::from_secs(15),
    };
    let why = match tokio::time::timeout(patience, cloud.account_id()).await {
        Ok(Ok(id)) => return Ok(Some(id)),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("STS did not answer within {} seconds", patience.as_secs()),
    };
    if method == Method::DisableKey {
        return Ok(None);
    }
    let next = "DetachEcsRole hits whatever account the credentials belong to, so nothing was done. Check the credentials and the \
                way to STS, and run this command again.";
    let _ = output::fail("it is not known whose account this is", &why, next);
    Err(ExitCode::from(NOT_YET))
}

/// Binds the record to the account, or says that it is bound to another one.
pub fn bind(object: &mut KeyRevocation, account: Option<&str>, path: &Path) -> Result<(), ExitCode> {
    let is_bound = may_have_acted(object);
    let Some(account) = account else { return Ok(()) };
    let shared = &mut object.status.get_or_insert_default().shared;
    match shared.account_id.as_deref() {
        Some(recorded) if recorded != account && is_bound => Err(wrong(
            &format!("the record {} cannot be used", path.display()),
            &format_args!("it is of account {recorded}, and these credentials belong to account {account}"),
            "Nothing was done. Use credentials of that account, or name another file with --record.",
        )),
        _ => {
            shared.account_id = Some(account.to_owned());
            Ok(())
        }
    }
}

/// The account, for whoever reads.
pub fn words(account: Option<&str>) -> String {
    account.map_or("of an account that STS does not name".to_owned(), |id| format!("of account {id}"))
}
