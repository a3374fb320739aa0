//! Ollama's `Modelfile`: the model, and how it writes the next turn of the user.

use undertone_data::{ChatFormat, Role, Speaker};

/// A `Modelfile` for `model.gguf`. Ollama knows no reasons and reactions: it renders system, user and assistant, and the
/// model answers as the user.
pub(super) fn modelfile(format: &ChatFormat) -> String {
    let turn = |speaker: Speaker, content: &str| {
        let turn = format.turn(speaker);
        format!("{}{content}{}{}", turn.header, turn.end, turn.separator)
    };
    let user = format.turn(Speaker::Message(Role::User));
    let system = turn(Speaker::System, "{{ .Content }}");
    let asked = turn(Speaker::Message(Role::User), "{{ .Content }}");
    let replied = turn(Speaker::Message(Role::Assistant), "{{ .Content }}");
    let opening = &format.opening;
    let header = &user.header;
    let end = &user.end;
    format!(
        "# ollama create my-user -f Modelfile
FROM ./model.gguf
TEMPLATE \"\"\"{opening}{{{{ range .Messages }}}}{{{{ if eq .Role \"system\" }}}}{system}{{{{ else if eq .Role \"user\" }}}}{asked}\
{{{{ else }}}}{replied}{{{{ end }}}}{{{{ end }}}}{header}\"\"\"
PARAMETER stop \"{end}\"
"
    )
}
