//! Whether a fault says anything that status does not say already.

use super::conditions::Standing;
use crate::resource::{LastError, SharedStatus};

/// A fault that heals by itself does not take Ready away, and only the request id being new is no news. Where a human must
/// mend something, another text is: mending one thing may lay the next one bare.
pub fn is_old_news(shared: &SharedStatus, standing: &Standing, error: &LastError, message: &str) -> bool {
    let ready = shared.conditions.iter().find(|condition| condition.type_ == "Ready");
    let same_error = shared.last_error.as_ref().is_some_and(|before| {
        (&before.code, &before.class, &before.reason, before.generation)
            == (&error.code, &error.class, &error.reason, error.generation)
    });
    let same_reason = ready.is_some_and(|condition| condition.reason == standing.reason.as_str());
    let same_text = !standing.stalled
        || ready.is_some_and(|condition| without_request(&condition.message) == without_request(message));
    (is_ready(shared) && standing.reconciling) || (same_error && same_reason && same_text)
}

/// The text without the ids of requests, which are new each time.
fn without_request(message: &str) -> String {
    const MARK: &str = "[request ";
    let mut parts = message.split(MARK);
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.split_once(']').map_or(part, |(_, rest)| rest))
}

/// True if Ready is True.
pub fn is_ready(shared: &SharedStatus) -> bool {
    shared.conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_id_of_a_request_is_no_part_of_the_text() {
        assert_eq!(without_request("a [request A-1]. b"), without_request("a [request A-2]. b"));
        assert_ne!(without_request("a [request A-1]. b"), without_request("c [request A-1]. b"));
        assert_eq!(without_request("a [request cut off"), "a cut off");
        assert_eq!(without_request("plain"), "plain");
    }
}
