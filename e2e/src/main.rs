//! The `hawser-demo` process.

fn main() {}
