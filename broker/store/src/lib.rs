//! Where the broker keeps roster and records.
