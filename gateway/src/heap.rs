//! The process's heap.

use nix::libc::{M_ARENA_MAX, M_TOP_PAD, M_TRIM_THRESHOLD, malloc_trim, mallopt};

/// Bytes by which it grows and shrinks.
const STEP: i32 = 1 << 20;

/// One heap for all threads: the packet path allocates nothing, and what others leave free in heaps of their own is lost. To be
/// called before any other thread runs.
#[expect(unsafe_code, reason = "the allocator's settings have no safe interface")]
pub fn share() {
    for (setting, value) in [(M_ARENA_MAX, 1), (M_TOP_PAD, STEP), (M_TRIM_THRESHOLD, 2 * STEP)] {
        // SAFETY: sets a number, before any other thread runs. Where it is refused, only memory is lost.
        unsafe { mallopt(setting, value) };
    }
}

/// Gives back what many small things left free, as after a change of many peers.
#[expect(unsafe_code, reason = "the allocator has no safe interface for it")]
pub(crate) fn trim() {
    // SAFETY: may be called at any time, by any thread; returns only whether there was something.
    unsafe { malloc_trim(0) };
}
