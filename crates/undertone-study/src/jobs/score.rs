//! Scores a model on the held-out users of a fold, under the view of an arm.

use std::time::Instant;

use undertone_data::Split;
use undertone_files::InputError;
use undertone_model::Decoder;
use undertone_score::{KnownRows, score};
use undertone_stats::{ItemRecord, metrics, read_records, write_records};
use undertone_train::record_scores;

use crate::arms::{Evaluated, Training};
use crate::artifact::CachedFile;
use crate::context::Context;
use crate::error::StudyError;
use crate::fingerprint;
use crate::names::RECORDS;
use crate::observer::Event;

/// The file with the scores of an arm in one training.
pub(crate) fn scores_file(context: &Context<'_>, arm: &Evaluated, training: Training) -> CachedFile {
    let Context { study, base, .. } = context;
    let path = study.training_folder(&arm.name, training).join(RECORDS);
    CachedFile::new(path, fingerprint::of_records(study, base, arm, training))
}

/// Scores a model on held-out users, or reads the scores that exist. `known` holds rows that this model has scored.
///
/// # Errors
/// The model or the scores cannot be read; a score is not a number; the user stopped it.
pub(crate) fn score_arm(
    context: &Context<'_>,
    arm: &Evaluated,
    training: Training,
    decoder: impl FnOnce() -> Result<Decoder, InputError>,
    known: &mut KnownRows,
) -> Result<Vec<ItemRecord>, StudyError> {
    let study = context.study;
    let file = scores_file(context, arm, training);
    if let Some(path) = file.reuse()? {
        return Ok(read_records(path)?);
    }
    let row = arm.trained_name();
    context.observe(row, Event::Doing(&format!("scores as `{}`", arm.name)));
    let decoder = decoder()?;
    let streams = study.test_streams(arm.shown, training, Split::Test);
    let all: usize = streams.iter().map(|stream| stream.tokens.len()).sum();
    let (mut done, begun) = (0, Instant::now());
    let row_tokens = study.experiment.evaluation.row_tokens;
    let mut records = score(&decoder, known, &arm.name, &streams, row_tokens, |tokens| done += tokens);
    for record in &mut records {
        record.fold = Some(training.fold);
        record.seed = arm.trained().map(|_| training.seed);
    }
    let speed = done as f64 / begun.elapsed().as_secs_f64();
    let items = records.len();
    tracing::info!("{row}: scored {items} items as `{}`, {all} tokens, {speed:.0} tokens/s", arm.name);
    context.check_stop(file.folder())?;
    file.write(&record_lines(&records)?)?;
    if arm.is_trained_itself() {
        let metrics = metrics(&records).map_err(|fault| StudyError::Scores(fault.to_string()))?;
        let losses: Vec<(String, f64)> =
            metrics.iter().map(|of| (format!("test/{}_nats_per_token", of.kind), of.nats_per_token)).collect();
        record_scores(&file.folder(), &losses)?;
    }
    Ok(records)
}

/// Records as JSON Lines.
///
/// # Errors
/// A score is not a number; the error names its item.
pub(crate) fn record_lines(records: &[ItemRecord]) -> Result<Vec<u8>, StudyError> {
    let mut bytes = Vec::new();
    write_records(&mut bytes, records).map_err(|fault| StudyError::Scores(fault.to_string()))?;
    Ok(bytes)
}
