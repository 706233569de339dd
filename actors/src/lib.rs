//! The supervised actors of forecastd.
//!
//! ```text
//! MINER      feed ─CandleClosed─► candles ─WindowReady─► forecaster ─board─► responder ◄─HTTP─ validators
//!            columns ─board─┘
//! VALIDATOR  feed ─CandleClosed─► candles ◄─RealisedRequest─ evaluator ─ScoresUpdated─► weights ─► chain
//!                                              query ─RoundPending─┘
//! BOTH       metagraph ─board─► responder, query, evaluator, weights      housekeeper ─► store
//! ```
//!
//! One actor, one job, one file; each file's header says what the actor receives, sends and
//! promises. All run on one arbiter thread a node, under [`supervisor::Root`]. actix types stay in
//! this crate: the daemon starts, reloads and stops a whole [`tree::Tree`].

pub mod address_book;
pub mod candles;
pub mod columns;
pub mod drain;
pub mod error;
pub mod evaluator;
pub mod events;
pub mod faults;
pub mod feed;
pub mod forecaster;
pub mod guard;
pub mod housekeeper;
pub mod ledger;
pub mod metagraph;
mod model_input;
pub mod node;
mod persist;
pub mod query;
mod quota;
pub mod responder;
pub mod settings;
pub mod sources;
pub mod supervisor;
#[cfg(test)]
mod testing;
pub mod tree;
pub mod vitals;
pub mod weights;
