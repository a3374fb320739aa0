//! The primary comparison with other lengths of replies: whether a difference is recovered text that was cut.

use std::collections::BTreeSet;

use undertone_data::Split;
use undertone_stats::ItemRecord;

use crate::amendments::check_folder;
use crate::context::Context;
use crate::error::StudyError;
use crate::experiment::{Arm, ReplyTokens};
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

/// Trains and scores the two arms of the primary comparison with each other length of replies. Only items that are primary
/// with both lengths are primary.
pub(crate) fn other_replies(
    context: &Context<'_>,
    workers: usize,
    primary: &BTreeSet<String>,
) -> Result<Vec<OtherReplies>, StudyError> {
    let Context { base, observer, stop, .. } = *context;
    let mut all = Vec::new();
    for (tokens, experiment) in context.study.experiment.with_other_replies() {
        let path = experiment.data.path.as_slice()[0].clone();
        let mut study = Study::prepare(experiment, &path, &[])?;
        study.scores_untrained = false;
        study.require_targets()?;
        check_folder(&Context { study: &study, base, observer, stop })?.claim(&study.experiment)?;
        let thoughts = predict_thoughts(&Context { study: &study, base, observer, stop })?;
        study.set_predicted(thoughts);
        let here = study.primary_items(Split::Test);
        let context = Context { study: &study, base, observer, stop };
        let writer = MessageWriter::new(&study, &here)?;
        let ArmResults { arms, mut records, failed, .. } = run_arms(&context, &writer, workers)?;
        if let Some(failed) = failed.into_iter().next() {
            return Err(failed.error);
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
