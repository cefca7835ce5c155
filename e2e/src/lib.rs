//! Scenarios on real processes, and the demo.
