//! `undertone predict`: writes the user's next message, or a thought.

use undertone_data::{Role, Speaker, ThoughtKind};
use undertone_files::InputError;
use undertone_model::Sampling;
use undertone_study::{Predicted, Prediction};

use crate::cli::{Predict, SpeakerArg};
use crate::shell::{Shell, say};

pub(crate) fn run(args: &Predict, shell: &Shell) -> anyhow::Result<()> {
    let option = |name: &str, cause: String| InputError::new(name, cause);
    if !(0.0..=100.0).contains(&args.temperature) {
        return Err(option("--temperature", format!("{} is not from 0 to 100", args.temperature)).into());
    }
    if !(args.top_p > 0.0 && args.top_p <= 1.0) {
        return Err(option("--top-p", format!("{} is not above 0 and at most 1", args.top_p)).into());
    }
    let prediction = Prediction {
        checkpoint: args.checkpoint.clone(),
        conversation: args.conversation.clone(),
        id: args.id.clone(),
        speaker: match args.speaker {
            SpeakerArg::User => Speaker::Message(Role::User),
            SpeakerArg::Reaction => Speaker::Thought(ThoughtKind::Reaction),
            SpeakerArg::Reason => Speaker::Thought(ThoughtKind::Reason),
        },
        sampling: Sampling {
            temperature: args.temperature,
            top_p: args.top_p,
            seed: args.seed,
            max_new_tokens: args.max_new_tokens,
            ..Sampling::default()
        },
        overrides: args.set.clone(),
    };
    let predicted = prediction.run()?;
    let Predicted { text, tokens, prompt_tokens, view, stopped, seconds, warnings, .. } = &predicted;
    say(format!(
        "{prompt_tokens} prompt tokens (view: {view}), {tokens} new tokens in {seconds:.1} s, ended by {stopped}"
    ));
    for warning in warnings {
        say(format!("! {warning}"));
    }
    match shell.json {
        true => shell.print_json(&predicted),
        false => shell.print(&format!("{text}\n")),
    }
    Ok(())
}
