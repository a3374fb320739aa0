//! The thread that holds the model: takes texts from a queue, and continues several side by side.

use std::collections::HashMap;

use tokio::sync::mpsc::{Receiver, Sender, UnboundedSender, channel};
use undertone_model::{Batch, Decoder, Opening, Step};

/// Texts that may wait. Further requests are refused.
const WAITING: usize = 256;

/// A text to write.
pub(crate) struct Job {
    pub(crate) opening: Opening,
    /// The token that ends it.
    pub(crate) end: u32,
    /// Its index among the texts of its request.
    pub(crate) choice: usize,
    /// Where its tokens go. The text is given up if nobody receives them.
    pub(crate) steps: UnboundedSender<(usize, Step)>,
}

/// The queue of texts.
pub(crate) fn queue() -> (Sender<Job>, Receiver<Job>) {
    channel(WAITING)
}

/// Writes texts until nobody can add one.
pub(crate) fn run(decoder: &Decoder, mut queue: Receiver<Job>) {
    let mut batch = Batch::new(decoder);
    let mut readers: HashMap<usize, (usize, UnboundedSender<(usize, Step)>)> = HashMap::new();
    let mut next = 0;
    loop {
        let mut steps = Vec::new();
        while batch.has_room() {
            let job = match batch.is_empty() && steps.is_empty() {
                true => queue.blocking_recv(),
                false => queue.try_recv().ok(),
            };
            let Some(Job { opening, end, choice, steps: reader }) = job else { break };
            if reader.is_closed() {
                continue;
            }
            steps.push(batch.begin(next, opening, end));
            readers.insert(next, (choice, reader));
            next += 1;
        }
        if batch.is_empty() && steps.is_empty() {
            return;
        }
        steps.extend(batch.step());
        for step in steps {
            let (key, has_ended) = (step.key, step.stopped.is_some());
            let Some((choice, reader)) = readers.get(&key) else { continue };
            let is_read = reader.send((*choice, step)).is_ok();
            if has_ended || !is_read {
                batch.remove(key);
                readers.remove(&key);
            }
        }
    }
}
