//! Describes a study in sentences: its data, split, windows, training and scoring, and warnings.

use std::collections::BTreeSet;

use undertone_data::{Hidden, Source, Split, Timing, View};
use undertone_model::MatmulPrecision;
use undertone_stats::counted;

use crate::conversations::LeftOut;
use crate::experiment::{Arm, ReplyTokens};
use crate::study::{FoldData, Stage, Study};

/// Warnings about the data, and about these arms and their views.
pub(crate) fn warnings(
    synthetic: bool,
    unknown_users: usize,
    look_alike_users: &[Vec<String>],
    arms: &[(&str, View)],
) -> Vec<String> {
    let named = |which: &dyn Fn(&View) -> bool| {
        let names: Vec<&str> = arms.iter().filter(|(_, view)| which(view)).map(|(name, _)| *name).collect();
        names.join(", ")
    };
    let mut warnings = Vec::new();
    if synthetic {
        warnings.push("SYNTHETIC data: results show that the program works, and say nothing about people.".to_owned());
    }
    if unknown_users > 0 {
        warnings.push(format!("UNKNOWN USERS: the ids of {unknown_users} conversations name no user. Each counts as its own user, in splits and in intervals."));
    }
    if let Some(first) = look_alike_users.first() {
        let first: Vec<String> = first.iter().map(|user| format!("{user:?}")).collect();
        warnings.push(format!(
            "LOOK-ALIKE USERS: {} of user ids that differ only in case, white space, invisible characters, width or zeros before a number, such as {}. If they are one person, that person counts as several, and may stand on two sides of a split.",
            counted(look_alike_users.len(), "group"),
            first.join(", ")
        ));
    }
    let oracle = named(&View::is_oracle);
    if !oracle.is_empty() {
        warnings.push(format!("ORACLE arms ({oracle}) see the target's own reason, which is unknown before the message is written. They give an upper bound; they are not valid predictions."));
    }
    let anchored = named(&|view| view.sees_thoughts() && view.timing == Timing::Anchored);
    if !anchored.is_empty() {
        warnings.push(format!("ANCHORED arms ({anchored}) also see thoughts written after the target. Only strict arms support a claim about prediction."));
    }
    warnings
}

/// Counts of what is hidden from an arm in testing, in words.
fn hidden(study: &Study, arm: &Arm) -> String {
    let mut sum = Hidden::default();
    study.tested_once(arm.shown()).for_each(|stream| sum.add_counts(&stream.hidden));
    let mut counts: Vec<(String, usize)> =
        sum.counts().into_iter().map(|(name, count)| (name.replace('_', " "), count)).collect();
    counts.sort();
    let shown: Vec<String> =
        counts.iter().filter(|(_, count)| *count > 0).map(|(name, count)| format!("{name}: {count}")).collect();
    match shown.is_empty() {
        true => "Nothing is hidden or cut.".into(),
        false => format!(
            "Hidden, moved or cut in testing: {} (moved later: shown after a later message, because the thought was written after it; too late: written after the last message, so hidden).",
            shown.join(", ")
        ),
    }
}

/// The setting of the comparisons: data, split, windows, training, and which checkpoint of each arm was scored.
pub(super) fn setting(study: &Study, scored: &[String]) -> Vec<String> {
    let Study { experiment, stats, read, folds, .. } = study;
    let mut lines = vec![format!(
        "{} conversations of {} users; {} user messages that are not the first of their conversation; {} lines skipped.",
        stats.conversations, stats.users, stats.user_messages_after_first, read.skipped_lines
    )];
    lines.extend(left_out(study));
    let stages: Vec<String> = study.stages().map(stage_in_words).collect();
    lines.extend(stages.into_iter().rev());
    let timing = &stats.timing;
    lines.push(format!(
        "Of {} thoughts about a message that has a later user message, {} were written before the next user message was sent, {} after it, {} at an unknown time.",
        timing.precede_a_user_message, timing.before, timing.late, timing.unknown
    ));
    let count = |fold: &FoldData, split| fold.users.get(&split).copied().unwrap_or(0);
    let users = |split| folds.iter().map(|fold| count(fold, split).to_string()).collect::<Vec<_>>().join(", ");
    lines.push(format!(
        "{} users train, {} validate, {} test{}; no user, task or conversation id is in two splits (checked).",
        users(Split::Train),
        users(Split::Validation),
        users(Split::Test),
        if folds.len() > 1 { " (by fold; every user is tested once in each division)" } else { "" }
    ));
    let (windows, short) = folds[0].corpus.window_counts();
    lines.push(format!(
        "{windows} windows of at most {} tokens, shared by all arms; a longer conversation is cut into several. In {short} of them a message is so long that a target keeps neither its whole history nor half a window of it. {}",
        experiment.data.context_tokens,
        match experiment.data.reply_tokens() {
            ReplyTokens::AtMost(tokens) => format!("Replies of more than {tokens} tokens are shortened to that length, in the middle."),
            ReplyTokens::Uncut => "Replies are shortened only if they take more than half of that, in the middle.".to_owned(),
        }
    ));
    let too_long: BTreeSet<&String> = folds.iter().flat_map(|fold| fold.corpus.too_long()).collect();
    if !too_long.is_empty() {
        let ids: Vec<&str> = too_long.iter().take(5).map(|id| id.as_str()).collect();
        lines.push(format!(
            "Left out because a target is longer than the context in some arm: {} conversation{} ({}{}).",
            too_long.len(),
            if too_long.len() == 1 { "" } else { "s" },
            ids.join(", "),
            if too_long.len() > ids.len() { ", …" } else { "" }
        ));
    }
    let lossy = folds[0].corpus.lossy_texts();
    if lossy > 0 {
        lines.push(format!(
            "{lossy} messages or thoughts hold bytes that the model's vocabulary lacks; those bytes are lost."
        ));
    }
    lines.push(format!(
        "{} pairs of near-duplicate tasks of different users{}.",
        stats.near_duplicate_tasks.pairs,
        if stats.near_duplicate_tasks.complete { "" } else { " (the search stopped early: a lower bound)" }
    ));
    let training = &experiment.training;
    lines.push(format!(
        "{}, {} per step, learning rate {:.1e} after {} of warm-up, {}, from the same weights in every arm.",
        counted(training.epochs, "epoch"),
        counted(training.conversations_per_step, "window"),
        training.learning_rate,
        counted(training.warmup_steps, "step"),
        match experiment.training_seeds().as_slice() {
            [seed] => format!("seed {seed}"),
            seeds => format!("seeds {seeds:?}, each arm trained with each"),
        }
    ));
    let precision = experiment.model.matmul_precision;
    if precision != MatmulPrecision::Highest {
        let instead =
            if precision.is_supported() { "" } else { "; this CPU does not support it, so products were in f32" };
        lines.push(format!("`matmul_precision` is `{}`{instead}.", format!("{precision:?}").to_lowercase()));
    }
    let own_targets = experiment.arms.iter().any(|arm| arm.targets.is_some());
    lines.push(match own_targets || training.patience_validations > 0 {
        false => "Every trained arm takes the same steps over the same windows in the same order.".into(),
        true => "Arms may differ in their steps: some train on other targets, or may stop early.".into(),
    });
    lines.extend(scored.iter().cloned());
    lines.extend(experiment.arms.iter().map(|arm| arm_in_words(study, arm)));
    lines
}

/// The conversations of the files that are not used, in words; `None` if all are.
fn left_out(study: &Study) -> Option<String> {
    let LeftOut { of_users, with_messages, not_drawn } = study.left_out;
    (study.left_out != LeftOut::default()).then(|| format!(
        "Conversations left out: {of_users} of users in the files of `except`, {with_messages} that share a user message of eight words or more with those files, {not_drawn} by hash, because at most `conversations` are used."
    ))
}

/// A stage: its conversations and its training.
fn stage_in_words(stage: &Stage) -> String {
    let Stage { study, .. } = stage;
    let (arm, training) = stage.training();
    let LeftOut { of_users, with_messages, not_drawn } = study.left_out;
    let Study { stats, experiment, folds, .. } = study;
    let validate = folds[0].users.get(&Split::Validation).copied().unwrap_or(0);
    let tokens: usize =
        study.training_streams(arm, training, Split::Train, None).iter().map(|stream| stream.tokens.len()).sum();
    let targets: Vec<String> = experiment.data.targets.iter().map(ToString::to_string).collect();
    format!(
        "Stage `{}`, before every arm: {} of {} ({validate} validate), {tokens} tokens, targets {}; {}, learning rate {:.1e}. None of them shares a user or a user message of eight words or more with the conversations of this study: left out were {of_users} conversations of the same users and {with_messages} with the same messages; {} too long, {not_drawn} not drawn. It was trained once, so intervals do not say how another training of it would differ.",
        arm.name,
        counted(stats.conversations, "conversation"),
        counted(stats.users, "user"),
        targets.join(", "),
        counted(experiment.training.epochs, "epoch"),
        experiment.training.learning_rate,
        folds[0].corpus.too_long().len(),
    )
}

/// What an arm sees, and which model it tests.
fn arm_in_words(study: &Study, arm: &Arm) -> String {
    let (view, source) = arm.shown();
    let words = match source {
        Source::Own => "",
        Source::Presence => "; each thought is shown without its words (presence)",
        Source::SameConversation => {
            "; each thought is replaced by as many tokens of the text before it (same conversation)"
        }
        Source::OtherConversation => {
            "; each thought is replaced by a thought of the same user from another conversation, of the same kind and about as long (other conversation)"
        }
        Source::Shuffled => "; each thought is another user's, of the same kind and about as long (shuffled)",
        Source::ShuffledTrajectory => "; all thoughts come from one conversation of another user (shuffled as a whole)",
        Source::Filler => "; each thought is replaced by meaningless text of as many tokens (filler)",
        Source::Predicted => "; each thought is written by a model that was never trained on this user (predicted)",
    };
    let trained = match &arm.trained_as {
        Some(other) if source != Source::Own => {
            format!(
                "; tests the model trained as `{other}`, to measure its reliance on thoughts: it was not trained with this placebo"
            )
        }
        Some(other) => format!("; the model trained as `{other}`"),
        None => String::new(),
    };
    format!("Arm `{}`: view of thoughts: {view}{words}{trained}. {}", arm.name, hidden(study, arm))
}
