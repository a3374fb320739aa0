//! The formats of small templates with the turns of published models.

use std::fs;

use serde_json::json;
use undertone_data::{Role, Speaker, ThoughtKind};
use undertone_testing::tiny_folder;

use super::*;

/// The turns of Llama 3.2, which always writes a system text with a date.
const LLAMA: &str = r"{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = '' %}
{%- endif %}
{{- '<|start_header_id|>system<|end_header_id|>\n\n' }}
{{- 'Today Date: ' + strftime_now('%d %b %Y') + '\n\n' + system_message + '<|eot_id|>' }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
{%- endif %}";

/// The turns of Gemma 3: the system text is a part of the first message.
const GEMMA: &str = r"{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- set first = messages[0]['content'] + '\n\n' -%}
    {%- set messages = messages[1:] -%}
{%- else -%}
    {%- set first = '' -%}
{%- endif -%}
{%- for message in messages -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
    {%- endif -%}
    {%- set role = 'model' if message['role'] == 'assistant' else message['role'] -%}
    {{ '<start_of_turn>' + role + '\n' + (first if loop.first else '') }}{{ message['content'] | trim }}{{ '<end_of_turn>\n' }}
{%- endfor -%}";

/// The turns of Mistral's newer models.
const MISTRAL: &str = r"{{- bos_token }}
{%- for message in messages %}
    {%- if message['role'] == 'user' %}{{- '[INST]' + message['content'] + '[/INST]' }}
    {%- elif message['role'] == 'system' %}{{- '[SYSTEM_PROMPT]' + message['content'] + '[/SYSTEM_PROMPT]' }}
    {%- else %}{{- message['content'] + eos_token }}{%- endif %}
{%- endfor %}";

/// The turns of OLMo 2: its headers are text, and only replies end with a token.
const OLMO: &str = r"{{ bos_token }}{% for message in messages %}{% if message['role'] == 'system' %}
{{- '<|system|>\n' + message['content'] + '\n' }}{% elif message['role'] == 'user' %}
{{- '<|user|>\n' + message['content'] + '\n' }}{% elif not loop.last %}
{{- '<|assistant|>\n'  + message['content'] + eos_token + '\n' }}{% else %}{{ '<|assistant|>\n'  + message['content'] + eos_token }}{% endif %}{% endfor %}";

/// The turns of Qwen 3: a system text of its own, and a thought of the model before the last reply.
const QWEN: &str = r"{%- if messages[0].role != 'system' %}{{- '<|im_start|>system\nYou are helpful.<|im_end|>\n' }}{%- endif %}
{%- set ns = namespace(last=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- if message.role == 'user' and message.content is string and not message.content.startswith('<tool_response>') %}
        {%- set ns.last = messages|length - 1 - loop.index0 %}{%- break %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.role == 'assistant' and loop.index0 > ns.last %}
        {{- '<|im_start|>assistant\n<think>\n\n</think>\n\n' + message.content.lstrip('\n') + '<|im_end|>\n' }}
    {%- else %}{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}{%- endif %}
{%- endfor %}";

/// The format of a template, with these special tokens; the first two are those that begin and end a text.
fn format_of(source: &str, special: &[&str]) -> Result<ChatFormat, String> {
    let token = |index: usize| special.get(index).map(|&token| token.to_owned());
    let template = ChatTemplate::parse(source, SpecialTokens { bos: token(0), eos: token(1) })?;
    format_of_template(&template, &special.iter().map(|&token| token.to_owned()).collect::<Vec<_>>())
}

/// The turns of a system text, two messages, a reason, a reply and a reaction.
fn written(format: &ChatFormat) -> String {
    let turn = |(speaker, text): (Speaker, &str)| {
        let turn = format.turn(speaker);
        [&turn.header, text, &turn.end, &turn.separator].concat()
    };
    let turns = [
        (Speaker::System, "S"),
        (Speaker::Message(Role::User), "A"),
        (Speaker::Thought(ThoughtKind::Reason), "r"),
        (Speaker::Message(Role::Assistant), "B"),
        (Speaker::Thought(ThoughtKind::Reaction), "x"),
        (Speaker::Message(Role::User), "C"),
    ];
    format.opening.clone() + &turns.map(turn).concat()
}

#[test]
fn the_formats_of_published_models_are_found() {
    let llama = format_of(LLAMA, &["<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"]);
    assert_eq!(
        written(&llama.unwrap()),
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|>\
         <|start_header_id|>user<|end_header_id|>\n\nA<|eot_id|><|start_header_id|>reason<|end_header_id|>\n\nr<|eot_id|>\
         <|start_header_id|>assistant<|end_header_id|>\n\nB<|eot_id|>\
         <|start_header_id|>reaction<|end_header_id|>\n\nx<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nC<|eot_id|>"
    );
    let gemma = format_of(GEMMA, &["<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"]);
    assert_eq!(
        written(&gemma.unwrap()),
        "<bos><start_of_turn>system\nS<end_of_turn>\n<start_of_turn>user\nA<end_of_turn>\n\
         <start_of_turn>reason\nr<end_of_turn>\n<start_of_turn>model\nB<end_of_turn>\n\
         <start_of_turn>reaction\nx<end_of_turn>\n<start_of_turn>user\nC<end_of_turn>\n"
    );
    let special = ["<s>", "</s>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"];
    assert_eq!(
        written(&format_of(MISTRAL, &special).unwrap()),
        "<s>[SYSTEM_PROMPT]S[/SYSTEM_PROMPT][INST]A[/INST][INST]reason:\nr[/INST]B</s>[INST]reaction:\nx[/INST][INST]C[/INST]"
    );
    assert_eq!(
        written(&format_of(OLMO, &["<|begin|>", "<|endoftext|>"]).unwrap()),
        "<|begin|><|system|>\nS<|endoftext|>\n<|user|>\nA<|endoftext|>\n<|reason|>\nr<|endoftext|>\n\
         <|assistant|>\nB<|endoftext|>\n<|reaction|>\nx<|endoftext|>\n<|user|>\nC<|endoftext|>\n"
    );
    let special = ["<|endoftext|>", "<|im_end|>", "<|im_start|>"];
    assert_eq!(format_of(QWEN, &special).unwrap(), ChatFormat::chatml());
    // A template whose system text replaces its own one.
    let smollm = QWEN.replace("{{- '<|im_start|>' + message.role", "{{- '<|im_start|>' + message['role']");
    assert_eq!(format_of(&smollm, &special).unwrap(), ChatFormat::chatml());
}

/// A role in an `else` branch is not known: thoughts must not get the header of another speaker.
#[test]
fn a_role_that_only_falls_into_a_branch_is_named() {
    for (role, header, other) in [("user", "USER: ", "ASSISTANT: "), ("assistant", "ASSISTANT: ", "USER: ")] {
        let source = format!(
            "{{% for m in messages %}}{{% if m.role == '{role}' %}}{{{{ '{header}' ~ m.content ~ eos_token }}}}\
             {{% else %}}{{{{ '{other}' ~ m.content ~ eos_token }}}}{{% endif %}}{{% endfor %}}"
        );
        assert_eq!(
            written(&format_of(&source, &["<s>", "</s>"]).unwrap()),
            "SYSTEM: S</s>USER: A</s>REASON: r</s>ASSISTANT: B</s>REACTION: x</s>USER: C</s>"
        );
    }
    // A system text that ends with words, as in Llama 2.
    let source = "{% for m in messages %}{% if m.role == 'system' %}{{ '<<SYS>>' ~ m.content ~ '<</SYS>>' }}\
                  {% else %}{{ m.role ~ ': ' ~ m.content ~ eos_token }}{% endif %}{% endfor %}";
    let found = format_of(source, &["<s>", "</s>"]).unwrap();
    assert!(written(&found).starts_with("system: S</s>user: A</s>reason: r</s>"), "{}", written(&found));
}

#[test]
fn what_is_not_regular_is_refused_with_what_was_seen() {
    let refused = |source: &str| format_of(source, &["<s>", "</s>"]).unwrap_err();
    let turns = |turn: &str| format!("{{% for message in messages %}}{turn}{{% endfor %}}");
    assert_eq!(
        refused(&turns("{{ message.role }}: {{ message.content }} ")),
        "behind a reply it writes \" user: \", which does not begin with a special token that could end the reply"
    );
    assert_eq!(
        refused(&turns("{{ loop.index }}{{ message.content }}</s>")),
        "it is not regular: behind a message it writes \"</s>2\" once, and \"</s>4\" once"
    );
    assert_eq!(
        refused(&turns("{{ message.content }}</s>\n")),
        "before a message it writes nothing but the end of the reply, \"</s>\\n\""
    );
    assert_eq!(
        refused(&turns("{{ message.content | upper }}</s>")),
        "it does not write each text of a conversation once and in order, but \"QUILL1</s>QUILL2</s>QUILL3</s>QUILL4</s>QUILL5</s>\""
    );
    assert_eq!(
        refused(&turns("{% if not loop.first %}# {% endif %}{{ message.content }}</s>")),
        "before the first message it writes \"\", which does not end as before the second one, with \"# \""
    );
    assert_eq!(refused("{{ raise_exception('tools only') }}"), "line 1: tools only");
}

/// The tiny model's template with these files beside its tokenizer, and this file with other special tokens.
fn load(files: &[(&str, &str)], given: &GivenFormat) -> Result<Template, InputError> {
    let folder = tempfile::tempdir().unwrap();
    tiny_folder::write(folder.path());
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    load_template(folder.path(), &ModelConfig::read(folder.path()).unwrap(), given).map_err(|mut error| {
        error.path = error.path.strip_prefix(folder.path()).unwrap().to_owned();
        error
    })
}

/// A tokenizer with other names of its two special tokens.
fn renamed_tokens(start: &str, end: &str) -> String {
    tiny_folder::tokenizer().to_string().replace("<|im_start|>", start).replace("<|im_end|>", end)
}

const TURNS: &str =
    "{% for message in messages %}{{ '<s>' ~ message.role ~ ' ' ~ message.content ~ '</s>' }}{% endfor %}";

#[test]
fn a_template_is_read_from_each_of_its_places() {
    let none = GivenFormat::default();
    let tokenizer = renamed_tokens("<s>", "</s>");
    let of = |files: &[(&str, &str)]| {
        let files = [&[("tokenizer.json", tokenizer.as_str())], files].concat();
        load(&files, &none).map(|template| template.format().turn(Speaker::Message(Role::User)).header.clone())
    };
    assert_eq!(of(&[("chat_template.jinja", TURNS)]).unwrap(), "<s>user ");
    let named = json!({"chat_template": [{"name": "rag", "template": "x"}, {"name": "default", "template": TURNS}]});
    assert_eq!(of(&[("tokenizer_config.json", &named.to_string())]).unwrap(), "<s>user ");
    let text = json!({"chat_template": TURNS}).to_string();
    assert_eq!(of(&[("tokenizer_config.json", &text)]).unwrap(), "<s>user ");
    // The file of its own goes before.
    let other = TURNS.replace("' ' ~", "': ' ~");
    assert_eq!(of(&[("tokenizer_config.json", &text), ("chat_template.jinja", &other)]).unwrap(), "<s>user: ");

    let error = of(&[("chat_template.jinja", "{% for %}")]).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("`chat_template.jinja`: is not a chat template that can be trained with: line 1: "),
        "{error}"
    );
    let error = of(&[("tokenizer_config.json", r#"{"chat_template": [{"name": "rag"}]}"#)]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "`tokenizer_config.json`, `chat_template`: is neither a text nor a list with a template named `default`"
    );
    let error = of(&[("tokenizer_config.json", "{")]).unwrap_err();
    assert!(error.to_string().starts_with("`tokenizer_config.json`: is not JSON: "), "{error}");
}

/// Each is refused, or gives a format; none ends the program.
#[test]
fn templates_that_are_deep_or_never_end_are_refused() {
    let source = |text: String| load(&[("chat_template.jinja", &text)], &GivenFormat::default()).map(drop);
    let most = MAX_TEMPLATE_BYTES as usize;
    for link in ["not ", "-", "1+", "1 if 1 else "] {
        source(format!("{{{{ {}1 }}}}", link.repeat((most - 7) / link.len()))).unwrap_err();
    }
    for link in ["|string", ".b"] {
        source(format!("{{{{ 1{} }}}}", link.repeat((most - 7) / link.len()))).unwrap_err();
    }
    source(format!("{{% if 0 %}}{}{{% endif %}}", "{% elif 0 %}".repeat(most / 12 - 2))).unwrap_err();
    let shared =
        "{% set ns=namespace(a=[1]) %}{% for i in range(24) %}{% set ns.a=[ns.a,ns.a] %}{% endfor %}{{ ns.a==ns.a }}";
    source(shared.to_owned()).unwrap_err();
    let never = "{% set ns=namespace(a=[1],b=[1]) %}{% for i in range(60) %}{% set ns.a=[ns.a,ns.a] %}{% set ns.b=[ns.b,ns.b] %}{% endfor %}{{ ns.a==ns.b }}";
    let error = source(never.to_owned()).unwrap_err();
    assert!(error.cause.ends_with("it is not rendered within 5 seconds"), "{error}");
}

#[test]
fn a_model_without_a_template_gets_chatml_or_plain_names() {
    let none = GivenFormat::default();
    assert_eq!(*load(&[], &none).unwrap().format(), ChatFormat::chatml());
    let tokenizer = renamed_tokens("<s>", "</s>");
    let template = load(&[("tokenizer.json", &tokenizer)], &none).unwrap();
    // The tiny model's configuration says that its texts end with its last token.
    assert_eq!(*template.format(), ChatFormat::plain("", "</s>"));
    // A tokenizer that begins each text with a token.
    let begin = json!({"type": "TemplateProcessing", "pair": [],
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [256], "tokens": ["<s>"]}}});
    let mut beginning: Value = serde_json::from_str(&tokenizer).unwrap();
    beginning["post_processor"] = begin;
    let template = load(&[("tokenizer.json", &beginning.to_string())], &none).unwrap();
    assert_eq!(*template.format(), ChatFormat::plain("<s>", "</s>"));
    assert_eq!(template.opening(), [256]);
    assert_eq!(template.end(Speaker::Message(Role::User)), 257);
}

#[test]
fn a_format_by_hand_replaces_the_models_own() {
    let given = |value: Value| serde_json::from_value::<GivenFormat>(value).unwrap();
    let whole = given(json!({"end": "<|im_end|>", "headers": {"user": "U: ", "assistant": "A: "}}));
    // The model's own template is not read then.
    let template = load(&[("chat_template.jinja", "{% broken")], &whole).unwrap();
    assert_eq!(template.format().turn(Speaker::Message(Role::User)).header, "U: ");
    let part = given(json!({"headers": {"reason": "why: "}}));
    let template = load(&[], &part).unwrap();
    assert_eq!(template.format().turn(Speaker::Thought(ThoughtKind::Reason)).header, "why: ");
    let missing = given(json!({"end": "<end>"}));
    let error = load(&[], &missing).unwrap_err();
    assert_eq!(error.to_string(), "`tokenizer.json`, `<end>`: is not in the vocabulary, and the chat format needs it");
    let text = given(json!({"end": "Z"}));
    assert_eq!(
        load(&[], &text).unwrap_err().to_string(),
        "`tokenizer.json`, `Z`: is not a special token, and the chat format needs it"
    );
}
