//! Choice of the operators for a device.

use std::sync::Arc;

use burn::tensor::Device;

use crate::composed::Composed;
use crate::fused::Fused;
use crate::kernels::bf16;
use crate::operators::Operators;
use crate::precision::MatmulPrecision;

/// The fastest operators for a device; they multiply with weights at this precision.
pub fn operators(device: &Device, precision: MatmulPrecision) -> Arc<dyn Operators> {
    match *device == Device::flex() {
        true => Arc::new(Fused::new(precision)),
        false => Arc::new(Composed),
    }
}

impl MatmulPrecision {
    /// Whether this machine has the instructions for this precision; without them, products are computed in f32.
    pub fn is_supported(self) -> bool {
        self == Self::Highest || bf16::parts(self).is_some()
    }
}
