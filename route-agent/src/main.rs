//! The `hawser-route-agent` process.

fn main() {}
