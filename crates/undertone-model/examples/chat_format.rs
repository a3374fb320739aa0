//! Renders chat templates and finds their formats, for `tests/interop/templates.py`.
//!
//! In, on each line: `{"source": Jinja, "bos": token, "eos": token, "special": [tokens], "messages": [[role, text]]}`.
//! Out: `{"rendered": text or null, "format": … or null, "error": the first one}`.

use std::io::{BufRead, Write, stdin, stdout};

use serde::Deserialize;
use serde_json::json;
use undertone_model::{ChatMessage, ChatTemplate, SpecialTokens, format_of_template};

#[derive(Deserialize)]
struct Asked {
    source: String,
    bos: Option<String>,
    eos: Option<String>,
    special: Vec<String>,
    messages: Vec<(String, String)>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for line in stdin().lock().lines() {
        let Asked { source, bos, eos, special, messages } = serde_json::from_str(&line?)?;
        let messages: Vec<_> = messages.iter().map(|(role, content)| ChatMessage { role, content }).collect();
        let template = ChatTemplate::parse(&source, SpecialTokens { bos, eos });
        let rendered = template.as_ref().map_err(Clone::clone).and_then(|template| template.render(&messages, false));
        let format = template.and_then(|template| format_of_template(&template, &special));
        let error = rendered.as_ref().err().or(format.as_ref().err());
        let answer = json!({ "rendered": rendered.as_ref().ok(), "format": format.as_ref().ok(), "error": error });
        writeln!(stdout(), "{answer}")?;
    }
    Ok(())
}
