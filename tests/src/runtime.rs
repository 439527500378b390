//! The runtime that tests and benchmarks run their asynchronous parts on.

/// Runs a future to its end on a runtime of its own with two workers.
pub fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("runtime")
        .block_on(future)
}
