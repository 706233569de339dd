//! The legacy synapse protocol between validators and miners, as SDK 10.5 speaks it.
//!
//! - [`Axon`]: the server of a neuron. It authenticates callers, bounds everything that they send
//!   and asks a [`SynapseHandler`] for commitments and forecasts.
//! - [`Dendrite`]: the client. It signs requests and decodes answers into checked values.
//! - [`tensor`]: the msgpack-numpy form in which forecasts travel.
//!
//! Only this crate knows header names, signed texts and body layouts. All clocks here are *real*
//! time: signatures are dated, whatever speed the market runs at.
//!
//! Where the SDK is unsafe, this crate is not: an unsigned request is refused, the identity is the
//! verified one of the headers (never that of the body), every request must be fresh whatever
//! version it claims, a nonce is accepted once per hotkey, and no line break reaches a header.

#![warn(clippy::indexing_slicing)]

mod axon;
mod dendrite;
mod error;
mod headers;
pub mod signing;
mod synapse;
pub mod tensor;

pub use axon::{
    Axon, AxonConfig, AxonCounters, AxonLimits, Caller, Refusal, SynapseHandler, VERSION,
};
pub use dendrite::{AxonTarget, Dendrite, DendriteConfig, Revealed};
pub use error::{QueryError, WireError};
pub use signing::LocalSigner;
pub use synapse::{ForecastRequest, Synapse};
