//! Tasks and shutdown.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::time::Duration;

use hawser_telemetry::{Shutdown, Task, Tasks};
use tokio::sync::oneshot;

#[tokio::test]
async fn the_first_failure_ends_all_and_is_named() {
    let shutdown = Shutdown::manual();
    let mut tasks = Tasks::new(shutdown.token());
    let token = tasks.token();
    tasks.spawn("early", async { Ok(()) });
    tasks.spawn("watcher", async move {
        token.cancelled().await;
        anyhow::bail!("second")
    });
    tasks.spawn("reader", async { anyhow::bail!("disk on fire") });
    let error = tasks.run(Duration::from_secs(60)).await.unwrap_err();
    assert_eq!(format!("{error:#}"), "reader: disk on fire");
    assert!(shutdown.token().is_cancelled());
}

#[tokio::test]
async fn a_panic_is_a_failure() {
    let mut tasks = Tasks::new(Shutdown::manual().token());
    tasks.spawn("bomb", async { panic!("boom") });
    let error = format!("{:#}", tasks.run(Duration::from_secs(60)).await.unwrap_err());
    assert!(error.starts_with("bomb: ") && error.contains("boom"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn stuck_tasks_are_aborted_after_the_drain() {
    let shutdown = Shutdown::manual();
    let mut tasks = Tasks::new(shutdown.token());
    let (held, dropped) = oneshot::channel::<()>();
    tasks.spawn("stuck", async move {
        let _held = held;
        std::future::pending().await
    });
    shutdown.trigger();
    tasks.run(Duration::from_secs(5)).await.unwrap();
    assert!(dropped.await.is_err(), "the stuck task must be gone");
}

#[tokio::test]
async fn all_tasks_ending_well_ends_the_run() {
    let mut tasks = Tasks::new(Shutdown::manual().token());
    tasks.spawn("only", async { Ok(()) });
    tasks.run(Duration::from_secs(60)).await.unwrap();
}

#[tokio::test]
async fn dropping_a_task_aborts_it() {
    let (held, dropped) = oneshot::channel::<()>();
    let task = Task::spawn("held", async move {
        let _held = held;
        std::future::pending().await
    });
    drop(task);
    assert!(dropped.await.is_err());
}
