//! The pretend world: a simulated Alibaba Cloud (`cloud`) and an embedded Kubernetes API (`kube`), both served over real HTTP.
//!
//! Deliberately knows nothing of the operator: a simulator that borrows the client's code would agree with its mistakes.

pub mod cloud;
pub mod kube;
