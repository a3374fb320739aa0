//! The JSON document in the header of a checkpoint: a description, and checksums of it and of all tensors.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use undertone_files::{InputError, Place, digest_parts};

/// The version of the layout of checkpoints.
const FORMAT: u32 = 3;

/// The key of the document in the metadata of the safetensors header.
pub(crate) const METADATA_KEY: &str = "undertone";

/// A description with checksums.
#[derive(Serialize, Deserialize)]
pub(crate) struct Envelope<D> {
    format: u32,
    /// [`tensors_checksum`] of the file.
    pub(crate) tensors: String,
    /// The checksum of `tensors` and of the description, written without spaces.
    checksum: String,
    pub(crate) description: D,
}

impl<D: Serialize + DeserializeOwned> Envelope<D> {
    /// The document for a description and the checksum of the tensors.
    pub(crate) fn seal(description: D, tensors: String) -> String {
        let compact = serde_json::to_vec(&description).expect("a description is plain data");
        let checksum = digest_parts([tensors.as_bytes(), &compact]);
        let envelope = Self { format: FORMAT, tensors, checksum, description };
        serde_json::to_string(&envelope).expect("a description is plain data")
    }

    /// Reads and checks the document of the checkpoint at `path`. Only [`Self::check_tensors`] reads the tensors.
    ///
    /// # Errors
    /// The document is not of this version, or was changed after it was written.
    pub(crate) fn open(path: &Path, json: &str) -> Result<Self, InputError> {
        /// The part that every version can read.
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        let unreadable = |error: serde_json::Error| {
            InputError::new(path, format!("its metadata cannot be read: {error}")).at(Place::Named(METADATA_KEY.into()))
        };
        let Version { format } = serde_json::from_str(json).map_err(unreadable)?;
        if format != FORMAT {
            let cause = format!("was written in format {format}, this program reads format {FORMAT}");
            return Err(InputError::new(path, cause)
                .hint("train again, or use the version of `undertone` that wrote the checkpoint"));
        }
        let Envelope::<Value> { tensors, checksum, description, .. } =
            serde_json::from_str(json).map_err(unreadable)?;
        let compact = serde_json::to_vec(&description).expect("a description is plain data");
        if digest_parts([tensors.as_bytes(), &compact]) != checksum {
            return Err(InputError::changed(path));
        }
        let description = serde_json::from_value(description).map_err(unreadable)?;
        Ok(Self { format, tensors, checksum, description })
    }

    /// Checks the tensors of the checkpoint at `path`, which come as names, shapes and bytes.
    ///
    /// # Errors
    /// They were changed after they were written.
    pub(crate) fn check_tensors<'a>(
        &self,
        path: &Path,
        tensors: impl Iterator<Item = (&'a str, &'a [usize], &'a [u8])>,
    ) -> Result<(), InputError> {
        if tensors_checksum(tensors) == self.tensors { Ok(()) } else { Err(InputError::changed(path)) }
    }
}

/// The checksum of tensors: of `["NAME",SHAPE]` and the bytes of each, in the order of their names.
pub(crate) fn tensors_checksum<'a>(tensors: impl Iterator<Item = (&'a str, &'a [usize], &'a [u8])>) -> String {
    let mut sorted: Vec<_> = tensors.collect();
    sorted.sort_by_key(|(name, ..)| *name);
    let head = |name: &str, shape: &[usize]| serde_json::to_vec(&(name, shape)).expect("plain data");
    let heads: Vec<Vec<u8>> = sorted.iter().map(|(name, shape, _)| head(name, shape)).collect();
    digest_parts(heads.iter().zip(&sorted).flat_map(|(head, (_, _, bytes))| [head.as_slice(), bytes]))
}
