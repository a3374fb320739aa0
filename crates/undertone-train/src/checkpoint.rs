//! A checkpoint is one file: trained weights, optimiser moments, and everything else that must survive a
//! restart. It is written whole or not at all.
//!
//! The file is safetensors. Its tensors are `weights/NAME`, `first/NAME` and `second/NAME`; the rest is one
//! JSON document in the header's metadata under `undertone`, an [`Envelope`] with checksums of everything. Equal states
//! give equal bytes.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use burn::tensor::{Tensor, TensorData};
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};
use undertone_data::ChatFormat;
use undertone_files::{InputError, Place, write_whole};
use undertone_model::{Decoder, Moments, SafetensorsHeader, TensorEntry};

use crate::envelope::{Envelope, METADATA_KEY, tensors_checksum};
use crate::optimizer::AdamW;

const HINT: &str =
    "a checkpoint is a file such as `checkpoints/NAME/ARM/best.safetensors`, written by `undertone train` or `ablate`";

/// The lowest validation loss so far.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Steps taken when it was measured.
    pub step: usize,
    /// Σ nats / Σ tokens.
    pub nats_per_token: f64,
}

/// What must survive a restart beyond weights and optimiser.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Steps taken.
    pub step: usize,
    /// Supervised tokens seen.
    pub supervised_tokens: u64,
    /// The lowest validation loss so far.
    pub best: Option<Best>,
    /// Steps that changed no weight, because the loss or the gradient was not finite; they count as taken.
    pub skipped_steps: usize,
    /// Validations since the lowest loss.
    pub validations_without_gain: usize,
    /// Whether the run has ended: all steps taken, or stopped early.
    pub finished: bool,
}

/// The metadata of a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Description {
    /// The resolved experiment, as TOML.
    pub experiment: String,
    /// SHA-256 of everything that determines the training: checkpoints with the same key belong to the same run.
    pub training_key: String,
    /// SHA-256 of the base model's weights.
    pub base_model: String,
    /// How turns were written. Checkpoints of earlier versions know only ChatML.
    #[serde(default = "ChatFormat::chatml")]
    pub chat_format: ChatFormat,
    /// Name of the experiment's arm.
    pub arm: String,
    /// Index of the experiment's fold, from 0.
    pub fold: usize,
    /// The seed of this training.
    pub seed: u64,
    /// The users whose conversations the model was trained on.
    pub trained_users: Vec<String>,
    /// The users whose loss chose the best checkpoint.
    pub validated_users: Vec<String>,
    /// The users whose conversations earlier trainings saw, with whose weights this one began.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier_users: Vec<String>,
    /// The state of the run.
    pub state: State,
}

impl Description {
    /// Metadata of a run that is about to start.
    pub fn new(
        experiment: String,
        training_key: String,
        base_model: String,
        arm: String,
        fold: usize,
        seed: u64,
    ) -> Self {
        Self {
            experiment,
            training_key,
            base_model,
            chat_format: ChatFormat::chatml(),
            arm,
            fold,
            seed,
            trained_users: Vec::new(),
            validated_users: Vec::new(),
            earlier_users: Vec::new(),
            state: State::default(),
        }
    }

    /// Reads the metadata of the checkpoint at `path`, without its tensors.
    ///
    /// # Errors
    /// No such file, not safetensors, not a checkpoint of this version, or changed after it was written.
    pub fn read(path: &Path) -> Result<Self, InputError> {
        Ok(envelope(path, &SafetensorsHeader::read(path)?)?.description)
    }
}

/// The checked document in the header of the checkpoint at `path`.
fn envelope(path: &Path, header: &SafetensorsHeader) -> Result<Envelope<Description>, InputError> {
    let json = header.metadata.get(METADATA_KEY).ok_or_else(|| {
        InputError::new(path, "has no `undertone` metadata, so it is not a checkpoint of this program").hint(HINT)
    })?;
    Envelope::open(path, json)
}

/// Writes a checkpoint beside `path` and moves it there.
///
/// # Errors
/// The folder cannot be written.
pub(crate) fn save(
    path: &Path,
    model: &Decoder,
    optimizer: Option<&AdamW>,
    description: &Description,
) -> Result<(), InputError> {
    let mut tensors: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
    let mut add = |name: String, tensor: &Tensor<2>| {
        let data = tensor.to_data().convert::<f32>();
        let values: Vec<f32> = data.try_to_vec().expect("converted to f32");
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        tensors.push((name, tensor.dims().to_vec(), bytes));
    };
    for parameter in model.parameters().into_iter().filter(|parameter| parameter.trainable) {
        add(format!("weights/{}", parameter.name), parameter.value());
    }
    for (name, moments) in optimizer.iter().flat_map(|optimizer| &optimizer.moments) {
        add(format!("first/{name}"), &moments.first);
        add(format!("second/{name}"), &moments.second);
    }
    let views = tensors.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes).expect("the bytes fit the shape");
        (name.as_str(), view)
    });
    let parts = tensors.iter().map(|(name, shape, bytes)| (name.as_str(), shape.as_slice(), bytes.as_slice()));
    let json = Envelope::seal(description.clone(), tensors_checksum(parts));
    let metadata = HashMap::from([(METADATA_KEY.to_owned(), json)]);
    let bytes = safetensors::serialize(views, Some(metadata)).expect("a checkpoint is valid safetensors");
    write_whole(path, &bytes)
}

/// A tensor that two checkpoints do not have in common.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// Its name.
    pub tensor: String,
    /// The largest absolute difference of two values.
    pub largest: f32,
}

/// A checkpoint read from a file.
#[derive(Debug)]
pub struct Checkpoint {
    /// Its metadata.
    pub description: Description,
    tensors: BTreeMap<String, TensorEntry>,
    bytes: Vec<u8>,
    path: std::path::PathBuf,
}

impl Checkpoint {
    /// Reads and checks a whole checkpoint.
    ///
    /// # Errors
    /// No such file, not safetensors, not a checkpoint of this version, or changed after it was written.
    pub fn read(path: &Path) -> Result<Self, InputError> {
        if path.is_dir() {
            return Err(InputError::new(path, "is a folder, not a checkpoint file").hint(HINT));
        }
        if path.exists() && !path.is_file() {
            return Err(InputError::new(path, "is not a regular file").hint(HINT));
        }
        let bytes = std::fs::read(path).map_err(|error| InputError::io(path, "read the checkpoint", &error))?;
        let header = SafetensorsHeader::parse(path, &bytes).map_err(|error| error.hint(HINT))?;
        let envelope = envelope(path, &header)?;
        let parts = header.tensors.iter();
        let parts = parts.map(|entry| (entry.name.as_str(), entry.shape.as_slice(), &bytes[entry.range.clone()]));
        envelope.check_tensors(path, parts)?;
        let tensors = header.tensors.into_iter().map(|entry| (entry.name.clone(), entry)).collect();
        Ok(Self { description: envelope.description, tensors, bytes, path: path.to_owned() })
    }

    /// Puts the trained weights into a model made from the same base and configuration.
    ///
    /// # Errors
    /// The checkpoint and the model do not have the same trainable parameters.
    pub fn restore_weights(&self, model: &mut Decoder) -> Result<(), InputError> {
        let device = model.device();
        let mut expected = 0;
        for parameter in model.parameters_mut().into_iter().filter(|parameter| parameter.trainable) {
            let name = format!("weights/{}", parameter.name);
            parameter.set(self.tensor(&name, parameter.value().dims(), &device)?);
            expected += 1;
        }
        let held = self.tensors.keys().filter(|name| name.starts_with("weights/")).count();
        if held != expected {
            let cause = format!("holds {held} trained tensors, the model has {expected}");
            return Err(InputError::new(&self.path, cause).hint("the checkpoint belongs to another configuration"));
        }
        Ok(())
    }

    /// The optimiser with the saved moments.
    ///
    /// # Errors
    /// The moments do not fit the model.
    pub fn restore_optimizer(&self, model: &Decoder) -> Result<AdamW, InputError> {
        let device = model.device();
        let mut optimizer = AdamW::default();
        let State { step, skipped_steps, .. } = self.description.state;
        for parameter in model.parameters().into_iter().filter(|parameter| parameter.trainable) {
            let read =
                |moment: &str| self.tensor(&format!("{moment}/{}", parameter.name), parameter.value().dims(), &device);
            if step > skipped_steps {
                optimizer
                    .moments
                    .insert(parameter.name.clone(), Moments { first: read("first")?, second: read("second")? });
            }
        }
        Ok(optimizer)
    }

    /// The number of its tensors.
    pub fn tensors(&self) -> usize {
        self.tensors.len()
    }

    /// The tensors of this checkpoint whose bytes another one does not have.
    pub fn differences(&self, other: &Self) -> Vec<Difference> {
        let bytes = |checkpoint: &Self, entry: &TensorEntry| checkpoint.bytes[entry.range.clone()].to_vec();
        let values = |bytes: &[u8]| -> Vec<f32> {
            bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
        };
        let compare = |(name, entry): (&String, &TensorEntry)| {
            let ours = bytes(self, entry);
            let theirs = other.tensors.get(name).map(|entry| bytes(other, entry)).unwrap_or_default();
            let pairs = values(&ours).into_iter().zip(values(&theirs));
            let largest = pairs.map(|(a, b)| (a - b).abs()).fold(0.0_f32, f32::max);
            (ours != theirs).then(|| Difference { tensor: name.clone(), largest })
        };
        self.tensors.iter().filter_map(compare).collect()
    }

    fn tensor(&self, name: &str, shape: [usize; 2], device: &burn::tensor::Device) -> Result<Tensor<2>, InputError> {
        let failed = |cause: String| {
            InputError::new(&self.path, cause)
                .at(Place::Named(name.into()))
                .hint("the checkpoint belongs to another configuration")
        };
        let entry = self.tensors.get(name).ok_or_else(|| failed("this tensor is missing".into()))?;
        if entry.shape != shape || entry.dtype != Dtype::F32 {
            return Err(failed(format!("is {:?} {:?}, the model needs F32 {shape:?}", entry.dtype, entry.shape)));
        }
        let values: Vec<f32> = self.bytes[entry.range.clone()]
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect();
        if let Some((index, value)) = values.iter().enumerate().find(|(_, value)| !value.is_finite()) {
            return Err(failed(format!("value {index} is `{value}`, not a finite number"))
                .hint("the training has diverged; use an earlier checkpoint, or train with a lower learning rate"));
        }
        Ok(Tensor::from_data(TensorData::new(values, shape), device))
    }
}
