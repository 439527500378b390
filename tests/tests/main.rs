//! Pyralog from the outside: the built binary, its wires, its files. One behaviour a module.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod architecture;
mod bad_input;
mod cluster_troubles;
mod corruption;
mod crash;
mod distributed;
mod federation;
mod full_disk;
mod garbage_bytes;
mod hard_sparql;
mod key_value;
mod latency;
mod life_cycle;
mod local_reads;
mod memory_limit;
mod metrics;
mod nemesis;
mod query_page;
mod requests;
mod rolling_restart;
mod sdk;
mod sparql_answers;
mod sparql_oracle;
mod sqllogic;
mod tpch;
mod uploads;
mod w3c_sparql;
