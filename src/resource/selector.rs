//! A selector of namespaces by their labels, as Kubernetes' own `metav1.LabelSelector` reads.
//!
//! Bounded, and matched here, because the decision who may use an account must not hang on a query.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which namespaces, by their labels. Both parts must hold; an empty selector holds for every namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NamespaceSelector {
    /// Labels that the namespace must have with exactly these values. `kubernetes.io/metadata.name` is its name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub match_labels: BTreeMap<String, LabelValue>,
    /// Further demands, all of which must hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub match_expressions: Vec<LabelDemand>,
}

/// Value of a label: up to 63 characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct LabelValue(#[schemars(length(max = 63))] pub String);

/// One demand.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LabelDemand {
    /// Key of the label.
    #[schemars(length(min = 1, max = 317))]
    pub key: String,
    /// In and NotIn compare with `values`; Exists and DoesNotExist take none.
    pub operator: LabelOperator,
    /// Values to compare with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub values: Vec<LabelValue>,
}

/// How a label is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum LabelOperator {
    /// The label is there and has one of the values.
    In,
    /// The label is not there, or has none of the values.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is not there.
    DoesNotExist,
}

impl NamespaceSelector {
    /// What contradicts itself would select by accident, so it is refused.
    pub fn check(&self) -> Result<(), String> {
        for demand in &self.match_expressions {
            let compares = matches!(demand.operator, LabelOperator::In | LabelOperator::NotIn);
            if compares == demand.values.is_empty() {
                let key = super::check::quoted(&demand.key);
                return Err(match compares {
                    true => format!("the demand on {key} needs values"),
                    false => format!("the demand on {key} takes no values"),
                });
            }
        }
        Ok(())
    }

    /// True if a namespace with these labels is meant.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        let same = |(key, value): (&String, &LabelValue)| labels.get(key) == Some(&value.0);
        let holds = |demand: &LabelDemand| {
            let value = labels.get(&demand.key);
            let listed = value.is_some_and(|value| demand.values.iter().any(|one| one.0 == *value));
            match demand.operator {
                LabelOperator::In => listed,
                LabelOperator::NotIn => !listed,
                LabelOperator::Exists => value.is_some(),
                LabelOperator::DoesNotExist => value.is_none(),
            }
        };
        self.match_labels.iter().all(same) && self.match_expressions.iter().all(holds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selector(json: serde_json::Value) -> NamespaceSelector {
        serde_json::from_value(json).expect("a selector")
    }

    #[test]
    fn labels_are_matched_as_kubernetes_matches_them() {
        let labels =
            BTreeMap::from([("team".to_owned(), "a".to_owned()), ("env".to_owned(), "prod".to_owned())]);
        let demand = |operator: &str, values: &[&str]| serde_json::json!({ "matchExpressions": [{ "key": "team", "operator": operator, "values": values }] });
        for (json, expected) in [
            (serde_json::json!({}), true),
            (serde_json::json!({ "matchLabels": { "team": "a" } }), true),
            (serde_json::json!({ "matchLabels": { "team": "a", "env": "test" } }), false),
            (serde_json::json!({ "matchLabels": { "none": "" } }), false),
            (demand("In", &["b", "a"]), true),
            (demand("In", &["b"]), false),
            (demand("NotIn", &["b"]), true),
            (demand("NotIn", &["a"]), false),
            (demand("Exists", &[]), true),
            (demand("DoesNotExist", &[]), false),
        ] {
            assert_eq!(selector(json.clone()).matches(&labels), expected, "{json}");
        }
        let absent =
            serde_json::json!({ "matchExpressions": [{ "key": "x", "operator": "NotIn", "values": ["a"] }] });
        assert!(selector(absent).matches(&labels), "a label that is not there is not in any list");
    }

    #[test]
    fn a_demand_that_contradicts_itself_is_refused() {
        for (operator, values) in
            [("In", vec![]), ("NotIn", vec![]), ("Exists", vec!["a"]), ("DoesNotExist", vec!["a"])]
        {
            let json = serde_json::json!({ "matchExpressions": [{ "key": "team", "operator": operator, "values": values }] });
            assert!(selector(json).check().is_err(), "{operator}");
        }
        assert!(NamespaceSelector::default().check().is_ok());
    }
}
