//! The memory adapter, for tests.
