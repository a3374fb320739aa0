//! Packs several streams into one forward pass.
//!
//! A row is a flat sequence of tokens: linear layers process it whole, attention one document at a time, so packed
//! streams cannot see each other and no padding is computed.

use crate::stream::{Branch, Stream, Target};

/// One stream inside a row.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Document {
    /// The stream's id; dropout masks depend on the id, not on the place in a row.
    pub id: String,
    /// Its first token in the row.
    pub start: usize,
    /// Length of its trunk.
    pub trunk: usize,
    /// Its branches, spans counted from `start`.
    pub branches: Vec<Branch>,
    /// Its number of tokens.
    pub tokens: usize,
}

/// The tokens of one forward pass, and the targets among them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Row {
    /// All token ids.
    pub tokens: Vec<u32>,
    /// The position of each token along its own path.
    pub positions: Vec<u32>,
    /// The streams, in order.
    pub documents: Vec<Document>,
    /// Spans with a loss, counted from the row's first token, in order.
    pub targets: Vec<Target>,
}

impl Row {
    /// A row of the given streams, in this order.
    pub fn of<'a>(streams: impl IntoIterator<Item = &'a Stream>) -> Self {
        let mut row = Self::default();
        for stream in streams {
            row.push(stream);
        }
        row
    }

    fn push(&mut self, stream: &Stream) {
        let start = self.tokens.len();
        self.tokens.extend_from_slice(&stream.tokens);
        self.positions.extend(stream.positions());
        self.documents.push(Document {
            id: stream.id.clone(),
            start,
            trunk: stream.trunk,
            branches: stream.branches.clone(),
            tokens: stream.tokens.len(),
        });
        self.targets.extend(
            stream
                .targets
                .iter()
                .map(|target| Target { span: target.span.start + start..target.span.end + start, ..target.clone() }),
        );
    }

    /// The supervised tokens: `(index of the token that predicts, id to predict)`, target by target.
    pub fn supervised(&self) -> Vec<(usize, u32)> {
        self.targets
            .iter()
            .flat_map(|target| target.span.clone())
            .map(|index| (index - 1, self.tokens[index]))
            .collect()
    }
}

/// Packs streams into rows of at most `row_tokens`, in order; a longer stream gets a row of its own.
pub fn pack<'a>(streams: impl IntoIterator<Item = &'a Stream>, row_tokens: usize) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for stream in streams {
        match rows.last_mut() {
            Some(row) if row.tokens.len() + stream.tokens.len() <= row_tokens => row.push(stream),
            _ => rows.push(Row::of([stream])),
        }
    }
    rows
}
