//! Checks one pass over a conversation on every built device: nats and gradients equal those of plain causal rows built
//! one by one; hidden text cannot change a bit; gradients equal finite differences; recomputing changes nothing.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::{Tensor, TensorData};
use undertone_data::{
    Access, ChatFormat, Conversation, Corpus, CorpusSpec, Layout, Message, OnTooLong, Purpose, Role, Row, Source,
    Split, Stream, StreamBuilder, TargetKind, Template, Thought, View, encode, pack,
};
use undertone_model::{Decoder, DeviceName, DropoutKey, Gradients, LoraConfig, MatmulPrecision, Recompute};
use undertone_testing::tiny;

/// A conversation of `turns` messages of about `length` bytes, each with two thoughts.
fn conversation(user: usize, turns: usize, length: usize) -> Conversation {
    let message = |index: usize| {
        let text = |what: &str| {
            let words = format!("{what} {user} {index} ");
            words.chars().cycle().take(length + 7 * index % 11).collect::<String>().trim().to_owned()
        };
        let thought = |number: usize| Thought {
            content: format!("thought {number} on {index}"),
            label: Some((index + number) % 5),
            written_at: Some(10 * index as i64 + 5),
        };
        Message {
            role: if index.is_multiple_of(2) { Role::User } else { Role::Assistant },
            content: text(if index.is_multiple_of(2) { "ask" } else { "answer" }),
            sent_at: Some(10 * index as i64),
            thoughts: vec![thought(0), thought(1)],
        }
    };
    Conversation {
        id: format!("user{user}_task1_conversation1"),
        user: format!("user{user}"),
        task: format!("user{user}_task1"),
        assistant_model: None,
        survey: Default::default(),
        messages: (0..turns).map(message).collect(),
    }
}

fn streams(conversations: Vec<Conversation>, access: Access, context_tokens: usize, purpose: Purpose) -> Vec<Stream> {
    let view = View { access, ..View::default() };
    let splits: BTreeMap<String, Split> = conversations.iter().map(|c| (c.user.clone(), Split::Train)).collect();
    let shown = [(View { access: Access::Past, ..View::default() }, Source::Own), (view, Source::Own)];
    let spec = CorpusSpec {
        shown: &shown,
        kinds: &TargetKind::ALL,
        context_tokens,
        assistant_tokens: 4096,
        on_too_long: OnTooLong::Error,
        distractors: 0,
        seed: 0,
        windows: None,
    };
    let builder = StreamBuilder::new(Template::new(tiny::tokenizer(), ChatFormat::chatml()).unwrap(), "a system text");
    let encoded = encode(conversations, &builder, &spec);
    let corpus = Corpus::new(Path::new("made.jsonl"), encoded, &splits, builder, &spec).unwrap();
    corpus.streams(Split::Train, Source::Own, 0, Layout::new(view, &TargetKind::ALL, purpose))
}

/// The plain rows of a stream, each with the loss on one target.
fn plain_rows(stream: &Stream) -> Vec<Row> {
    let plain = |target| {
        let tokens = stream.plain_row(target);
        let span = tokens.len() - target.span.len()..tokens.len();
        let target = undertone_data::Target { span, ..target.clone() };
        let trunk = tokens.len();
        Row::of([&Stream { tokens, trunk, branches: vec![], targets: vec![target], pieces: vec![], ..stream.clone() }])
    };
    stream.targets.iter().map(plain).collect()
}

/// Every built device, with each precision that it supports.
fn computed() -> Vec<(DeviceName, MatmulPrecision)> {
    let quicker = [MatmulPrecision::High, MatmulPrecision::Medium].map(|precision| (DeviceName::Flex, precision));
    DeviceName::built().into_iter().map(|device| (device, MatmulPrecision::Highest)).chain(quicker).collect()
}

/// A model with random adapters on every layer (B is not zero), or fully trainable.
fn model((device, precision): (DeviceName, MatmulPrecision), full: bool, dropout: f64) -> Decoder {
    let device = device.open().unwrap();
    let mut decoder = tiny::decoder(&device, 1);
    decoder.set_precision(precision);
    if full {
        decoder.train_all();
        return decoder;
    }
    decoder.add_adapters(&LoraConfig { rank: 4, alpha: 8.0, dropout, rslora: true, ..LoraConfig::default() }, 2);
    for parameter in decoder.parameters_mut().into_iter().filter(|parameter| parameter.name.contains("lora_B")) {
        let [rows, columns] = parameter.value().dims();
        let values = (0..rows * columns).map(|index| ((index * 37 % 101) as f32 / 101.0 - 0.5) * 0.3).collect();
        parameter.set(Tensor::from_data(TensorData::new(values, [rows, columns]), &device));
    }
    decoder
}

fn values<const D: usize>(tensor: &Tensor<D>) -> Vec<f32> {
    undertone_model::values(tensor.clone())
}

fn gradients(decoder: &Decoder, rows: &[Row], recompute: Recompute) -> (Vec<f32>, Gradients) {
    let mut gradients = Gradients::default();
    let nats = rows.iter().flat_map(|row| decoder.nats_and_gradients(row, 0.01, recompute, None, &mut gradients));
    (nats.flat_map(|nats| values(&nats)).collect(), gradients)
}

/// The largest difference relative to the largest element, over all parameters.
fn compare_gradients(a: &Gradients, b: &Gradients) -> f32 {
    assert_eq!(a.0.keys().collect::<Vec<_>>(), b.0.keys().collect::<Vec<_>>());
    let mut worst = 0.0_f32;
    for (name, gradient) in &a.0 {
        let (a, b) = (values(gradient), values(&b.0[name]));
        let largest = a.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        assert!(largest > 0.0, "the gradient of {name} is zero everywhere");
        let difference = a.iter().zip(&b).fold(0.0_f32, |worst, (a, b)| worst.max((a - b).abs()));
        worst = worst.max(difference / largest);
    }
    worst
}

/// Compares one pass over packed streams with plain rows.
fn check_plain_rows(conversations: Vec<Conversation>, access: Access, context_tokens: usize, full: bool) {
    for device in computed() {
        let decoder = model(device, full, 0.0);
        let streams = streams(conversations.clone(), access, context_tokens, Purpose::Train);
        let rows = pack(&streams, 5000);
        let (nats, one_pass) = gradients(&decoder, &rows, Recompute::Blocks);
        let plain: Vec<Row> = streams.iter().flat_map(plain_rows).collect();
        let (plain_nats, plain_gradients) = gradients(&decoder, &plain, Recompute::Blocks);
        assert_eq!(nats.len(), plain_nats.len());
        let worst = nats.iter().zip(&plain_nats).fold(0.0_f32, |worst, (a, b)| worst.max((a - b).abs()));
        let worst_gradient = compare_gradients(&plain_gradients, &one_pass);
        let longest = streams.iter().map(|stream| stream.tokens.len()).max().unwrap();
        println!(
            "{device:?}, {access:?}: {} streams in {} rows, longest {longest} tokens, {} plain rows: nats differ by {worst:.1e}, gradients by {worst_gradient:.1e}",
            streams.len(),
            rows.len(),
            plain.len()
        );
        // A sum in another order can round to the next bf16 number, which is 1/256 away.
        let (tolerance, gradient_tolerance) = match device.1 {
            MatmulPrecision::Highest | MatmulPrecision::High => (1e-4, 1e-3),
            MatmulPrecision::Medium => (5e-2, 5e-2),
        };
        assert!(worst < tolerance, "{device:?}: nats differ by {worst}");
        assert!(worst_gradient < gradient_tolerance, "{device:?}: gradients differ by {worst_gradient}");
        let scored: Vec<f32> = rows.iter().flat_map(|row| decoder.nats(row)).collect();
        let worst = scored.iter().zip(&nats).fold(0.0_f32, |worst, (a, b)| worst.max((a - b).abs()));
        assert!(worst < tolerance, "{device:?}: scoring and training differ by {worst}");
    }
}

#[test]
fn one_pass_equals_plain_rows_with_branches_packing_and_windows() {
    // Three conversations, the longest of which needs several windows.
    let conversations = || vec![conversation(1, 5, 30), conversation(2, 14, 40), conversation(3, 4, 20)];
    let windows = streams(conversations(), Access::Past, 600, Purpose::Train).len();
    assert!(windows > 3, "{windows} windows");
    check_plain_rows(conversations(), Access::Past, 600, false);
    check_plain_rows(conversations(), Access::None, 600, true);
}

#[test]
fn one_pass_equals_plain_rows_under_oracle() {
    check_plain_rows(vec![conversation(1, 5, 30), conversation(2, 6, 25)], Access::Oracle, 4096, false);
}

#[test]
fn one_pass_equals_plain_rows_on_a_row_of_2048_tokens() {
    let long = vec![conversation(1, 8, 280)];
    let streams = streams(long.clone(), Access::Past, 4096, Purpose::Train);
    assert!(streams[0].tokens.len() >= 2048, "{} tokens", streams[0].tokens.len());
    check_plain_rows(long, Access::Past, 4096, false);
}

#[test]
fn text_a_view_hides_cannot_change_a_bit() {
    // The thoughts are targets on branches; other texts of the same length take their place.
    let replace = |mut conversation: Conversation| {
        for thought in conversation.messages.iter_mut().flat_map(|message| &mut message.thoughts) {
            thought.content = thought.content.replace("thought", "TOUGHER").replace(" on ", " at ");
        }
        conversation
    };
    for device in computed() {
        let decoder = model(device, false, 0.0);
        let nats = |conversation: Conversation, access: Access| {
            let streams = streams(vec![conversation], access, 4096, Purpose::Score);
            let rows = pack(&streams, 10_000);
            let scored = rows.iter().flat_map(|row| row.targets.iter().zip(nats_in_bits(&decoder, row)));
            scored
                .filter(|(target, _)| !matches!(target.item.kind, TargetKind::Reaction | TargetKind::Reason))
                .map(|(target, nats)| (target.item.to_string(), target.candidate, nats))
                .collect::<Vec<_>>()
        };
        let own = nats(conversation(1, 9, 60), Access::None);
        assert!(own.len() > 40, "next prompts and candidate labels: {}", own.len());
        assert_eq!(own, nats(replace(conversation(1, 9, 60)), Access::None), "{device:?}");
        // A view that shows thoughts sees the same replacement, so the test can fail.
        assert_ne!(
            nats(conversation(1, 9, 60), Access::Past),
            nats(replace(conversation(1, 9, 60)), Access::Past),
            "{device:?}"
        );
    }
}

/// The bits of each target's nats, token by token.
fn nats_in_bits(decoder: &Decoder, row: &Row) -> Vec<Vec<u32>> {
    let mut nats = decoder.nats(row).into_iter().map(f32::to_bits);
    row.targets.iter().map(|target| nats.by_ref().take(target.span.len()).collect()).collect()
}

#[test]
fn gradients_equal_finite_differences() {
    for device in DeviceName::built().into_iter().map(|device| (device, MatmulPrecision::Highest)) {
        for full in [false, true] {
            let mut decoder = model(device, full, 0.3);
            let rows = pack(&streams(vec![conversation(1, 4, 30)], Access::Past, 4096, Purpose::Train), 10_000);
            let dropout = Some(DropoutKey { seed: 3, step: 4 });
            let loss = |decoder: &Decoder| -> f64 {
                let nats =
                    decoder.nats_and_gradients(&rows[0], 1.0, Recompute::Blocks, dropout, &mut Gradients::default());
                values(&nats.unwrap()).into_iter().map(f64::from).sum()
            };
            let mut analytic = Gradients::default();
            decoder.nats_and_gradients(&rows[0], 1.0, Recompute::Blocks, dropout, &mut analytic);
            for (name, gradient) in &analytic.0 {
                // The slope along the gradient is the gradient's norm: one number checks every element.
                let norm = f64::from(values(gradient).iter().map(|value| value * value).sum::<f32>().sqrt());
                let step = 2e-2 / norm.max(1.0);
                let mut moved = |sign: f64| {
                    let find = |decoder: &mut Decoder, shift: f64| {
                        let parameters = decoder.parameters_mut();
                        let parameter = parameters.into_iter().find(|parameter| parameter.name == *name).unwrap();
                        parameter.set(parameter.value().clone() + gradient.clone() * (shift / norm));
                    };
                    find(&mut decoder, sign * step);
                    let loss = loss(&decoder);
                    find(&mut decoder, -sign * step);
                    loss
                };
                let slope = (moved(1.0) - moved(-1.0)) / (2.0 * step);
                let error = (slope - norm).abs() / norm;
                assert!(error < 2e-2, "{device:?} {name}: slope {slope}, gradient norm {norm}");
            }
            assert!(analytic.0.len() >= 19, "{} parameters", analytic.0.len());
        }
    }
}

/// Lower precisions are too coarse for finite differences; their gradients are compared with those of f32.
#[test]
fn quicker_products_give_nearly_the_same_gradients() {
    let rows = pack(&streams(vec![conversation(1, 6, 30)], Access::Past, 4096, Purpose::Train), 10_000);
    for full in [false, true] {
        let gradients_at =
            |precision| gradients(&model((DeviceName::Flex, precision), full, 0.0), &rows, Recompute::Off).1;
        let exact = gradients_at(MatmulPrecision::Highest);
        for (precision, tolerance) in [(MatmulPrecision::High, 1e-3), (MatmulPrecision::Medium, 0.1)] {
            let worst = compare_gradients(&exact, &gradients_at(precision));
            println!("{precision:?}, full {full}: gradients differ by {worst:.1e}");
            assert!(worst < tolerance, "{precision:?}: {worst}");
        }
    }
}

#[test]
fn recomputing_changes_nothing() {
    let rows = pack(&streams(vec![conversation(1, 6, 30)], Access::Past, 4096, Purpose::Train), 10_000);
    let decoder = model((DeviceName::Flex, MatmulPrecision::Highest), false, 0.0);
    let (kept_nats, kept) = gradients(&decoder, &rows, Recompute::Off);
    let (nats, recomputed) = gradients(&decoder, &rows, Recompute::Blocks);
    assert_eq!(kept_nats, nats);
    for (name, gradient) in &kept.0 {
        assert_eq!(values(gradient), values(&recomputed.0[name]), "{name}");
    }
}
