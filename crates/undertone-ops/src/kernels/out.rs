//! Memory for the results of kernels.
//!
//! A buffer for a result is not zeroed first, which would cost up to a tenth of a matrix product. It is `MaybeUninit`
//! until a kernel has written it; the kernel then returns the same memory as initialized numbers.

use std::mem::MaybeUninit;

/// Memory for a product, which overwrites the memory or is added to it.
pub(crate) struct Out<'a> {
    data: &'a mut [MaybeUninit<f32>],
    accumulates: bool,
}

impl<'a> Out<'a> {
    /// Memory that the product overwrites; it need not be initialized.
    pub(crate) fn uninit(data: &'a mut [MaybeUninit<f32>]) -> Self {
        Self { data, accumulates: false }
    }

    /// Numbers that the product overwrites.
    pub(crate) fn overwrite(data: &'a mut [f32]) -> Self {
        Self { data: as_uninit(data), accumulates: false }
    }

    /// Numbers that the product is added to.
    pub(crate) fn add(data: &'a mut [f32]) -> Self {
        Self { data: as_uninit(data), accumulates: true }
    }

    pub(crate) fn len(&self) -> usize {
        self.data.len()
    }

    /// Whether the product is added to the memory, which is then initialized.
    pub(crate) fn accumulates(&self) -> bool {
        self.accumulates
    }

    pub(crate) fn as_mut_ptr(&mut self) -> *mut f32 {
        self.data.as_mut_ptr().cast()
    }

    /// The numbers.
    ///
    /// # Safety
    /// All of them have been written, or the memory accumulates.
    #[allow(unsafe_code)]
    pub(crate) unsafe fn into_numbers(self) -> &'a mut [f32] {
        // SAFETY: the caller guarantees that all numbers are initialized.
        unsafe { self.data.assume_init_mut() }
    }
}

/// Numbers viewed as memory that need not be initialized; kernels write only numbers to it.
#[allow(unsafe_code)]
fn as_uninit(data: &mut [f32]) -> &mut [MaybeUninit<f32>] {
    // SAFETY: both types have the same layout, and `Out` exposes the memory only as f32, so only numbers are written.
    unsafe { &mut *(std::ptr::from_mut(data) as *mut [MaybeUninit<f32>]) }
}

/// A vector of `length` numbers that `write` writes. By returning the whole memory as numbers, `write` proves that it
/// has initialized all of it.
///
/// # Panics
/// If `write` returns other memory, or only a part.
#[allow(unsafe_code)]
pub(crate) fn written(length: usize, write: impl for<'a> FnOnce(Out<'a>) -> &'a mut [f32]) -> Vec<f32> {
    let mut data = Box::new_uninit_slice(length);
    let numbers = std::ptr::from_ref(write(Out::uninit(&mut data)));
    let whole = std::ptr::from_ref(&*data) as *const [f32];
    assert!(std::ptr::eq(numbers, whole), "all of the memory is returned");
    // SAFETY: `write` returned a slice of numbers that is exactly this memory, so all of it is initialized.
    unsafe { data.assume_init() }.into_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ones<'a>(mut out: Out<'a>) -> &'a mut [f32] {
        let start = out.as_mut_ptr();
        #[allow(unsafe_code)]
        // SAFETY: every number is written.
        unsafe {
            (0..out.len()).for_each(|index| start.add(index).write(1.0));
            out.into_numbers()
        }
    }

    #[test]
    fn a_vector_holds_what_was_written() {
        assert_eq!(written(5, ones), [1.0; 5]);
        assert!(written(0, ones).is_empty());
    }

    #[test]
    #[should_panic(expected = "all of the memory")]
    fn a_part_of_the_memory_is_refused() {
        written(5, |out| &mut ones(out)[..3]);
    }
}
