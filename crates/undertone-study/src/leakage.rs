//! Guards against testing a model on users that trained or selected it.

use std::path::Path;

use undertone_data::{Conversation, OverlapReport, Split, Stream, check_disjoint};
use undertone_files::InputError;
use undertone_train::Description;

/// Refuses to run a checkpoint on its training users, and to test it on the validation users that selected it,
/// whatever the settings say.
///
/// # Errors
/// Names the first such user.
pub(crate) fn require_unseen(
    description: &Description,
    path: &Path,
    streams: &[Stream],
    split: Split,
) -> Result<(), InputError> {
    let is_trained = |user: &String| description.trained_users.contains(user);
    let is_earlier = |user: &String| description.earlier_users.contains(user);
    let is_chosen = |user: &String| split == Split::Test && description.validated_users.contains(user);
    let seen = |user: &String| match () {
        () if is_trained(user) => Some("was trained on"),
        () if is_earlier(user) => Some("was trained, in a stage before, on"),
        () => is_chosen(user).then_some("was chosen by its loss on"),
    };
    match streams.iter().find_map(|stream| Some((seen(&stream.user)?, &stream.user))) {
        None => Ok(()),
        Some((how, user)) => Err(InputError::new(path, format!("{how} the user `{user}`, who would be scored"))
            .hint("leave `split` and `data` as they were in training, or score data of other users")),
    }
}

/// The overlap of the splits, counted from the conversations that are really in them.
///
/// # Panics
/// If a user, a task or a conversation is in two splits: the split is by user, so that is a defect of ours.
pub(crate) fn require_disjoint<'a>(parts: impl IntoIterator<Item = (Split, &'a Conversation)>) -> OverlapReport {
    let overlap = check_disjoint(parts);
    assert!(overlap.is_disjoint(), "splits overlap: {overlap:?}");
    overlap
}
