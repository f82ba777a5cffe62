//! Reads another object of this group: what one kind may know of another without importing it.
//!
//! By name of the resource, as a dynamic object, so that kinds stay apart: which fields it has is the reader's business.

use kube::Api;
use kube::api::{ApiResource, DynamicObject};
use serde_json::Value;

use super::{Fault, World};
use crate::resource::GROUP;

/// Another object as it stands now.
#[derive(Clone, Debug, PartialEq)]
pub struct Reference {
    /// Tells lives of the same name apart.
    pub uid: String,
    /// True if Ready is True for the spec as it stands now: an older True says nothing about what was asked since.
    pub ready: bool,
    /// Its status; null while there is none.
    pub status: Value,
    /// Its spec.
    pub spec: Value,
}

impl World {
    /// The object of that name, or None. `plural` and `kind` are those of a CRD of this group.
    pub async fn reference(
        &self,
        plural: &str,
        kind: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Reference>, Fault> {
        let resource = ApiResource {
            group: GROUP.to_owned(),
            version: "v1alpha1".to_owned(),
            api_version: format!("{GROUP}/v1alpha1"),
            kind: kind.to_owned(),
            plural: plural.to_owned(),
        };
        let api: Api<DynamicObject> = Api::namespaced_with(self.kube.clone(), namespace, &resource);
        Ok(self.read(api.get_opt(name)).await?.map(|object| reference(&object)))
    }
}

fn reference(object: &DynamicObject) -> Reference {
    let part = |name: &str| object.data.get(name).cloned().unwrap_or_default();
    let status = part("status");
    let conditions = status["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let generation = object.metadata.generation.map(Value::from).unwrap_or_default();
    let ready = conditions.iter().any(|condition| {
        condition["type"] == "Ready"
            && condition["status"] == "True"
            && condition["observedGeneration"] == generation
    });
    let leaving = object.metadata.deletion_timestamp.is_some();
    Reference {
        uid: object.metadata.uid.clone().unwrap_or_default(),
        ready: ready && !leaving,
        spec: part("spec"),
        status,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(generation: i64, observed: i64, word: &str, leaving: bool) -> Reference {
        let mut object = json!({
            "apiVersion": "ecskms.dev/v1alpha1", "kind": "Thing",
            "metadata": {"name": "a", "uid": "u-1", "generation": generation},
            "spec": {"region": "cn-a"},
            "status": {"thingId": "t-1", "conditions": [
                {"type": "Ready", "status": word, "observedGeneration": observed}]},
        });
        if leaving {
            object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        reference(&serde_json::from_value(object).expect("an object"))
    }

    #[test]
    fn only_a_ready_that_speaks_of_the_present_spec_counts() {
        let now = read(2, 2, "True", false);
        assert!(now.ready);
        assert_eq!(
            (now.uid.as_str(), &now.status["thingId"], &now.spec["region"]),
            ("u-1", &json!("t-1"), &json!("cn-a"))
        );
        assert!(!read(3, 2, "True", false).ready, "the spec was changed since");
        assert!(!read(2, 2, "Unknown", false).ready);
        assert!(!read(2, 2, "True", true).ready, "what is leaving cannot be relied on");
    }

    #[test]
    fn an_object_without_status_is_not_ready() {
        let object = json!({"apiVersion": "ecskms.dev/v1alpha1", "kind": "Thing", "metadata": {"name": "a"}});
        let found = reference(&serde_json::from_value(object).expect("an object"));
        assert!(!found.ready && found.status.is_null() && found.spec.is_null());
    }
}
