//! Consensus of Pyralog: the node's shared log, Raft groups (openraft behind one adapter), partition actors, commit timestamps, and the
//! meta group. It knows nothing of query languages, HTTP or Flight.

pub mod clock;
mod codec;
pub mod error;
pub mod log;
pub mod meta;
pub mod node;
pub mod partition;
pub mod peer;
mod raft;
mod runtime;
#[doc(hidden)]
pub mod simulation;

pub use error::{ConsensusError, Result};
pub use meta::{Meta, MetaChange, MetaExpect, MetaRevision};
pub use node::{Moment, Node, NodeConfig, NodeEnvironment, NodeStatus, PeerConfig, PinnedPartition};
pub use partition::PartitionHandle;
pub use peer::{Channel, PeerTls};
pub use raft::requests::{Done, Known, Request, RequestId, Tried};
pub use raft::types::Commit;
