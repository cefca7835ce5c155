//! Waiting for a condition, with what was last seen when it does not come.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Asks every 20 ms until `probe` gives a value.
///
/// # Errors
/// After `limit`, with `what` was waited for and what `probe` last saw.
pub fn wait_for<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        match probe() {
            Ok(value) => return Ok(value),
            Err(seen) if start.elapsed() >= limit => {
                bail!("{what}: not within {limit:?}; last seen: {seen:#}")
            }
            Err(_) => thread::sleep(Duration::from_millis(20)),
        }
    }
}
