//! What each command does. Each prints its data once, at the end, and says how it ended.

pub mod broker;
pub mod drain;
pub mod drill;
pub mod export;
pub mod join;
pub mod leave;
pub mod revoke;
pub mod rotate;
pub mod status;
pub mod token;
