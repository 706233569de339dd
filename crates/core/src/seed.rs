//! The reference subnet's behaviour where it differs from ours, faults included.
//!
//! Used by [`Compatibility::Seed`](crate::settings::Compatibility) and by the golden tests. New code
//! does not belong here: each function exists because recorded data of the reference needs it, and
//! each names the better one.

pub mod scoring;
pub mod weights;
