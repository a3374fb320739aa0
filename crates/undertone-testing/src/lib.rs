//! Helpers that the tests of several crates share. No crate depends on this one outside of tests.
//!
//! [`folders`] finds real data and models, [`tiny`] has a random decoder in memory, [`tiny_folder`] the same kind of
//! model as files, [`program`] runs the built program, [`checkpoint`] takes
//! checkpoints apart, [`events`] reads TensorBoard files, [`endpoint`] is a chat server, [`python`] installs packages.

pub mod checkpoint;
pub mod endpoint;
pub mod events;
pub mod folders;
pub mod program;
pub mod python;
pub mod tiny;
pub mod tiny_folder;
