//! The memory of ClientTokens: the same token with the same arguments gives the same answer, with others a
//! mismatch.
//!
//! Deliberately not a cache of reads: only the actions that document a ClientToken come here.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::parameters::Parameters;
use super::refusal::{Answer, Refusal};
use super::world::Moment;

/// The longest ClientToken, in characters.
pub const TOKEN_LENGTH_MAX: usize = 64;
/// The most tokens remembered; the oldest go first.
const TOKENS_MAX: usize = 100_000;

/// How one action treats ClientTokens.
#[derive(Clone, Copy, Debug)]
pub struct TokenRule {
    /// Status and code when a token comes back with other arguments.
    pub mismatch: (u16, &'static str),
    /// Status and code of a token that is too long or not ASCII.
    pub malformed: (u16, &'static str),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Remembered {
    arguments: Parameters,
    answer: Answer,
    until: Moment,
}

/// The remembered tokens, per action, region and token.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Tokens {
    #[serde(with = "super::keep::pairs")]
    remembered: BTreeMap<(String, String, String), Remembered>,
}

impl Tokens {
    /// The earlier answer to this very call; `None` if the call is new.
    pub fn recall(
        &self,
        rule: TokenRule,
        action: &str,
        region: &str,
        parameters: &Parameters,
        now: Moment,
    ) -> Result<Option<Answer>, Refusal> {
        let Some(token) = parameters.text("ClientToken") else { return Ok(None) };
        if token.len() > TOKEN_LENGTH_MAX || !token.is_ascii() {
            let text = "The specified ClientToken is longer than 64 characters or not ASCII.";
            return Err(Refusal::new(rule.malformed.0, rule.malformed.1, text));
        }
        // assumption: token-scope
        let key = (action.to_string(), region.to_string(), token.to_string());
        match self.remembered.get(&key).filter(|entry| entry.until > now) {
            None => Ok(None),
            Some(entry) if entry.arguments == *parameters => Ok(Some(entry.answer.clone())),
            Some(_) => {
                let text = "The specified ClientToken was used before with other parameters.";
                Err(Refusal::new(rule.mismatch.0, rule.mismatch.1, text))
            }
        }
    }

    /// Remembers an answer under the call's token, if it has one.
    pub fn remember(
        &mut self,
        action: &str,
        region: &str,
        parameters: &Parameters,
        answer: &Answer,
        now: Moment,
        until: Moment,
    ) {
        let Some(token) = parameters.text("ClientToken") else { return };
        if self.remembered.len() >= TOKENS_MAX {
            self.remembered.retain(|_, entry| entry.until > now);
        }
        if self.remembered.len() >= TOKENS_MAX {
            self.remembered.pop_first();
        }
        let key = (action.to_string(), region.to_string(), token.to_string());
        let entry = Remembered { arguments: parameters.clone(), answer: answer.clone(), until };
        self.remembered.insert(key, entry);
    }
}
