//! Imports GGUF files built here and reads the folders back; also imports the real SmolLM2 if it is available.
//!
//! `UNDERTONE_GGUF` names `SmolLM2-135M-Instruct.Q4_1.gguf` (`scripts/fetch_model.py` prints it), `UNDERTONE_SHARED`
//! the folder with `reference/`. Without them the test of the real file prints that it is skipped; under `CI` it fails
//! instead.

// Clippy allows `unwrap` in tests, but not in their helper functions.
#![allow(clippy::unwrap_used)]

mod tiny;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use undertone_files::InputError;
use undertone_model::import::{self, ImportReport};
use undertone_model::{ModelConfig, WeightFiles, load_tokenizer};

use tiny::{Gguf, Meta, Stored, WIDTH, tiny};

/// Imports the file into `folder/model`.
fn import_into(folder: &Path, bytes: &[u8]) -> Result<ImportReport, InputError> {
    let source = folder.join("tiny.gguf");
    fs::write(&source, bytes).unwrap();
    import::gguf(&source, &folder.join("model"))
}

fn check_refused(change: impl FnOnce(&mut Gguf), expect: &str) {
    let mut gguf = tiny();
    change(&mut gguf);
    let folder = tempfile::tempdir().unwrap();
    let error = import_into(folder.path(), &gguf.bytes().0).expect_err(expect);
    assert_eq!(format!("{}{}: {}", error.path.file_name().unwrap().display(), error.place, error.cause), expect);
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["tiny.gguf"], "an import that fails leaves nothing behind");
}

fn json(folder: &Path, name: &str) -> Value {
    serde_json::from_slice(&fs::read(folder.join(name)).unwrap()).unwrap()
}

#[test]
fn a_tiny_file_becomes_a_folder_that_reads_back() {
    let folder = tempfile::tempdir().unwrap();
    let report = import_into(folder.path(), &tiny().bytes().0).unwrap();
    let model = folder.path().join("model");
    assert_eq!(report.destination, model);
    assert_eq!(
        report.tensors_by_type.iter().map(|(name, count)| (*name, *count)).collect::<Vec<_>>(),
        [("BF16", 1), ("F16", 1), ("F32", 6), ("Q4_0", 1), ("Q4_1", 1), ("Q8_0", 1)]
    );
    assert_eq!(report.parameters, 32 * (6 + 32 + 16 + 16 + 32 + 3 * 32 + 3));
    assert_eq!(report.unencodable_bytes.len(), 256 - 13 - 2);

    let config = ModelConfig::read(&model).unwrap();
    assert_eq!(config, report.config);
    assert_eq!((config.head_dim, config.num_key_value_heads, config.vocab_size), (16, 1, 6));
    assert_eq!((config.rms_norm_eps, config.rotary[0].theta), (1e-5, 100_000.0));
    assert_eq!((config.bos_token_id, config.eos_token_ids, config.tie_word_embeddings), (Some(0), vec![1], true));

    let mut files = WeightFiles::open(&model).unwrap();
    let mut rows = |name: &str, shape: &[usize]| -> Vec<f32> {
        let values = files.take(name, shape).unwrap();
        values
            .chunks(WIDTH)
            .map(|row| if row.iter().all(|value| *value == row[0]) { row[0] } else { f32::NAN })
            .collect()
    };
    assert_eq!(rows("model.embed_tokens.weight", &[6, 32]), [0., 1., 2., 3., 4., 5.]);
    // In each head, even rows come first, then odd rows.
    let head: Vec<f32> = (0..16).step_by(2).chain((1..16).step_by(2)).map(|row| row as f32).collect();
    assert_eq!(rows("model.layers.0.self_attn.k_proj.weight", &[16, 32]), head);
    let second: Vec<f32> = head.iter().map(|row| row + 16.0).collect();
    assert_eq!(rows("model.layers.0.self_attn.q_proj.weight", &[32, 32]), [head, second].concat());
    let counted = |scale: f32, rows: usize| (0..rows).map(|row| row as f32 * scale).collect::<Vec<_>>();
    assert_eq!(rows("model.layers.0.self_attn.v_proj.weight", &[16, 32]), counted(0.25, 16));
    assert_eq!(rows("model.layers.0.self_attn.o_proj.weight", &[32, 32]), counted(1.0, 32));
    assert_eq!(rows("model.layers.0.mlp.down_proj.weight", &[32, 32]), [-1.0; 32]);
    for norm in ["model.layers.0.input_layernorm", "model.layers.0.post_attention_layernorm", "model.norm"] {
        assert_eq!(rows(&format!("{norm}.weight"), &[32]), [0.0]);
    }
    let gate = files.take("model.layers.0.mlp.gate_proj.weight", &[32, 32]).unwrap();
    assert_eq!((gate[0], gate[15], gate[16], gate[31], gate[32]), (-2.5, -2.5, 3.5, 3.5, -2.5));
    let up = files.take("model.layers.0.mlp.up_proj.weight", &[32, 32]).unwrap();
    assert_eq!((up[0], up[15], up[16], up[31], up[32]), (-0.5, -0.5, 5.5, 5.5, -0.5));
    files.finish().unwrap();

    let config = ModelConfig::read(&model).unwrap();
    let tokenizer = load_tokenizer(&model, &config).unwrap();
    let ids = |text: &str| tokenizer.encode(text, false).unwrap().get_ids().to_vec();
    assert_eq!(ids("<|im_start|>abba<|extra|><|im_end|>"), [0, 4, 3, 2, 5, 1]);
    assert_eq!(tokenizer.decode(&[0, 4, 5], true).unwrap(), "ab<|extra|>");

    let settings = json(&model, "tokenizer_config.json");
    assert_eq!(settings["chat_template"], "{{ messages }}");
    assert_eq!(settings["added_tokens_decoder"]["5"]["special"], false);
    assert_eq!(json(&model, "special_tokens_map.json")["eos_token"], "<|im_end|>");
    assert_eq!(json(&model, "generation_config.json")["eos_token_id"], 1);
    let provenance = json(&model, "import.json");
    assert_eq!(provenance["source"], "tiny.gguf");
    assert_eq!(provenance["source_sha256"], report.source_sha256.as_str());
    let header = fs::read(model.join("model.safetensors")).unwrap();
    assert!(header[8..].starts_with(br#"{"__metadata__":{"format":"pt"}"#));
}

#[test]
fn an_output_projection_of_its_own_is_kept() {
    let mut gguf = tiny();
    let output = Stored { name: "output.weight".into(), ..gguf.tensor("token_embd.weight").clone() };
    gguf.tensors.push(output);
    let folder = tempfile::tempdir().unwrap();
    let report = import_into(folder.path(), &gguf.bytes().0).unwrap();
    assert!(!report.config.tie_word_embeddings);
    let mut files = WeightFiles::open(&report.destination).unwrap();
    assert_eq!(files.take("lm_head.weight", &[6, 32]).unwrap()[5 * WIDTH], 5.0);
}

#[test]
fn digits_stand_alone_only_where_the_model_was_trained_so() {
    let ids = |pre: &'static str| {
        let mut gguf = tiny();
        gguf.set("tokenizer.ggml.pre", Meta::Text(pre));
        gguf.set("tokenizer.ggml.tokens", Meta::Texts(vec!["<|im_start|>", "<|im_end|>", "1", "2", "12", "<|extra|>"]));
        gguf.set("tokenizer.ggml.merges", Meta::Texts(vec!["1 2"]));
        let folder = tempfile::tempdir().unwrap();
        let report = import_into(folder.path(), &gguf.bytes().0).unwrap();
        let tokenizer = load_tokenizer(&report.destination, &report.config).unwrap();
        tokenizer.encode("12", false).unwrap().get_ids().to_vec()
    };
    assert_eq!((ids("smollm"), ids("gpt-2"), ids("default")), (vec![2, 3], vec![4], vec![4]));
}

/// The parts of a split model are read from beside the first, which has the metadata.
#[test]
fn the_parts_of_a_split_model_are_one_model() {
    let folder = tempfile::tempdir().unwrap();
    let whole = import_into(folder.path(), &tiny().bytes().0).unwrap();
    let tensors = tiny().tensors.len();
    let part = |number: u32, count: u32| {
        let mut part = tiny();
        let second = part.tensors.split_off(3);
        if number > 0 {
            part.tensors = second;
            part.metadata.clear();
        }
        part.set("split.no", Meta::U32(number));
        part.set("split.count", Meta::U32(count));
        part.set("split.tensors.count", Meta::U32(tensors as u32));
        part.bytes().0
    };
    let path = |number: u32| folder.path().join(format!("tiny-0000{number}-of-00002.gguf"));
    fs::write(path(1), part(0, 2)).unwrap();
    let to = folder.path().join("joined");
    let refused = |number: u32, expected: &str| {
        let error = undertone_model::import::gguf(&path(number), &to).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    refused(1, "tiny-00002-of-00002.gguf`: cannot");
    fs::write(path(2), part(0, 2)).unwrap();
    refused(1, "`split.no`: is not part 2 of 2");
    fs::write(path(2), part(1, 2)).unwrap();
    refused(2, "`split.no`: is part 2 of 2");
    let joined = undertone_model::import::gguf(&path(1), &to).unwrap();
    assert_eq!(joined.tensors_by_type, whole.tensors_by_type);
    for name in ["config.json", "tokenizer.json", "model.safetensors"] {
        assert_eq!(fs::read(to.join(name)).unwrap(), fs::read(whole.destination.join(name)).unwrap(), "{name}");
    }
    fs::rename(path(1), folder.path().join("first.gguf")).unwrap();
    let renamed =
        undertone_model::import::gguf(&folder.path().join("first.gguf"), &folder.path().join("x")).unwrap_err();
    assert!(
        renamed.to_string().contains("is part 1 of 2, but its name does not end with `-00001-of-00002.gguf`"),
        "{renamed}"
    );
}

/// A vocabulary of SentencePiece: merges follow from scores, and runs of spaces come first.
#[test]
fn a_sentence_piece_vocabulary_becomes_bpe() {
    let scores = |scores: [f32; 6]| {
        let bytes = scores.iter().flat_map(|score| score.to_le_bytes()).collect::<Vec<_>>();
        Meta::Raw(9, [&6_u32.to_le_bytes()[..], &6_u64.to_le_bytes(), &bytes].concat())
    };
    let of_pieces = |gguf: &mut Gguf| {
        gguf.set("tokenizer.ggml.model", Meta::Text("llama"));
        gguf.set("tokenizer.ggml.pre", Meta::Text("default"));
        gguf.set("tokenizer.ggml.tokens", Meta::Texts(vec!["</s>", "▁a", "▁", "a", "b", "  "]));
        gguf.set("tokenizer.ggml.token_type", Meta::I32s(vec![3, 1, 1, 1, 1, 4]));
        gguf.set("tokenizer.ggml.scores", scores([0.0, -1.0, -2.0, -3.0, -4.0, -1000.0]));
        gguf.set("tokenizer.ggml.add_space_prefix", Meta::Bool(false));
        gguf.set("tokenizer.ggml.eos_token_id", Meta::U32(0));
    };
    let folder = tempfile::tempdir().unwrap();
    let mut gguf = tiny();
    of_pieces(&mut gguf);
    let report = import_into(folder.path(), &gguf.bytes().0).unwrap();
    let tokenizer = load_tokenizer(&report.destination, &report.config).unwrap();
    assert_eq!(tokenizer.encode("a  a ab", false).unwrap().get_ids(), [3, 5, 3, 1, 4]);
    // llama.cpp begins texts of such vocabularies with the first token, unless the file says otherwise.
    let written = json(&report.destination, "tokenizer.json");
    assert_eq!(written["post_processor"]["special_tokens"]["</s>"]["ids"], serde_json::json!([0]));
    assert_eq!(tokenizer.decode(&[3, 5, 3, 1, 4], false).unwrap(), "a  a ab");
    let long: &'static str = Box::leak("a".repeat(257).into_boxed_str());
    check_refused(
        |gguf| {
            of_pieces(gguf);
            gguf.set("tokenizer.ggml.tokens", Meta::Texts(vec!["</s>", "▁a", "▁", "a", "b", long]));
        },
        "tiny.gguf, `tokenizer.ggml.tokens`: token `5` has 257 bytes, more than 256",
    );
    check_refused(
        |gguf| {
            of_pieces(gguf);
            gguf.unset("tokenizer.ggml.scores");
        },
        "tiny.gguf, `tokenizer.ggml.scores`: is missing from the metadata",
    );
}

#[test]
fn models_that_would_compute_something_else_are_refused() {
    check_refused(
        |gguf| gguf.set("general.architecture", Meta::Text("gpt2")),
        "tiny.gguf, `general.architecture`: `gpt2` is not supported; these are: `llama`, `qwen2`, `qwen3`, `gemma3`, `smollm3`, `olmo2`, `phi3`, `granite`",
    );
    check_refused(
        |gguf| gguf.set("llama.rope.scaling.type", Meta::Text("longrope")),
        "tiny.gguf, `llama.rope.scaling.type`: `longrope` is not supported; `none`, `linear` and `yarn` are",
    );
    check_refused(
        |gguf| gguf.set("llama.rope.scaling.type", Meta::Text("linear")),
        "tiny.gguf, `llama.rope.scaling.factor`: is missing from the metadata",
    );
    check_refused(
        |gguf| gguf.set("llama.logit_scale", Meta::F32(2.0)),
        "tiny.gguf, `llama.logit_scale`: is not supported: it may change what the model computes",
    );
    check_refused(
        |gguf| gguf.set("llama.expert_count", Meta::U32(8)),
        "tiny.gguf, `llama.expert_count`: `8` experts are not supported",
    );
    check_refused(
        |gguf| {
            let extra = Stored { name: "rope_freqs.weight".into(), ..gguf.tensor("output_norm.weight").clone() };
            gguf.tensors.push(extra);
        },
        "tiny.gguf, `rope_freqs.weight`: has shape `[32]`, but the metadata require `[8]`",
    );
    check_refused(
        |gguf| {
            let extra =
                Stored { name: "blk.0.ffn_gate_inp.weight".into(), ..gguf.tensor("output_norm.weight").clone() };
            gguf.tensors.push(extra);
        },
        "tiny.gguf, `blk.0.ffn_gate_inp.weight`: a plain `llama` model does not use `blk.0.ffn_gate_inp.weight`",
    );
    check_refused(
        |gguf| gguf.tensor("blk.0.ffn_up.weight").kind = 39,
        "tiny.gguf, `blk.0.ffn_up.weight`: has type MXFP4, which is not supported",
    );
    check_refused(
        |gguf| gguf.tensor("blk.0.ffn_up.weight").kind = 12,
        "tiny.gguf, `blk.0.ffn_up.weight`: has rows of 32 values, not a multiple of 256, the block of Q4_K",
    );
    check_refused(
        |gguf| gguf.tensor("blk.0.ffn_up.weight").kind = 77,
        "tiny.gguf, `blk.0.ffn_up.weight`: has the unknown type 77",
    );
}

#[test]
fn metadata_that_contradict_themselves_are_refused() {
    check_refused(
        |gguf| gguf.unset("llama.block_count"),
        "tiny.gguf, `llama.block_count`: is missing from the metadata",
    );
    check_refused(
        |gguf| gguf.set("llama.block_count", Meta::Text("1")),
        "tiny.gguf, `llama.block_count`: has a value of type String, not a whole number",
    );
    check_refused(
        |gguf| gguf.set("llama.block_count", Meta::U32(2)),
        "tiny.gguf, `blk.1.attn_norm.weight`: there is no tensor of this name",
    );
    check_refused(
        |gguf| gguf.set("llama.block_count", Meta::U32(0)),
        "tiny.gguf, `num_hidden_layers`: is `0`, not a whole number from 1 to 10000",
    );
    check_refused(
        |gguf| gguf.set("llama.embedding_length", Meta::U32(64)),
        "tiny.gguf, `llama.rope.dimension_count`: is `16`, but a head is `32` wide",
    );
    check_refused(
        |gguf| gguf.set("llama.attention.head_count", Meta::U32(0)),
        "tiny.gguf, `llama.attention.head_count`: is `0`",
    );
    check_refused(
        |gguf| gguf.set("llama.attention.head_count", Meta::U32(3)),
        "tiny.gguf, `llama.attention.head_count`: `3` heads do not divide `llama.embedding_length` `32`",
    );
    check_refused(
        |gguf| gguf.set("llama.attention.head_count_kv", Meta::U32(2)),
        "tiny.gguf, `blk.0.attn_k.weight`: has shape `[16, 32]`, but the metadata require `[32, 32]`",
    );
    check_refused(
        |gguf| gguf.set("llama.feed_forward_length", Meta::U32(33)),
        "tiny.gguf, `blk.0.ffn_gate.weight`: has shape `[32, 32]`, but the metadata require `[33, 32]`",
    );
    check_refused(
        |gguf| gguf.set("llama.vocab_size", Meta::U32(7)),
        "tiny.gguf, `llama.vocab_size`: is `7`, but `tokenizer.ggml.tokens` has `6`",
    );
    check_refused(
        |gguf| gguf.tensors.retain(|tensor| tensor.name != "output_norm.weight"),
        "tiny.gguf, `output_norm.weight`: there is no tensor of this name",
    );
    check_refused(
        |gguf| gguf.tensor("output_norm.weight").data[4..8].copy_from_slice(&f32::INFINITY.to_le_bytes()),
        "tiny.gguf, `output_norm.weight`: value 1 is `inf`, not a finite number",
    );
}

#[test]
fn tokenizers_that_would_give_other_ids_are_refused() {
    check_refused(
        |gguf| gguf.set("tokenizer.ggml.model", Meta::Text("bert")),
        "tiny.gguf, `tokenizer.ggml.model`: `bert` is not supported; `gpt2` (byte-level BPE) and `llama` (SentencePiece) are",
    );
    check_refused(
        |gguf| gguf.set("tokenizer.ggml.model", Meta::Text("llama")),
        "tiny.gguf, `tokenizer.ggml.add_space_prefix`: `true` is not supported: encoding would add a space to each text",
    );
    check_refused(
        |gguf| gguf.set("tokenizer.ggml.pre", Meta::Text("tekken")),
        "tiny.gguf, `tokenizer.ggml.pre`: `tekken` is not supported; these are: `smollm`, `gpt-2`, `llama-bpe`, `dbrx`, `qwen2`, `default`",
    );
    check_refused(
        |gguf| gguf.set("tokenizer.ggml.add_eos_token", Meta::Bool(true)),
        "tiny.gguf, `tokenizer.ggml.add_eos_token`: `true` is not supported: encoding would add a token to each text",
    );
    check_refused(
        |gguf| gguf.set("tokenizer.ggml.token_type", Meta::I32s(vec![1; 5])),
        "tiny.gguf, `tokenizer.ggml.token_type`: has `5` entries for `6` tokens",
    );
    check_refused(
        |gguf| gguf.set("tokenizer.ggml.token_type", Meta::I32s(vec![3, 3, 1, 1, 1, 6])),
        "tiny.gguf, `tokenizer.ggml.tokens`: token `5`, `<|extra|>`, has type `6`, which such a vocabulary cannot have",
    );
    check_refused(
        |gguf| gguf.set("tokenizer.ggml.tokens", Meta::Texts(vec!["<|im_start|>", "a", "a", "b", "ab", "c"])),
        "tiny.gguf, `tokenizer.ggml.tokens`: token `2`, `a`, is also token `1`",
    );
    check_refused(
        |gguf| gguf.set("tokenizer.ggml.merges", Meta::Texts(vec!["a b", "ab"])),
        "tiny.gguf, `tokenizer.ggml.merges`: merge `1`, `ab`, is not two tokens with a space between",
    );
    check_refused(
        |gguf| gguf.set("tokenizer.ggml.merges", Meta::Texts(vec!["<|im_start|> <|im_start|>"])),
        "tiny.gguf, `model.merges[0]`: merges `<|im_start|>` and `<|im_start|>`, but `<|im_start|><|im_start|>` is not in the vocabulary",
    );
    check_refused(
        |gguf| gguf.set("tokenizer.ggml.eos_token_id", Meta::U32(6)),
        "tiny.gguf, `the eos id`: is `6`, but the vocabulary has `6` tokens",
    );
}

#[test]
fn headers_that_lie_are_refused() {
    let list = |kind: u32, length: u64| [&kind.to_le_bytes()[..], &length.to_le_bytes()].concat();
    check_refused(|gguf| gguf.version = 1, "tiny.gguf: has GGUF version `1`; only 2 and 3 are read");
    check_refused(
        |gguf| gguf.version = 3_u32.swap_bytes(),
        "tiny.gguf: is a big-endian GGUF file of version `3`; only little-endian ones are read",
    );
    // candle divides by this.
    check_refused(
        |gguf| gguf.set("general.alignment", Meta::U32(0)),
        "tiny.gguf, `general.alignment`: is `0` (value type 4), not a 32-bit multiple of 8",
    );
    check_refused(
        |gguf| gguf.set("x", Meta::Raw(9, list(0, u64::MAX))),
        "tiny.gguf, `x`: claims 18446744073709551615 elements; all arrays together may have 4194304",
    );
    check_refused(
        |gguf| gguf.set("x", Meta::Raw(9, list(10, 1 << 20))),
        "tiny.gguf, `x`: needs 8388608 bytes, but the file ends after 13308",
    );
    check_refused(
        |gguf| gguf.set("x", Meta::Raw(9, list(9, 1))),
        "tiny.gguf, `x`: is an array of arrays, which no Llama file has",
    );
    check_refused(
        |gguf| gguf.set("x", Meta::Raw(8, (1_u64 << 40).to_le_bytes().to_vec())),
        "tiny.gguf, `x`: claims a text of 1099511627776 bytes, more than the limit of 16777216",
    );
    check_refused(
        |gguf| gguf.set("x", Meta::Raw(8, [&2_u64.to_le_bytes()[..], &[0xC0, 0x80]].concat())),
        "tiny.gguf, `x`: is not UTF-8: invalid utf-8 sequence of 1 bytes from index 0",
    );
    check_refused(|gguf| gguf.set("x", Meta::Raw(13, vec![])), "tiny.gguf, `x`: has the unknown value type 13");
    check_refused(
        |gguf| gguf.metadata.push(("llama.block_count".into(), Meta::U32(1))),
        "tiny.gguf, `llama.block_count`: occurs twice in the metadata",
    );
    check_refused(
        |gguf| gguf.tensors.push(tiny().tensors[0].clone()),
        "tiny.gguf, `token_embd.weight`: occurs twice in the list of tensors",
    );
    check_refused(
        |gguf| gguf.tensor("token_embd.weight").axes = vec![1 << 32, 1 << 32],
        "tiny.gguf, `token_embd.weight`: has shape `[4294967296, 4294967296]` at offset 0, larger than any file",
    );
    check_refused(
        |gguf| gguf.tensor("token_embd.weight").axes = vec![32, 1 << 40],
        "tiny.gguf, `token_embd.weight`: ends 140737488355328 bytes into the tensor data, but the file holds 12672",
    );
    check_refused(
        |gguf| gguf.tensor("token_embd.weight").axes = vec![1; 5],
        "tiny.gguf, `token_embd.weight`: has 5 axes, not 1 to 4",
    );
    check_refused(
        |gguf| gguf.tensor("blk.0.ffn_up.weight").axes = vec![33, 32],
        "tiny.gguf, `blk.0.ffn_up.weight`: has rows of 33 values, not a multiple of 32, the block of Q4_1",
    );
    check_refused(
        |gguf| gguf.tensor("token_embd.weight").claimed_offset = Some(4),
        "tiny.gguf, `token_embd.weight`: begins at offset 4, not a multiple of the alignment, 32",
    );
    check_refused(
        |gguf| gguf.tensor("blk.0.attn_norm.weight").claimed_offset = Some(32),
        "tiny.gguf, `blk.0.attn_norm.weight`: overlaps `token_embd.weight`",
    );
    check_refused(
        |gguf| gguf.tensor("output_norm.weight").claimed_offset = Some(u64::MAX - 31),
        "tiny.gguf, `output_norm.weight`: has shape `[32]` at offset 18446744073709551584, larger than any file",
    );
}

#[test]
fn damage_anywhere_in_the_header_is_an_error_or_harmless_but_never_a_panic() {
    let (bytes, header) = tiny().bytes();
    let folder = tempfile::tempdir().unwrap();
    // The destination exists, so that harmless damage ends there and does not write thousands of folders.
    fs::create_dir(folder.path().join("model")).unwrap();
    let attempt = |bytes: &[u8]| import_into(folder.path(), bytes).unwrap_err().cause;
    let harmless = "already exists";
    assert_eq!(attempt(&bytes), harmless);
    for cut in (0..bytes.len()).step_by(5) {
        assert_ne!(attempt(&bytes[..cut]), harmless, "cut at {cut} of {}", bytes.len());
    }
    let mut refused = 0;
    for at in 0..header {
        for damage in [0x00, 0xFF, bytes[at] ^ 1] {
            let mut bytes = bytes.clone();
            bytes[at] = damage;
            refused += usize::from(attempt(&bytes) != harmless);
        }
    }
    assert!(refused > header, "only {refused} of {} damaged headers were refused", 3 * header);
}

#[test]
fn files_and_folders_that_cannot_be_used_are_explained() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("tiny.gguf");
    let cause = |source: &Path, destination: &Path| import::gguf(source, destination).unwrap_err().cause;
    let new = folder.path().join("new");
    assert!(cause(&source, &new).starts_with("cannot read: "));
    assert_eq!(cause(folder.path(), &new), "is not a regular file");
    fs::write(&source, "PK").unwrap();
    assert_eq!(cause(&source, &new), "is not a GGUF file: it does not begin with `GGUF`");

    fs::write(&source, tiny().bytes().0).unwrap();
    let existing = folder.path().join("existing");
    fs::create_dir(&existing).unwrap();
    let error = import::gguf(&source, &existing).unwrap_err();
    assert_eq!(error.cause, "already exists");
    assert_eq!(error.hint.unwrap(), "choose another name, or remove it first");
    assert_eq!(cause(&source, &existing.join("..")), "already exists");
    // A file in the place of a parent folder.
    assert!(cause(&source, &source.join("model")).starts_with("cannot "));
    // Parent folders are created.
    import::gguf(&source, &folder.path().join("a/b/model")).unwrap();
    assert!(folder.path().join("a/b/model/config.json").exists());
}

/// The real model and the folder of golden numbers, or `None` if they are not available.
///
/// # Panics
///
/// They are not available under `CI`, where nothing may be skipped.
fn real_model() -> Option<(PathBuf, PathBuf)> {
    let path = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let found = path("UNDERTONE_GGUF").zip(path("UNDERTONE_SHARED"));
    if found.is_none() {
        assert!(std::env::var_os("CI").is_none(), "`UNDERTONE_GGUF` and `UNDERTONE_SHARED` must be set under `CI`");
        eprintln!("skipped: `UNDERTONE_GGUF` and `UNDERTONE_SHARED` are not set");
    }
    found
}

#[test]
fn smollm2_is_imported_as_the_reference_reads_it() {
    let Some((source, shared)) = real_model() else { return };
    let folder = tempfile::tempdir().unwrap();
    let report = import::gguf(&source, &folder.path().join("smollm2")).unwrap();
    assert_eq!(report.parameters, 134_515_008);
    assert_eq!(
        report.tensors_by_type.iter().map(|(name, count)| (*name, *count)).collect::<Vec<_>>(),
        [("F32", 61), ("Q4_1", 210), ("Q8_0", 1)]
    );
    assert_eq!(report.unencodable_bytes, [0x04, 0x06, 0x13, 0x14, 0x16, 0x1D, 0xF1, 0xF2]);

    let config = ModelConfig::read(&report.destination).unwrap();
    assert_eq!(config, report.config);
    assert_eq!((config.layers.len(), config.hidden_size, config.intermediate_size), (30, 576, 1536));
    assert_eq!((config.num_attention_heads, config.num_key_value_heads, config.head_dim), (9, 3, 64));
    assert_eq!((config.vocab_size, config.max_position_embeddings), (49_152, 8192));
    assert_eq!((config.rotary[0].theta, config.rms_norm_eps), (100_000.0, 1e-5));
    assert_eq!((config.tie_word_embeddings, config.bos_token_id, &config.eos_token_ids[..]), (true, Some(1), &[2][..]));

    let mut files = WeightFiles::open(&report.destination).unwrap();
    files.take("model.embed_tokens.weight", &[49_152, 576]).unwrap();
    files.take("model.layers.29.self_attn.k_proj.weight", &[192, 576]).unwrap();

    let tokenizer = load_tokenizer(&report.destination, &config).unwrap();
    let golden = json(&shared.join("reference"), "smollm2_135m_instruct_q4_1.json");
    let rows = golden["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 3);
    for row in rows {
        let text = row["text"].as_str().unwrap();
        let expected: Vec<u32> = row["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
        assert_eq!(tokenizer.encode(text, false).unwrap().get_ids(), expected, "{text}");
        assert_eq!(tokenizer.decode(&expected, false).unwrap(), text);
    }
    let settings = json(&report.destination, "tokenizer_config.json");
    assert!(settings["chat_template"].as_str().unwrap().contains("<|im_start|>assistant\n"));
}
