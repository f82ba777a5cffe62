//! Keeps open what a cut will need: connections, and the clients of the accounts. Makes nothing but calls that change nothing and
//! need no permission.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::StreamExt;
use kube::Api;
use kube::api::ListParams;

use crate::alibaba::Cloud;
use crate::kind::{Lane, World};
use crate::kinds::CloudAccount;

/// How long a look at an account that nothing waits for may take.
const LOOK_MAX: Duration = Duration::from_secs(2);
/// Accounts that are kept warm before any revocation names them.
const ACCOUNTS_MAX: u32 = 32;
/// Connections that are used in one round, the likeliest first.
const CONNECTIONS_MAX: usize = 64;
/// Connections that are used at once.
const AT_ONCE: usize = 8;

/// Uses the connections that a cut will need, so that it need not open them, and makes the clients of the accounts, so that it need
/// not ask whose their credentials are.
pub async fn keep(world: &World) {
    let home = world.settings.home_region.clone();
    let elsewhere = world.revocations.regions().into_iter().filter(|region| Some(region) != home.as_ref());
    let regions: Vec<String> = home.iter().cloned().chain(elsewhere).collect();
    let mut clouds = vec![world.cloud.clone()];
    let named = world.revocations.accounts();
    let others = usable(world).await.into_iter().filter(|name| !named.contains(name));
    for name in named.iter().cloned().chain(others) {
        clouds.extend(client(world, &name).await);
    }
    let mut connections = Vec::new();
    for region in &regions {
        connections.extend(clouds.iter().map(|cloud| (cloud.clone(), region.clone())));
    }
    connections.truncate(CONNECTIONS_MAX);
    let use_one = |(cloud, region): (Cloud, String)| async move {
        if let Err(error) = cloud.keep_warm(&region).await {
            tracing::debug!(region, "KMS is not reached: {error}");
        }
    };
    futures::stream::iter(connections).for_each_concurrent(AT_ONCE, use_one).await;
}

async fn client(world: &World, name: &str) -> Option<Cloud> {
    // Given up soon: a cut would wait for the same look.
    let look = world.accounts.resolve(world, Lane::Emergency, name, None);
    match tokio::time::timeout(LOOK_MAX, look).await {
        Ok(Ok(Ok(cloud))) => Some(cloud),
        other => {
            let why = other.map(|look| look.map(|client| client.map(drop).map_err(|not| not.message)));
            tracing::debug!(account = name, "the account has no client: {why:?}");
            None
        }
    }
}

/// The accounts that are Ready: the others would only be asked again and again. The list is also what keeps a connection to the
/// Kubernetes API open beside that of the watch.
async fn usable(world: &World) -> BTreeSet<String> {
    let api: Api<CloudAccount> = Api::all(world.kube.clone());
    let is_usable = |account: &CloudAccount| {
        let conditions = account.status.iter().flat_map(|status| &status.shared.conditions);
        let ready =
            conditions.clone().any(|condition| condition.type_ == "Ready" && condition.status == "True");
        ready && !account.spec.suspend && account.metadata.deletion_timestamp.is_none()
    };
    match world.read(api.list(&ListParams::default().limit(ACCOUNTS_MAX))).await {
        Ok(list) => {
            list.items.into_iter().filter(is_usable).filter_map(|account| account.metadata.name).collect()
        }
        Err(fault) => {
            tracing::debug!("the accounts are not listed: {fault}");
            BTreeSet::new()
        }
    }
}
