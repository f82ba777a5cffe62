//! Keeps open what a cut will need: connections, and the clients of the accounts. Makes nothing but calls that change nothing and
//! need no permission.

use std::time::Duration;

use futures::StreamExt;

use crate::alibaba::Cloud;
use crate::kind::{Lane, World};

/// How long a look at an account that nothing waits for may take.
const LOOK_MAX: Duration = Duration::from_secs(2);
/// How long the list of them may take.
const LIST_MAX: Duration = Duration::from_secs(5);
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
async fn usable(world: &World) -> Vec<String> {
    match tokio::time::timeout(LIST_MAX, world.accounts.usable(world)).await {
        Ok(Ok(names)) => names,
        Ok(Err(fault)) => {
            tracing::debug!("the accounts are not listed: {fault}");
            Vec::new()
        }
        Err(_) => Vec::new(),
    }
}
