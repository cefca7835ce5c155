//! What a change of a thousand peers costs a lane: CPU time of its thread, during which its packets wait, as the gateway's own
//! report tells it. A TCP flow runs all the while.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use hawser_api::report::LaneLoadReport;

use crate::hawser::changing_ends;
use crate::iperf::Server;
use crate::runner::Plan;
use crate::samples::{Figure, Samples};
use crate::subject::Subject;

/// One flow's turn; the next follows at once.
const FLOW: Duration = Duration::from_secs(2);

/// Adds and removes a thousand peers in every round.
///
/// # Errors
/// When a program is missing, or the gateway does not follow.
pub fn measure(plan: Plan, root: &Path, samples: &mut Samples, tell: &mut dyn FnMut(&str)) -> Result<()> {
    let subject = Subject::Crowded(2);
    tell("setting up a gateway and a thousand to be its peers");
    let ([a, b], mut members) = changing_ends(subject, 2, root)?;
    let server = Server::start(&b.ns, b.inner, root)?;
    let running = AtomicBool::new(true);
    std::thread::scope(|scope| {
        let flow = scope.spawn(|| -> Result<()> {
            while running.load(Ordering::Relaxed) {
                server.tcp(&a.ns, a.inner, 1, FLOW)?;
            }
            Ok(())
        });
        let rounds = (0..plan.rounds).try_for_each(|round| -> Result<()> {
            let added = members.change(true)?;
            let removed = members.change(false)?;
            let most = |loads: &[LaneLoadReport], of: fn(&LaneLoadReport) -> u64| {
                loads.iter().map(of).max().unwrap_or_default() as f64
            };
            let (add, remove) = (most(&added, |l| l.last_change_us), most(&removed, |l| l.last_change_us));
            let control = most(&removed, |l| l.longest_control_us);
            ensure!(add > 0.0 && remove > 0.0, "the gateway tells nothing of its changes: {removed:?}");
            samples.add(Figure::PeersAdded, subject, add);
            samples.add(Figure::PeersRemoved, subject, remove);
            samples.add(Figure::Control, subject, control);
            tell(&format!(
                "round {} of {}: added {add} µs, removed {remove} µs, any turn {control} µs; {removed:?}",
                round + 1,
                plan.rounds
            ));
            Ok(())
        });
        running.store(false, Ordering::Relaxed);
        let flow = flow.join().expect("the flow does not panic");
        rounds.and(flow)
    })
}
