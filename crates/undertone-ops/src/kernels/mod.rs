//! Operators on slices of f32, on all cores of a CPU.
//!
//! Work is cut into pieces by the shapes alone, never by the number of threads, and every sum has one
//! order: results do not depend on the machine's load. Loops are written so that the compiler
//! vectorises them; [`vectorised`] compiles them for AVX-512 and AVX2 and picks one when the program runs.

pub(crate) mod amx;
pub(crate) mod attention;
pub(crate) mod cross_entropy;
pub(crate) mod elementwise;
pub(crate) mod matmul;
pub(crate) mod softmax;

/// Runs `f` compiled for the widest vectors this machine has.
#[inline(always)]
pub(crate) fn vectorised<R>(f: impl FnOnce() -> R) -> R {
    struct Call<F>(F);
    impl<R, F: FnOnce() -> R> pulp::NullaryFnOnce for Call<F> {
        type Output = R;
        #[inline(always)]
        fn call(self) -> R {
            (self.0)()
        }
    }
    pulp::Arch::new().dispatch(Call(f))
}

/// A buffer that a kernel is about to fill, every element of it.
#[allow(unsafe_code, clippy::uninit_vec)]
pub(crate) fn unfilled(length: usize) -> Vec<f32> {
    let mut buffer = Vec::with_capacity(length);
    // SAFETY: the capacity is there, any bytes are a valid f32, and callers write before they read.
    // Zeroing first would cost a tenth of a matrix product.
    unsafe { buffer.set_len(length) };
    buffer
}

/// Lanes of a sum: enough independent additions to fill the widest vectors.
pub(crate) const LANES: usize = 32;

/// Σ f(i) over `0..length` in [`LANES`] interleaved sums.
#[inline(always)]
pub(crate) fn sum(length: usize, f: impl Fn(usize) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let whole = length / LANES * LANES;
    let mut from = 0;
    while from < whole {
        for (lane, sum) in lanes.iter_mut().enumerate() {
            *sum += f(from + lane);
        }
        from += LANES;
    }
    let mut total = 0.0;
    for lane in lanes {
        total += lane;
    }
    for index in whole..length {
        total += f(index);
    }
    total
}

/// eˣ to about 1e-7 relative, without a branch: Cody and Waite's reduction to |r| ≤ ln 2 / 2 and a
/// polynomial (Cephes `expf`).
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    let x = x.clamp(-87.0, 88.0);
    // Adding and subtracting 1.5·2²³ rounds to the nearest integer.
    const ROUND: f32 = 12_582_912.0;
    let power = (x * std::f32::consts::LOG2_E + ROUND) - ROUND;
    let r = x - power * 0.693_359_4 - power * -2.121_944_4e-4;
    let mut polynomial = 1.987_569_1e-4;
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        polynomial = polynomial * r + coefficient;
    }
    let two_to_power = f32::from_bits(((power as i32 + 127) << 23) as u32);
    (polynomial * r * r + r + 1.0) * two_to_power
}

#[cfg(test)]
mod tests {
    #[test]
    fn exp_equals_the_standard_library_s() {
        for index in -8_600..8_700 {
            let x = index as f32 * 0.01;
            let expected = f64::from(x).exp();
            let error = (f64::from(super::exp(x)) - expected).abs() / expected;
            assert!(error < 3e-7, "exp({x}): {error:.1e}");
        }
    }

    #[test]
    fn sums_take_every_element_once() {
        for length in [0, 1, 31, 32, 33, 100] {
            assert_eq!(super::sum(length, |index| index as f32), (0..length).sum::<usize>() as f32);
        }
    }
}
