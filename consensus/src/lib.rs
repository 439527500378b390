//! Consensus of Pyralog: the node's shared log, Raft groups (openraft behind one adapter), partition actors, commit timestamps, and the
//! meta group. It knows nothing of query languages, HTTP or Flight.

pub mod error;
pub mod meta;
pub mod node;
pub mod partition;

pub use error::{ConsensusError, Result};
pub use meta::{Meta, MetaChange, MetaExpect, MetaRevision};
pub use node::{Node, NodeConfig, NodeStatus};
pub use partition::PartitionHandle;
