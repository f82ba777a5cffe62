//! Waits for the controllers: none of them may end before somebody asks for it.
//!
//! A controller that ended, or panicked, would leave its kind to nobody while the probes and the Lease say that all is well. So
//! the process ends with it, and another one takes over.

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

/// How long passes that have begun may take to finish after a request to stop.
const GRACE: Duration = Duration::from_secs(20);

/// Waits until `stop` turns true, or the first task ends without being asked. True if it was asked for.
pub async fn asked_to_stop(mut stop: watch::Receiver<bool>, tasks: &mut JoinSet<()>) -> bool {
    let asked = stop.clone();
    tokio::select! {
        biased;
        // An error means that the sender is gone, which is a request to stop as well.
        _ = stop.wait_for(|stop| *stop) => true,
        // A task may hear of the request, and end, before it is told here.
        Some(_) = tasks.join_next() => *asked.borrow() || asked.has_changed().is_err(),
    }
}

/// Waits for the passes that have begun; false if they did not finish in time.
pub async fn finish(tasks: &mut JoinSet<()>) -> bool {
    let all = async { while tasks.join_next().await.is_some() {} };
    tokio::time::timeout(GRACE, all).await.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;

    fn tasks(first: impl Future<Output = ()> + Send + 'static) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        tasks.spawn(std::future::pending());
        tasks.spawn(first);
        tasks
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_ends_or_panics_is_noticed_before_anybody_asks() {
        let (_stop, stopped) = watch::channel(false);
        assert!(!asked_to_stop(stopped.clone(), &mut tasks(async {})).await);
        let defect = async { assert_eq!(1, 2, "a defect") };
        assert!(!asked_to_stop(stopped, &mut tasks(defect)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_ends_because_it_was_asked_to_is_no_defect() {
        let (stop, stopped) = watch::channel(false);
        let mut heard = stopped.clone();
        let mut obedient = tasks(async move { drop(heard.wait_for(|stop| *stop).await) });
        let order = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let _ = stop.send(true);
        };
        let (asked, ()) = tokio::join!(asked_to_stop(stopped.clone(), &mut obedient), order);
        assert!(asked);
        let mut ended = tasks(async {});
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(asked_to_stop(stopped.clone(), &mut ended).await, "both at once");
        assert!(asked_to_stop(stopped, &mut JoinSet::new()).await, "no task at all");
    }
}
