//! Progress on a terminal: one bar per row, with its state, loss and time left. Elsewhere: plain lines at a readable
//! pace.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, MultiProgress, ProgressBar, ProgressStyle};
use undertone_study::{Event, Observer};
use undertone_train::Scalars;

use crate::shell::{Shell, say};

/// The usual time between two plain lines of a row.
const PACE: Duration = Duration::from_secs(5);

/// The rows of a study.
pub(crate) struct Board {
    bars: MultiProgress,
    /// Whether to print plain lines instead of bars.
    is_plain: bool,
    rows: Mutex<Vec<Row>>,
}

/// A row with its trainings.
struct Row {
    name: String,
    bar: ProgressBar,
    trainings: usize,
    finished: usize,
    /// The fold and seed of the running training, in words.
    training: String,
    /// Steps per training.
    steps: usize,
    last_plain: Option<Instant>,
}

impl Board {
    pub(crate) fn new(shell: &Shell) -> Self {
        let is_plain = !std::io::stderr().is_terminal() && !shell.quiet;
        Self { bars: shell.bars.clone(), is_plain, rows: Mutex::default() }
    }
}

impl Observer for Board {
    fn rows(&self, rows: &[(String, usize)]) {
        let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
        let template = format!("{{prefix:>{width}}} {{bar:24}} {{msg}}");
        let style = ProgressStyle::with_template(&template).expect("a template of our own");
        let row = |(name, trainings): &(String, usize)| {
            let bar = ProgressBar::new(*trainings as u64).with_style(style.clone()).with_prefix(name.clone());
            let bar = self.bars.add(bar);
            bar.set_message("waiting");
            Row {
                name: name.clone(),
                bar,
                trainings: *trainings,
                finished: 0,
                training: String::new(),
                steps: 0,
                last_plain: None,
            }
        };
        self.rows.lock().expect("no observer panics").extend(rows.iter().map(row));
    }

    fn observe(&self, row: &str, event: Event<'_>) {
        let mut rows = self.rows.lock().expect("no observer panics");
        let row = rows.iter_mut().find(|one| one.name == row).expect("every row is announced");
        match event {
            Event::Training(training) => row.training = training.to_owned(),
            Event::Begin { done, steps } => row.begin(done, steps),
            Event::Step(scalars) => row.step(scalars, self.is_plain),
            Event::Doing(what) => row.bar.set_message(row.with_training(what)),
            Event::Finished => row.finish(),
            Event::Failed => row.bar.abandon_with_message("failed"),
        }
    }
}

impl Row {
    fn begin(&mut self, done: usize, steps: usize) {
        self.steps = steps;
        self.bar.set_length((self.trainings * steps) as u64);
        self.bar.set_position((self.finished * steps + done) as u64);
        self.bar.reset_eta();
    }

    fn step(&mut self, scalars: &Scalars, is_plain: bool) {
        let validation = scalars.validation_nats_per_token.map(|nats| format!("  validation {nats:.3}"));
        let message = format!(
            "step {}/{}  {:.3} nats/token{}  {:.0} tokens/s",
            scalars.step,
            self.steps,
            scalars.loss_nats_per_token,
            validation.as_deref().unwrap_or(""),
            scalars.tokens_per_second
        );
        self.bar.set_position((self.finished * self.steps + scalars.step) as u64);
        let left = HumanDuration(self.bar.eta());
        self.bar.set_message(self.with_training(&format!("{message}  {left} left")));
        let is_due = self.last_plain.is_none_or(|last| last.elapsed() >= PACE)
            || validation.is_some()
            || scalars.step == self.steps;
        if is_plain && is_due {
            self.last_plain = Some(Instant::now());
            say(format!("{}: {}", self.name, self.with_training(&message)));
        }
    }

    fn finish(&mut self) {
        self.finished += 1;
        let steps = self.steps.max(1);
        self.bar.set_length((self.trainings * steps) as u64);
        self.bar.set_position((self.finished * steps) as u64);
        if self.finished == self.trainings {
            self.bar.finish_with_message("done");
        }
    }

    fn with_training(&self, what: &str) -> String {
        match self.training.as_str() {
            "" => what.to_owned(),
            training => format!("{training}  {what}"),
        }
    }
}
