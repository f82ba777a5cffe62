//! CloudAccount: credentials and endpoints of one account, used by the objects that name it.
//!
//! Wires the files of the kind together. Cluster-scoped: an account belongs to no namespace, and only the namespaces that
//! it allows may use it.

use std::collections::BTreeMap;

use kube::core::DeserializeGuard;
use kube::{Api, Client};

use crate::decision::Decision;
use crate::decision::report::Report;
use crate::kind::{Call, Dependency, Fault, Invalid, Kind, KindStatus, Owner, World};
use crate::resource::SharedStatus;

pub mod act;
pub mod api;
pub mod decide;
pub mod foresee;
pub mod observe;
pub mod plan;
pub mod promise;
pub mod report;
mod secrets;

pub use api::{CloudAccount, CloudAccountSpec, CloudAccountStatus};
use decide::{AccountEffect, AccountMachine, Desired, Observed};

impl KindStatus for CloudAccountStatus {
    fn shared(&self) -> &SharedStatus {
        &self.shared
    }

    fn shared_mut(&mut self) -> &mut SharedStatus {
        &mut self.shared
    }
}

impl Kind for CloudAccount {
    type Machine = AccountMachine;
    type Status = CloudAccountStatus;
    type Shared = ();
    const READS: &[&str] = foresee::READS;
    const CONCERNS: &[&str] = &["EcsRoleAuthorized"];
    /// It is the one that says which account it is.
    const PINNED: bool = false;

    fn api(client: Client, _namespace: Option<&str>) -> Api<Self> {
        Api::all(client)
    }

    fn guarded(client: Client, _namespace: Option<&str>) -> Api<DeserializeGuard<Self>> {
        Api::all(client)
    }

    fn status(&self) -> Option<&CloudAccountStatus> {
        self.status.as_ref()
    }

    fn desired(&self) -> Result<Desired, Invalid> {
        if self.metadata.deletion_timestamp.is_some() {
            return Ok(Desired::Absent);
        }
        plan::plan(self)?;
        if self.spec.suspend {
            return Ok(Desired::Suspended);
        }
        Ok(Desired::Present { ensure_role: self.spec.ecs_role == api::EcsRolePolicy::Ensure })
    }

    async fn observe(&self, desired: &Desired, world: &World, _shared: &()) -> Result<Observed, Fault> {
        observe::observe(self, desired, world).await
    }

    async fn act(&self, world: &World, _shared: &(), effect: &AccountEffect) -> Result<(), Fault> {
        act::act(self, world, effect).await
    }

    fn depends_on(&self) -> Vec<Dependency> {
        let secret = self.spec.credentials.secret_ref.iter();
        secret.map(|secret| Dependency::Secret { name: secret.name.clone() }).collect()
    }

    async fn companion(world: &World, _shared: &()) {
        secrets::watch(world).await;
    }

    /// Nothing is created under a token here: a role's name makes its creation unique.
    fn request(&self, _: &Desired, _: &Observed, _: &Owner, _: u32) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    fn foresee(
        &self,
        _desired: &Desired,
        observed: &Observed,
        decision: &Decision<AccountEffect>,
    ) -> Option<Observed> {
        foresee::after(observed, decision)
    }

    fn calls(&self, _: &Desired, _: &Observed, _: &Owner, effect: &AccountEffect) -> Vec<Call> {
        foresee::calls(*effect)
    }

    fn report(
        &self,
        desired: &Desired,
        observed: &Observed,
        decision: &Decision<AccountEffect>,
        _now: jiff::Timestamp,
    ) -> Report<CloudAccountStatus> {
        report::report(self.status.as_ref(), desired, observed, decision)
    }
}
