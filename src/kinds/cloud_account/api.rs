//! CloudAccount as administrators write and read it. Schema, columns and CEL only.

#![expect(clippy::duplicated_attributes, reason = "printer columns share a type and a priority")]

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::resource::SharedStatus;
use crate::resource::selector::NamespaceSelector;

/// Whose account it is, how to sign in, and who may use it.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "ecskms.dev",
    version = "v1alpha1",
    kind = "CloudAccount",
    plural = "cloudaccounts",
    singular = "cloudaccount",
    shortname = "cacct",
    category = "ecskms",
    category = "alicloud",
    status = "CloudAccountStatus",
    derive = "PartialEq",
    doc = "CloudAccount is one Alibaba Cloud account: credentials and endpoints that objects use by naming it in \
           spec.accountRef.",
    printcolumn(
        name = "Account",
        type_ = "string",
        json_path = ".status.accountId",
        description = "Id of the account that the credentials belong to."
    ),
    printcolumn(
        name = "EcsRole",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="EcsRoleAuthorized")].status"#,
        description = "Whether ECS may use customer keys in the account."
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#,
        description = "Whether objects can use the account."
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#,
        description = "Why."
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "Age of the object."
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        priority = 1,
        json_path = r#".status.conditions[?(@.type=="Ready")].message"#,
        description = "What happened and what to do next."
    )
)]
#[serde(rename_all = "camelCase")]
pub struct CloudAccountSpec {
    /// How the operator signs in: exactly one of `secretRef`, `rrsa` and `ecsRamRole`.
    pub credentials: AccountCredentials,
    /// A role to take on with these credentials, for example in another account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assume_role: Option<AssumeRole>,
    /// Which namespaces' objects may name this account, by the namespaces' labels. Without it, none may; an empty
    /// selector means every namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_namespaces: Option<NamespaceSelector>,
    /// Addresses of single products, in place of the operator's own. With `credentials.rrsa`, the token of the operator's pod
    /// is exchanged at the operator's own STS all the same, never at an address that is named here.
    #[serde(default, skip_serializing_if = "ServiceEndpoints::is_empty")]
    pub endpoints: ServiceEndpoints,
    /// Report: say whether ECS may use customer keys. Ensure: also create the role
    /// AliyunECSDiskEncryptDefaultRole and attach its system policy where they are missing.
    #[serde(default)]
    pub ecs_role: EcsRolePolicy,
    /// True: nothing is called in the account. The objects that name it wait, also those that are being deleted; what
    /// is there stays as it is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspend: bool,
}

/// Exactly one way to sign in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.secretRef), has(self.rrsa), has(self.ecsRamRole)].filter(x, x).size() == 1")
    .message("exactly one of secretRef, rrsa and ecsRamRole must be set"))]
pub struct AccountCredentials {
    /// A Secret in the operator's own namespace with ALIBABA_CLOUD_ACCESS_KEY_ID,
    /// ALIBABA_CLOUD_ACCESS_KEY_SECRET and, for temporary credentials, ALIBABA_CLOUD_SECURITY_TOKEN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretReference>,
    /// A role that the operator's ServiceAccount may take on (RRSA on ACK).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rrsa: Option<RrsaCredentials>,
    /// The role of the ECS instance on which the operator runs; only where the operator itself may ask the metadata service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ecs_ram_role: Option<EcsRamRoleCredentials>,
}

/// A Secret in the operator's own namespace; no other namespace's can be named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretReference {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
}

/// A role and the OIDC provider that vouches for the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RrsaCredentials {
    /// ARN of the role, for example `acs:ram::1234567890123456:role/ecskms`.
    #[schemars(length(min = 20, max = 256), regex(pattern = r"^acs:ram::[0-9]+:role/[A-Za-z0-9.@_-]+$"))]
    pub role_arn: String,
    /// ARN of the provider, for example `acs:ram::1234567890123456:oidc-provider/ack-rrsa-c1`.
    #[schemars(
        length(min = 20, max = 256),
        regex(pattern = r"^acs:ram::[0-9]+:oidc-provider/[A-Za-z0-9._-]+$")
    )]
    pub oidc_provider_arn: String,
}

/// The role of the instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EcsRamRoleCredentials {
    /// Name of the role; the instance's only one where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z0-9._-]+$"))]
    pub role_name: Option<String>,
}

/// A role to take on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AssumeRole {
    /// ARN of the role, for example `acs:ram::1234567890123456:role/ecskms`.
    #[schemars(length(min = 20, max = 256), regex(pattern = r"^acs:ram::[0-9]+:role/[A-Za-z0-9.@_-]+$"))]
    pub arn: String,
    /// What the role's trust policy may ask for, against confused deputies; no secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 1224), regex(pattern = r"^[A-Za-z0-9+=,.@:/_-]+$"))]
    pub external_id: Option<String>,
}

/// Addresses of products.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceEndpoints {
    /// Address of ECS, for example `https://ecs-vpc.cn-hangzhou.aliyuncs.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 8, max = 255), regex(pattern = r"^https?://[A-Za-z0-9.:\[\]-]+$"))]
    pub ecs: Option<String>,
    /// Address of KMS, for example `https://kms-vpc.cn-hangzhou.aliyuncs.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 8, max = 255), regex(pattern = r"^https?://[A-Za-z0-9.:\[\]-]+$"))]
    pub kms: Option<String>,
    /// Address of RAM, for example `https://ram.aliyuncs.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 8, max = 255), regex(pattern = r"^https?://[A-Za-z0-9.:\[\]-]+$"))]
    pub ram: Option<String>,
    /// Address of STS, for example `https://sts-vpc.cn-hangzhou.aliyuncs.com`. The token of the operator's pod is never sent
    /// there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 8, max = 255), regex(pattern = r"^https?://[A-Za-z0-9.:\[\]-]+$"))]
    pub sts: Option<String>,
}

impl ServiceEndpoints {
    fn is_empty(&self) -> bool {
        *self == ServiceEndpoints::default()
    }
}

/// What the operator does about the role through which ECS uses customer keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum EcsRolePolicy {
    /// Say what is missing and how to grant it.
    #[default]
    Report,
    /// Grant what is missing; never change what is there.
    Ensure,
}

/// What the account is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CloudAccountStatus {
    /// The role AliyunECSDiskEncryptDefaultRole, as it was seen last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ecs_role: Option<EcsRoleStatus>,
    #[serde(flatten)]
    #[allow(missing_docs)]
    pub shared: SharedStatus,
}

/// The role through which ECS uses customer keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EcsRoleStatus {
    /// True if the role is there.
    pub exists: bool,
    /// True if the system policy AliyunECSDiskEncryptRolePolicy is attached to it.
    pub policy_attached: bool,
}
