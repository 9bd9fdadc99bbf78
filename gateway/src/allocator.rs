//! The program's allocator.
//!
//! # Safety
//! `mi_collect` is declared as in `mimalloc.h`, of the library that the `mimalloc` crate links. It takes no pointer, may be
//! called by any thread at any time, and frees only what was freed before.
#![allow(unsafe_code)]

/// What a session holds is small and of few sizes: it takes a fifth less memory, and a connect less time, than with the C
/// library's allocator. A delivery allocates nothing.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

unsafe extern "C" {
    fn mi_collect(force: bool);
}

/// Gives pages that the calling thread has freed back to the system. By itself the allocator does so only as it is asked
/// for more, and keeps some.
pub fn give_back() {
    // SAFETY: as said above.
    unsafe { mi_collect(true) }
}
