//! Reads the lines of a file, each up to a maximum length.
//!
//! `BufRead::read_until` would read a file without line ends into memory whole; this reader stops storing at the limit
//! and skips to the next line end.

use std::fmt;
use std::io::{self, BufRead};

use crate::packed::Text;

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// One line, without its line end.
pub(super) enum Line<'a> {
    /// Nothing but white space.
    Blank,
    /// Longer than the limit; its bytes were discarded.
    TooLong,
    /// Anything else.
    Text(&'a [u8]),
}

/// Yields the lines of a file and counts them.
pub(super) struct Lines {
    source: Text,
    max_bytes: usize,
    buffer: Vec<u8>,
    number: usize,
    byte_order_mark: bool,
}

impl Lines {
    pub(super) fn new(source: Text, max_bytes: usize) -> Self {
        Self { source, max_bytes, buffer: Vec::new(), number: 0, byte_order_mark: false }
    }

    /// How many lines were read so far.
    pub(super) fn number(&self) -> usize {
        self.number
    }

    /// Whether the file began with a UTF-8 byte order mark, which is not part of the first line.
    pub(super) fn had_byte_order_mark(&self) -> bool {
        self.byte_order_mark
    }

    /// The next line; `None` at the end of the file.
    pub(super) fn advance(&mut self) -> io::Result<Option<Line<'_>>> {
        self.buffer.clear();
        let mut any_byte = false;
        let mut too_long = false;
        loop {
            let available = match self.source.fill_buf() {
                Ok(available) => available,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if available.is_empty() {
                break;
            }
            any_byte = true;
            let line_end = available.iter().position(|&byte| byte == b'\n');
            let part = &available[..line_end.unwrap_or(available.len())];
            too_long |= self.buffer.len() + part.len() > self.max_bytes;
            if !too_long {
                self.buffer.extend_from_slice(part);
            }
            let consumed = part.len() + usize::from(line_end.is_some());
            self.source.consume(consumed);
            if line_end.is_some() {
                break;
            }
        }
        if !any_byte {
            return Ok(None);
        }
        self.number += 1;
        if too_long {
            return Ok(Some(Line::TooLong));
        }
        let mut text = self.buffer.as_slice();
        if self.number == 1
            && let Some(rest) = text.strip_prefix(BYTE_ORDER_MARK)
        {
            self.byte_order_mark = true;
            text = rest;
        }
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        Ok(Some(if text.iter().all(u8::is_ascii_whitespace) { Line::Blank } else { Line::Text(text) }))
    }
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lines").field("number", &self.number).finish_non_exhaustive()
    }
}
