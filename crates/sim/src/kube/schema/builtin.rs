//! What is known of built-in kinds: which lists merge by key, which maps are atomic, which keys have
//! defaults.
//!
//! Deliberately no copy of their OpenAPI: kinds that are described completely drop unknown fields, the others
//! keep them, and none is checked for values. Facts: the list and map markers of k8s.io/api.
//!
//! The descriptions are written in a small notation: `name` is a field of any form, `name=x` has a default,
//! `name!` is atomic, `name*` a map of strings, `name[]` a set, `name[key,...]` a list with keys, `name{...}`
//! an object, `name@type` one of the shared descriptions below.

use std::collections::BTreeMap;

use serde_json::Value;

use super::node::{Additional, Kind, ListType, Node, STRING};

/// A described kind.
pub(super) struct Described {
    pub(super) root: Node,
    /// Whether every field is named, so that others are unknown fields.
    pub(super) complete: bool,
    pub(super) status_subresource: bool,
}

const CONDITIONS: &str = "conditions[type]{type status reason message lastTransitionTime lastProbeTime \
    lastUpdateTime lastHeartbeatTime observedGeneration}";

const KEY_REFERENCES: &str =
    "valueFrom{configMapKeyRef! fieldRef! resourceFieldRef! secretKeyRef! fileKeyRef!}";

const PROBE: &str = "exec{command} httpGet{host httpHeaders path port scheme} tcpSocket{host port} \
    grpc{port service} initialDelaySeconds timeoutSeconds periodSeconds successThreshold failureThreshold \
    terminationGracePeriodSeconds";

const HANDLER: &str =
    "exec{command} httpGet{host httpHeaders path port scheme} tcpSocket{host port} sleep{seconds}";

const SECURITY: &str = "allowPrivilegeEscalation appArmorProfile{type localhostProfile} capabilities{add \
    drop} \
    privileged procMount readOnlyRootFilesystem runAsGroup runAsNonRoot runAsUser seLinuxOptions{level role \
    type user} \
    seccompProfile{type localhostProfile} windowsOptions{gmsaCredentialSpec gmsaCredentialSpecName \
    hostProcess \
    runAsUserName} fsGroup fsGroupChangePolicy supplementalGroups supplementalGroupsPolicy sysctls";

const CONTAINER: &str = "name image command args workingDir ports[containerPort,protocol]{containerPort \
    protocol=TCP hostIP hostPort name} envFrom env[name]{name value @keys} resources{limits* requests* \
    claims[name]{name \
    request}} resizePolicy restartPolicy volumeMounts[mountPath]{mountPath mountPropagation name readOnly \
    recursiveReadOnly subPath subPathExpr} volumeDevices[devicePath]{devicePath name} livenessProbe{@probe} \
    readinessProbe{@probe} startupProbe{@probe} lifecycle{postStart{@handler} preStop{@handler} stopSignal} \
    terminationMessagePath terminationMessagePolicy imagePullPolicy securityContext{@security} stdin \
    stdinOnce tty \
    targetContainerName";

const VOLUME: &str = "name hostPath{path type} emptyDir{medium sizeLimit} secret{defaultMode items optional \
    secretName} configMap{name items defaultMode optional} persistentVolumeClaim{claimName readOnly} \
    projected{defaultMode \
    sources} downwardAPI{defaultMode items} csi{driver fsType nodePublishSecretRef! readOnly \
    volumeAttributes*} \
    ephemeral{volumeClaimTemplate} nfs{path readOnly server} image{reference pullPolicy}";

const POD_SPEC: &str = "volumes[name]{@volume} initContainers[name]{@container} containers[name]{@container} \
    ephemeralContainers[name]{@container} restartPolicy terminationGracePeriodSeconds activeDeadlineSeconds \
    dnsPolicy \
    nodeSelector! serviceAccountName serviceAccount automountServiceAccountToken nodeName hostNetwork \
    hostPID hostIPC \
    shareProcessNamespace securityContext{@security} imagePullSecrets[name]! hostname subdomain \
    affinity{nodeAffinity \
    podAffinity podAntiAffinity} schedulerName tolerations hostAliases[ip]{ip hostnames} priorityClassName \
    priority \
    dnsConfig{nameservers searches options} readinessGates runtimeClassName enableServiceLinks \
    preemptionPolicy overhead* \
    topologySpreadConstraints[topologyKey,whenUnsatisfiable]{topologyKey whenUnsatisfiable labelSelector! \
    maxSkew \
    minDomains matchLabelKeys nodeAffinityPolicy nodeTaintsPolicy} setHostnameAsFQDN os{name} hostUsers \
    schedulingGates[name]{name} resourceClaims[name]{name resourceClaimName resourceClaimTemplateName}";

const TEMPLATE: &str = "template{@meta spec{@pod}}";

const CLAIM: &str = "accessModes selector! resources{limits* requests*} volumeName storageClassName \
    volumeMode \
    dataSource! dataSourceRef{apiGroup kind name namespace} volumeAttributesClassName";

const REFERENCE: &str = "apiVersion fieldPath kind name namespace resourceVersion uid";

const EVENT_CORE: &str = "metadata involvedObject! reason message source{component host} firstTimestamp \
    lastTimestamp \
    count type eventTime series{count lastObservedTime} action related! reportingComponent reportingInstance";

const EVENT_NEW: &str = "metadata eventTime series{count lastObservedTime} reportingController \
    reportingInstance \
    action reason regarding! related! note type deprecatedSource{component host} deprecatedFirstTimestamp \
    deprecatedLastTimestamp deprecatedCount";

/// The fields of a kind, whether they are all of them, whether it has a status subresource.
type Description = (String, bool, bool);

/// The kinds of the core group, and through the others every kind that is known.
fn description(group: &str, kind: &str) -> Option<Description> {
    Some(match (group, kind) {
        ("", "ConfigMap") => ("data* binaryData* immutable".into(), true, false),
        ("", "Secret") => ("data* stringData* immutable type=Opaque".into(), true, false),
        ("", "Namespace") => (format!("spec{{finalizers}} status{{phase {CONDITIONS}}}"), true, true),
        ("", "ServiceAccount") => (
            format!("secrets[name]{{{REFERENCE}}} imagePullSecrets automountServiceAccountToken"),
            true,
            false,
        ),
        ("", "Service") => (
            format!(
                "spec{{ports[port,protocol]{{port protocol=TCP appProtocol name nodePort targetPort}} \
                    selector! \
                 clusterIP clusterIPs type externalIPs externalName sessionAffinity \
                 sessionAffinityConfig{{clientIP{{timeoutSeconds}}}} ipFamilies ipFamilyPolicy \
                 loadBalancerIP \
                 loadBalancerClass externalTrafficPolicy internalTrafficPolicy healthCheckNodePort \
                 publishNotReadyAddresses}} status{{{CONDITIONS} loadBalancer{{ingress}}}}"
            ),
            false,
            true,
        ),
        ("", "Pod") => {
            (format!("spec{{@pod}} status{{{CONDITIONS} phase podIPs[ip]{{ip}} hostIPs!}}"), false, true)
        }
        ("", "PersistentVolumeClaim") => {
            (format!("spec{{{CLAIM}}} status{{{CONDITIONS} phase capacity*}}"), false, true)
        }
        ("", "PersistentVolume") => (
            "spec{capacity* accessModes claimRef{apiVersion fieldPath kind name namespace resourceVersion \
                uid} \
             persistentVolumeReclaimPolicy storageClassName mountOptions volumeMode nodeAffinity{required!} \
             csi{driver volumeHandle fsType readOnly volumeAttributes*}} status{phase message reason}"
                .into(),
            false,
            true,
        ),
        ("", "Node") => (
            format!(
                "spec{{taints podCIDR podCIDRs[] providerID unschedulable}} status{{{CONDITIONS} \
                     addresses[type]{{type address}} capacity* allocatable*}}"
            ),
            false,
            true,
        ),
        ("", "Event") => (EVENT_CORE.into(), true, false),
        _ => return workload(group, kind),
    })
}

/// The kinds that run pods.
fn workload(group: &str, kind: &str) -> Option<Description> {
    let conditions = format!("status{{{CONDITIONS}}}");
    Some(match (group, kind) {
        ("apps", "Deployment") => (
            format!(
                "spec{{replicas selector! {TEMPLATE} strategy{{type rollingUpdate{{maxUnavailable \
                maxSurge}}}} \
                     minReadySeconds revisionHistoryLimit paused progressDeadlineSeconds}} {conditions}"
            ),
            false,
            true,
        ),
        ("apps", "ReplicaSet") => {
            (format!("spec{{replicas selector! {TEMPLATE} minReadySeconds}} {conditions}"), false, true)
        }
        ("apps", "DaemonSet") => (
            format!(
                "spec{{selector! {TEMPLATE} updateStrategy{{type rollingUpdate{{maxUnavailable \
                maxSurge}}}} \
                     minReadySeconds revisionHistoryLimit}} {conditions}"
            ),
            false,
            true,
        ),
        ("apps", "StatefulSet") => (
            format!(
                "spec{{replicas selector! {TEMPLATE} volumeClaimTemplates serviceName \
                podManagementPolicy \
                     updateStrategy{{type rollingUpdate{{partition maxUnavailable}}}} revisionHistoryLimit \
                     minReadySeconds persistentVolumeClaimRetentionPolicy{{whenDeleted whenScaled}} \
                     ordinals{{start}}}} {conditions}"
            ),
            false,
            true,
        ),
        ("batch", "Job") => (
            format!(
                "spec{{parallelism completions activeDeadlineSeconds podFailurePolicy backoffLimit \
                selector! \
                     manualSelector {TEMPLATE} ttlSecondsAfterFinished completionMode suspend \
                     podReplacementPolicy}} {conditions}"
            ),
            false,
            true,
        ),
        _ => return cluster(group, kind),
    })
}

/// The kinds that configure the cluster.
fn cluster(group: &str, kind: &str) -> Option<Description> {
    let conditions = format!("status{{{CONDITIONS}}}");
    Some(match (group, kind) {
        ("events.k8s.io", "Event") => (EVENT_NEW.into(), true, false),
        ("coordination.k8s.io", "Lease") => (
            "spec{holderIdentity leaseDurationSeconds acquireTime renewTime leaseTransitions strategy \
             preferredHolder}"
                .into(),
            true,
            false,
        ),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => (
            format!(
                "spec{{group names{{plural singular shortNames kind listKind categories}} scope versions \
                     conversion{{strategy webhook}} preserveUnknownFields}} status{{{CONDITIONS} \
                     acceptedNames{{plural singular shortNames kind listKind categories}} storedVersions}}"
            ),
            false,
            true,
        ),
        ("policy", "PodDisruptionBudget") => (
            format!("spec{{minAvailable maxUnavailable selector! unhealthyPodEvictionPolicy}} {conditions}"),
            false,
            true,
        ),
        ("networking.k8s.io", "NetworkPolicy") => {
            ("spec{podSelector! ingress egress policyTypes}".into(), false, false)
        }
        ("rbac.authorization.k8s.io", "Role") => ("rules".into(), true, false),
        ("rbac.authorization.k8s.io", "ClusterRole") => {
            ("rules aggregationRule{clusterRoleSelectors}".into(), true, false)
        }
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => {
            ("subjects roleRef!".into(), true, false)
        }
        ("storage.k8s.io", "StorageClass") => (
            "provisioner parameters* reclaimPolicy mountOptions allowVolumeExpansion volumeBindingMode \
             allowedTopologies"
                .into(),
            true,
            false,
        ),
        ("scheduling.k8s.io", "PriorityClass") => {
            ("value globalDefault description preemptionPolicy".into(), true, false)
        }
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy") => (
            format!(
                "spec{{paramKind! matchConstraints validations failurePolicy auditAnnotations \
                     matchConditions[name]{{name expression}} variables[name]!}} {conditions}"
            ),
            false,
            true,
        ),
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding") => {
            ("spec{policyName paramRef! matchResources validationActions[]}".into(), false, false)
        }
        _ => return None,
    })
}

/// Describes a kind; the version does not matter, because only one is served.
pub(super) fn describe(group: &str, _version: &str, kind: &str) -> Option<Described> {
    let (text, complete, status_subresource) = description(group, kind)?;
    let mut root = object(&text, !complete);
    root.embedded = true;
    root.properties.remove("metadata");
    Some(Described { root, complete, status_subresource })
}

fn shared(name: &str) -> &'static str {
    match name {
        "keys" => KEY_REFERENCES,
        "probe" => PROBE,
        "handler" => HANDLER,
        "security" => SECURITY,
        "container" => CONTAINER,
        "volume" => VOLUME,
        "pod" => POD_SPEC,
        _ => "",
    }
}

fn object(text: &str, open: bool) -> Node {
    let mut properties = BTreeMap::new();
    fields(text, open, &mut properties);
    Node {
        kind: Some(Kind::Object),
        properties,
        preserve_unknown: open,
        inherited_preserve: open,
        ..Node::default()
    }
}

fn fields(text: &str, open: bool, properties: &mut BTreeMap<String, Node>) {
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        if let Some(reference) = rest.strip_prefix('@') {
            let end = reference.find(char::is_whitespace).unwrap_or(reference.len());
            if &reference[..end] == "meta" {
                properties.insert("metadata".to_owned(), metadata());
            } else {
                fields(shared(&reference[..end]), open, properties);
            }
            rest = reference[end..].trim_start();
            continue;
        }
        let end = rest.find(|letter: char| !letter.is_ascii_alphanumeric()).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        let (node, after) = form(after, open);
        properties.insert(name.to_owned(), node);
        rest = after.trim_start();
    }
}

/// The node that the letters after a field name describe, and what follows them.
fn form(text: &str, open: bool) -> (Node, &str) {
    let any = || Node { preserve_unknown: true, inherited_preserve: true, ..Node::default() };
    if let Some(after) = text.strip_prefix('!') {
        return (Node { atomic_map: true, ..any() }, after);
    }
    if let Some(after) = text.strip_prefix('*') {
        let value = Node { kind: None, ..any() };
        let additional = Additional::Schema(Box::new(value));
        return (Node { kind: Some(Kind::Object), additional, ..Node::default() }, after);
    }
    if let Some(after) = text.strip_prefix('=') {
        let end = after.find(|letter: char| !letter.is_ascii_alphanumeric()).unwrap_or(after.len());
        return (Node { default: Some(Value::from(&after[..end])), ..any() }, &after[end..]);
    }
    if let Some(after) = text.strip_prefix("[]") {
        let items = Some(Box::new(any()));
        return (Node { kind: Some(Kind::Array), list_type: ListType::Set, items, ..Node::default() }, after);
    }
    if let Some((keys, after)) = text.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
        let (item, after) = form(after, open);
        let list_type = ListType::Map(keys.split(',').map(str::to_owned).collect());
        let items = Some(Box::new(item));
        return (Node { kind: Some(Kind::Array), list_type, items, ..Node::default() }, after);
    }
    if let Some(inner) = text.strip_prefix('{') {
        let end = closing(inner);
        return (object(&inner[..end], open), inner.get(end + 1..).unwrap_or_default());
    }
    (any(), text)
}

fn closing(text: &str) -> usize {
    let mut depth = 1;
    for (place, letter) in text.char_indices() {
        depth += match letter {
            '{' => 1,
            '}' => -1,
            _ => 0,
        };
        if depth == 0 {
            return place;
        }
    }
    text.len()
}

/// The metadata of a pod template: labels and annotations are all that matters there.
fn metadata() -> Node {
    let strings = || Node {
        kind: Some(Kind::Object),
        additional: Additional::Schema(Box::new(Node { kind: STRING.kind, ..Node::default() })),
        ..Node::default()
    };
    let mut node = object("name generateName namespace creationTimestamp finalizers[]", true);
    node.properties.insert("labels".to_owned(), strings());
    node.properties.insert("annotations".to_owned(), strings());
    node
}
