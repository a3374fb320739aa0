//! The chat template of training, in Jinja as transformers and llama.cpp read it.

use undertone_data::{END, START, Speaker};

/// ChatML with the roles of training, and without a system text of its own: what is rendered is exactly what was trained
/// on. `add_generation_prompt` opens a turn of the user, or of `generation_role`.
pub(crate) fn chat_template() -> String {
    let roles: Vec<String> = Speaker::ALL.iter().map(|speaker| format!("'{}'", speaker.name())).collect();
    format!(
        r"{{%- for message in messages -%}}
{{%- if message['role'] not in [{roles}] -%}}
{{{{- raise_exception('the role ' ~ message['role'] ~ ' was not in training') -}}}}
{{%- endif -%}}
{{{{- '{START}' ~ message['role'] ~ '\n' ~ message['content'] ~ '{END}\n' -}}}}
{{%- endfor -%}}
{{%- if add_generation_prompt -%}}
{{{{- '{START}' ~ (generation_role | default('user')) ~ '\n' -}}}}
{{%- endif -%}}
",
        roles = roles.join(", ")
    )
}
