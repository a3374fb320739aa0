//! The chat template of an export.

use super::*;

/// Rendered by Jinja and encoded as a whole, conversations have the ids of training, in every format.
#[test]
fn the_exported_template_gives_the_ids_of_training() {
    let given = |format: Value| serde_json::from_value::<GivenFormat>(format).unwrap();
    let formats = [
        given(json!({})),
        given(json!({"opening": "<|im_start|>", "separator": " \n\t", "headers": {"reason": "why\\'{{:\r\n"}})),
        given(json!({"end": "<|im_start|>", "headers": {"user": "U ", "assistant": "A ", "system": "<|im_end|>"}})),
    ];
    let work = tempfile::tempdir().unwrap();
    let from = work.path().join("base");
    tiny_folder::write(&from);
    let model = Decoder::load(&from, &Device::flex()).unwrap();
    let data = work.path().join("data.jsonl");
    fs::write(&data, program::SAMPLE).unwrap();
    let (records, _) = Reader::open(&[&data], ReadOptions::default()).unwrap().read_all().unwrap();
    for (index, format) in formats.iter().enumerate() {
        let to = work.path().join(format!("merged{index}"));
        let template = load_template(&from, &model.config, format).unwrap();
        Hf.write(
            &model,
            Original { folder: &from, name: "./base", about: "", template: &template },
            &to,
            &provenance(),
            WeightType::F32.into(),
        )
        .unwrap();
        let jinja = fs::read_to_string(to.join("chat_template.jinja")).unwrap();
        let jinja = ChatTemplate::parse(&jinja, SpecialTokens::default()).unwrap();
        let tokenizer = load_tokenizer(&to, &model.config).unwrap();
        let builder = StreamBuilder::new(template.clone(), "Be brief.");
        for record in &records {
            let mut turns = vec![("system", "Be brief.")];
            for message in &record.conversation.messages {
                turns.push((Speaker::Message(message.role).name(), message.content.as_str()));
                let kind = Speaker::Thought(message.thought_kind()).name();
                turns.extend(message.thoughts.iter().map(|thought| (kind, thought.content.as_str())));
            }
            let messages: Vec<_> = turns.iter().map(|&(role, content)| ChatMessage { role, content }).collect();
            let rendered = jinja.render_as(&messages, true, Some("user")).unwrap();
            let ids = tokenizer.encode_fast(rendered, false).unwrap();
            let encoded = Encoded::new(record.conversation.clone(), &template, usize::MAX);
            let view = View { access: Access::Past, timing: Timing::Anchored, ..View::default() };
            let (trained, _) = builder.prompt(
                &encoded,
                PromptOptions { system: None, view, speaker: Speaker::Message(Role::User), limit: usize::MAX },
            );
            assert_eq!(ids.get_ids(), trained, "{format:?}: {}", record.conversation.id);
        }
        let unknown = [ChatMessage { role: "tool", content: "x" }];
        assert_eq!(jinja.render(&unknown, false).unwrap_err(), "line 14: the role tool was not in training");
        // A model that is fine-tuned again has the same format.
        if index < 2 {
            assert_eq!(load_template(&to, &model.config, &given(json!({}))).unwrap().format(), template.format());
        }
    }
}
