//! A call that changes the cloud, before it is made: for whoever wants to know what an effect stands for.

use std::collections::{BTreeMap, BTreeSet};

use super::Owner;
pub use crate::alibaba::ram::{ECS_ROLE_DESCRIPTION, ECS_ROLE_NAME, ECS_ROLE_POLICY, ecs_trust_policy};
use crate::resource::tag;

/// One call that an effect would make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The product, in the words of RAM: ecs, kms or ram.
    pub product: &'static str,
    /// The action.
    pub action: &'static str,
    /// Its parameters but for tags and the ClientToken, in the cloud's words.
    pub parameters: BTreeMap<String, String>,
    /// The tags that it sets, but for the object's uid, which no object has before it is there.
    pub tags: BTreeMap<String, String>,
}

impl Call {
    /// A call with these parameters.
    pub fn new<const COUNT: usize>(
        product: &'static str,
        action: &'static str,
        parameters: [(&str, &str); COUNT],
    ) -> Call {
        let parameters = parameters.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Call { product, action, parameters: BTreeMap::from(parameters), tags: BTreeMap::new() }
    }

    /// A creation of ECS with the request as it would be recorded.
    pub fn creation(action: &'static str, request: BTreeMap<String, String>) -> Call {
        let mut call = Call::new("ecs", action, []);
        for (name, value) in &request {
            match name.strip_prefix("Tag.").and_then(|rest| rest.strip_suffix(".Key")) {
                Some(index) if value != tag::UID => {
                    let text = request.get(&format!("Tag.{index}.Value")).cloned().unwrap_or_default();
                    call.tags.insert(value.clone(), text);
                }
                Some(_) => {}
                None if name.starts_with("Tag.") || name == "ClientToken" => {}
                None => drop(call.parameters.insert(name.clone(), value.clone())),
            }
        }
        call
    }

    /// One more parameter, if there is a value.
    pub fn with(mut self, name: &str, value: Option<impl ToString>) -> Call {
        self.parameters.extend(value.map(|value| (name.to_owned(), value.to_string())));
        self
    }

    /// The tags that it sets.
    pub fn tagged(mut self, tags: &[(String, String)]) -> Call {
        self.tags.extend(tags.iter().cloned());
        self
    }

    /// True if it takes something away that no other call gives back. Cancelling half a copy is none.
    pub fn deletes(&self) -> bool {
        self.action.starts_with("Delete")
    }

    /// The RAM actions that it takes. Whoever gives a role to an instance must also be allowed to pass it on.
    pub fn ram_actions(&self) -> BTreeSet<String> {
        let passes = self.parameters.contains_key("RamRoleName").then(|| "ram:PassRole".to_owned());
        let own = format!("{}:{}", self.product, self.action);
        passes.into_iter().chain([own]).collect()
    }
}

impl Owner {
    /// The same for an object that is not there yet: its uid, which is part of default names, is only known then.
    pub fn unborn(self) -> Owner {
        Owner { uid: "UID".to_owned(), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_creation_shows_its_parameters_and_tags_and_nothing_that_nobody_can_foresee() {
        let owner = Owner { cluster: "c".into(), namespace: "n".into(), name: "a".into(), uid: "u-1".into() };
        let mut request = owner.parameters("instance", 1);
        request.insert("RamRoleName".to_owned(), "web".to_owned());
        owner.add_tags(&mut request, &[("team".to_owned(), "x".to_owned())]);
        let call = Call::creation("RunInstances", request);
        assert_eq!(call.parameters, BTreeMap::from([("RamRoleName".to_owned(), "web".to_owned())]));
        assert_eq!(call.tags.get("team").map(String::as_str), Some("x"));
        assert_eq!((call.tags.len(), call.tags.contains_key(tag::UID)), (4, false));
        assert_eq!(Vec::from_iter(call.ram_actions()), ["ecs:RunInstances", "ram:PassRole"]);
    }
}
