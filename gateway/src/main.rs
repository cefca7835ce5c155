//! The `hawser-gateway` process.

fn main() {}
