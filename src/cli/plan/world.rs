//! The world as the operator would see it, for whoever only plans.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::ListParams;
use kube::runtime::watcher::Event;
use kube::{Api, Client};

use super::overlay::Overlay;
use super::{Args, Planner};
use crate::alibaba::{self, Cloud, Network, Source};
use crate::cli::output;
use crate::cli::reading::{Error, within};
use crate::kind::{Clock, Kind, Settings, World};
use crate::kinds;
use crate::resource::GROUP;

/// How often a list is begun that fails for the moment.
const TRIES_MAX: u32 = 5;
/// The pause before it is begun again.
const PAUSE: Duration = Duration::from_secs(1);

/// The world as the operator would see it, through what is planned.
pub async fn world(
    args: &Args,
    client: &Client,
    overlay: &Overlay,
    planners: &[Planner],
) -> Result<World, ExitCode> {
    let settings = alibaba::Settings {
        endpoint_override: args.cloud_endpoint.clone(),
        network: if args.vpc { Network::Vpc } else { Network::Public },
        sts_region: args.region.clone(),
        ..alibaba::Settings::default()
    };
    let cloud = Cloud::new(settings, Source::Chain).map_err(|error| {
        output::fail("the cloud client cannot be set up", &error, "Check --cloud-endpoint and --region.")
    })?;
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let unreadable = |what: &str, error: Error, right: &str| {
        let next = format!("Check KUBECONFIG and --context, and whether you may {right}.");
        output::fail(what, &error, &next)
    };
    let cluster = within(namespaces.get("kube-system")).await.map_err(|error| {
        unreadable("it is not known which cluster this is", error, "get namespace kube-system")
    })?;
    let cluster = cluster.metadata.uid.unwrap_or_default();
    let identity = "ecskms-plan".to_owned();
    let world = World {
        kube: overlay.client(client.clone()),
        cloud,
        clock: Clock::System,
        account: None,
        accounts: kinds::accounts(),
        claims: Arc::default(),
        revocations: Arc::default(),
        fresh: Arc::default(),
        settings: Settings::standard(cluster, args.place.lease_namespace.clone(), identity),
    };
    for planner in planners {
        let Some(notice) = planner.notice else { continue };
        let plural = &planner.resource.plural;
        notice(client, &world).await.map_err(|error| {
            let what = format!("the {plural} cannot be read, so that it is not known which keys are held");
            unreadable(&what, error, &format!("list {plural}.{GROUP}"))
        })?;
    }
    Ok(world)
}

/// Tells the world of the kind's objects, as the watch of the emergency lane does.
pub fn notice<'a, K: Kind>(client: &'a Client, world: &'a World) -> BoxFuture<'a, Result<(), Error>> {
    async move {
        let mut tries = 1;
        let listed = loop {
            match within(K::api(client.clone(), None).list(&ListParams::default())).await {
                Err(error) if error.code() == Some(404) => {
                    K::unserved(world);
                    return Ok(());
                }
                // A CRD that has just changed is not served for a moment.
                Err(error) if error.passes() && tries < TRIES_MAX => tokio::time::sleep(PAUSE).await,
                other => break other?,
            }
            tries += 1;
        };
        K::notice(&Event::Init, world);
        listed.into_iter().for_each(|object| K::notice(&Event::InitApply(object), world));
        K::notice(&Event::InitDone, world);
        Ok(())
    }
    .boxed()
}
