//! The thread that holds the model: takes texts from a queue, and continues several side by side.

use std::collections::HashMap;

use tokio::sync::mpsc::{Receiver, Sender, UnboundedSender, channel};
use undertone_model::{Batch, Decoder, Opening, Step};

/// Texts that may wait. Further requests are refused.
const WAITING: usize = 256;

/// The most prompts that are computed between two tokens of the texts that are being written.
const BEGUN_AT_ONCE: usize = 8;

/// A text to write.
pub(crate) struct Job {
    pub(crate) opening: Opening,
    /// The token that ends it.
    pub(crate) end: u32,
    /// Its index among the texts of its request.
    pub(crate) choice: usize,
    /// Whether the logits of each token are wanted; else a step has none.
    pub(crate) keeps_logits: bool,
    /// Where its tokens go. The text is given up if nobody receives them.
    pub(crate) steps: UnboundedSender<(usize, Step)>,
}

/// Who receives the tokens of a text.
struct Reader {
    choice: usize,
    keeps_logits: bool,
    steps: UnboundedSender<(usize, Step)>,
}

/// The queue of texts.
pub(crate) fn queue() -> (Sender<Job>, Receiver<Job>) {
    channel(WAITING)
}

/// Writes texts until nobody can add one.
pub(crate) fn run(decoder: &Decoder, mut queue: Receiver<Job>) {
    let mut batch = Batch::new(decoder);
    let mut readers: HashMap<usize, Reader> = HashMap::new();
    let mut next = 0;
    loop {
        let mut begun = 0;
        // The texts that are being written wait for no more than a few prompts.
        while batch.has_room() && begun < BEGUN_AT_ONCE {
            let job = match batch.is_empty() && begun == 0 {
                true => queue.blocking_recv(),
                false => queue.try_recv().ok(),
            };
            let Some(Job { opening, end, choice, keeps_logits, steps }) = job else { break };
            if steps.is_closed() {
                continue;
            }
            readers.insert(next, Reader { choice, keeps_logits, steps });
            let step = batch.begin(next, opening, end);
            tell(&mut batch, &mut readers, step);
            (next, begun) = (next + 1, begun + 1);
        }
        if batch.is_empty() && begun == 0 {
            return;
        }
        for step in batch.step() {
            tell(&mut batch, &mut readers, step);
        }
    }
}

/// Sends a token to its reader. A text that has ended, or that nobody reads, leaves the batch.
fn tell(batch: &mut Batch<'_>, readers: &mut HashMap<usize, Reader>, mut step: Step) {
    let (key, has_ended) = (step.key, step.stopped.is_some());
    let Some(Reader { choice, keeps_logits, steps }) = readers.get(&key) else { return };
    if let Some(chosen) = step.chosen.as_mut().filter(|_| !keeps_logits) {
        // The vocabulary's logits of each token would fill the memory before a slow client.
        chosen.logits = Vec::new();
    }
    let is_read = steps.send((*choice, step)).is_ok();
    if has_ended || !is_read {
        batch.remove(key);
        readers.remove(&key);
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use tokio::sync::mpsc::unbounded_channel;
    use undertone_model::{Cache, Sampling};
    use undertone_testing::tiny;

    use super::*;

    /// Seven readers leave after the first token of a long text. A ninth text waits for a place: it must end before the
    /// eighth, which is shorter than those that nobody reads.
    #[test]
    fn a_text_that_nobody_reads_gives_up_its_place() {
        let decoder = tiny::decoder(&Device::flex(), 1);
        let (jobs, queued) = queue();
        let job = |choice, max_new_tokens, steps: &UnboundedSender<(usize, Step)>| {
            let sampling = Sampling { max_new_tokens, ..Sampling::default() };
            let opening = Opening { cache: Cache::default(), prompt: vec![1, 2, 3], sampling };
            // No token has this number, so no text ends by itself.
            let job = Job { opening, end: u32::MAX, choice, keeps_logits: false, steps: steps.clone() };
            assert!(jobs.try_send(job).is_ok());
        };
        let mut leaving: Vec<_> = (0..7)
            .map(|_| {
                let (steps, reader) = unbounded_channel();
                job(0, 1000, &steps);
                reader
            })
            .collect();
        let (steps, mut reader) = unbounded_channel();
        job(0, 600, &steps);
        job(1, 20, &steps);
        drop((jobs, steps));
        std::thread::scope(|scope| {
            scope.spawn(|| run(&decoder, queued));
            for mut one in leaving.drain(..) {
                one.blocking_recv().expect("a first token");
            }
            let ended = std::iter::from_fn(|| reader.blocking_recv()).find(|(_, step)| step.stopped.is_some());
            assert_eq!(ended.expect("texts end").0, 1);
        });
    }
}
