//! Checkpoints that somebody has edited on purpose, with checksums that fit.

use serde_json::{Map, Value, json};
use undertone_files::digest;

use crate::tiny_folder::safetensors_parts;

/// A checkpoint in its parts.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The header, with the names, shapes and places of the tensors.
    pub header: Map<String, Value>,
    /// The document in the header's metadata.
    pub envelope: Value,
    /// The bytes of all tensors.
    pub data: Vec<u8>,
}

impl Parts {
    /// The parts of a checkpoint file.
    pub fn of(file: &[u8]) -> Self {
        let (header, data) = safetensors_parts(file);
        let envelope = header["__metadata__"]["undertone"].as_str().expect("a checkpoint has a document");
        let envelope = serde_json::from_str(envelope).expect("the document is JSON");
        Self { header, envelope, data: data.to_vec() }
    }

    /// Puts the checksums of description and tensors in.
    #[must_use]
    pub fn sealed(self) -> Self {
        self.try_sealed().expect("every tensor is in the file")
    }

    /// As [`Self::sealed`]; `None` if the header names bytes that the file does not have.
    pub fn try_sealed(mut self) -> Option<Self> {
        let tensors = self.checksum_of_tensors()?;
        self.envelope["checksum"] = json!(digest(format!("{tensors}{}", self.envelope["description"]).as_bytes()));
        self.envelope["tensors"] = json!(tensors);
        Some(self)
    }

    /// The file.
    pub fn file(&self) -> Vec<u8> {
        let mut header = Value::Object(self.header.clone());
        header["__metadata__"]["undertone"] = json!(self.envelope.to_string());
        let header = header.to_string();
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &self.data].concat()
    }

    /// The checksum of `["NAME",SHAPE]` and the bytes of each tensor, in the order of their names.
    fn checksum_of_tensors(&self) -> Option<String> {
        let mut names: Vec<&String> = self.header.keys().filter(|name| *name != "__metadata__").collect();
        names.sort();
        let mut bytes = Vec::new();
        for name in names {
            bytes.extend(json!([name, self.header[name]["shape"]]).to_string().into_bytes());
            let offset = |end: usize| self.header[name]["data_offsets"][end].as_u64().map(|offset| offset as usize);
            bytes.extend(self.data.get(offset(0)?..offset(1)?)?);
        }
        Some(digest(&bytes))
    }
}
