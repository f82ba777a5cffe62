//! Makes one call of many: concurrent readings of single ids become one reading of up to a hundred.
//!
//! The first caller opens a window of a few milliseconds; who asks meanwhile joins. The call always starts
//! after the last caller joined, so an answer is never older than the question. Nothing is remembered
//! afterwards.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::oneshot;

use super::error::{Class, Error};
use super::ledger::locked;

/// How long the first caller waits for others.
pub(crate) const WINDOW: Duration = Duration::from_millis(5);
/// Ids per call: what DescribeDisks and DescribeSnapshots accept.
pub(crate) const IDS_MAX: usize = 100;
/// Callers per call, at most; a window with that many closes early.
const CALLERS_MAX: usize = 10_000;
/// Calls that one window may make when the cloud refuses some of its ids as invalid and the list must be
/// split.
const SPLITS_MAX: usize = 32;

/// What a caller waits for.
pub(crate) type Answer<T> = Result<Option<T>, Error>;
/// The ids of one window and who asked for them.
pub(crate) type Batch<T> = BTreeMap<String, Vec<oneshot::Sender<Answer<T>>>>;

/// The open windows, by region.
pub(crate) struct Gather<T> {
    open: Mutex<HashMap<String, Window<T>>>,
}

struct Window<T> {
    batch: Batch<T>,
    callers: usize,
}

/// What a caller that joined must start.
pub(crate) enum Start<T> {
    /// Nothing: somebody else did.
    Nothing,
    /// A timer, and at its end the call with what `take` returns.
    Timer,
    /// The call, at once: the window is full.
    Call(Batch<T>),
}

impl<T: Clone> Gather<T> {
    pub(crate) fn new() -> Self {
        Gather { open: Mutex::new(HashMap::new()) }
    }

    /// Joins the window of `region`, opening it if need be.
    pub(crate) fn join(&self, region: &str, id: &str) -> (oneshot::Receiver<Answer<T>>, Start<T>) {
        let (sender, receiver) = oneshot::channel();
        let mut open = locked(&self.open);
        let fresh = !open.contains_key(region);
        let window =
            open.entry(region.to_owned()).or_insert_with(|| Window { batch: Batch::new(), callers: 0 });
        window.batch.entry(id.to_owned()).or_default().push(sender);
        window.callers += 1;
        if window.batch.len() >= IDS_MAX || window.callers >= CALLERS_MAX {
            let batch = open.remove(region).map(|window| window.batch).unwrap_or_default();
            return (receiver, Start::Call(batch));
        }
        (receiver, if fresh { Start::Timer } else { Start::Nothing })
    }

    /// Closes the window of `region` and returns it; empty if it was closed already, being full.
    pub(crate) fn take(&self, region: &str) -> Batch<T> {
        locked(&self.open).remove(region).map(|window| window.batch).unwrap_or_default()
    }
}

/// Answers every caller of `batch` through `read`, which gets at most [`IDS_MAX`] ids and returns what it
/// found.
///
/// One id that the cloud finds invalid fails a whole list, so such a list is split until the culprit stands
/// alone.
pub(crate) async fn serve<T: Clone, R>(
    mut batch: Batch<T>,
    id_of: impl Fn(&T) -> &str,
    read: impl Fn(Vec<String>) -> R,
) where
    R: Future<Output = Result<Vec<T>, Error>>,
{
    let all: Vec<String> = batch.keys().cloned().collect();
    let mut lists = if all.is_empty() { Vec::new() } else { vec![all] };
    let mut calls = 0;
    while let Some(ids) = lists.pop() {
        calls += 1;
        match read(ids.clone()).await {
            Err(error) if splits(&error) && ids.len() > 1 && calls < SPLITS_MAX => {
                let (left, right) = ids.split_at(ids.len() / 2);
                lists.extend([left.to_vec(), right.to_vec()]);
            }
            result => {
                for id in ids {
                    let answer = match &result {
                        Ok(found) => Ok(found.iter().find(|item| id_of(item) == id).cloned()),
                        Err(error) => Err(error.clone()),
                    };
                    for caller in batch.remove(&id).unwrap_or_default() {
                        // A caller that has gone needs no answer.
                        let _ = caller.send(answer.clone());
                    }
                }
            }
        }
    }
}

fn splits(error: &Error) -> bool {
    error.class == Class::Invalid && error.http_status.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alibaba::Service;
    use crate::alibaba::error::Refusal;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn the_hundredth_id_closes_the_window_and_the_next_one_opens_another() {
        let gather: Gather<String> = Gather::new();
        let start = |id: usize| gather.join("cn-a", &format!("d-{id}")).1;
        assert!(matches!(start(0), Start::Timer));
        for id in 1..IDS_MAX - 1 {
            assert!(matches!(start(id), Start::Nothing));
        }
        assert!(matches!(start(0), Start::Nothing), "a known id takes no further place");
        let Start::Call(batch) = start(IDS_MAX - 1) else { panic!("full") };
        assert_eq!(batch.len(), IDS_MAX);
        assert!(gather.take("cn-a").is_empty());
        assert!(matches!(start(IDS_MAX), Start::Timer));
        assert!(matches!(gather.join("cn-b", "d-1").1, Start::Timer), "regions are apart");
    }

    #[tokio::test]
    async fn one_invalid_id_does_not_spoil_the_others() {
        let gather: Gather<String> = Gather::new();
        let ids: Vec<String> = (0..50).map(|number| format!("d-{number}")).collect();
        let receivers: Vec<_> = ids.iter().map(|id| gather.join("cn-a", id).0).collect();
        let calls = AtomicUsize::new(0);
        let read = |ids: Vec<String>| {
            calls.fetch_add(1, Ordering::SeqCst);
            async move {
                let refusal = Refusal {
                    http_status: 403,
                    code: "InvalidDiskIds.Malformed".to_owned(),
                    ..Refusal::default()
                };
                let spoiled = ids.iter().any(|id| id == "d-17");
                if spoiled {
                    Err(Error::from_refusal(Service::Ecs, "DescribeDisks", refusal))
                } else {
                    Ok(ids)
                }
            }
        };
        serve(gather.take("cn-a"), |id| id, read).await;
        for (id, receiver) in ids.iter().zip(receivers) {
            let answer = receiver.await.expect("answered");
            if id == "d-17" {
                assert_eq!(answer.expect_err("invalid").code, "InvalidDiskIds.Malformed");
            } else {
                assert_eq!(answer.expect("found").as_ref(), Some(id));
            }
        }
        assert!(calls.load(Ordering::SeqCst) <= 13, "{calls:?}");
    }

    #[tokio::test]
    async fn splitting_has_a_limit() {
        let gather: Gather<String> = Gather::new();
        let receivers: Vec<_> = (0..99).map(|number| gather.join("cn-a", &format!("d-{number}")).0).collect();
        let calls = AtomicUsize::new(0);
        let read = |_| {
            calls.fetch_add(1, Ordering::SeqCst);
            async {
                let refusal =
                    Refusal { http_status: 400, code: "NeverSeen".to_owned(), ..Refusal::default() };
                Err(Error::from_refusal(Service::Ecs, "DescribeDisks", refusal))
            }
        };
        serve(gather.take("cn-a"), |id| id, read).await;
        for receiver in receivers {
            assert!(receiver.await.expect("answered").is_err());
        }
        assert!(calls.load(Ordering::SeqCst) <= SPLITS_MAX * 2, "{calls:?}");
    }
}
