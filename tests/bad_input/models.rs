//! Broken model folders and GGUF files.

use super::*;

#[test]
fn model_folders_that_are_none() {
    let place = place();
    let expected = "a Hugging Face model folder is expected\n\n\
        hint: `make model` puts SmolLM2-135M-Instruct under `checkpoints/`; `undertone import` converts a GGUF file; `hf:owner/name` is a model of the Hugging Face Hub";
    check(&place, "train x.toml --set model.path=nosuch", &format!("error: `nosuch`: does not exist; {expected}"));
    check(
        &place,
        "train x.toml --set model.path=data.jsonl",
        &format!("error: `data.jsonl`: is not a folder; {expected}"),
    );
    for (name, error) in [("config.json", "read"), ("tokenizer.json", "read")] {
        let model = place.read(&format!("model/{name}"));
        std::fs::remove_file(place.path("model").join(name)).unwrap();
        check(
            &place,
            "train x.toml",
            &format!("error: `model/{name}`: cannot {error}: No such file or directory (os error 2)\n\n{NO_SUCH_FILE}"),
        );
        place.write(&format!("model/{name}"), model);
    }
    std::fs::remove_file(place.path("model/model.safetensors")).unwrap();
    check(
        &place,
        "train x.toml",
        "error: `model`: holds neither `model.safetensors` nor `model.safetensors.index.json`\n\n\
        hint: check the path; weights in other formats (`.bin`, `.pt`) are not read, GGUF files are imported first",
    );
}

#[test]
fn a_tokenizer_that_does_not_fit_the_model() {
    let place = place();
    let mut smaller = tiny_folder::config();
    smaller["vocab_size"] = json!(200);
    smaller["bos_token_id"] = json!(0);
    smaller["eos_token_id"] = json!(1);
    place.write("model/config.json", smaller.to_string());
    check(
        &place,
        "train x.toml",
        "error: `model/tokenizer.json`, `È`: has the id `200`, but the model's `vocab_size` is `200`\n\n\
        hint: `tokenizer.json` and `config.json` belong to different models",
    );
    place.write("model/config.json", tiny_folder::config().to_string());
    place.write("model/tokenizer.json", "{\"model\": ");
    check(
        &place,
        "train x.toml",
        "error: `model/tokenizer.json`: is not a tokenizer file: EOF while parsing a value at line 1 column 10",
    );
}

#[test]
fn a_chat_template_that_cannot_be_trained_with() {
    let place = place();
    let hint = "hint: describe the format in `[model.format]` of the experiment: the headers of `user` and `assistant`, and the \
                `end` of a turn";
    let refused = |words: &str, expected: &str| check(&place, words, &format!("error: {expected}\n\n{hint}"));
    place.write(
        "model/chat_template.jinja",
        "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}",
    );
    refused(
        "train x.toml",
        "`model/chat_template.jinja`: is not a chat template that can be trained with: behind a reply it writes \"\\nuser: \", \
         which does not begin with a special token that could end the reply",
    );
    place.write("model/chat_template.jinja", "{% for message in messages %}");
    refused(
        "inspect x.toml --conversation user9001_task1_conversation1",
        "`model/chat_template.jinja`: is not a chat template that can be trained with: line 1: unexpected end of input, \
         expected end of block",
    );
    place.write("model/chat_template.jinja", [0xff]);
    refused("train x.toml", "`model/chat_template.jinja`: is not UTF-8");
    // The template is not needed if the experiment describes the format, and the tokens of the format are.
    let by_hand = "train x.toml --set model.format.headers.user=U: --set model.format.headers.assistant=A: --set model.format.end=";
    refused(
        &format!("{by_hand}<|eot_id|>"),
        "`model/tokenizer.json`, `<|eot_id|>`: is not in the vocabulary, and the chat format needs it",
    );
    refused(
        &format!("{by_hand}e"),
        "`model/tokenizer.json`, `e`: is not a special token, and the chat format needs it",
    );
    std::fs::remove_file(place.path("model/chat_template.jinja")).unwrap();
    let mut config = tiny_folder::config();
    config["eos_token_id"] = json!(3);
    place.write("model/config.json", config.to_string());
    place.write("model/tokenizer.json", tiny_folder::tokenizer().to_string().replace("<|im_end|>", "</s>"));
    refused("train x.toml", "`model`: has no chat template, and no special token that ends a text");
}

#[test]
fn a_tokenizer_that_fails_or_adds_text_of_its_own() {
    let place = place();
    let changed = |key: &str, value: Value, expected: &str| {
        let mut tokenizer = tiny_folder::tokenizer();
        tokenizer[key] = value;
        place.write("model/tokenizer.json", tokenizer.to_string());
        check(&place, "train x.toml", &format!("error: `model/tokenizer.json`, {expected}"));
    };
    // The tokenizers library panics.
    changed(
        "normalizer",
        json!({"type": "Replace", "pattern": {"String": ""}, "content": "x"}),
        "`normalizer`: fails on \" \": index out of bounds: the len is 3 but the index is 3\n\n\
        hint: the file's normalizer or pre-tokenizer is broken; get the file from its publisher again",
    );
    // It panics only on a text of the data.
    changed(
        "normalizer",
        json!({"type": "Replace", "pattern": {"Regex": "(?=lentil soup)"}, "content": "x"}),
        "`normalizer`: the tokenizers library fails on \"lentil soup recipe, easy\": index out of bounds: the len is 25 but \
        the index is 25\n\nhint: the file's normalizer or pre-tokenizer is broken; get the file from its publisher again",
    );
    changed(
        "pre_tokenizer",
        json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": false}),
        "`pre_tokenizer`: `b` and `a`, encoded one by one, decode to ` b a`\n\n\
        hint: a text must give exactly its own ids; `add_prefix_space` must be false, and nothing may add or remove text",
    );
}

/// transformers does not tie a head that is stored and differs.
#[test]
fn a_head_that_differs_from_the_embedding_that_it_is_tied_to() {
    let place = place();
    let with_head = |change: f32| {
        let mut weights = tiny_folder::weights();
        let mut head = weights[0].clone();
        head.name = "lm_head.weight".into();
        head.values[7] += change;
        weights.push(head);
        place.write("model/model.safetensors", tiny_folder::safetensors(&weights, json!({})));
    };
    with_head(0.5);
    check(
        &place,
        "train x.toml",
        "error: `model`, `lm_head.weight`: differs from `model.embed_tokens.weight`, though `tie_word_embeddings` is true\n\n\
        hint: set `tie_word_embeddings` to false in `config.json` if the model has a head of its own",
    );
    with_head(0.0);
    place.run("train x.toml --set training.epochs=1").succeeded();
}

#[test]
fn safetensors_that_are_cut_off_or_lie() {
    let place = place();
    let whole = place.read("model/model.safetensors");
    let header_bytes = u64::from_le_bytes(*whole.first_chunk().unwrap()) as usize;
    let broken = |bytes: &[u8], expected: &str| {
        place.write("model/model.safetensors", bytes);
        check(&place, "train x.toml", &format!("error: `model/model.safetensors`{expected}"));
    };
    broken(b"", &format!(": has 0 bytes, too few for a safetensors file\n\n{DOWNLOAD}"));
    broken(&whole[..1000], &format!(": its header has {header_bytes} bytes, but only 992 follow\n\n{DOWNLOAD}"));
    broken(
        &whole[..8 + header_bytes + 16512],
        &format!(", `model.norm.weight`: ends at byte 32192, but the file holds 16512 bytes of tensors\n\n{DOWNLOAD}"),
    );
    let lying = [&(1_u64 << 62).to_le_bytes()[..], &whole[8..]].concat();
    broken(&lying, ": is not a safetensors file: its header would have 4611686018427387904 bytes");
    let replaced = |from: &str, to: &str| {
        assert_eq!(from.len(), to.len());
        let at = whole.windows(from.len()).position(|window| window == from.as_bytes()).expect(from);
        [&whole[..at], to.as_bytes(), &whole[at + from.len()..]].concat()
    };
    broken(
        &replaced("[258,16]", "[999,99]"),
        ", `model.embed_tokens.weight`: has 16512 bytes, which is not what type `F32` and shape `[999, 99]` need",
    );
    broken(
        &replaced("\"shape\":[258,16]", "\"shape\":[99,9e9]"),
        ", `model.embed_tokens.weight`: its entry in the header is wrong: \
        invalid type: floating point `9000000000.0`, expected usize",
    );
    broken(
        &replaced("[0,16512]", "[9,16512]"),
        ", `model.embed_tokens.weight`: has 16503 bytes, which is not what type `F32` and shape `[258, 16]` need",
    );
    broken(
        &replaced("model.norm.weight", "model.nerd.weight"),
        ", `model.norm.weight`: there is no tensor of this name\n\nhint: the nearest name in the file is `model.nerd.weight`",
    );
    let mut infinite = whole.clone();
    infinite[8 + header_bytes..][..4].copy_from_slice(&f32::INFINITY.to_le_bytes());
    broken(&infinite, ", `model.embed_tokens.weight`: value 0 is `inf`, not a finite number");
}

/// Nothing of a claimed size is allocated before the weights confirm it.
#[test]
fn absurd_sizes_in_the_configuration() {
    let place = place();
    let broken = |key: &str, value: Value, expected: &str| {
        let mut config = tiny_folder::config();
        config[key] = value;
        place.write("model/config.json", config.to_string());
        check(&place, "train x.toml", &format!("error: `model/{expected}"));
    };
    broken(
        "vocab_size",
        json!(10_000_000),
        "model.safetensors`, `model.embed_tokens.weight`: has shape `[258, 16]`, but the configuration asks for \
        `[10000000, 16]`\n\nhint: `config.json` and the weights belong to different models",
    );
    broken(
        "num_hidden_layers",
        json!(10_000),
        "model.safetensors`, `model.layers.2.input_layernorm.weight`: there is no tensor of this name\n\n\
        hint: the nearest name in the file is `model.layers.0.input_layernorm.weight`",
    );
    broken(
        "intermediate_size",
        json!(u64::MAX),
        "config.json`, `intermediate_size`: is `18446744073709551615`, not a whole number from 1 to 1000000",
    );
    broken(
        "num_attention_heads",
        json!(0),
        "config.json`, `num_attention_heads`: is `0`, not a whole number from 1 to 1000000",
    );
    broken(
        "model_type",
        json!("gpt2"),
        "config.json`, `model_type`: `gpt2` is not supported; these are: `llama`, `qwen2`, `qwen3`, `mistral`, \
        `gemma3_text`, `smollm3`, `olmo2`, `phi3`, `granite`\n\n\
        hint: choose a base model of one of these families, such as SmolLM2",
    );
    broken(
        "num_hidden_layers",
        json!(1),
        "model.safetensors`: the model does not use `model.layers.1.input_layernorm.weight`, \
        `model.layers.1.mlp.down_proj.weight`, `model.layers.1.mlp.gate_proj.weight`, `model.layers.1.mlp.up_proj.weight`, \
        `model.layers.1.post_attention_layernorm.weight`, `model.layers.1.self_attn.k_proj.weight`, \
        `model.layers.1.self_attn.o_proj.weight`, `model.layers.1.self_attn.q_proj.weight` and 1 more\n\n\
        hint: `config.json` and the weights belong to different models",
    );
}

#[test]
fn gguf_files_that_are_cut_off_or_lie() {
    let place = place();
    let whole = tiny_folder::gguf();
    let broken = |bytes: &[u8], expected: &str| {
        place.write("tiny.gguf", bytes);
        check(&place, "import tiny.gguf imported", &format!("error: `tiny.gguf`{expected}"));
    };
    broken(b"", ": is not a GGUF file: it does not begin with `GGUF`");
    broken(&whole[..10], &format!(", `the header`: needs 8 bytes, but the file ends after 2\n\n{DOWNLOAD}"));
    broken(
        &whole[..whole.len() - 1],
        &format!(
            ", `output_norm.weight`: ends 32192 bytes into the tensor data, but the file holds 32191\n\n{DOWNLOAD}"
        ),
    );
    let with = |at: usize, bytes: &[u8]| {
        let mut changed = whole.clone();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        changed
    };
    broken(&with(4, &[9]), ": has GGUF version `9`; only 2 and 3 are read");
    broken(
        &with(8, &u64::MAX.to_le_bytes()),
        ", `the header`: claims 18446744073709551615 tensors, more than the limit of 65536",
    );
    broken(
        &with(24, &(1_u64 << 60).to_le_bytes()),
        ", `the metadata`: claims a text of 1152921504606846976 bytes, more than the limit of 16777216",
    );
    let find =
        |text: &str| whole.windows(text.len()).position(|window| window == text.as_bytes()).unwrap() + text.len();
    // A tensor's name is followed by the number of its axes, then the axes.
    broken(
        &with(find("token_embd.weight") + 4, &(1_u64 << 60).to_le_bytes()),
        ", `token_embd.weight`: has shape `[258, 1152921504606846976]` at offset 0, larger than any file",
    );
    broken(
        &with(find("token_embd.weight") + 4, &(1_u64 << 30).to_le_bytes()),
        &format!(
            ", `token_embd.weight`: ends 1108101562368 bytes into the tensor data, but the file holds 32192\n\n{DOWNLOAD}"
        ),
    );
    // The key of a number is followed by its type, then the number.
    broken(
        &with(find("llama.block_count") + 4, &10_000_u32.to_le_bytes()),
        ", `blk.2.attn_norm.weight`: there is no tensor of this name",
    );
    broken(
        &with(find("llama.embedding_length") + 4, &0_u32.to_le_bytes()),
        ", `hidden_size`: is `0`, not a whole number from 1 to 1000000",
    );
    check(
        &place,
        "import nosuch.gguf imported",
        &format!("error: `nosuch.gguf`: cannot read: No such file or directory (os error 2)\n\n{NO_SUCH_FILE}"),
    );
    check(&place, "import model imported", "error: `model`: is not a regular file");
}

#[test]
fn a_file_of_another_kind_is_named_as_what_it_is() {
    let place = Workplace::new(4);
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 538090408\n";
    for name in ["model.safetensors", "tokenizer.json", "config.json"] {
        let original = place.read(&format!("model/{name}"));
        for (content, kind) in [
            (
                pointer.as_bytes(),
                "is a Git LFS pointer, and not the file itself\n\nhint: run `git lfs pull` in its repository, or download the file",
            ),
            (b"PK\x03\x04\x14\0\0\0\x08\0\0\0\0\0\0\0", "is a ZIP archive\n\nhint: unpack it, and name a file in it"),
        ] {
            place.write(&format!("model/{name}"), content);
            check(&place, "train x.toml", &format!("error: `model/{name}`: {kind}"));
        }
        place.write(&format!("model/{name}"), original);
    }
    place.write("pointer.gguf", pointer);
    check(
        &place,
        "import pointer.gguf imported",
        "error: `pointer.gguf`: is a Git LFS pointer, and not the file itself\n\n\
        hint: run `git lfs pull` in its repository, or download the file",
    );
}

#[test]
fn a_gguf_file_names_the_end_of_a_turn_and_the_parts_of_a_split_model() {
    let place = Workplace::new(4);
    let import = |more: &[(&'static str, usize)], folder: &str| {
        place.write("model.gguf", tiny_folder::gguf_with(more));
        place.run(&format!("import model.gguf {folder}"))
    };
    let ends = |folder: &str| {
        let config: Value = serde_json::from_slice(&place.read(&format!("{folder}/generation_config.json"))).unwrap();
        config["eos_token_id"].clone()
    };
    for (number, (turn, expected)) in [(256, json!([257, 256])), (257, json!(257))].into_iter().enumerate() {
        let folder = format!("imported{number}");
        import(&[("tokenizer.ggml.eot_token_id", turn)], &folder).succeeded();
        assert_eq!(ends(&folder), expected);
    }
    import(&[], "plain").succeeded();
    assert_eq!(ends("plain"), 257);
    let refused = |more: &[(&'static str, usize)], error: &str| {
        let ran = import(more, "refused");
        assert_eq!((ran.status.code(), ran.stderr.trim_end()), (Some(2), error));
        assert!(!place.path("refused").exists());
    };
    refused(
        &[("tokenizer.ggml.eot_token_id", 258)],
        "error: `model.gguf`, `tokenizer.ggml.eot_token_id`: `258` is not in the vocabulary",
    );
    refused(
        &[("split.count", 3)],
        "error: `model.gguf`, `split.count`: is part 1 of 3, but its name does not end with `-00001-of-00003.gguf`\n\n\
        hint: give the parts back the names that they had",
    );
}
