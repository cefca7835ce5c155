//! Network namespaces as hosts, for tests and the demo.
