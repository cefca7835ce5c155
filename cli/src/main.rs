//! The `hawser` process.

fn main() {}
