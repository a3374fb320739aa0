//! `undertone predict`: writes the user's next message, or a thought.

use serde_json::json;
use undertone_data::{Encoded, InputError, Place, Reader, Role, Speaker, ThoughtKind};
use undertone_model::Sampling;
use undertone_study::{Base, open_checkpoint, stream_builder, warnings};

use crate::cli::{Predict, SpeakerArg};
use crate::shell::Shell;

pub(crate) fn run(args: &Predict, shell: &Shell) -> anyhow::Result<()> {
    let option = |name: &str, cause: String| InputError::new(name, cause);
    if !(0.0..=100.0).contains(&args.temperature) {
        return Err(option("--temperature", format!("{} is not from 0 to 100", args.temperature)).into());
    }
    if !(args.top_p > 0.0 && args.top_p <= 1.0) {
        return Err(option("--top-p", format!("{} is not above 0 and at most 1", args.top_p)).into());
    }
    let (checkpoint, experiment) = open_checkpoint(&args.checkpoint, &args.set)?;
    let arm = experiment.arm(Some(&checkpoint.description.arm), &args.checkpoint)?.clone();
    let (records, _) = Reader::open(&[&args.conversation], experiment.data.read_options())?.read_all()?;
    let wanted = |id: &str| args.id.as_ref().is_none_or(|wanted| wanted == id);
    let Some(record) = records.into_iter().find(|record| wanted(&record.conversation.id)) else {
        let id = args.id.as_deref().unwrap_or("");
        return Err(InputError::new(&args.conversation, format!("has no conversation `{id}`")).into());
    };
    let conversation = record.conversation;
    let last = conversation.messages.last().map(|message| message.role);
    let (speaker, follows) = match args.speaker {
        SpeakerArg::User => (Speaker::Message(Role::User), None),
        SpeakerArg::Reaction => (Speaker::Thought(ThoughtKind::Reaction), Some(Role::Assistant)),
        SpeakerArg::Reason => (Speaker::Thought(ThoughtKind::Reason), Some(Role::User)),
    };
    if let Some(role) = follows.filter(|role| last != Some(*role)) {
        let cause = format!(
            "ends with the wrong role: a {} follows a message of the {}",
            speaker.name(),
            if role == Role::User { "user" } else { "assistant" }
        );
        return Err(InputError::new(&args.conversation, cause)
            .at(Place::Named(conversation.id))
            .hint("end the conversation with the message that the thought is about")
            .into());
    }
    let builder = stream_builder(&experiment)?;
    let context = experiment.data.context_tokens;
    let assistant_tokens = experiment.data.assistant_tokens.min(context / 2);
    let encoded = Encoded::new(conversation, &builder.template, assistant_tokens);
    let room = context.saturating_sub(args.max_new_tokens);
    let (view, _) = arm.shown();
    let (prompt, left_out) = builder.prompt(&encoded, view, speaker, room);
    if left_out == encoded.messages.len() {
        return Err(InputError::new(
            &args.conversation,
            format!("its last message is longer than the {room} tokens that `--max-new-tokens` leaves of the context"),
        )
        .hint("lower `--max-new-tokens`, or raise `data.context_tokens`")
        .into());
    }
    if left_out > 0 {
        tracing::warn!("note: the first {left_out} messages do not fit the context and are left out");
    }
    let base = Base::load(&experiment)?;
    let decoder = base.restored(&experiment, &checkpoint, &args.checkpoint)?;
    let sampling = Sampling {
        temperature: args.temperature,
        top_p: args.top_p,
        seed: args.seed,
        max_new_tokens: args.max_new_tokens,
        ..Sampling::default()
    };
    let begun = std::time::Instant::now();
    let (ids, stopped) = decoder.generate(&prompt, builder.template.end(), sampling);
    let seconds = begun.elapsed().as_secs_f64();
    eprintln!(
        "{} prompt tokens (sees {view}), {} new tokens in {seconds:.1} s, stopped by {stopped:?}",
        prompt.len(),
        ids.len()
    );
    for warning in warnings(experiment.data.synthetic, 0, &[(&arm.name, view)]) {
        eprintln!("! {warning}");
    }
    let text = builder.template.decode(&ids);
    match shell.json {
        true => shell.print_json(&json!({
            "speaker": speaker.name(), "text": text, "tokens": ids.len(), "prompt_tokens": prompt.len(),
            "messages_left_out": left_out, "view": view.to_string(), "stopped": stopped,
        })),
        false => shell.print(&format!("{text}\n")),
    }
    Ok(())
}
