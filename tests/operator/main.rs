//! The whole operator against both servers in one process under paused time. One program for all of them, because each would link
//! the whole operator anew.

mod accounts;
mod auditing;
mod crash;
mod crash_revocation;
mod disk_scenarios;
mod instances;
mod revocation;
mod scenarios;
mod scenarios_audit;
mod scenarios_audit_trouble;
mod scenarios_blast;
mod scenarios_incident;
mod scenarios_machines;
mod scenarios_plan;
mod scenarios_revocation;
mod stage;
mod standings;
