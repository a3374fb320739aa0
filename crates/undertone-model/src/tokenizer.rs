//! A model folder's `tokenizer.json` in, a checked [`Tokenizer`] out.
//!
//! The file comes from outside, and the tokenizers library trusts it: a merge whose result is not
//! in the vocabulary, or a prefix longer than a token, can panic inside it. So the parts that a
//! byte-pair tokenizer needs are checked first, everything else is refused, and the tokenizer has to encode
//! texts of all kinds. Truncation, padding
//! and the post-processor are switched off: a text gives exactly its own ids, and callers add the ids
//! of special tokens themselves. `undertone-data` renders conversations.

use std::collections::HashSet;
use std::path::Path;

use serde_json::{Map, Value};
use tokenizers::Tokenizer;
use undertone_data::guarded;
use undertone_files::{FileKind, InputError, Place};

use crate::config::ModelConfig;
use undertone_files::read_bounded;

/// The longest `tokenizer.json` that is read, in bytes. Vocabularies of 260,000 tokens have 35
/// million.
const MAX_TOKENIZER_BYTES: u64 = 64 << 20;
/// Reads `tokenizer.json` in a model folder and checks it against the model.
///
/// # Errors
///
/// The file is missing, too long, or no byte-pair tokenizer; uses a part that is not supported or
/// would make encoding random; or has an id that the embedding does not.
pub fn load_tokenizer(folder: &Path, config: &ModelConfig) -> Result<Tokenizer, InputError> {
    let path = folder.join("tokenizer.json");
    parse(&path, &read_bounded(&path, MAX_TOKENIZER_BYTES)?, config.vocab_size).map_err(FileKind::explain)
}

/// The special tokens that the tokenizer of a model folder puts in front of a text, such as `<s>`.
///
/// # Errors
/// The file cannot be read. The post-processor of a damaged file adds nothing.
pub(crate) fn tokens_before_text(folder: &Path) -> Result<String, InputError> {
    const TEXT: &str = "a";
    let bytes = read_bounded(&folder.join("tokenizer.json"), MAX_TOKENIZER_BYTES)?;
    let added = guarded(|| {
        let tokenizer = Tokenizer::from_bytes(&bytes).ok()?;
        let [with, without] = [true, false].map(|added| tokenizer.encode_fast(TEXT, added).ok());
        let (with, without) = (with?, without?);
        let before = with.get_ids().windows(without.len().max(1)).position(|ids| ids == without.get_ids())?;
        with.get_ids()[..before].iter().map(|id| tokenizer.id_to_token(*id)).collect::<Option<String>>()
    });
    Ok(added.ok().flatten().unwrap_or_default())
}

/// Checks and builds a tokenizer for a model with `vocab_size` embeddings; `path` is the file that
/// errors name.
pub(crate) fn parse(path: &Path, bytes: &[u8], vocab_size: usize) -> Result<Tokenizer, InputError> {
    let unfit = |cause: String| InputError::new(path, format!("is not a tokenizer file: {cause}"));
    let mut file: Value = serde_json::from_slice(bytes).map_err(|error| unfit(error.to_string()))?;
    let Some(object) = file.as_object_mut() else {
        return Err(unfit("it is not a JSON object".into()));
    };
    for key in ["truncation", "padding", "post_processor"] {
        object.insert(key.to_owned(), Value::Null);
    }
    let check = Check { path };
    check.model(object.get("model").unwrap_or(&Value::Null), vocab_size)?;
    check.part("normalizer", object, "normalizers", &["NFC", "NFD", "NFKC", "NFKD", "Prepend", "Replace"])?;
    check.part("pre_tokenizer", object, "pretokenizers", &["ByteLevel", "Digits", "Metaspace", "Split"])?;
    check.part(
        "decoder",
        object,
        "decoders",
        &["ByteFallback", "ByteLevel", "Fuse", "Metaspace", "Replace", "Strip"],
    )?;

    let added = object.get("added_tokens").cloned();
    let built = guarded(|| serde_json::from_str::<Tokenizer>(&file.to_string()).map_err(|error| error.to_string()));
    let tokenizer = built.and_then(|built| built).map_err(unfit)?;
    // The library chooses the id of an added token itself, and only warns if the file gives another id.
    for token in added.as_ref().and_then(Value::as_array).into_iter().flatten() {
        let (content, id) = (token["content"].as_str().unwrap_or_default(), token["id"].as_u64());
        let given = tokenizer.token_to_id(content).map(u64::from);
        if given.is_none() || given != id {
            let cause = format!("has the id `{}`, but the vocabulary gives it another id", token["id"]);
            return Err(check.error(content, cause));
        }
        check.id_fits(content, id, vocab_size)?;
    }
    check.texts(&tokenizer)?;
    Ok(tokenizer)
}

/// Checks on the parts of one file.
struct Check<'a> {
    path: &'a Path,
}

/// Texts of all kinds, on which a broken normalizer or pre-tokenizer fails.
const PROBES: [&str; 6] = [
    "",
    " ",
    "A line.\n\n  and\tanother\r\n",
    "\0\u{1}<|im_end|>",
    "é e\u{301} ß ﬁ １２３",
    "你好 שלום 🎉 \u{200b}\u{feff}",
];

impl Check<'_> {
    /// Checks that the tokenizer encodes texts of all kinds, and adds no text of its own.
    fn texts(&self, tokenizer: &Tokenizer) -> Result<(), InputError> {
        let encode =
            |text: &str| match guarded(|| tokenizer.encode_fast(text, false).map_err(|error| error.to_string())) {
                Ok(Ok(encoding)) => Ok(encoding.get_ids().to_vec()),
                Ok(Err(cause)) | Err(cause) => Err(self
                    .error("normalizer", format!("fails on {text:?}: {cause}"))
                    .hint("the file's normalizer or pre-tokenizer is broken; get the file from its publisher again")),
            };
        for text in PROBES {
            encode(text)?;
        }
        // Pieces are encoded one by one and joined as ids, so each must give exactly its own text.
        let joined = [encode("b")?, encode("a")?].concat();
        match guarded(|| tokenizer.decode(&joined, false).map_err(|error| error.to_string())) {
            // A vocabulary without these letters loses them, which is counted.
            Ok(Ok(text)) if ["ba", "b", "a", ""].contains(&text.as_str()) => Ok(()),
            Ok(Ok(text)) => {
                let cause = format!("`b` and `a`, encoded one by one, decode to `{text}`");
                Err(self.error("pre_tokenizer", cause).hint(
                    "a text must give exactly its own ids; `add_prefix_space` must be false, and nothing may add or remove text",
                ))
            }
            Ok(Err(cause)) | Err(cause) => Err(self.error("decoder", format!("fails on {joined:?}: {cause}"))),
        }
    }

    fn error(&self, place: &str, cause: impl Into<String>) -> InputError {
        InputError::new(self.path, cause).at(Place::Named(place.to_owned()))
    }

    fn id_fits(&self, token: &str, id: Option<u64>, vocab_size: usize) -> Result<u64, InputError> {
        match id {
            Some(id) if id < vocab_size as u64 => Ok(id),
            Some(id) => Err(self
                .error(token, format!("has the id `{id}`, but the model's `vocab_size` is `{vocab_size}`"))
                .hint("`tokenizer.json` and `config.json` belong to different models")),
            None => Err(self.error(token, "has an id that is not a whole number")),
        }
    }

    /// Checks the byte-pair model: ids in range, merges that can be applied, nothing random.
    fn model(&self, model: &Value, vocab_size: usize) -> Result<(), InputError> {
        let Some(model) = model.as_object() else {
            return Err(self.error("model", "is missing or not an object"));
        };
        // Files of early releases leave the type out.
        if let Some(kind) = model.get("type").filter(|kind| *kind != "BPE") {
            return Err(self.error("model.type", format!("{kind} is not supported; only `BPE` is")));
        }
        for key in ["dropout", "continuing_subword_prefix", "end_of_word_suffix"] {
            if let Some(value) =
                model.get(key).filter(|value| !value.is_null() && *value != "" && value.as_f64() != Some(0.0))
            {
                return Err(self.error(&format!("model.{key}"), format!("`{value}` is not supported")));
            }
        }
        let Some(vocabulary) = model.get("vocab").and_then(Value::as_object) else {
            return Err(self.error("model.vocab", "is missing or not an object"));
        };
        let mut ids = HashSet::with_capacity(vocabulary.len());
        for (token, id) in vocabulary {
            let id = self.id_fits(token, id.as_u64(), vocab_size)?;
            if !ids.insert(id) {
                return Err(self.error(token, format!("shares the id `{id}` with another token")));
            }
        }
        let Some(merges) = model.get("merges").and_then(Value::as_array) else {
            return Err(self.error("model.merges", "is missing or not a list"));
        };
        for (index, merge) in merges.iter().enumerate() {
            if merge.as_str().is_some_and(|line| line.starts_with("#version")) {
                continue;
            }
            self.merge(merge, vocabulary).map_err(|cause| self.error(&format!("model.merges[{index}]"), cause))?;
        }
        Ok(())
    }

    /// Checks one merge, in either spelling (`"a b"`, `["a", "b"]`): both parts and their concatenation are tokens.
    fn merge(&self, merge: &Value, vocabulary: &Map<String, Value>) -> Result<(), String> {
        let parts: Option<Vec<&str>> = match merge {
            Value::String(line) => Some(line.split(' ').collect()),
            Value::Array(parts) => parts.iter().map(Value::as_str).collect(),
            _ => None,
        };
        let Some(&[left, right]) = parts.as_deref() else {
            return Err(format!("{merge} is not a pair of tokens"));
        };
        for token in [left, right, &format!("{left}{right}")] {
            if !vocabulary.contains_key(token) {
                return Err(format!("merges `{left}` and `{right}`, but `{token}` is not in the vocabulary"));
            }
        }
        Ok(())
    }

    /// Checks a part made of steps: null, a single step, or a sequence of steps, all of supported types.
    fn part(&self, key: &str, file: &Map<String, Value>, steps: &str, supported: &[&str]) -> Result<(), InputError> {
        let mut left = Vec::from_iter(file.get(key).filter(|part| !part.is_null()));
        while let Some(step) = left.pop() {
            match (step.get("type").and_then(Value::as_str), step.get(steps).and_then(Value::as_array)) {
                (Some("Sequence"), Some(steps)) => left.extend(steps),
                (Some(kind), _) if supported.contains(&kind) => {}
                (Some(kind), _) => {
                    let cause = format!("`{kind}` is not supported; these are: `{}`", supported.join("`, `"));
                    return Err(self.error(key, cause));
                }
                (None, _) => return Err(self.error(key, "has a step without a type")),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A tokenizer of six tokens; `change` edits it.
    fn file(change: impl FnOnce(&mut Value)) -> Value {
        let special = |id: u32, content: &str| {
            json!({"id": id, "content": content, "single_word": false,
            "lstrip": false, "rstrip": false, "normalized": false, "special": true})
        };
        let mut file = json!({
            "version": "1.0", "normalizer": null, "decoder": {"type": "ByteLevel", "add_prefix_space": false,
                "trim_offsets": true, "use_regex": true},
            "truncation": {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0},
            "padding": {"strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": null,
                "pad_id": 0, "pad_type_id": 0, "pad_token": "<|im_start|>"},
            "added_tokens": [special(0, "<|im_start|>"), special(1, "<|im_end|>")],
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": true}]},
            "post_processor": {"type": "TemplateProcessing", "pair": [],
                "single": [{"SpecialToken": {"id": "<|im_start|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
                "special_tokens": {"<|im_start|>": {"id": "<|im_start|>", "ids": [0], "tokens": ["<|im_start|>"]}}},
            "model": {"type": "BPE", "vocab": {"<|im_start|>": 0, "<|im_end|>": 1, "a": 2, "b": 3, "ab": 4, "c": 5},
                "merges": [["a", "b"]]},
        });
        change(&mut file);
        file
    }

    fn config(vocab_size: usize) -> ModelConfig {
        let original = json!({"model_type": "llama", "hidden_size": 4, "intermediate_size": 4,
            "num_hidden_layers": 1, "num_attention_heads": 1, "vocab_size": vocab_size,
            "rms_norm_eps": 1e-5, "max_position_embeddings": 8});
        ModelConfig::from_json(Path::new("config.json"), original).unwrap()
    }

    fn load(bytes: &[u8], vocab_size: usize) -> Result<Tokenizer, InputError> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("tokenizer.json"), bytes).unwrap();
        load_tokenizer(folder.path(), &config(vocab_size))
    }

    fn check_refused(change: impl FnOnce(&mut Value), expect: &str) {
        let error = load(file(change).to_string().as_bytes(), 6).unwrap_err();
        assert_eq!(format!("{}: {}", error.place, error.cause), expect);
    }

    #[test]
    fn a_text_gives_exactly_its_own_ids() {
        let tokenizer = load(file(|_| ()).to_string().as_bytes(), 6).unwrap();
        // Not truncated to two, not padded to nine, not opened by a special token, even on request.
        for add_special_tokens in [false, true] {
            let encoding = tokenizer.encode("abcab<|im_end|>", add_special_tokens).unwrap();
            assert_eq!(encoding.get_ids(), [4, 5, 4, 1]);
        }
    }

    #[test]
    fn a_tokenizer_of_another_model_is_refused() {
        let error = load(file(|_| ()).to_string().as_bytes(), 5).unwrap_err();
        assert_eq!(
            format!("{}: {}", error.place, error.cause),
            ", `c`: has the id `5`, but the model's `vocab_size` is `5`"
        );
        let beyond = |file: &mut Value| {
            let mut token = file["added_tokens"][0].clone();
            (token["id"], token["content"]) = (json!(6), json!("<|x|>"));
            file["added_tokens"].as_array_mut().unwrap().push(token);
        };
        check_refused(beyond, ", `<|x|>`: has the id `6`, but the model's `vocab_size` is `6`");
    }

    #[test]
    fn what_would_panic_or_mislead_the_library_is_refused() {
        check_refused(
            |file| file["model"]["merges"] = json!([["ab", "c"]]),
            ", `model.merges[0]`: merges `ab` and `c`, but `abc` is not in the vocabulary",
        );
        check_refused(
            |file| file["model"]["merges"] = json!(["a b", "<|im_start|> <|im_end|>"]),
            ", `model.merges[1]`: merges `<|im_start|>` and `<|im_end|>`, but `<|im_start|><|im_end|>` is not in the vocabulary",
        );
        check_refused(
            |file| file["model"]["merges"] = json!(["a  b"]),
            ", `model.merges[0]`: \"a  b\" is not a pair of tokens",
        );
        check_refused(
            |file| file["model"]["continuing_subword_prefix"] = json!("######"),
            ", `model.continuing_subword_prefix`: `\"######\"` is not supported",
        );
        check_refused(|file| file["model"]["dropout"] = json!(0.1), ", `model.dropout`: `0.1` is not supported");
        check_refused(|file| file["model"]["vocab"]["c"] = json!(2), ", `c`: shares the id `2` with another token");
        check_refused(|file| file["model"]["vocab"]["c"] = json!(-1), ", `c`: has an id that is not a whole number");
        check_refused(
            |file| file["added_tokens"][1]["id"] = json!(4),
            ", `<|im_end|>`: has the id `4`, but the vocabulary gives it another id",
        );
        check_refused(
            |file| file["normalizer"] = json!({"type": "Sequence", "normalizers": [{"type": "Precompiled", "precompiled_charsmap": "/////w=="}]}),
            ", `normalizer`: `Precompiled` is not supported; these are: `NFC`, `NFD`, `NFKC`, `NFKD`, `Prepend`, `Replace`",
        );
        check_refused(
            |file| file["pre_tokenizer"] = json!({"type": "FixedLength", "length": 0}),
            ", `pre_tokenizer`: `FixedLength` is not supported; these are: `ByteLevel`, `Digits`, `Metaspace`, `Split`",
        );
        check_refused(|file| file["decoder"] = json!({}), ", `decoder`: has a step without a type");
        check_refused(
            |file| file["model"] = json!({"type": "Unigram", "vocab": []}),
            ", `model.type`: \"Unigram\" is not supported; only `BPE` is",
        );
        check_refused(|file| file["model"]["vocab"] = json!(7), ", `model.vocab`: is missing or not an object");
        check_refused(|file| file["model"]["merges"] = json!(7), ", `model.merges`: is missing or not a list");
    }

    #[test]
    fn files_that_are_no_tokenizer_are_refused() {
        let cause = |bytes: &[u8]| load(bytes, 6).unwrap_err().cause;
        assert_eq!(cause(b""), "is not a tokenizer file: EOF while parsing a value at line 1 column 0");
        assert_eq!(cause(b"[]"), "is not a tokenizer file: it is not a JSON object");
        assert_eq!(cause(b"{}"), "is missing or not an object");
        let regex = file(|file| {
            file["pre_tokenizer"] =
                json!({"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated", "invert": false})
        });
        assert!(cause(regex.to_string().as_bytes()).starts_with("is not a tokenizer file: "));
        // A truncated file is always an error; a damaged file never panics.
        let whole = file(|_| ()).to_string();
        for at in 0..whole.len() {
            for damage in [b'0', b'"', b'}', 0xFF] {
                let mut bytes = whole.clone().into_bytes();
                bytes[at] = damage;
                drop(load(&bytes, 6));
            }
        }
        for cut in 0..whole.len() {
            assert!(load(&whole.as_bytes()[..cut], 6).is_err(), "cut at {cut} of {}", whole.len());
        }
    }
}
