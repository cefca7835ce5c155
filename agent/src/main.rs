//! The `hawser-agent` process.

fn main() {}
