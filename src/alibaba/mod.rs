//! The Alibaba Cloud client: signed calls to ECS, KMS, RAM and STS, with typed answers.
//!
//! How a call travels: a typed call (`ecs`, `kms`, `ram`, `sts`) builds a [`request::Request`];
//! [`gateway::Cloud`] asks its memory whether the action is throttled, takes credentials and an endpoint, and
//! hands over to [`transport`], which signs ([`sign`]) and sends once. What comes back is a value
//! or an [`Error`] that was classified once, by its code.
//!
//! What this room does not do: it knows nothing of Kubernetes, keeps no state that a restart would miss,
//! never retries (the reconciler does, because only it can look at the world first), but for one request whose
//! security token the cloud calls expired before it looks at anything else, and for a later page of a survey that is
//! throttled, and never decides anything about a resource.

pub mod amendments;
pub mod attachments;
mod codes;
pub mod credentials;
pub mod ecs;
pub mod emergency;
pub mod endpoint;
pub mod error;
pub mod facts;
pub mod gateway;
mod gather;
pub mod instance_facts;
pub mod instances;
pub mod kms;
mod ledger;
mod memory;
pub mod probe;
pub mod ram;
mod reply;
pub mod request;
pub mod sign;
pub mod sts;
pub mod survey;
mod sweep;
pub mod transport;

#[cfg(test)]
mod tests;

pub use amendments::{DiskAmendment, ImageAmendment, ResourceType};
pub use credentials::{AssumedRole, Credentials, Rrsa, Source};
pub use ecs::Created;
pub use emergency::{Accepted, AttachedPolicy, Reading, StartProbe};
pub use endpoint::{Network, is_on_this_machine};
pub use error::{Class, Error};
pub use facts::{Disk, DiskKind, DiskMapping, DiskStatus, Image, ImageStatus, Snapshot, SnapshotStatus};
pub use gateway::{Cloud, Settings};
pub use instance_facts::{BatchOutcome, Instance, InstanceStatus};
pub use instances::InstanceChange;
pub use kms::{Key, KeyState};
pub use ram::EcsRole;
pub use request::{Parameters, Service};
pub use sts::Identity;
pub use survey::DefaultEncryption;
pub use transport::{Clock, Wire};
