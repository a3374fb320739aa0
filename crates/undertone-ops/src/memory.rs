//! Policy for freed memory.

/// Lets the allocator reuse freed memory. By default it returns the memory to the system and requests zeroed
/// pages again, which costs a tenth of a training step. For programs that train or score; call it first in
/// `main`, before any thread starts. Has an effect only on x86-64 Linux with glibc.
#[allow(unsafe_code)]
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
    // SAFETY: sets two options of the allocator; callers do so before any thread starts.
    unsafe {
        libc::mallopt(libc::M_MMAP_MAX, 0);
        libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX);
    }
}

/// Returns the memory that [`keep_freed_memory`] kept to the system, for a program that idles while others run.
#[allow(unsafe_code)]
pub fn release_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
    // SAFETY: returns only free pages of the allocator, which is thread-safe.
    unsafe {
        libc::malloc_trim(0);
    }
}
