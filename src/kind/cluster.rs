//! What of the cluster stands on the cloud: volumes on disks, nodes that are instances, classes that make disks.
//!
//! Reads only; every list is complete or an error. What follows from it is the business of the kinds that ask.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Node, PersistentVolume};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use serde::de::DeserializeOwned;

/// Objects in a page of a list.
const PAGE: u32 = 500;
/// How long one page may take.
const PAGE_MAX: std::time::Duration = std::time::Duration::from_secs(15);
/// Volumes of the CSI driver for disks.
const CSI_DRIVER: &str = "diskplugin.csi.alibabacloud.com";
/// Volumes of its predecessor.
const FLEX_DRIVER: &str = "alicloud/disk";

/// A PersistentVolume on a disk of the cloud.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// The disk.
    pub disk: String,
    /// Namespace and name of its claim.
    pub claim: Option<(String, String)>,
}

/// A node that is an instance of the cloud.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloudNode {
    /// Its name.
    pub name: String,
    /// The region of the instance.
    pub region: String,
    /// The instance.
    pub instance: String,
}

/// A StorageClass that makes disks of the cloud.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskClass {
    /// Its name.
    pub name: String,
    /// What it gives to the driver.
    pub parameters: BTreeMap<String, String>,
}

/// Why a list of the cluster is not there.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// The Kubernetes API refused, or could not be reached.
    #[error("{0}")]
    Refused(kube::Error),
    /// It did not answer.
    #[error("the Kubernetes API did not answer in time")]
    Slow,
}

/// Every volume on a disk of the cloud.
pub async fn volumes(kube: &Client) -> Result<Vec<Volume>, Trouble> {
    collected(&Api::all(kube.clone()), volume).await
}

/// Every node that is an instance of the cloud.
pub async fn nodes(kube: &Client) -> Result<Vec<CloudNode>, Trouble> {
    collected(&Api::all(kube.clone()), node).await
}

/// Every node by its uid: enough to see that there is another one.
pub async fn node_uids(kube: &Client) -> Result<BTreeSet<String>, Trouble> {
    let api: Api<Node> = Api::all(kube.clone());
    let mut found = BTreeSet::new();
    let mut params = ListParams::default().limit(PAGE);
    loop {
        let page = bounded(api.list_metadata(&params)).await?;
        found.extend(page.items.into_iter().filter_map(|node| node.metadata.uid));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(found),
        }
    }
}

/// Every class that makes disks of the cloud.
pub async fn disk_classes(kube: &Client) -> Result<Vec<DiskClass>, Trouble> {
    collected(&Api::all(kube.clone()), disk_class).await
}

fn volume(object: &PersistentVolume) -> Option<Volume> {
    let spec = object.spec.as_ref()?;
    let csi = spec.csi.as_ref().filter(|csi| csi.driver == CSI_DRIVER).map(|csi| csi.volume_handle.clone());
    let flex = spec.flex_volume.as_ref().filter(|flex| flex.driver == FLEX_DRIVER);
    let flex = flex.and_then(|flex| flex.options.as_ref()?.get("volumeId").cloned());
    let claim =
        spec.claim_ref.as_ref().and_then(|claim| Some((claim.namespace.clone()?, claim.name.clone()?)));
    Some(Volume { name: object.name_any(), disk: csi.or(flex)?, claim })
}

/// A node whose provider id is `<region>.<instance>`, with or without a scheme.
fn node(object: &Node) -> Option<CloudNode> {
    let provider = object.spec.as_ref()?.provider_id.as_deref()?;
    let bare = provider.rsplit("://").next().unwrap_or(provider);
    let (region, instance) = bare.split_once('.')?;
    Some(CloudNode { name: object.name_any(), region: region.to_owned(), instance: instance.to_owned() })
}

fn disk_class(object: &StorageClass) -> Option<DiskClass> {
    let ours = [CSI_DRIVER, FLEX_DRIVER].contains(&object.provisioner.as_str());
    ours.then(|| DiskClass {
        name: object.name_any(),
        parameters: object.parameters.clone().unwrap_or_default(),
    })
}

/// True if the API knows no such thing.
pub fn is_absent(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

/// The call, for as long as a page may take.
pub async fn bounded<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, Trouble> {
    match tokio::time::timeout(PAGE_MAX, call).await {
        Ok(result) => result.map_err(Trouble::Refused),
        Err(_) => Err(Trouble::Slow),
    }
}

/// Every page of a list.
pub async fn all<K>(api: &Api<K>) -> Result<Vec<K>, Trouble>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    collected(api, |object| Some(object.clone())).await
}

/// What is of interest in every page of a list; a page is let go before the next one comes.
async fn collected<K, T>(api: &Api<K>, read: impl Fn(&K) -> Option<T>) -> Result<Vec<T>, Trouble>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    let mut items = Vec::new();
    let mut params = ListParams::default().limit(PAGE);
    loop {
        let page = bounded(api.list(&params)).await?;
        items.extend(page.items.iter().filter_map(&read));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(items),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn volumes_are_known_by_both_drivers_and_by_no_other() {
        let read = |source: serde_json::Value| {
            let mut spec = json!({"claimRef": {"namespace": "team", "name": "data"}});
            spec.as_object_mut().expect("an object").extend(source.as_object().expect("an object").clone());
            let object = json!({"metadata": {"name": "pv-1"}, "spec": spec});
            volume(&serde_json::from_value(object).expect("a volume")).map(|volume| volume.disk)
        };
        let csi = |driver| json!({"csi": {"driver": driver, "volumeHandle": "d-1"}});
        assert_eq!(read(csi(CSI_DRIVER)).as_deref(), Some("d-1"));
        assert_eq!(read(csi("nasplugin.csi.alibabacloud.com")), None);
        let flex = json!({"flexVolume": {"driver": FLEX_DRIVER, "options": {"volumeId": "d-2"}}});
        assert_eq!(read(flex).as_deref(), Some("d-2"));
        assert_eq!(read(json!({"hostPath": {"path": "/x"}})), None);
    }

    #[test]
    fn a_node_names_its_region_and_instance() {
        let read = |provider: &str| {
            let object = json!({"metadata": {"name": "n"}, "spec": {"providerID": provider}});
            node(&serde_json::from_value(object).expect("a node")).map(|node| (node.region, node.instance))
        };
        let expected = Some(("cn-a".to_owned(), "i-1".to_owned()));
        assert_eq!(read("cn-a.i-1"), expected);
        assert_eq!(read("alicloud://cn-a.i-1"), expected);
        assert_eq!(read("kind://docker/kind/node"), None);
    }

    #[test]
    fn classes_are_those_of_both_drivers_with_or_without_parameters() {
        let read = |provisioner: &str, parameters: serde_json::Value| {
            let mut object = json!({"metadata": {"name": "fast"}, "provisioner": provisioner});
            object["parameters"] = parameters;
            disk_class(&serde_json::from_value(object).expect("a class")).map(|class| class.parameters.len())
        };
        assert_eq!(read(CSI_DRIVER, json!({"type": "cloud_essd", "encrypted": "true"})), Some(2));
        assert_eq!(read(FLEX_DRIVER, json!(null)), Some(0));
        assert_eq!(read("nasplugin.csi.alibabacloud.com", json!({})), None);
    }
}
