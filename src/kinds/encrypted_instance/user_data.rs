//! Reads user data from its Secret, at the moment when it is needed and never before. Keeps nothing.

use k8s_openapi::api::core::v1::Secret;
use kube::Api;

use crate::decision::Reason;
use crate::kind::{Fault, FaultClass, Settings, World};

/// What RunInstances takes, in bytes before base64. The cloud's limit was 16 KiB for years and is 32 KiB in newer pages.
const BYTES_MAX: usize = 16 * 1024;

/// User data as it is sent. No `Debug`: it may hold passwords.
pub struct UserData {
    /// uid and resourceVersion of the Secret.
    pub version: String,
    /// The content as base64, which is what RunInstances takes; None if it is too large.
    pub base64: Option<String>,
}

/// The user data, or None if there is no such Secret or no such key in it.
pub async fn read(world: &World, namespace: &str, name: &str, key: &str) -> Result<Option<UserData>, Fault> {
    let secrets: Api<Secret> = Api::namespaced(world.kube.clone(), namespace);
    let found = world.read(secrets.get_opt(name)).await;
    let found = found.map_err(|fault| explain(fault, &world.settings, namespace, name))?;
    let Some(secret) = found else { return Ok(None) };
    let version = format!(
        "{}@{}",
        secret.metadata.uid.as_deref().unwrap_or_default(),
        secret.metadata.resource_version.as_deref().unwrap_or_default()
    );
    let Some(content) = secret.data.and_then(|mut data| data.remove(key)) else { return Ok(None) };
    let base64 = (content.0.len() <= BYTES_MAX).then(|| match serde_json::to_value(&content) {
        Ok(serde_json::Value::String(text)) => text,
        _ => String::new(),
    });
    Ok(Some(UserData { version, base64 }))
}

/// The operator is not allowed to read Secrets at large: whoever names one lets it read that one.
fn explain(fault: Fault, operator: &Settings, namespace: &str, name: &str) -> Fault {
    if fault.class != FaultClass::Denied {
        return fault;
    }
    Fault {
        reason: Reason::AccessDenied,
        message: format!(
            "The operator may not read Secret {name}. Allow it with: kubectl -n {namespace} create role ecskms-{name} --verb=get \
             --resource=secrets --resource-name={name} && kubectl -n {namespace} create rolebinding ecskms-{name} \
             --role=ecskms-{name} --serviceaccount={}:{}",
            operator.namespace, operator.service_account
        ),
        ..fault
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_service_account_that_this_operator_really_has() {
        let settings = Settings::standard("c".to_owned(), "keys".to_owned(), "pod-1".to_owned());
        let settings = Settings { service_account: "blue-ecskms".to_owned(), ..settings };
        let denied = Fault { class: FaultClass::Denied, ..Fault::defect("Forbidden", "no") };
        let fault = explain(denied, &settings, "shop", "start");
        assert!(fault.message.ends_with("--serviceaccount=keys:blue-ecskms"), "{}", fault.message);
        assert!(fault.message.contains("kubectl -n shop create role"), "{}", fault.message);
    }
}
