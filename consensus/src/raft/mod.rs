//! The one adapter to openraft: types, log store, state machines, settings, and how a group is started. Nothing outside this folder
//! (but the handles' calls to propose) knows openraft.

pub mod applied;
pub mod apply_thread;
pub mod counts;
pub mod data_machine;
pub mod group;
pub mod journaled;
pub mod leadership;
pub mod log_store;
pub mod meta_machine;
pub mod network;
pub mod observer;
pub mod position;
pub mod promises;
pub mod proposal;
pub mod read_index;
pub mod requests;
pub mod retained;
pub mod rounds;
pub mod snapshot;
pub mod transactions;
pub mod types;
pub mod wire;
