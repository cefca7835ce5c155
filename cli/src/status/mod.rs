//! `hawser status`: one screen about a site.
//!
//! [`collect`] reads the site's objects and asks its gateways; [`assess`] judges what was found (pure); [`screen`] prints
//! it (pure). What gateways report comes from `hawser_api::report`.

pub mod assess;
pub mod cluster;
pub mod collect;
mod keys;
pub mod model;
mod next;
pub mod screen;

pub use assess::assess;
pub use model::{Inputs, Status};
