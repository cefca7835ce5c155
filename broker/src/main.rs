//! The `hawser-broker` process.

fn main() {}
