//! The local API over a directory of YAML manifests: a *site* (DESIGN section 5), for one host or for hosts that share a
//! file system with atomic rename.
//!
//! ```text
//! DIR/**/*.yaml                                 the operator's, several documents a file; never rewritten
//! DIR/secrets/                                  identity; never read here
//! DIR/generated/<process>-<node>/               what that process writes (the CLI: generated/cli/)
//!     <Kind>/<namespace>_<name>.yaml            its objects
//!     status/<Kind>/<namespace>_<name>.yaml     its statuses of any objects
//! DIR/generated/.locks/<name>                   who leads
//! ```
//!
//! The way of a change: `watch` hears of a file (inotify, and a rescan every second) → `tree` reads it by `read` and
//! settles who owns each object → the board of `hawser-local-api` tells the watches. Writes go through `own` to `write`,
//! and what is written is read the same way. What is wrong with a file is a [`Problem`], logged once; its last good version
//! stays in force.
//!
//! The trait and its typed client are `hawser-local-api`.

mod api;
mod args;
mod folder;
mod lead;
mod own;
mod problem;
mod read;
mod tree;
mod watch;
mod write;

pub use api::DirectoryApi;
pub use args::SiteArgs;
pub use problem::Problem;
