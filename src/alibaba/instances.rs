//! Typed calls to ECS: instances, and the disks that are attached to them.
//!
//! Lists are complete or an error. But an identity without permission gets an empty list of instances, not a refusal
//! (API reference §0, surprise 10): what is missing here may exist. The disks of an instance are the second question,
//! because DescribeDisks does refuse.

use futures::future::try_join_all;

use super::ecs::{Created, check_tags, put_filter_tags, refuse, unique};
use super::endpoint::check_region;
use super::error::{Error, Refusal};
use super::facts::Disk;
use super::gateway::Cloud;
use super::gather::IDS_MAX;
use super::instance_facts::{BatchOutcome, Instance, InstanceStatus};
use super::reply::Fields;
use super::request::{self, Parameters, Service, check_id, parameters, put_list};

/// Instances per page of a list; the limit of DescribeInstances.
const INSTANCES_PER_PAGE: &str = "100";
/// Disks per page of a list; the limit of DescribeDisks.
const DISKS_PER_PAGE: &str = "500";
/// Instances of one batch; the limit of StartInstances and StopInstances.
pub const BATCH_MAX: usize = 100;

/// A change of an instance's attributes; None leaves one as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InstanceChange {
    /// The name in the console.
    pub name: Option<String>,
    /// Whether the cloud refuses to delete it.
    pub deletion_protection: Option<bool>,
}

impl Cloud {
    /// One instance by id; concurrent readings of a region share a call. None also if this identity may not see it.
    pub async fn instance(&self, region: &str, id: &str) -> Result<Option<Instance>, Error> {
        const ACTION: &str = "DescribeInstances";
        check_region(Service::Ecs, ACTION, region)?;
        check_id(Service::Ecs, ACTION, "InstanceId", id)?;
        self.gathered(region, id).await
    }

    /// The instances of these ids that exist and may be seen, a hundred in a call. In the order of `ids`.
    pub async fn instances(&self, region: &str, ids: &[String]) -> Result<Vec<Instance>, Error> {
        let found = try_join_all(ids.iter().map(|id| self.instance(region, id))).await?;
        Ok(found.into_iter().flatten().collect())
    }

    /// All instances that carry all of `tags`.
    pub async fn instances_by_tags(
        &self,
        region: &str,
        tags: &[(&str, &str)],
    ) -> Result<Vec<Instance>, Error> {
        const ACTION: &str = "DescribeInstances";
        check_region(Service::Ecs, ACTION, region)?;
        let mut filter = parameters([("MaxResults", INSTANCES_PER_PAGE)]);
        put_filter_tags(ACTION, &mut filter, tags)?;
        let found = self.walk(region, ACTION, filter, "Instances", "Instance", Instance::read).await?;
        check_tags(ACTION, tags, found.iter().map(|instance| &instance.tags))?;
        Ok(unique(found, |instance| instance.id.clone()))
    }

    /// At most [`IDS_MAX`] instances by id, in one list.
    pub(crate) async fn instances_by_ids(
        &self,
        region: &str,
        ids: &[String],
    ) -> Result<Vec<Instance>, Error> {
        debug_assert!(ids.len() <= IDS_MAX, "the caller splits");
        let filter =
            parameters([("InstanceIds", &request::json_array(ids)), ("MaxResults", INSTANCES_PER_PAGE)]);
        self.walk(region, "DescribeInstances", filter, "Instances", "Instance", Instance::read).await
    }

    /// Everything that is attached to one instance, or on its way to or from it; system disk included.
    pub async fn disks_of_instance(&self, region: &str, instance_id: &str) -> Result<Vec<Disk>, Error> {
        check_id(Service::Ecs, "DescribeDisks", "InstanceId", instance_id)?;
        let disks = self.disks_where(region, &[("InstanceId", instance_id)]).await?;
        // A list that ignores the question may as well have left something out.
        if disks.iter().any(|disk| disk.instance_id.as_deref() != Some(instance_id)) {
            let text = "the list contains disks of other instances";
            return Err(Error::local(
                Service::Ecs,
                "DescribeDisks",
                super::error::local::REPLY_NOT_UNDERSTOOD,
                text,
            ));
        }
        Ok(disks)
    }

    /// All disks that every filter of DescribeDisks lets through, for example `KMSKeyId`; all pages, or an error.
    pub async fn disks_where(&self, region: &str, filters: &[(&str, &str)]) -> Result<Vec<Disk>, Error> {
        const ACTION: &str = "DescribeDisks";
        const OWN: [&str; 3] = ["RegionId", "MaxResults", "NextToken"];
        check_region(Service::Ecs, ACTION, region)?;
        if filters.is_empty() || filters.iter().any(|(name, value)| value.is_empty() || OWN.contains(name)) {
            return Err(refuse(
                ACTION,
                "a filter needs a name of its own and a value, or it would find everything",
            ));
        }
        let mut query = parameters([("MaxResults", DISKS_PER_PAGE)]);
        query.extend(filters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let disks = self.walk(region, ACTION, query, "Disks", "Disk", Disk::read).await?;
        Ok(unique(disks, |disk| disk.id.clone()))
    }

    /// Makes one instance: `Amount` must be 1, because a recorded creation stands for one resource.
    pub async fn run_instances(&self, region: &str, parameters: &Parameters) -> Result<Created, Error> {
        const ACTION: &str = "RunInstances";
        if parameters.get("RegionId").map(String::as_str) != Some(region) {
            return Err(refuse(
                ACTION,
                "RegionId of the recorded parameters is not the region that is called",
            ));
        }
        if parameters.get("Amount").map(String::as_str) != Some("1") {
            return Err(refuse(ACTION, "Amount must be 1: one creation makes one instance"));
        }
        let reply = self.call(Service::Ecs, region, ACTION, parameters.clone()).await?;
        let fields = Fields::new(&reply.value, Service::Ecs, ACTION);
        let ids = fields.texts("InstanceIdSets", "InstanceIdSet");
        let [id] = ids.as_slice() else {
            return Err(fields.defect("the reply does not name exactly one new instance"));
        };
        check_id(Service::Ecs, ACTION, "InstanceId", id)
            .map_err(|_| fields.defect("the new id is not an id"))?;
        Ok(Created { id: id.clone(), request_id: reply.request_id })
    }

    /// Starts a stopped instance.
    pub async fn start_instance(&self, region: &str, id: &str) -> Result<(), Error> {
        self.change(region, "StartInstance", "InstanceId", id).await
    }

    /// Stops a running instance, which goes on being paid for: a cheaper stop may find no stock when it starts again.
    pub async fn stop_instance(&self, region: &str, id: &str, force: bool) -> Result<(), Error> {
        const ACTION: &str = "StopInstance";
        check_id(Service::Ecs, ACTION, "InstanceId", id)?;
        let parameters = parameters([
            ("RegionId", region),
            ("InstanceId", id),
            ("ForceStop", if force { "true" } else { "false" }),
            ("StoppedMode", "KeepCharging"),
        ]);
        self.call(Service::Ecs, region, ACTION, parameters).await.map(drop)
    }

    /// Starts up to [`BATCH_MAX`] instances, each for itself; in the order of `ids`.
    pub async fn start_instances(&self, region: &str, ids: &[String]) -> Result<Vec<BatchOutcome>, Error> {
        self.batch(region, "StartInstances", ids, Parameters::new()).await
    }

    /// Stops up to [`BATCH_MAX`] instances, each for itself; in the order of `ids`. They go on being paid for.
    pub async fn stop_instances(
        &self,
        region: &str,
        ids: &[String],
        force: bool,
    ) -> Result<Vec<BatchOutcome>, Error> {
        let how = parameters([
            ("ForceStop", if force { "true" } else { "false" }),
            ("StoppedMode", "KeepCharging"),
        ]);
        self.batch(region, "StopInstances", ids, how).await
    }

    /// Changes a name or the protection from deletion; a change of nothing is refused.
    pub async fn modify_instance_attribute(
        &self,
        region: &str,
        id: &str,
        change: &InstanceChange,
    ) -> Result<(), Error> {
        const ACTION: &str = "ModifyInstanceAttribute";
        check_id(Service::Ecs, ACTION, "InstanceId", id)?;
        if *change == InstanceChange::default() {
            return Err(refuse(ACTION, "nothing is to be changed"));
        }
        let mut parameters = parameters([("RegionId", region), ("InstanceId", id)]);
        let protection = change.deletion_protection.map(|on| on.to_string());
        for (name, value) in [("InstanceName", &change.name), ("DeletionProtection", &protection)] {
            parameters.extend(value.iter().map(|value| (name.to_owned(), value.clone())));
        }
        self.call(Service::Ecs, region, ACTION, parameters).await.map(drop)
    }

    /// Deletes a stopped instance, and with it the disks that go with it. Never forced: a running one is refused.
    pub async fn delete_instance(&self, region: &str, id: &str) -> Result<(), Error> {
        self.change(region, "DeleteInstance", "InstanceId", id).await
    }

    async fn batch(
        &self,
        region: &str,
        action: &'static str,
        ids: &[String],
        mut parameters: Parameters,
    ) -> Result<Vec<BatchOutcome>, Error> {
        if ids.is_empty() || ids.len() > BATCH_MAX {
            return Err(refuse(action, &format!("a batch holds 1 to {BATCH_MAX} instances")));
        }
        for id in ids {
            check_id(Service::Ecs, action, "InstanceId", id)?;
        }
        let list: Vec<&str> = ids.iter().map(String::as_str).collect();
        put_list(&mut parameters, "InstanceId", &list);
        parameters.extend(request::parameters([("RegionId", region), ("BatchOptimization", "SuccessFirst")]));
        let reply = self.call(Service::Ecs, region, action, parameters).await?;
        let fields = Fields::new(&reply.value, Service::Ecs, action);
        let answers = fields.list("InstanceResponses", "InstanceResponse")?;
        Ok(ids.iter().map(|id| outcome(id, &answers, action, reply.request_id.as_deref())).collect())
    }
}

/// The answer for one instance of a batch. An instance that the reply leaves out may or may not have been reached.
fn outcome(id: &str, answers: &[Fields], action: &'static str, request_id: Option<&str>) -> BatchOutcome {
    /// What the cloud calls success, as a number in examples and as text in the models.
    const OK: &str = "200";
    let found = answers.iter().find(|answer| answer.text("InstanceId").as_deref() == Some(id));
    let status = |name: &str| {
        let word = found.and_then(|answer| answer.text(name));
        word.map(|word| InstanceStatus::from_word(&word))
    };
    let result = match found {
        None => Err(Error::local(
            Service::Ecs,
            action,
            super::error::local::REPLY_NOT_UNDERSTOOD,
            "the reply does not speak of this instance",
        )
        .with_reply(200, request_id.map(str::to_owned))),
        Some(answer) => match answer.text("Code") {
            Some(code) if code == OK => Ok(()),
            code => Err(Error::from_refusal(
                Service::Ecs,
                action,
                Refusal {
                    http_status: 400,
                    code: code.unwrap_or_default(),
                    message: answer.text("Message").unwrap_or_default(),
                    request_id: request_id.map(str::to_owned),
                    ..Refusal::default()
                },
            )),
        },
    };
    BatchOutcome {
        id: id.to_owned(),
        before: status("PreviousStatus"),
        after: status("CurrentStatus"),
        request_id: request_id.map(str::to_owned),
        result,
    }
}
