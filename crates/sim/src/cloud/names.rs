//! Names, numbers and durations derived from the seed: ids that look real, request ids, and small
//! deterministic variations.
//!
//! Deliberately holds no random number generator: the same seed and the same calls give the same world.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::refusal::Refusal;

/// The length of the changing part of an ECS id, after the region's three letters.
const BODY_LENGTH: usize = 17;

/// Hands out identifiers; every answer depends on the seed and on how many were handed out before.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Names {
    seed: u64,
    count: u64,
}

impl Names {
    /// A source of names for one world.
    pub fn new(seed: u64) -> Names {
        Names { seed, count: 0 }
    }

    /// An ECS id such as `m-bp1…`, `prefix` being `m`, `d`, `s` or `i`.
    pub fn ecs_id(&mut self, prefix: &str, region: &str) -> String {
        format!("{prefix}-{}{}", region_letters(region), &self.letters(prefix)[..BODY_LENGTH])
    }

    /// A lower-case UUID, as key ids of default keys are.
    pub fn uuid(&mut self) -> String {
        let hex = hex(&self.next("uuid"));
        format!("{}-{}-4{}-a{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..32])
    }

    /// A request id, which is an upper-case UUID.
    pub fn request_id(&mut self) -> String {
        self.uuid().to_ascii_uppercase()
    }

    /// The id of a key inside a KMS instance.
    pub fn instance_key_id(&mut self) -> String {
        format!("key-hzz{}", &self.letters("key")[..20])
    }

    /// Text that nobody could guess and that is recognisable as pretended.
    pub fn pretended_secret(&mut self, what: &str) -> String {
        format!("pretended-{what}-{}", &hex(&self.next(what))[..32])
    }

    /// A decimal number of eighteen digits, as role and user ids are.
    pub fn number(&mut self) -> String {
        let bytes = self.next("number");
        let digits = bytes.iter().take(15).map(|byte| char::from(b'0' + byte % 10));
        "300".chars().chain(digits).collect()
    }

    /// A factor between 0.8 and 1.2 that depends on the seed and `label` alone.
    pub fn variation(&self, label: &str) -> f64 {
        let digest = Sha256::digest(format!("{}|variation|{label}", self.seed));
        0.8 + 0.4 * f64::from(u16::from_be_bytes([digest[0], digest[1]])) / f64::from(u16::MAX)
    }

    fn letters(&mut self, label: &str) -> String {
        const ALPHABET: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
        self.next(label)
            .iter()
            .map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()]))
            .collect()
    }

    fn next(&mut self, label: &str) -> [u8; 32] {
        self.count += 1;
        Sha256::digest(format!("{}|{label}|{}", self.seed, self.count)).into()
    }
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The opaque token that continues a listing after `id`.
pub fn next_token(id: &str) -> String {
    URL_SAFE_NO_PAD.encode(format!("after {id}"))
}

/// The id in a token of `next_token`.
pub fn read_next_token(token: &str) -> Result<String, Refusal> {
    // assumption: bad-next-token
    let refusal = || Refusal::new(400, "InvalidNextToken", "The specified NextToken is not valid.");
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| refusal())?;
    let text = String::from_utf8(bytes).map_err(|_| refusal())?;
    text.strip_prefix("after ").map(str::to_string).ok_or_else(refusal)
}

fn region_letters(region: &str) -> &'static str {
    match region {
        "cn-hangzhou" => "bp1",
        "cn-shanghai" => "uf6",
        "cn-beijing" => "2ze",
        "cn-shenzhen" => "wz9",
        _ => "t4n",
    }
}
