//! A live table of arms on a terminal: one line each, with its state, loss and what is left; elsewhere plain lines at a
//! readable pace.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use undertone_train::{Progress, Scalars};

/// At most one plain line in this time.
const PACE: Duration = Duration::from_secs(5);

/// The lines of some arms.
pub(crate) struct Board {
    lines: Vec<Line>,
}

/// The line of one arm, which is trained some times.
pub(crate) struct Line {
    name: String,
    /// All lines on the terminal and this one's bar; none where there is no terminal.
    shown: Option<(MultiProgress, ProgressBar)>,
    trainings: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Which training runs, in words.
    training: String,
    finished: usize,
    steps: usize,
    last_plain: Option<Instant>,
}

impl Board {
    /// A line for each arm, which is trained or scored so many times.
    pub(crate) fn new(arms: &[(String, usize)]) -> Self {
        let all = std::io::stderr().is_terminal().then(MultiProgress::new);
        let width = arms.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
        let line = |(name, trainings): &(String, usize)| {
            let trainings = *trainings;
            let shown = all.as_ref().map(|all| {
                let template = format!("{{prefix:>{width}}} {{bar:24}} {{msg}}");
                let style = ProgressStyle::with_template(&template).expect("a template of our own");
                let bar = ProgressBar::new(trainings as u64).with_style(style).with_prefix(name.clone());
                let bar = all.add(bar);
                bar.set_message("waits");
                (all.clone(), bar)
            });
            Line { name: name.clone(), shown, trainings, state: Mutex::default() }
        };
        Self { lines: arms.iter().map(line).collect() }
    }

    /// The line of an arm.
    pub(crate) fn line(&self, name: &str) -> &Line {
        self.lines.iter().find(|line| line.name == name).expect("every arm has a line")
    }
}

impl Line {
    /// A line of its own, for one training.
    pub(crate) fn alone(name: &str) -> Self {
        Board::new(&[(name.to_owned(), 1)]).lines.remove(0)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with it")
    }

    /// Says which training begins: nothing where there is only one.
    pub(crate) fn begin_training(&self, training: &str) {
        self.state().training = training.to_owned();
    }

    /// A training is over, whoever ran it and whenever.
    pub(crate) fn end_training(&self) {
        let finished = {
            let mut state = self.state();
            state.finished += 1;
            state.finished
        };
        if let Some((_, bar)) = &self.shown {
            let steps = self.state().steps.max(1);
            bar.set_length((self.trainings * steps) as u64);
            bar.set_position((finished * steps) as u64);
            if finished == self.trainings {
                bar.finish_with_message("done");
            }
        }
    }

    /// What it does now, beside training.
    pub(crate) fn does(&self, what: &str) {
        if let Some((_, bar)) = &self.shown {
            bar.set_message(self.with_training(what));
        }
    }

    /// Something to read later too.
    pub(crate) fn note(&self, text: &str) {
        match &self.shown {
            // Where nothing can be drawn any more, nothing is lost but a note.
            Some((all, _)) => drop(all.println(format!("{}: {text}", self.name))),
            None => eprintln!("{}: {text}", self.name),
        }
    }

    /// It came to no good end.
    pub(crate) fn fail(&self) {
        if let Some((_, bar)) = &self.shown {
            bar.abandon_with_message("failed");
        }
    }

    fn with_training(&self, what: &str) -> String {
        match self.state().training.as_str() {
            "" => what.to_owned(),
            training => format!("{training}  {what}"),
        }
    }
}

impl Progress for Line {
    fn begin(&self, done: usize, steps: usize) {
        let finished = {
            let mut state = self.state();
            state.steps = steps;
            state.finished
        };
        if let Some((_, bar)) = &self.shown {
            bar.set_length((self.trainings * steps) as u64);
            bar.set_position((finished * steps + done) as u64);
            bar.reset_eta();
        }
    }

    fn step(&self, scalars: &Scalars) {
        let validation = scalars.validation_nats_per_token.map(|nats| format!("  validation {nats:.3}"));
        let (finished, steps, due) = {
            let mut state = self.state();
            let due = state.last_plain.is_none_or(|last| last.elapsed() >= PACE)
                || validation.is_some()
                || scalars.step == state.steps;
            if due {
                state.last_plain = Some(Instant::now());
            }
            (state.finished, state.steps, due)
        };
        let message = format!(
            "step {}/{steps}  {:.3} nats/token{}  {:.0} tokens/s",
            scalars.step,
            scalars.loss_nats_per_token,
            validation.as_deref().unwrap_or(""),
            scalars.tokens_per_second
        );
        match &self.shown {
            Some((_, bar)) => {
                bar.set_position((finished * steps + scalars.step) as u64);
                let left = indicatif::HumanDuration(bar.eta());
                bar.set_message(self.with_training(&format!("{message}  {left} left")));
            }
            None if due => eprintln!("{}: {}", self.name, self.with_training(&message)),
            None => {}
        }
    }
}
