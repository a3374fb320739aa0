//! The operators on slices of CPU memory.

use std::borrow::Cow;

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use burn::tensor::{DType, Device, Tensor, TensorData};
use undertone_data::Document;

use crate::kernels::attention::{self, Numbers};
use crate::kernels::bf16::{self, PackedLhs, PackedRhs, Product, RightFactor};
use crate::kernels::matmul::{MatRef, Workers, multiply};
use crate::kernels::out::{Out, written};
use crate::kernels::{cross_entropy, elementwise};
use crate::operators::Operators;
use crate::precision::MatmulPrecision;
use crate::types::{
    Activation, AdamWStep, Attended, Heads, LinearBackward, LinearGradients, LowRank, Moments, NatsAndGradients,
    NormBackward, Rotation,
};
use crate::weight::{Side, Weight};

/// Positions whose logits exist at one time.
const CHUNK_POSITIONS: usize = 256;

/// Least number of rows for which packing both factors pays off.
const LEAST_ROWS: usize = 16;

/// Fused operators for tensors of Burn's `flex` backend.
#[derive(Debug, Clone, Copy)]
pub struct Fused {
    precision: MatmulPrecision,
}

/// A tensor's elements, row by row; copied only if the tensor is not contiguous.
struct Host(FlexTensor);

impl Host {
    fn of<const D: usize>(tensor: &Tensor<D>) -> Self {
        Self::owned(tensor.clone())
    }

    fn owned<const D: usize>(tensor: Tensor<D>) -> Self {
        let tensor = tensor.try_into_primitive::<Flex>().expect("a tensor of the device flex, outside autodiff");
        Self(if tensor.as_slice::<f32>().is_some() { tensor } else { tensor.to_contiguous() })
    }

    /// The elements, mutable; copied if another tensor shares them.
    fn slice_mut(&mut self) -> &mut [f32] {
        let (start, end) = self.0.layout().contiguous_offsets().expect("made contiguous");
        &mut self.0.storage_mut::<f32>()[start..end]
    }

    fn into_tensor<const D: usize>(self) -> Tensor<D> {
        Tensor::from_primitive::<Flex>(self.0)
    }
}

impl std::ops::Deref for Host {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        self.0.as_slice().expect("made contiguous")
    }
}

fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values, shape), &Device::flex())
}

/// A left factor of a product.
enum Factor<'a> {
    /// f32.
    Plain(MatRef<'a>),
    /// Packed bf16 tiles, and the parts per number.
    Packed(PackedLhs, usize),
}

/// A product that an adapter adds: factor · left right.
#[derive(Clone, Copy)]
struct Added<'a> {
    left: &'a Factor<'a>,
    right: MatRef<'a>,
    factor: f32,
}

impl Fused {
    /// Operators that multiply with weights at this precision.
    pub const fn new(precision: MatmulPrecision) -> Self {
        Self { precision }
    }

    /// The numbers that attention multiplies: f32 after a cache, where queries are few.
    fn numbers_of_attention(&self, has_past: bool) -> Numbers {
        match bf16::parts(self.precision) {
            Some(parts) if !has_past => Numbers::Bf16 { parts },
            _ => Numbers::F32,
        }
    }

    /// A left factor in the form that this precision needs.
    fn left<'a>(&self, matrix: MatRef<'a>) -> Factor<'a> {
        match bf16::parts(self.precision) {
            Some(parts) if matrix.rows >= LEAST_ROWS => Factor::Packed(PackedLhs::new(matrix, parts), parts),
            _ => Factor::Plain(matrix),
        }
    }

    /// `out (+)= factor · left right`; returns the numbers of `out`.
    fn times<'a>(&self, out: Out<'a>, left: &Factor<'_>, right: MatRef<'_>, factor: f32) -> &'a mut [f32] {
        match left {
            Factor::Plain(left) => multiply(out, *left, right, factor, Workers::All),
            Factor::Packed(left, parts) => {
                let right = RightFactor::Plain { matrix: right, factor, parts: *parts };
                bf16::multiply(out, &[Product { left, right }])
            }
        }
    }

    /// `out (+)= left Wᵀ`, or `left W`, plus what an adapter adds; returns the numbers of `out`.
    fn times_weight<'a>(
        &self,
        out: Out<'a>,
        left: &Factor<'_>,
        (weight, side): (Weight<'_>, Side),
        added: Option<Added<'_>>,
    ) -> &'a mut [f32] {
        let [rows, columns] = weight.value.dims();
        let value = Host::of(weight.value);
        let matrix = side.rhs(MatRef::new(&value, rows, columns));
        // With few rows, the product takes as long as reading the weight, and the bf16 copy is half as large.
        let packed = match left {
            Factor::Plain(rows) if bf16::parts(self.precision) == Some(1) && weight.copies.is_some() => {
                Some(Factor::Packed(PackedLhs::new(*rows, 1), 1))
            }
            _ => None,
        };
        let Factor::Packed(left, parts) = packed.as_ref().unwrap_or(left) else {
            let out = self.times(out, left, matrix, 1.0);
            return match added {
                None => out,
                Some(Added { left, right, factor }) => self.times(Out::add(out), left, right, factor),
            };
        };
        let is_one_part = || bf16::is_one_part(&value);
        let right = match weight.copies {
            Some(copies) if *parts == 1 || copies.is_one_part(is_one_part) => {
                RightFactor::Tiles(copies.get(side, || PackedRhs::new(matrix, 1)))
            }
            _ => RightFactor::Plain { matrix, factor: 1.0, parts: *parts },
        };
        let mut products = vec![Product { left, right }];
        if let Some(Added { left: Factor::Packed(left, parts), right: matrix, factor }) = added {
            products.push(Product { left, right: RightFactor::Plain { matrix, factor, parts: *parts } });
        }
        let out = bf16::multiply(out, &products);
        match added {
            Some(Added { left: left @ Factor::Plain(_), right, factor }) => {
                self.times(Out::add(out), left, right, factor)
            }
            _ => out,
        }
    }

    /// A matrix of `shape`: written by `write`, or `earlier` plus what `write` adds to it.
    fn sum(
        earlier: Option<Tensor<2>>,
        shape: [usize; 2],
        write: impl for<'a> FnOnce(Out<'a>) -> &'a mut [f32],
    ) -> Tensor<2> {
        match earlier {
            None => tensor(written(shape[0] * shape[1], write), shape),
            Some(earlier) => {
                let mut sum = Host::owned(earlier);
                write(Out::add(sum.slice_mut()));
                sum.into_tensor()
            }
        }
    }
}

/// x ∘ mask, or x itself.
fn masked<'a>(x: &'a [f32], mask: Option<&Tensor<2>>) -> Cow<'a, [f32]> {
    mask.map_or(Cow::Borrowed(x), |mask| Cow::Owned(elementwise::product(x, &Host::of(mask))))
}

impl Operators for Fused {
    fn rms_norm(&self, x: &Tensor<2>, weight: &Tensor<2>, epsilon: f64) -> Tensor<2> {
        tensor(elementwise::rms_norm(&Host::of(x), &Host::of(weight), epsilon as f32), x.dims())
    }

    fn rms_norm_backward(&self, arguments: NormBackward<'_>) -> (Tensor<2>, Option<Tensor<2>>) {
        let NormBackward { x, weight, epsilon, d_y, d_x, weight_gradient } = arguments;
        let mut out = Host::owned(d_x);
        let (x, weight, d_y) = (Host::of(x), Host::of(weight), Host::of(d_y));
        elementwise::rms_norm_backward(&x, &weight, epsilon as f32, &d_y, out.slice_mut());
        let d_weight = weight_gradient.then(|| {
            let width = weight.len();
            tensor(elementwise::rms_norm_d_weight(&x, &d_y, width, epsilon as f32), [1, width])
        });
        (out.into_tensor(), d_weight)
    }

    fn rotate(&self, x: Tensor<2>, rotation: &Rotation, back: bool) -> Tensor<2> {
        let mut x = Host::owned(x);
        let widths = [rotation.width, rotation.cos.dims()[1]];
        let direction = if back { -1.0 } else { 1.0 };
        elementwise::rotate(x.slice_mut(), &Host::of(&rotation.cos), &Host::of(&rotation.sin), widths, direction);
        x.into_tensor()
    }

    fn gated(&self, activation: Activation, gate: &Tensor<2>, up: &Tensor<2>) -> Tensor<2> {
        tensor(elementwise::gated(activation, &Host::of(gate), &Host::of(up)), gate.dims())
    }

    fn gated_backward(
        &self,
        activation: Activation,
        gate: &Tensor<2>,
        up: &Tensor<2>,
        d_out: Tensor<2>,
    ) -> [Tensor<2>; 2] {
        let mut d_gate = Host::owned(d_out);
        let d_up = elementwise::gated_backward(activation, &Host::of(gate), &Host::of(up), d_gate.slice_mut());
        [d_gate.into_tensor(), tensor(d_up, gate.dims())]
    }

    fn attend(&self, [q, k, v]: [&Tensor<2>; 3], heads: Heads, documents: &[Document]) -> Attended {
        let shape = q.dims();
        let numbers = self.numbers_of_attention(k.dims()[0] > shape[0]);
        let [q, k, v] = [q, k, v].map(Host::of);
        let [rows, logsumexp] = attention::attend(numbers, [&q, &k, &v], heads, documents);
        Attended { rows: tensor(rows, shape), logsumexp: Some(tensor(logsumexp, [shape[0], heads.heads])) }
    }

    fn attend_backward(
        &self,
        qkv: [&Tensor<2>; 3],
        attended: &Attended,
        d_out: &Tensor<2>,
        heads: Heads,
        documents: &[Document],
    ) -> [Tensor<2>; 3] {
        let shapes = qkv.map(Tensor::dims);
        let [q, k, v] = qkv.map(Host::of);
        let (qkv, d_out) = ([&*q, &*k, &*v], Host::of(d_out));
        let logsumexp = attended.logsumexp.as_ref().expect("the forward of these operators");
        let (rows, logsumexp) = (Host::of(&attended.rows), Host::of(logsumexp));
        let numbers = self.numbers_of_attention(false);
        let [d_q, d_k, d_v] = attention::attend_backward(numbers, qkv, [&rows, &logsumexp], &d_out, heads, documents);
        [tensor(d_q, shapes[0]), tensor(d_k, shapes[1]), tensor(d_v, shapes[2])]
    }

    fn linear(
        &self,
        x: &Tensor<2>,
        weight: Weight<'_>,
        low_rank: Option<&LowRank<'_>>,
        residual: Option<Tensor<2>>,
    ) -> (Tensor<2>, Option<Tensor<2>>) {
        let [tokens, width] = x.dims();
        let [columns, _] = weight.value.dims();
        let shape = [tokens, columns];
        let x = Host::of(x);
        let left = self.left(MatRef::new(&x, tokens, width));
        let weight = (weight, Side::Forward);
        let Some(adapter) = low_rank else {
            return (Self::sum(residual, shape, |out| self.times_weight(out, &left, weight, None)), None);
        };
        let rank = adapter.a.dims()[0];
        let (a, b) = (Host::of(adapter.a), Host::of(adapter.b));
        let (a, b) = (MatRef::new(&a, rank, width).transposed(), MatRef::new(&b, columns, rank).transposed());
        // The large result is allocated before the small one that outlives it: otherwise the small one could occupy
        // part of a free block of the large one's size.
        let mut hidden = Vec::new();
        let sum = Self::sum(residual, shape, |out| {
            hidden = written(tokens * rank, |out| match &adapter.mask {
                None => self.times(out, &left, a, 1.0),
                mask => {
                    let masked = masked(&x, mask.as_ref());
                    self.times(out, &self.left(MatRef::new(&masked, tokens, width)), a, 1.0)
                }
            });
            let hidden = self.left(MatRef::new(&hidden, tokens, rank));
            let added = Added { left: &hidden, right: b, factor: adapter.scale as f32 };
            self.times_weight(out, &left, weight, Some(added))
        });
        (sum, Some(tensor(hidden, [tokens, rank])))
    }

    fn linear_backward(&self, arguments: LinearBackward<'_>) -> LinearGradients {
        let LinearBackward { x, weight, low_rank, lora_hidden, d_y, d_x, weight_gradient } = arguments;
        let shape @ [tokens, width] = x.dims();
        let [columns, _] = weight.value.dims();
        let (x, d_y) = (Host::of(x), Host::of(d_y));
        let d_rows = MatRef::new(&d_y, tokens, columns);
        let left = self.left(d_rows);
        let weight = (weight, Side::Backward);
        let d_weight = || {
            let (left, right) = (self.left(d_rows.transposed()), MatRef::new(&x, tokens, width));
            tensor(written(columns * width, |out| self.times(out, &left, right, 1.0)), [columns, width])
        };
        let Some(adapter) = low_rank else {
            let input = Self::sum(d_x, shape, |out| self.times_weight(out, &left, weight, None));
            return LinearGradients { input, weight: weight_gradient.then(d_weight), low_rank: None };
        };
        let (rank, scale) = (adapter.a.dims()[0], adapter.scale as f32);
        let hidden = Host::of(lora_hidden.expect("the forward returned it"));
        let (a, b) = (Host::of(adapter.a), Host::of(adapter.b));
        let (a, b) = (MatRef::new(&a, rank, width), MatRef::new(&b, columns, rank));
        let mut d_hidden = Vec::new();
        let input = Self::sum(d_x, shape, |out| {
            d_hidden = written(tokens * rank, |out| self.times(out, &left, b, scale));
            let d_hidden = self.left(MatRef::new(&d_hidden, tokens, rank));
            let Some(mask) = &adapter.mask else {
                let added = Added { left: &d_hidden, right: a, factor: 1.0 };
                return self.times_weight(out, &left, weight, Some(added));
            };
            let sum = self.times_weight(out, &left, weight, None);
            let back = written(tokens * width, |out| self.times(out, &d_hidden, a, 1.0));
            elementwise::add_product(sum, &back, &Host::of(mask));
            sum
        });
        let masked = masked(&x, adapter.mask.as_ref());
        let masked = MatRef::new(&masked, tokens, width);
        let (hidden, d_hidden) = (MatRef::new(&hidden, tokens, rank), MatRef::new(&d_hidden, tokens, rank));
        let (mut d_a, mut d_b) = (vec![0.0; rank * width], vec![0.0; columns * rank]);
        let product = |out: &mut [f32], a: MatRef<'_>, b, factor| {
            multiply(Out::overwrite(out), a.transposed(), b, factor, Workers::One);
        };
        rayon::join(|| product(&mut d_a, d_hidden, masked, 1.0), || product(&mut d_b, d_rows, hidden, scale));
        LinearGradients {
            input,
            weight: weight_gradient.then(d_weight),
            low_rank: Some([tensor(d_a, [rank, width]), tensor(d_b, [columns, rank])]),
        }
    }

    fn nats(&self, x: &Tensor<2>, weight: Weight<'_>, targets: &[u32]) -> Tensor<1> {
        let [vocabulary, width] = weight.value.dims();
        let x = Host::of(x);
        let mut logits = Vec::new();
        let chunks = targets.chunks(CHUNK_POSITIONS).zip(x.chunks(CHUNK_POSITIONS * width));
        let nats = chunks.flat_map(|(ids, rows)| {
            logits.resize(ids.len() * vocabulary, 0.0);
            let left = self.left(MatRef::new(rows, ids.len(), width));
            self.times_weight(Out::overwrite(&mut logits), &left, (weight, Side::Forward), None);
            cross_entropy::nats(&mut logits, vocabulary, ids)
        });
        tensor(nats.collect(), [targets.len()])
    }

    fn nats_and_gradients(
        &self,
        x: &Tensor<2>,
        weight: Weight<'_>,
        targets: &[u32],
        scale: f64,
        weight_gradient: bool,
    ) -> NatsAndGradients {
        let [vocabulary, width] = weight.value.dims();
        let shape = x.dims();
        let x = Host::of(x);
        let mut d_x = vec![0.0; x.len()];
        let mut d_weight = weight_gradient.then(|| vec![0.0; vocabulary * width]);
        let (mut nats, mut logits) = (Vec::with_capacity(targets.len()), Vec::new());
        let chunks = targets.chunks(CHUNK_POSITIONS).zip(x.chunks(CHUNK_POSITIONS * width));
        for ((ids, rows), d_rows) in chunks.zip(d_x.chunks_mut(CHUNK_POSITIONS * width)) {
            logits.resize(ids.len() * vocabulary, 0.0);
            let rows = MatRef::new(rows, ids.len(), width);
            self.times_weight(Out::overwrite(&mut logits), &self.left(rows), (weight, Side::Forward), None);
            nats.extend(cross_entropy::nats_and_gradient(&mut logits, vocabulary, ids, scale as f32));
            let d_logits = MatRef::new(&logits, ids.len(), vocabulary);
            self.times_weight(Out::overwrite(d_rows), &self.left(d_logits), (weight, Side::Backward), None);
            if let Some(gradient) = &mut d_weight {
                self.times(Out::add(gradient), &self.left(d_logits.transposed()), rows, 1.0);
            }
        }
        let d_weight = d_weight.map(|gradient| tensor(gradient, [vocabulary, width]));
        NatsAndGradients { nats: tensor(nats, [targets.len()]), d_x: tensor(d_x, shape), d_weight }
    }

    fn adamw(
        &self,
        value: Tensor<2>,
        moments: Moments,
        gradient: &Tensor<2>,
        clip: &Tensor<1>,
        step: &AdamWStep,
    ) -> (Tensor<2>, Moments) {
        let [mut value, mut first, mut second] = [value, moments.first, moments.second].map(Host::owned);
        let slices = [value.slice_mut(), first.slice_mut(), second.slice_mut()];
        elementwise::adamw(slices, &Host::of(gradient), Host::of(clip)[0], step);
        (value.into_tensor(), Moments { first: first.into_tensor(), second: second.into_tensor() })
    }

    fn sum_of_squares(&self, x: &Tensor<2>) -> Tensor<1> {
        let sum = elementwise::sum_of_squares(&Host::of(x));
        Tensor::from_data(TensorData::new(vec![sum], [1]), (&Device::flex(), DType::F64))
    }
}
