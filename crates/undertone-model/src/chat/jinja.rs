//! A chat template in Jinja, rendered as transformers renders it.

use std::sync::LazyLock;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, Error, ErrorKind, Value, context};
use minijinja_contrib::pycompat::unknown_method_callback;
use regex::Regex;
use serde::Serialize;

/// What one rendering may use: about so many instructions, and 64 bytes of memory for each.
const FUEL: u64 = 1_000_000;

/// A message of a conversation.
#[derive(Debug, Clone, Serialize)]
pub struct ChatMessage<'a> {
    /// Who writes.
    pub role: &'a str,
    /// The text.
    pub content: &'a str,
}

/// A chat template.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    tokens: SpecialTokens,
}

/// The special tokens that a template may name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpecialTokens {
    /// The beginning of a text.
    pub bos: Option<String>,
    /// The end of a text.
    pub eos: Option<String>,
}

/// The name of the template in its environment; it stands in the library's errors.
const NAME: &str = "chat_template";

impl ChatTemplate {
    /// # Errors
    /// The text is not Jinja.
    pub fn parse(source: &str, tokens: SpecialTokens) -> Result<Self, String> {
        let mut environment = Environment::new();
        environment.set_fuel(Some(FUEL));
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.expect("Jinja's own delimiters"));
        environment.set_unknown_method_callback(unknown_method_callback);
        environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message))
        });
        // As in Jinja: what is none cannot be iterated over.
        environment.add_test("iterable", |value: &Value| !value.is_none() && value.try_iter().is_ok());
        // Templates put a date into a system text of their own, which is never used; the same on every day.
        environment.add_function("strftime_now", |_format: String| "1 January 2024");
        environment.add_template_owned(NAME, without_generation_marks(source)).map_err(|error| told(&error))?;
        Ok(Self { environment, tokens })
    }

    /// The token that begins a text, or an empty text.
    pub(super) fn begin(&self) -> &str {
        self.tokens.bos.as_deref().unwrap_or_default()
    }

    /// A conversation as text.
    ///
    /// # Errors
    /// The template refuses the conversation, uses what does not exist, or takes too much time or memory.
    pub fn render(&self, messages: &[ChatMessage<'_>], add_generation_prompt: bool) -> Result<String, String> {
        self.render_as(messages, add_generation_prompt, None)
    }

    /// As [`render`](Self::render), with `generation_role` for the templates of our exports.
    ///
    /// # Errors
    /// Those of [`render`](Self::render).
    pub fn render_as(
        &self,
        messages: &[ChatMessage<'_>],
        add_generation_prompt: bool,
        generation_role: Option<&str>,
    ) -> Result<String, String> {
        let template = self.environment.get_template(NAME).map_err(|error| told(&error))?;
        let (bos_token, eos_token) = (self.tokens.bos.as_deref(), self.tokens.eos.as_deref());
        let messages = Value::from(Serde(messages));
        let mut values = context! { messages, add_generation_prompt, tools => (), documents => () };
        if let Some(role) = generation_role {
            values = context! { generation_role => role, ..values };
        }
        let tokens = context! { bos_token => bos_token.unwrap_or(""), eos_token => eos_token.unwrap_or("") };
        template.render(context! { ..values, ..tokens }).map_err(|error| told(&error))
    }
}

/// The template with plain blocks in place of `{% generation %}`, by which transformers finds the tokens of replies.
fn without_generation_marks(source: &str) -> String {
    static MARK: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"\{%([-+]?)\s*(end)?generation\s*([-+]?)%\}").expect("a regular expression of our own")
    });
    let plain = |found: &regex::Captures<'_>| {
        let block = if found.get(2).is_some() { "endif" } else { "if true" };
        format!("{{%{} {block} {}%}}", &found[1], &found[3])
    };
    MARK.replace_all(source, plain).into_owned()
}

/// An error in one sentence.
fn told(error: &Error) -> String {
    let cause = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    match error.line() {
        Some(line) => format!("line {line}: {cause}"),
        None => cause,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(source: &str) -> Result<String, String> {
        let tokens = SpecialTokens { bos: Some("<s>".into()), eos: None };
        let messages = [("user", " Hello "), ("assistant", "Hi")].map(|(role, content)| ChatMessage { role, content });
        ChatTemplate::parse(source, tokens)?.render(&messages, true)
    }

    #[test]
    fn the_parts_of_jinja_that_chat_templates_use_are_known() {
        let source = r#"{{- bos_token }}
{%- set ns = namespace(count=0) -%}
{%- for message in messages %}
    {%- if message['role'] == 'user' and message.content is string and tools is none %}
        {%- set ns.count = ns.count + 1 %}
        {{- message.content.strip() + '|' + message.get('name', 'none') + '|' + (message['content'] | trim | tojson) }}
    {%- elif not message.tool_calls %}
        {{- message.content.split('i')[0] ~ eos_token }}
        {%- continue %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '#' ~ ns.count ~ strftime_now('%d') }}{% endif %}"#;
        assert_eq!(rendered(source).unwrap(), "<s>Hello|none|\"Hello\"H#11 January 2024");
        let marked = "{% for message in messages -%} {%- generation -%} {{ message.content }}!\n{%- endgeneration %}{% endfor %}";
        assert_eq!(rendered(marked).unwrap(), " Hello !Hi!");
    }

    #[test]
    fn a_template_that_refuses_or_never_ends_is_an_error() {
        assert_eq!(rendered("{{ raise_exception('no roles') }}").unwrap_err(), "line 1: no roles");
        assert_eq!(rendered("{{ missing.key }}").unwrap_err(), "line 1: undefined value");
        assert!(rendered("{% if %}").unwrap_err().starts_with("line 1: "));
        let doubling = "{% set ns = namespace(text='x') %}{% for _ in range(100) %}{% set ns.text = ns.text ~ ns.text %}{% endfor %}";
        assert_eq!(rendered(doubling).unwrap_err(), "line 1: engine ran out of fuel");
        let slow = "{% for _ in range(10000) %}{% for _ in range(10000) %}{% endfor %}{% endfor %}";
        assert_eq!(rendered(slow).unwrap_err(), "line 1: engine ran out of fuel");
    }
}
