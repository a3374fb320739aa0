//! The chat template of training, in Jinja as transformers and llama.cpp read it.

use undertone_data::ChatFormat;

/// The format with all roles of training, and without a system text of its own: what is rendered is exactly what was
/// trained on. `add_generation_prompt` opens a turn of the user, or of `generation_role`.
pub(crate) fn chat_template(format: &ChatFormat) -> String {
    let turns: Vec<String> = format
        .turns()
        .map(|(speaker, turn)| {
            let after = format!("{}{}", turn.end, turn.separator);
            format!("'{}': [{}, {}]", speaker.name(), literal(&turn.header), literal(&after))
        })
        .collect();
    format!(
        r"{{%- set turns = {{
    {turns}
}} -%}}
{{{{- {opening} -}}}}
{{%- for message in messages -%}}
{{%- if message['role'] not in turns -%}}
{{{{- raise_exception('the role ' ~ message['role'] ~ ' was not in training') -}}}}
{{%- endif -%}}
{{{{- turns[message['role']][0] ~ message['content'] ~ turns[message['role']][1] -}}}}
{{%- endfor -%}}
{{%- if add_generation_prompt -%}}
{{{{- turns[generation_role | default('user')][0] -}}}}
{{%- endif -%}}
",
        turns = turns.join(",\n    "),
        opening = literal(&format.opening),
    )
}

/// A text as a literal of Jinja.
fn literal(text: &str) -> String {
    let escaped = [('\\', r"\\"), ('\'', r"\'"), ('\n', r"\n"), ('\r', r"\r"), ('\t', r"\t")];
    let text = escaped.iter().fold(text.to_owned(), |text, (plain, escaped)| text.replace(*plain, escaped));
    format!("'{text}'")
}
