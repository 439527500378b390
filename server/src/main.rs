//! The `pyralog` binary.

use std::ffi::c_char;
use std::process::ExitCode;

use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Text that the allocator reads when it starts.
#[repr(transparent)]
struct AllocatorSettings(*const c_char);

// SAFETY: the pointer is to a constant that lives as long as the program and is never written.
unsafe impl Sync for AllocatorSettings {}

/// Freed memory goes back to the system within a second or so, by threads of the allocator's own: what queries let go of does not stay
/// in the resident size, and no query pays for giving it back. Few arenas keep fragments together.
// SAFETY: the allocator looks for a symbol of this name and of this layout (a pointer to text that ends in a zero byte).
#[unsafe(export_name = "_rjem_malloc_conf")]
static ALLOCATOR_SETTINGS: AllocatorSettings =
    AllocatorSettings(c"background_thread:true,max_background_threads:2,dirty_decay_ms:1000,muzzy_decay_ms:0,narenas:8".as_ptr());

fn main() -> ExitCode {
    pyralog_server::cli::main()
}
