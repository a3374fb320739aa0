//! The operators on slices of CPU memory.

use std::borrow::Cow;

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use burn::tensor::{Device, Tensor, TensorData};
use undertone_data::Document;

use crate::kernels::attention::{self, Numbers};
use crate::kernels::bf16::{self, Left, Product, Right, RightFactor};
use crate::kernels::matmul::{View, Workers, multiply};
use crate::kernels::{cross_entropy, elementwise, unfilled};
use crate::operators::{AdamW, Attended, Heads, LinearGradients, LowRank, Moments, Operators, Rotation};
use crate::weight::{MatmulPrecision, Side, Weight};

/// Fused operators for tensors of Burn's `flex` backend.
#[derive(Debug, Clone, Copy)]
pub struct Fused {
    precision: MatmulPrecision,
}

/// A tensor's elements, row by row; copied only if they do not lie that way.
struct Host(FlexTensor);

impl Host {
    fn of<const D: usize>(tensor: &Tensor<D>) -> Self {
        Self::owned(tensor.clone())
    }

    fn owned<const D: usize>(tensor: Tensor<D>) -> Self {
        let tensor = tensor.try_into_primitive::<Flex>().expect("a tensor of the device flex, outside autodiff");
        Self(if tensor.as_slice::<f32>().is_some() { tensor } else { tensor.to_contiguous() })
    }

    /// The elements, to change them; copied if another tensor shares them.
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

fn tensor(values: Vec<f32>, shape: [usize; 2]) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values, shape), &Device::flex())
}

impl Fused {
    /// Operators that multiply with weights in this precision.
    pub const fn new(precision: MatmulPrecision) -> Self {
        Self { precision }
    }

    /// What attention multiplies; behind a cache, where queries are few, f32.
    fn numbers_of_attention(&self, has_past: bool) -> Numbers {
        match bf16::parts(self.precision) {
            Some(parts) if !has_past => Numbers::Bf16 { parts },
            _ => Numbers::F32,
        }
    }

    /// A left factor, in the form that this precision multiplies with.
    fn left<'a>(&self, matrix: View<'a>) -> Factor<'a> {
        match bf16::parts(self.precision) {
            Some(parts) if matrix.rows >= LEAST_ROWS => Factor::Tiles(Left::new(matrix, parts), parts),
            _ => Factor::Plain(matrix),
        }
    }

    /// `out (+)= factor · left right`.
    fn times(&self, out: &mut [f32], accumulate: bool, left: &Factor<'_>, right: View<'_>, factor: f32) {
        match left {
            Factor::Plain(left) => multiply(out, right.columns, accumulate, *left, right, factor, Workers::All),
            Factor::Tiles(left, parts) => {
                let right = RightFactor::Plain { matrix: right, factor, parts: *parts };
                bf16::multiply(out, accumulate, &[Product { left, right }]);
            }
        }
    }

    /// `out (+)= left Wᵀ`, or `left W`, and `factor · left right` of an adapter.
    fn times_weight(
        &self,
        out: &mut [f32],
        accumulate: bool,
        left: &Factor<'_>,
        (weight, side): (Weight<'_>, Side),
        adapter: Option<(&Factor<'_>, View<'_>, f32)>,
    ) {
        let [rows, columns] = weight.value.dims();
        let value = Host::of(weight.value);
        let matrix = side.of(View::new(&value, rows, columns));
        // Few rows take as long as the weight takes to be read, and its copy in bf16 is half as large.
        let cut = match left {
            Factor::Plain(rows) if bf16::parts(self.precision) == Some(1) && weight.copies.is_some() => {
                Some(Factor::Tiles(Left::new(*rows, 1), 1))
            }
            _ => None,
        };
        let Factor::Tiles(left, parts) = cut.as_ref().unwrap_or(left) else {
            self.times(out, accumulate, left, matrix, 1.0);
            if let Some((left, right, factor)) = adapter {
                self.times(out, true, left, right, factor);
            }
            return;
        };
        let whole = || bf16::is_one_part(&value);
        let right = match weight.copies {
            Some(copies) if *parts == 1 || copies.is_one_part(whole) => {
                RightFactor::Tiles(copies.get(side, || Right::new(matrix, 1)))
            }
            _ => RightFactor::Plain { matrix, factor: 1.0, parts: *parts },
        };
        let mut products = vec![Product { left, right }];
        if let Some((Factor::Tiles(left, parts), matrix, factor)) = adapter {
            products.push(Product { left, right: RightFactor::Plain { matrix, factor, parts: *parts } });
        }
        bf16::multiply(out, accumulate, &products);
        if let Some((left @ Factor::Plain(_), matrix, factor)) = adapter {
            self.times(out, true, left, matrix, factor);
        }
    }
}

/// Rows from which cutting both factors into tiles pays.
const LEAST_ROWS: usize = 16;

/// A left factor of a product.
enum Factor<'a> {
    /// In f32.
    Plain(View<'a>),
    /// In tiles, of so many parts.
    Tiles(Left, usize),
}

/// x ∘ mask, or x itself.
fn masked<'a>(x: &'a [f32], mask: Option<&Tensor<2>>) -> Cow<'a, [f32]> {
    mask.map_or(Cow::Borrowed(x), |mask| Cow::Owned(elementwise::product(x, &Host::of(mask))))
}

impl Operators for Fused {
    fn rms_norm(&self, x: &Tensor<2>, weight: &Tensor<2>, epsilon: f64) -> Tensor<2> {
        tensor(elementwise::rms_norm(&Host::of(x), &Host::of(weight), epsilon as f32), x.dims())
    }

    fn rms_norm_backward(
        &self,
        x: &Tensor<2>,
        weight: &Tensor<2>,
        epsilon: f64,
        d_y: &Tensor<2>,
        d_x: Tensor<2>,
        of_weight: bool,
    ) -> (Tensor<2>, Option<Tensor<2>>) {
        let mut out = Host::owned(d_x);
        let (x_host, weight_host, d_y_host) = (Host::of(x), Host::of(weight), Host::of(d_y));
        elementwise::rms_norm_backward(&x_host, &weight_host, epsilon as f32, &d_y_host, out.slice_mut());
        let d_weight = of_weight.then(|| {
            let width = weight_host.len();
            tensor(elementwise::rms_norm_d_weight(&x_host, &d_y_host, width, epsilon as f32), [1, width])
        });
        (out.into_tensor(), d_weight)
    }

    fn rotate(&self, x: Tensor<2>, rotation: &Rotation, back: bool) -> Tensor<2> {
        let mut x = Host::owned(x);
        let half = rotation.cos.dims()[1];
        let direction = if back { -1.0 } else { 1.0 };
        elementwise::rotate(x.slice_mut(), &Host::of(&rotation.cos), &Host::of(&rotation.sin), half, direction);
        x.into_tensor()
    }

    fn swiglu(&self, gate: &Tensor<2>, up: &Tensor<2>) -> Tensor<2> {
        tensor(elementwise::swiglu(&Host::of(gate), &Host::of(up)), gate.dims())
    }

    fn swiglu_backward(&self, gate: &Tensor<2>, up: &Tensor<2>, d_out: Tensor<2>) -> [Tensor<2>; 2] {
        let mut d_gate = Host::owned(d_out);
        let d_up = elementwise::swiglu_backward(&Host::of(gate), &Host::of(up), d_gate.slice_mut());
        [d_gate.into_tensor(), tensor(d_up, gate.dims())]
    }

    fn attend(&self, [q, k, v]: [&Tensor<2>; 3], heads: Heads, documents: &[Document]) -> Attended {
        let shape = q.dims();
        let numbers = self.numbers_of_attention(k.dims()[0] > shape[0]);
        let [q, k, v] = [q, k, v].map(Host::of);
        let [rows, log_sums] = attention::attend(numbers, [&q, &k, &v], heads, documents);
        Attended { rows: tensor(rows, shape), log_sums: Some(tensor(log_sums, [shape[0], heads.heads])) }
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
        let log_sums = attended.log_sums.as_ref().expect("what these operators attended to");
        let (rows, log_sums) = (Host::of(&attended.rows), Host::of(log_sums));
        let numbers = self.numbers_of_attention(false);
        let [d_q, d_k, d_v] = attention::attend_backward(numbers, qkv, [&rows, &log_sums], &d_out, heads, documents);
        [tensor(d_q, shapes[0]), tensor(d_k, shapes[1]), tensor(d_v, shapes[2])]
    }

    fn linear(
        &self,
        x: &Tensor<2>,
        weight: Weight<'_>,
        low_rank: Option<&LowRank<'_>>,
        plus: Option<Tensor<2>>,
    ) -> (Tensor<2>, Option<Tensor<2>>) {
        let [tokens, width] = x.dims();
        let [columns, _] = weight.value.dims();
        let x = Host::of(x);
        let accumulate = plus.is_some();
        let mut out = match plus {
            Some(plus) => Host::owned(plus),
            None => Host::owned(tensor(unfilled(tokens * columns), [tokens, columns])),
        };
        let left = self.left(View::new(&x, tokens, width));
        let Some(adapter) = low_rank else {
            self.times_weight(out.slice_mut(), accumulate, &left, (weight, Side::Forward), None);
            return (out.into_tensor(), None);
        };
        let rank = adapter.a.dims()[0];
        let mut low = unfilled(tokens * rank);
        let (a, b) = (Host::of(adapter.a), Host::of(adapter.b));
        let a = View::new(&a, rank, width).transposed();
        match &adapter.mask {
            None => self.times(&mut low, false, &left, a, 1.0),
            mask => {
                let masked = masked(&x, mask.as_ref());
                self.times(&mut low, false, &self.left(View::new(&masked, tokens, width)), a, 1.0);
            }
        }
        let b = View::new(&b, columns, rank).transposed();
        let low_left = self.left(View::new(&low, tokens, rank));
        let adapted = Some((&low_left, b, adapter.scale as f32));
        self.times_weight(out.slice_mut(), accumulate, &left, (weight, Side::Forward), adapted);
        let low = Some(tensor(low, [tokens, rank]));
        (out.into_tensor(), low)
    }

    fn linear_backward(
        &self,
        x: &Tensor<2>,
        weight: Weight<'_>,
        low_rank: Option<&LowRank<'_>>,
        low: Option<&Tensor<2>>,
        d_y: &Tensor<2>,
        d_x: Option<Tensor<2>>,
        of_weight: bool,
    ) -> LinearGradients {
        let [tokens, width] = x.dims();
        let [columns, _] = weight.value.dims();
        let (x, d_y) = (Host::of(x), Host::of(d_y));
        let accumulate = d_x.is_some();
        let mut out = match d_x {
            Some(d_x) => Host::owned(d_x),
            None => Host::owned(tensor(unfilled(tokens * width), [tokens, width])),
        };
        let d_rows = View::new(&d_y, tokens, columns);
        let left = self.left(d_rows);
        let weight_gradient = of_weight.then(|| {
            let mut gradient = unfilled(columns * width);
            self.times(&mut gradient, false, &self.left(d_rows.transposed()), View::new(&x, tokens, width), 1.0);
            tensor(gradient, [columns, width])
        });
        let Some(adapter) = low_rank else {
            self.times_weight(out.slice_mut(), accumulate, &left, (weight, Side::Backward), None);
            return LinearGradients { input: out.into_tensor(), weight: weight_gradient, low_rank: None };
        };
        let (rank, scale) = (adapter.a.dims()[0], adapter.scale as f32);
        let (a, b, low) = (Host::of(adapter.a), Host::of(adapter.b), Host::of(low.expect("the forward kept it")));
        let mut d_low = unfilled(tokens * rank);
        self.times(&mut d_low, false, &left, View::new(&b, columns, rank), scale);
        let d_low = View::new(&d_low, tokens, rank);
        let (a, d_low_left) = (View::new(&a, rank, width), self.left(d_low));
        match &adapter.mask {
            None => {
                let adapted = Some((&d_low_left, a, 1.0));
                self.times_weight(out.slice_mut(), accumulate, &left, (weight, Side::Backward), adapted);
            }
            Some(mask) => {
                self.times_weight(out.slice_mut(), accumulate, &left, (weight, Side::Backward), None);
                let mut back = unfilled(tokens * width);
                self.times(&mut back, false, &d_low_left, a, 1.0);
                elementwise::add_product(out.slice_mut(), &back, &Host::of(mask));
            }
        }
        let (mut d_a, mut d_b) = (unfilled(rank * width), unfilled(columns * rank));
        let input = masked(&x, adapter.mask.as_ref());
        rayon::join(
            || {
                let input = View::new(&input, tokens, width);
                multiply(&mut d_a, width, false, d_low.transposed(), input, 1.0, Workers::One);
            },
            || {
                let low = View::new(&low, tokens, rank);
                multiply(&mut d_b, rank, false, d_rows.transposed(), low, scale, Workers::One);
            },
        );
        let of_adapter = Some([tensor(d_a, [rank, width]), tensor(d_b, [columns, rank])]);
        LinearGradients { input: out.into_tensor(), weight: weight_gradient, low_rank: of_adapter }
    }

    fn nats(&self, x: &Tensor<2>, weight: Weight<'_>, targets: &[u32]) -> Vec<f32> {
        let [vocabulary, width] = weight.value.dims();
        let x = Host::of(x);
        let mut logits = Vec::new();
        let chunks = targets.chunks(CHUNK_POSITIONS).zip(x.chunks(CHUNK_POSITIONS * width));
        chunks
            .flat_map(|(ids, rows)| {
                logits.resize(ids.len() * vocabulary, 0.0);
                let left = self.left(View::new(rows, ids.len(), width));
                self.times_weight(&mut logits, false, &left, (weight, Side::Forward), None);
                cross_entropy::nats(&mut logits, vocabulary, ids)
            })
            .collect()
    }

    fn nats_and_gradient(
        &self,
        x: &Tensor<2>,
        weight: Weight<'_>,
        targets: &[u32],
        scale: f64,
        of_weight: bool,
    ) -> (Vec<f32>, Tensor<2>, Option<Tensor<2>>) {
        let [vocabulary, width] = weight.value.dims();
        let shape = x.dims();
        let x = Host::of(x);
        let mut d_x = unfilled(x.len());
        let mut d_weight = of_weight.then(|| vec![0.0; vocabulary * width]);
        let (mut nats, mut logits) = (Vec::with_capacity(targets.len()), Vec::new());
        let chunks = targets.chunks(CHUNK_POSITIONS).zip(x.chunks(CHUNK_POSITIONS * width));
        for ((ids, rows), d_rows) in chunks.zip(d_x.chunks_mut(CHUNK_POSITIONS * width)) {
            logits.resize(ids.len() * vocabulary, 0.0);
            let left = self.left(View::new(rows, ids.len(), width));
            self.times_weight(&mut logits, false, &left, (weight, Side::Forward), None);
            nats.extend(cross_entropy::nats_and_gradient(&mut logits, vocabulary, ids, scale as f32));
            let d_logits = View::new(&logits, ids.len(), vocabulary);
            self.times_weight(d_rows, false, &self.left(d_logits), (weight, Side::Backward), None);
            if let Some(gradient) = &mut d_weight {
                self.times(gradient, true, &self.left(d_logits.transposed()), View::new(rows, ids.len(), width), 1.0);
            }
        }
        (nats, tensor(d_x, shape), d_weight.map(|gradient| tensor(gradient, [vocabulary, width])))
    }

    fn adamw(&self, value: Tensor<2>, moments: Moments, gradient: &Tensor<2>, step: &AdamW) -> (Tensor<2>, Moments) {
        let [mut value, mut first, mut second] = [value, moments.first, moments.second].map(Host::owned);
        let gradient = Host::of(gradient);
        elementwise::adamw(value.slice_mut(), first.slice_mut(), second.slice_mut(), &gradient, step);
        (value.into_tensor(), Moments { first: first.into_tensor(), second: second.into_tensor() })
    }

    fn sum_of_squares(&self, x: &Tensor<2>) -> f64 {
        elementwise::sum_of_squares(&Host::of(x))
    }
}

/// Positions whose logits exist at one time.
const CHUNK_POSITIONS: usize = 256;
