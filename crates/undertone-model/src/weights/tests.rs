//! Safetensors files in, tensors or errors out.

use std::fs;

use super::*;

/// A safetensors file: the length of its header, the header as JSON, then its data.
fn file(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn open_bytes(bytes: &[u8]) -> Result<WeightFiles, InputError> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("model.safetensors"), bytes).unwrap();
    WeightFiles::open(folder.path())
}

/// The place and cause of an error, without the folder, which is random.
fn shown(error: &InputError) -> String {
    format!("{}{}: {}", error.path.file_name().unwrap().display(), error.place, error.cause)
}

fn check_refused(bytes: &[u8], expect: &str) {
    assert_eq!(shown(&open_bytes(bytes).unwrap_err()), format!("model.safetensors{expect}"));
}

const PAIR: &str = r#"{"__metadata__":{"format":"pt"},
    "model.a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},
    "model.b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}}"#;

#[test]
fn the_three_float_types_become_f32() {
    let header = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},
        "b":{"dtype":"F16","shape":[1,2],"data_offsets":[8,12]},
        "c":{"dtype":"BF16","shape":[1],"data_offsets":[12,14]}}"#;
    let mut data = floats(&[1.5, -2.0]);
    data.extend([f16::from_f32(0.25), f16::from_f32(-3.0)].iter().flat_map(|half| half.to_le_bytes()));
    data.extend(bf16::from_f32(-0.5).to_le_bytes());
    let mut files = open_bytes(&file(header, &data)).unwrap();
    assert_eq!(files.take("a", &[2]).unwrap(), [1.5, -2.0]);
    assert_eq!(files.take("b", &[1, 2]).unwrap(), [0.25, -3.0]);
    assert_eq!(files.take("c", &[1]).unwrap(), [-0.5]);
    files.finish().unwrap();
}

#[test]
fn what_is_missing_or_misshapen_is_explained() {
    let mut files = open_bytes(&file(PAIR, &floats(&[1.0, 2.0, 3.0]))).unwrap();
    let missing = files.take("a", &[1]).unwrap_err();
    assert_eq!(shown(&missing), "model.safetensors, `a`: there is no tensor of this name");
    assert_eq!(missing.hint, None);
    let close = files.take("module.a", &[1]).unwrap_err();
    assert_eq!(close.hint.unwrap(), "the nearest name in the file is `model.a`");
    let misshapen = files.take("model.a", &[1, 2]).unwrap_err();
    assert_eq!(
        shown(&misshapen),
        "model.safetensors, `model.a`: has shape `[2, 1]`, but the configuration asks for `[1, 2]`"
    );
}

#[test]
fn types_and_values_that_are_no_weights_are_refused() {
    let header = r#"{"a":{"dtype":"I32","shape":[1],"data_offsets":[0,4]}}"#;
    let error = open_bytes(&file(header, &[0; 4])).unwrap().take("a", &[1]).unwrap_err();
    assert_eq!(error.cause, "has type `I32`; only F32, F16 and BF16 are read");
    let mut files = open_bytes(&file(PAIR, &floats(&[1.0, f32::NAN, 3.0]))).unwrap();
    assert_eq!(files.take("model.a", &[2, 1]).unwrap_err().cause, "value 1 is `NaN`, not a finite number");
}

#[test]
fn unused_tensors_are_an_error_unless_harmless() {
    let header = r#"{"lm_head.weight":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},
        "model.layers.0.self_attn.rotary_emb.inv_freq":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#;
    let bytes = file(header, &[0; 8]);
    let error = open_bytes(&bytes).unwrap().finish().unwrap_err();
    assert_eq!(shown(&error), "model.safetensors: the model does not use `lm_head.weight`");
    let mut files = open_bytes(&bytes).unwrap();
    files.ignore("lm_head.weight");
    files.finish().unwrap();
    let names: Vec<String> = (0..10).map(|i| i.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(listed(&names), "`0`, `1`, `2`, `3`, `4`, `5`, `6`, `7` and 2 more");
}

#[test]
fn lying_headers_are_refused() {
    let entry = |dtype: &str, shape: &str, offsets: &str| {
        format!(r#"{{"x":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#)
    };
    check_refused(b"", ": has 0 bytes, too few for a safetensors file");
    check_refused(
        &u64::MAX.to_le_bytes(),
        ": is not a safetensors file: its header would have 18446744073709551615 bytes",
    );
    check_refused(&900_u64.to_le_bytes(), ": its header has 900 bytes, but only 0 follow");
    check_refused(
        &file("[1]", &[]),
        ": its header is not a JSON object: invalid type: sequence, expected a map at line 1 column 0",
    );
    check_refused(
        &file(&"[".repeat(100_000), &[]),
        ": its header is not a JSON object: invalid type: sequence, expected a map at line 1 column 0",
    );
    check_refused(
        &file(&entry("F99", "[1]", "[0,4]"), &[0; 4]),
        ", `x`: its entry in the header is wrong: unknown variant `F99`, expected one of `BOOL`, `F4`, `F6_E2M3`, `F6_E3M2`, `U8`, `I8`, `F8_E5M2`, `F8_E4M3`, `F8_E8M0`, `F8_E4M3FNUZ`, `F8_E5M2FNUZ`, `I16`, `U16`, `F16`, `BF16`, `I32`, `U32`, `F32`, `C64`, `F64`, `I64`, `U64`",
    );
    check_refused(&file(&entry("F32", "[1]", "[4,0]"), &[0; 4]), ", `x`: ends at byte 0, before its start at byte 4");
    check_refused(
        &file(&entry("F32", "[1]", "[0,18446744073709551615]"), &[0; 4]),
        ", `x`: ends at byte 18446744073709551615, but the file holds 4 bytes of tensors",
    );
    check_refused(
        &file(&entry("F32", "[4294967296,4294967296]", "[0,4]"), &[0; 4]),
        ", `x`: has 4 bytes, which is not what type `F32` and shape `[4294967296, 4294967296]` need",
    );
    check_refused(&file(&entry("F32", "[1]", "[4,8]"), &[0; 8]), ", `x`: leaves a gap before it");
    check_refused(&file(&entry("F32", "[1]", "[0,4]"), &[0; 5]), ": 1 bytes follow the last tensor");
    check_refused(&file(&PAIR.replace("[8,12]", "[4,8]"), &[0; 12]), ", `model.b`: overlaps the tensor before it");
    // A truncated file is always an error.
    let whole = file(PAIR, &floats(&[1.0, 2.0, 3.0]));
    for cut in 0..whole.len() {
        assert!(open_bytes(&whole[..cut]).is_err(), "cut at {cut} of {}", whole.len());
    }
    assert!(open_bytes(&whole).is_ok());
    // A damaged file never panics.
    for at in 0..whole.len() {
        for damage in [b'9', b'"', 0xFF] {
            let mut bytes = whole.clone();
            bytes[at] = damage;
            if let Ok(mut files) = open_bytes(&bytes) {
                drop(files.take("model.a", &[2, 1]));
            }
        }
    }
}

#[test]
fn shards_are_joined_and_compared_with_their_index() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
    let index = |map: &str| write("model.safetensors.index.json", format!(r#"{{"weight_map":{map}}}"#).as_bytes());
    let one = |name: &str| {
        file(&format!(r#"{{"{name}":{{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}}}"#), &floats(&[7.0]))
    };
    let refused = |expect: &str| assert_eq!(shown(&WeightFiles::open(folder.path()).unwrap_err()), expect);
    write("1.safetensors", &one("a"));
    write("2.safetensors", &one("b"));

    index(r#"{"a":"1.safetensors","b":"2.safetensors"}"#);
    let mut files = WeightFiles::open(folder.path()).unwrap();
    assert_eq!((files.take("a", &[1]).unwrap(), files.take("b", &[1]).unwrap()), (vec![7.0], vec![7.0]));
    files.finish().unwrap();

    let at = "model.safetensors.index.json";
    index(r#"{"a":"1.safetensors","b":"3.safetensors"}"#);
    refused(&format!("{at}: names the shard `3.safetensors`, which is missing"));
    index(r#"{"a":"../x.safetensors"}"#);
    refused(&format!("{at}, `a`: is in `../x.safetensors`, not a safetensors file of this folder"));
    index(r#"{"a":"/etc/passwd"}"#);
    refused(&format!("{at}, `a`: is in `/etc/passwd`, not a safetensors file of this folder"));
    index(r#"{"a":7}"#);
    refused(&format!("{at}, `a`: is in `7`, not a file name"));
    index(r#"{"a":"1.safetensors","c":"2.safetensors"}"#);
    refused(&format!("{at}, `c`: is not in \"2.safetensors\", where the index places it"));
    index(r#"{"a":"1.safetensors","c":"1.safetensors"}"#);
    refused(&format!("{at}, `c`: is not in \"1.safetensors\", where the index places it"));
    write("2.safetensors", &one("a"));
    index(r#"{"a":"1.safetensors","b":"2.safetensors"}"#);
    let twice = WeightFiles::open(folder.path()).unwrap_err();
    assert!(twice.cause.starts_with("is also in `") && twice.cause.ends_with("1.safetensors`"), "{twice}");
    write("1.safetensors", &file(PAIR, &floats(&[1.0, 2.0, 3.0])));
    index(r#"{"model.a":"1.safetensors"}"#);
    refused(&format!("{at}, `model.b`: is in a shard, but not in the index"));
    write(at, b"{}");
    refused(&format!("{at}, `weight_map`: is missing or not an object"));
}

#[test]
fn a_folder_without_weights_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("pytorch_model.bin"), "pickle").unwrap();
    let error = WeightFiles::open(folder.path()).unwrap_err();
    assert_eq!(error.cause, "holds neither `model.safetensors` nor `model.safetensors.index.json`");
    fs::create_dir(folder.path().join("model.safetensors")).unwrap();
    assert_eq!(WeightFiles::open(folder.path()).unwrap_err().cause, "is not a regular file");
}
