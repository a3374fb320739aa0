//! The primary comparison with other lengths of replies: whether a difference is recovered text that was cut.

use std::collections::BTreeSet;

use undertone_data::Split;
use undertone_files::InputError;
use undertone_stats::ItemRecord;

use crate::amendments::check_folder;
use crate::arms::Failed;
use crate::context::Context;
use crate::error::StudyError;
use crate::experiment::{Arm, Experiment, ReplyTokens};
use crate::jobs::predict_thoughts::predict_thoughts;
use crate::jobs::write::MessageWriter;
use crate::queue::{ArmResults, run_arms};
use crate::study::Study;

/// The records of the arms a and b of the primary comparison with another length of replies.
pub(crate) struct OtherReplies {
    /// The most tokens of a reply.
    pub(crate) tokens: ReplyTokens,
    pub(crate) records: [Vec<ItemRecord>; 2],
}

/// The primary comparison with another length of replies, ready to run.
pub(crate) struct PreparedReplies {
    /// The most tokens of a reply.
    pub(crate) tokens: ReplyTokens,
    /// The two arms and their models.
    pub(crate) study: Study,
}

/// Prepares the primary comparison with each other length of replies, so that what is wrong with one is known before anything
/// is trained.
///
/// # Errors
/// The conversations do not fit the context with this length, or an arm has no target.
pub(crate) fn prepare_other_replies(study: &Study) -> Result<Vec<PreparedReplies>, InputError> {
    // The stages are the same: they are trained with the first length.
    let start = &study.start;
    let prepare = |(tokens, experiment): (ReplyTokens, Experiment)| {
        let path = experiment.data.path.as_slice()[0].clone();
        let mut study = Study::prepare(experiment, &path, &[])?;
        study.scores_untrained = false;
        study.start.clone_from(start);
        study.require_targets()?;
        Ok(PreparedReplies { tokens, study })
    };
    study.experiment.with_other_replies().into_iter().map(prepare).collect()
}

/// Trains and scores the two arms of the primary comparison with each other length of replies. Only items that are primary
/// with both lengths are primary. A length at which an arm fails is left out with a warning.
pub(crate) fn other_replies(
    context: &Context<'_>,
    prepared: Vec<PreparedReplies>,
    workers: usize,
    primary: &BTreeSet<String>,
) -> Result<Vec<OtherReplies>, StudyError> {
    let Context { base, observer, stop, .. } = *context;
    let mut all = Vec::new();
    for PreparedReplies { tokens, mut study } in prepared {
        check_folder(&Context { study: &study, base, observer, stop })?.claim(&study.experiment)?;
        let thoughts = predict_thoughts(&Context { study: &study, base, observer, stop })?;
        study.set_predicted(thoughts);
        let here = study.primary_items(Split::Test);
        let context = Context { study: &study, base, observer, stop };
        let writer = MessageWriter::new(&study, &here)?;
        let ArmResults { arms, mut records, failed, .. } = match run_arms(&context, &writer, workers) {
            Err(error @ StudyError::Interrupted(_)) => return Err(error),
            Err(error) => {
                tracing::error!("replies of {tokens} tokens are left out: {error}");
                continue;
            }
            Ok(results) => results,
        };
        if let Some(Failed { arm, error }) = failed.first() {
            tracing::error!("replies of {tokens} tokens are left out, because the arm `{arm}` failed: {error}");
            continue;
        }
        for record in records.iter_mut().flatten() {
            record.primary = primary.contains(&record.item) && here.contains(&record.item);
        }
        let place = |arm: Option<&Arm>| arm.and_then(|arm| arms.iter().position(|one| one.name == arm.name));
        let pair = study.experiment.primary_pair().map(place).map(|place| place.expect("both arms were scored"));
        all.push(OtherReplies { tokens, records: pair.map(|place| records[place].clone()) });
    }
    Ok(all)
}
