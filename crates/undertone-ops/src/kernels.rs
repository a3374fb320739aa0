//! Operators on slices of f32, on all cores of a CPU.
//!
//! The order of every sum depends on the shapes alone, never on the number of threads: results do not depend on
//! the machine's load. Loops are written so that the compiler vectorises them; [`vectorised`] compiles them for
//! AVX-512 and AVX2 and picks one at run time.

pub(crate) mod attention;
pub(crate) mod bf16;
pub(crate) mod cross_entropy;
pub(crate) mod elementwise;
pub(crate) mod matmul;
pub(crate) mod out;
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

/// Numbers in a cache line.
pub(crate) const LINE: usize = 16;

/// One cache line of numbers.
#[derive(Debug, Clone, Copy, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(C, align(64))]
struct Line([f32; LINE]);

/// Numbers that begin at a cache line: tile registers load rows that straddle two lines at a quarter of the speed.
#[derive(Debug, Default)]
pub(crate) struct Aligned {
    lines: Vec<Line>,
    length: usize,
}

impl Aligned {
    /// The first `length` numbers, of unspecified value; memory grows as needed.
    pub(crate) fn first(&mut self, length: usize) -> &mut [f32] {
        self.length = length;
        let lines = length.div_ceil(LINE);
        if lines > self.lines.len() {
            self.lines = bytemuck::zeroed_vec(lines);
        }
        self
    }
}

impl std::ops::Deref for Aligned {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &bytemuck::cast_slice(&self.lines)[..self.length]
    }
}

impl std::ops::DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.length]
    }
}

/// Lanes of a sum: enough independent additions to fill the widest vectors.
pub(crate) const LANES: usize = 32;

/// Σ f(x₀, x₁, …) over slices of equal length, in [`LANES`] interleaved sums.
#[inline(always)]
pub(crate) fn sum<const N: usize>(slices: [&[f32]; N], f: impl Fn([f32; N]) -> f32) -> f32 {
    let length = slices[0].len();
    let slices = slices.map(|slice| &slice[..length]);
    let mut lanes = [0.0; LANES];
    let mut from = 0;
    while from + LANES <= length {
        let parts: [&[f32; LANES]; N] =
            slices.map(|slice| slice[from..from + LANES].try_into().expect("as many as lanes"));
        for (lane, sum) in lanes.iter_mut().enumerate() {
            *sum += f(parts.map(|part| part[lane]));
        }
        from += LANES;
    }
    let rest = (from..length).map(|index| f(slices.map(|slice| slice[index])));
    rest.fold(fold_lanes(lanes, |a, b| a + b), |total, x| total + x)
}

/// Folds all lanes into one number, by halves: a chain of 32 operations would take as long as 500 elements of a sum.
#[inline(always)]
pub(crate) fn fold_lanes(mut lanes: [f32; LANES], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] = f(lanes[lane], lanes[lane + half]);
        }
        half /= 2;
    }
    lanes[0]
}

/// eˣ with a relative error of about 1e-7, without a branch: Cody and Waite's reduction to |r| ≤ ln 2 / 2 and a
/// polynomial (Cephes `expf`). It uses fused multiply-adds, so it is fast only inside [`vectorised`].
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // Clamps x to [−87, 88], and NaN to −87, as vector instructions compare; `clamp` would check for NaN.
    let x = if x > -87.0 { x } else { -87.0 };
    let x = if x < 88.0 { x } else { 88.0 };
    // Adding 1.5·2²³ rounds to the nearest integer, which then fills the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    let rounded = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let power = rounded - ROUND;
    let r = power.mul_add(2.121_944_4e-4, power.mul_add(-0.693_359_4, x));
    let mut polynomial = 1.987_569_1e-4_f32;
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5, 1.0, 1.0] {
        polynomial = polynomial.mul_add(r, coefficient);
    }
    let two_to_power = f32::from_bits(rounded.to_bits().wrapping_add(127) << 23);
    polynomial * two_to_power
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
            let numbers: Vec<f32> = (0..length).map(|index| index as f32).collect();
            assert_eq!(super::sum([&numbers], |[x]| x), (0..length).sum::<usize>() as f32);
        }
    }
}
