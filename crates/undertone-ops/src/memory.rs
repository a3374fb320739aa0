//! What happens to freed memory.

/// Lets the allocator keep what is freed for what is asked for next, instead of handing it to the system
/// and taking zeroed pages again: a tenth of a training step. For programs that train or score; call it
/// first. Does something on Linux with glibc only.
#[allow(unsafe_code)]
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
    // SAFETY: two settings of the allocator, made before any thread is started.
    unsafe {
        libc::mallopt(libc::M_MMAP_MAX, 0);
        libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX);
    }
}

/// Hands what [`keep_freed_memory`] has kept to the system: for a program that will be idle beside others.
#[allow(unsafe_code)]
pub fn release_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
    // SAFETY: gives back whole free pages of the allocator, which guards itself.
    unsafe {
        libc::malloc_trim(0);
    }
}
