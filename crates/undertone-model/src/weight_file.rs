//! Writes a safetensors file into a [`StagedFolder`].

use std::io::Write;

use half::{bf16, f16};
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use undertone_files::{InputError, StagedFolder, WriteError};

/// A tensor to be written; its values are requested once, when it is written.
pub struct Weight<'a> {
    /// Its name in the file.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its elements, row-major.
    pub values: Box<dyn Fn() -> Result<Vec<f32>, InputError> + 'a>,
}

/// Writes a safetensors file in the order given, one tensor in memory at a time.
///
/// The library's own `serialize_to_file` would leave a file that only its owner can read.
///
/// # Errors
/// Some values cannot be read, or the file cannot be written.
///
/// # Panics
/// If `dtype` is none of F32, F16 and BF16.
pub fn write_weights(
    staged: &mut StagedFolder,
    name: &str,
    weights: &[Weight<'_>],
    dtype: Dtype,
) -> Result<(), InputError> {
    let bytes = match dtype {
        Dtype::F32 => |value: f32| value.to_le_bytes().to_vec(),
        Dtype::F16 => |value: f32| f16::from_f32(value).to_le_bytes().to_vec(),
        Dtype::BF16 => |value: f32| bf16::from_f32(value).to_le_bytes().to_vec(),
        other => panic!("weights are not written as {other}"),
    };
    let mut end = 0;
    let infos = weights.iter().map(|weight| {
        let start = end;
        end += dtype.bitsize() / 8 * weight.shape.iter().product::<usize>();
        let shape = weight.shape.clone();
        (weight.name.clone(), TensorInfo { dtype, shape, data_offsets: (start, end) })
    });
    // transformers refuses files that do not say which framework wrote them.
    let format = [("format".to_owned(), "pt".to_owned())].into();
    let metadata = Metadata::new(Some(format), infos.collect()).expect("offsets follow one another");
    let mut header = serde_json::to_string(&metadata).expect("names and numbers are JSON");
    // Tensors begin at a multiple of 8 bytes; the format pads with spaces.
    header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(8) - header.len()));
    staged.write(name, |file| {
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(header.as_bytes())?;
        for weight in weights {
            let values = (weight.values)().map_err(WriteError::Input)?;
            let expected: usize = weight.shape.iter().product();
            assert_eq!(values.len(), expected, "`{}` has shape {:?}", weight.name, weight.shape);
            for value in values {
                file.write_all(&bytes(value))?;
            }
        }
        Ok(())
    })
}
