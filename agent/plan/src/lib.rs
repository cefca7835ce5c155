//! What the agent decides: exports up; imports, slices, conditions, prefixes down. Pure.
