//! Reads TensorBoard event files, as TensorBoard does: file after file in the order of their names.

use std::path::{Path, PathBuf};

use protobuf::Message;
use tensorboard_proto::event::Event;

/// The steps of every scalar in a folder's event files, as `(tag, step)`, in the order of reading.
pub fn scalars(folder: &Path) -> Vec<(String, i64)> {
    let entries = std::fs::read_dir(folder).expect("the folder exists");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("a folder can be listed").path()).collect();
    paths.sort();
    let mut all = Vec::new();
    for path in paths {
        let bytes = std::fs::read(&path).expect("a file can be read");
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let length = u64::from_le_bytes(rest[..8].try_into().expect("8 bytes")) as usize;
            let event = Event::parse_from_bytes(&rest[12..12 + length]).expect("an event");
            for value in event.get_summary().get_value() {
                all.push((value.get_tag().to_owned(), event.get_step()));
            }
            rest = &rest[12 + length + 4..];
        }
    }
    all
}
