//! TensorBoard event files in which every step stands once, also after a crash.
//!
//! Every start of a training opens a new file. First, it removes events of lost steps from the files of earlier starts,
//! as [`crate::log`] does with its lines. TensorBoard reads the files of a folder in the order of their names. A page that is
//! open meanwhile forgets the lost steps, too: the new file begins with a session start at the next step.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use protobuf::Message;
use tensorboard_proto::event::{Event, SessionLog, SessionLog_SessionStatus};
use tensorboard_proto::summary::Summary;
use tensorboard_rs::masked_crc32c::masked_crc32c;
use tensorboard_rs::record_writer::RecordWriter;
use tensorboard_rs::summary::scalar;
use undertone_files::InputError;

use crate::hyperparameters::{Hyperparameter, session_end, session_start};

/// The start of the names of event files; seconds since 1970 and the program follow.
const PREFIX: &str = "events.out.tfevents.";

/// The event file of a running training.
pub(crate) struct Events {
    file: File,
    path: PathBuf,
}

impl Events {
    /// Opens a new file in `folder`. Removes events of steps after `resumed_at`, and incomplete ones, from earlier files.
    ///
    /// # Errors
    /// The folder cannot be read or written.
    pub(crate) fn open(folder: &Path, resumed_at: usize) -> Result<Self, InputError> {
        std::fs::create_dir_all(folder).map_err(|error| InputError::io(folder, "create", &error))?;
        let mut newest = 0;
        for entry in std::fs::read_dir(folder).map_err(|error| InputError::io(folder, "read", &error))? {
            let entry = entry.map_err(|error| InputError::io(folder, "read", &error))?;
            if let Some(seconds) = entry.file_name().to_str().and_then(seconds_in_name) {
                newest = newest.max(seconds);
                cut(&entry.path(), resumed_at)?;
            }
        }
        // A clock that was set back must not put the new file before the old ones.
        let seconds = now().as_secs().max(newest + 1);
        let path = folder.join(format!("{PREFIX}{seconds:010}.undertone"));
        let file = OpenOptions::new().append(true).create_new(true).open(&path);
        let mut events = Self { file: file.map_err(|error| InputError::io(&path, "create", &error))?, path };
        let mut version = Event::new();
        version.set_file_version("brain.Event:2".to_owned());
        let mut start = Event::new();
        // TensorBoard forgets what it has read from this step on.
        start.set_step(resumed_at as i64 + 1);
        let mut session = SessionLog::new();
        session.set_status(SessionLog_SessionStatus::START);
        start.set_session_log(session);
        events.write([version, start])?;
        Ok(events)
    }

    /// Writes scalars of one step.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn scalars(&mut self, step: usize, scalars: &[(&str, f64)]) -> Result<(), InputError> {
        let event = |&(tag, value): &(&str, f64)| event_of(step, scalar(tag, value as f32));
        self.write(scalars.iter().map(event))
    }

    /// Writes with which values the run trains. Steps count from 1; this stands before them.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn begin(&mut self, hyperparameters: &[(String, Hyperparameter)]) -> Result<(), InputError> {
        self.write([event_of(0, session_start(hyperparameters, now().as_secs_f64()))])
    }

    /// Writes that the run has ended after `step` steps.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn end(&mut self, step: usize) -> Result<(), InputError> {
        self.write([event_of(step, session_end(now().as_secs_f64()))])
    }

    /// Waits until everything is on the disk.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn sync(&self) -> Result<(), InputError> {
        self.file.sync_data().map_err(|error| InputError::io(&self.path, "write TensorBoard events", &error))
    }

    fn write(&mut self, events: impl IntoIterator<Item = Event>) -> Result<(), InputError> {
        let mut bytes = Vec::new();
        let mut records = RecordWriter::new(&mut bytes);
        for mut event in events {
            event.set_wall_time(now().as_secs_f64());
            let event = event.write_to_bytes().expect("every field is set");
            records.write(&event).expect("written to memory");
        }
        let written = self.file.write_all(&bytes);
        written.map_err(|error| InputError::io(&self.path, "write TensorBoard events", &error))
    }
}

fn event_of(step: usize, summary: Summary) -> Event {
    let mut event = Event::new();
    event.set_step(step as i64);
    event.set_summary(summary);
    event
}

/// The time since 1970; zero if the clock is before.
fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The seconds in the name of an event file; `None` for other files.
fn seconds_in_name(name: &str) -> Option<u64> {
    name.strip_prefix(PREFIX)?.split('.').next()?.parse().ok()
}

/// Removes the events of steps after `last` and incomplete ones from a file, and the file if no scalar is left in it.
fn cut(path: &Path, last: usize) -> Result<(), InputError> {
    let failed = |error: std::io::Error| InputError::io(path, "shorten", &error);
    let bytes = std::fs::read(path).map_err(failed)?;
    let (mut kept, mut has_scalars) = (0, false);
    while let Some((event, length)) = first_event(&bytes[kept..]) {
        if event.step > last as u64 {
            break;
        }
        // Hyperparameters stand at step 0: a start without any step is as if it had not been.
        has_scalars |= event.has_summary && event.step > 0;
        kept += length;
    }
    if !has_scalars {
        return std::fs::remove_file(path).map_err(failed);
    }
    if kept < bytes.len() {
        OpenOptions::new().write(true).open(path).and_then(|file| file.set_len(kept as u64)).map_err(failed)?;
    }
    Ok(())
}

/// What decides whether an event stays.
struct Found {
    step: u64,
    has_summary: bool,
}

/// The event of the record at the start of `bytes`, and the record's length; `None` if it is incomplete or damaged.
///
/// A record is the length of its data (8 bytes, little-endian), a checksum of the length (4), the data, and their checksum (4).
fn first_event(bytes: &[u8]) -> Option<(Found, usize)> {
    let (length, rest) = bytes.split_first_chunk::<8>()?;
    let (check_of_length, rest) = rest.split_first_chunk::<4>()?;
    let data = rest.get(..usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    let check = rest[data.len()..].first_chunk::<4>()?;
    let is_whole = |data: &[u8], check: &[u8; 4]| masked_crc32c(data) == u32::from_le_bytes(*check);
    if !(is_whole(length, check_of_length) && is_whole(data, check)) {
        return None;
    }
    Some((found(data)?, 8 + 4 + data.len() + 4))
}

/// Reads the outermost fields of an event: the wire format of protocol buffers. The protobuf crate would recurse without end on
/// nested groups (RUSTSEC-2024-0437), which no event has.
fn found(mut data: &[u8]) -> Option<Found> {
    const STEP: u64 = 2;
    const SUMMARY: u64 = 5;
    let mut found = Found { step: 0, has_summary: false };
    while !data.is_empty() {
        let tag = varint(&mut data)?;
        let skipped = match tag & 7 {
            0 => {
                let value = varint(&mut data)?;
                if tag >> 3 == STEP {
                    found.step = value;
                }
                0
            }
            1 => 8,
            2 => usize::try_from(varint(&mut data)?).ok()?,
            5 => 4,
            _ => return None,
        };
        found.has_summary |= tag >> 3 == SUMMARY;
        data = data.get(skipped..)?;
    }
    Some(found)
}

/// Takes a number of seven bits a byte, lowest first, off the start of `data`.
fn varint(data: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = data.split_first()?;
        *data = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The steps with scalars in a folder, in the order in which TensorBoard reads them.
    fn steps(folder: &Path) -> Vec<u64> {
        let mut paths: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        let mut steps = Vec::new();
        for path in paths {
            let bytes = std::fs::read(path).unwrap();
            let mut rest = bytes.as_slice();
            while let Some((event, length)) = first_event(rest) {
                steps.extend(event.has_summary.then_some(event.step));
                rest = &rest[length..];
            }
            assert!(rest.is_empty(), "a damaged record is left");
        }
        steps
    }

    fn take(folder: &Path, resumed_at: usize, to: usize) {
        let mut events = Events::open(folder, resumed_at).unwrap();
        for step in resumed_at + 1..=to {
            events.scalars(step, &[("loss", 1.0)]).unwrap();
        }
        events.sync().unwrap();
    }

    #[test]
    fn lost_steps_are_cut_from_every_file() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        // A file of the far future: the clock was set back afterwards.
        take(folder, 0, 3);
        let first = std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
        std::fs::rename(first, folder.join("events.out.tfevents.5000000000.undertone")).unwrap();
        take(folder, 2, 7);
        take(folder, 5, 6);
        assert_eq!(steps(folder), [1, 2, 3, 4, 5, 6]);
        take(folder, 2, 4);
        assert_eq!(steps(folder), [1, 2, 3, 4]);
        take(folder, 0, 1);
        assert_eq!(steps(folder), [1]);
        assert_eq!(std::fs::read_dir(folder).unwrap().count(), 1, "files without a step are removed");
    }

    #[test]
    fn a_record_that_a_kill_cut_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        take(folder, 0, 3);
        let path = std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
        let whole = std::fs::read(&path).unwrap();
        for length in [whole.len() - 1, whole.len() - 5, whole.len() - 20] {
            std::fs::write(&path, &whole[..length]).unwrap();
            cut(&path, 3).unwrap();
            assert_eq!(steps(folder), [1, 2]);
        }
    }
}
