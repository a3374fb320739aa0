//! The training loop: one visible function from the plan to the last checkpoint.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use undertone_data::{Stream, pack};
use undertone_files::{InputError, remove_leftovers_below};
use undertone_model::{Decoder, DropoutKey, Gradients, values};

use crate::checkpoint::{self, Best, Checkpoint, Description, State};
use crate::config::TrainingConfig;
use crate::hyperparameters::Hyperparameter;
use crate::kept::{BEST, LAST, Series};
use crate::log::{EventLog, Progress, Scalars};
use crate::memory::resident_mib;
use crate::optimizer::{AdamW, Update, clip_factor, global_norm, scalar};
use crate::plan::Plan;
use crate::trouble::Trouble;

/// A training run, ready to start or to resume.
pub struct Run<'a> {
    /// The numbers of the loop.
    pub config: &'a TrainingConfig,
    /// Seed of the order and of dropout.
    pub seed: u64,
    /// Training windows as the arm sees them, each with at least one supervised token. Epochs take these lists in
    /// turn; all lists have the same windows in the same order.
    pub training: &'a [Vec<Stream>],
    /// Validation windows; may be empty.
    pub validation: &'a [Stream],
    /// Where `last.safetensors`, `best.safetensors` and the logs go.
    pub folder: &'a Path,
    /// Receives the progress of the run.
    pub progress: &'a dyn Progress,
    /// The metadata of its checkpoints; the `state` in it is ignored.
    pub description: Description,
    /// What TensorBoard shows of the run beside its scalars.
    pub hyperparameters: Vec<(String, Hyperparameter)>,
    /// Set when the user wants to stop; the run saves and returns [`TrainError::Interrupted`].
    pub stop: &'a AtomicBool,
}

/// Why a run ended early.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// An error in a file that the run reads or writes.
    #[error(transparent)]
    Input(#[from] InputError),
    /// The loss or the gradient norm is not finite.
    #[error("after step {step}, {what}; items of this step: {}", items.join(", "))]
    NotFinite {
        /// Steps taken before the error.
        step: usize,
        /// What was not finite, with its value.
        what: String,
        /// The items of the step.
        items: Vec<String>,
    },
    /// The user stopped it; it can be resumed from this checkpoint.
    #[error("interrupted; saved `{}`", .0.display())]
    Interrupted(PathBuf),
}

/// The results of one step.
struct Taken<'a> {
    /// Σ nats over its supervised tokens.
    nats: f64,
    gradient_norm: f64,
    learning_rate: f64,
    windows: Vec<&'a Stream>,
    /// Tokens that went through the model.
    tokens: usize,
}

impl Taken<'_> {
    fn supervised_tokens(&self) -> usize {
        self.windows.iter().map(|window| window.supervised_tokens()).sum()
    }

    /// The numbers to log, for a step that took so many seconds.
    fn scalars(&self, step: usize, seconds: f64, validation: Option<f64>) -> Scalars {
        let bytes: usize = self.windows.iter().flat_map(|window| &window.targets).map(|target| target.bytes).sum();
        let supervised_tokens = self.supervised_tokens();
        Scalars {
            step,
            loss_nats_per_token: self.nats / supervised_tokens as f64,
            bits_per_byte: self.nats / std::f64::consts::LN_2 / bytes as f64,
            supervised_tokens,
            learning_rate: self.learning_rate,
            gradient_norm: self.gradient_norm,
            tokens_per_second: self.tokens as f64 / seconds,
            memory_mib: resident_mib(),
            validation_nats_per_token: validation,
            trouble: self
                .trouble()
                .map(|what| Trouble { what: format!("skipped: {what}"), items: items(&self.windows) }),
        }
    }

    /// What is not finite; `None` if everything is.
    fn trouble(&self) -> Option<String> {
        let Self { nats, gradient_norm, .. } = self;
        let is_finite = nats.is_finite() && gradient_norm.is_finite();
        (!is_finite).then(|| format!("the loss is {nats} nats and the gradient norm {gradient_norm}"))
    }
}

/// The items that some windows supervise.
fn items(windows: &[&Stream]) -> Vec<String> {
    windows.iter().flat_map(|window| &window.targets).map(|target| target.item.to_string()).collect()
}

impl Run<'_> {
    /// The checkpoint to resume from.
    pub fn last(&self) -> PathBuf {
        self.folder.join(LAST)
    }

    /// The checkpoint with the lowest validation loss; without validation, the last one.
    pub fn best(&self) -> PathBuf {
        self.folder.join(BEST)
    }

    /// Trains `model` to the end, from the start or from `resume`, and returns the final state.
    ///
    /// # Errors
    /// See [`TrainError`]. After an error that is not [`TrainError::Interrupted`] the model is undefined.
    pub fn train(&self, model: &mut Decoder, resume: Option<&Checkpoint>) -> Result<State, TrainError> {
        let config = self.config;
        let names = |streams: &Vec<Stream>| streams.iter().map(|stream| stream.id.clone()).collect::<Vec<_>>();
        let ids = names(&self.training[0]);
        assert!(self.training.iter().all(|streams| names(streams) == ids), "every epoch has the same windows");
        let plan = Plan::new(&ids, config.epochs, config.conversations_per_step, self.seed);
        let steps = plan.steps.len();
        let every = |period: usize| if period == 0 { plan.steps_per_epoch } else { period };
        let (validate_every, save_every) = (every(config.validate_every_steps), every(config.save_every_steps));

        let (mut state, mut optimizer) = (State::default(), AdamW::default());
        match resume {
            Some(checkpoint) => {
                checkpoint.restore_weights(model)?;
                optimizer = checkpoint.restore_optimizer(model)?;
                state = checkpoint.description.state.clone();
            }
            None => self.refuse_lost_checkpoint()?,
        }
        remove_leftovers_below(self.folder);
        let (last, best) = (Series::of_last(self.folder, config), Series::of_best(self.folder, config));
        let mut saved = resume.map(|_| state.step);
        if state.best.is_some_and(|best| best.step == state.step) {
            self.write_best_after_kill(&best, model, &state)?;
        }
        let mut log = EventLog::open(self.folder, state.step, &self.hyperparameters)?;
        self.progress.begin(state.step, steps);

        while state.step < steps && !state.finished {
            let begun = Instant::now();
            let taken = self.step(model, &mut optimizer, &plan, &state);
            let seconds = begun.elapsed().as_secs_f64();
            if let Some(what) = taken.trouble() {
                if state.skipped_steps >= config.max_skipped_steps {
                    return Err(TrainError::NotFinite { step: state.step, what, items: items(&taken.windows) });
                }
                state.skipped_steps += 1;
            }
            let best_before = state.best.map(|best| best.step);
            state.step += 1;
            state.supervised_tokens += taken.supervised_tokens() as u64;

            let is_validated =
                !self.validation.is_empty() && (state.step.is_multiple_of(validate_every) || state.step == steps);
            let validation = is_validated.then(|| self.validate(model));
            if let Some(nats_per_token) = validation {
                if !nats_per_token.is_finite() {
                    let what = format!("the validation loss is {nats_per_token} nats per token");
                    return Err(TrainError::NotFinite { step: state.step, what, items: items(&taken.windows) });
                }
                if state.best.is_none_or(|best| nats_per_token < best.nats_per_token) {
                    state.best = Some(Best { step: state.step, nats_per_token });
                    state.validations_without_gain = 0;
                } else {
                    state.validations_without_gain += 1;
                }
            }
            let patience = config.patience_validations;
            state.finished = state.step == steps || (patience > 0 && state.validations_without_gain >= patience);
            let scalars = taken.scalars(state.step, seconds, validation);
            self.progress.step(&log.step(scalars, || items(&taken.windows))?);
            let stopped = self.stop.load(Ordering::Relaxed);
            let is_best = state.best.is_some_and(|best| best.step == state.step);
            let save_last = |saved: &mut Option<usize>| {
                log.sync()?;
                last.write(*saved, |path| checkpoint::save(path, model, Some(&optimizer), &self.describe(&state)))?;
                *saved = Some(state.step);
                Ok::<_, InputError>(())
            };
            // The first best checkpoint is written after a last one: alone, it shows that the last one was lost. Later ones
            // are written before, so that a last checkpoint never knows of a best one that is not there.
            let is_first_best = is_best && saved.is_none();
            if is_first_best {
                save_last(&mut saved)?;
            }
            if is_best {
                best.write(best_before, |path| checkpoint::save(path, model, None, &self.describe(&state)))?;
            }
            let must_save = state.finished || stopped || self.saves_after(state.step, save_every);
            if must_save && !is_first_best {
                save_last(&mut saved)?;
            }
            if stopped && !state.finished {
                return Err(TrainError::Interrupted(self.last()));
            }
        }
        if state.best.is_none() {
            best.write(None, |path| checkpoint::save(path, model, None, &self.describe(&state)))?;
        }
        log.end(state.step)?;
        Ok(state)
    }

    fn saves_after(&self, step: usize, save_every: usize) -> bool {
        let keep_every = self.config.keep_every_steps;
        step.is_multiple_of(save_every) || keep_every > 0 && step.is_multiple_of(keep_every)
    }

    /// Refuses to start anew over a best checkpoint: before the first one, a last one was written, which is lost.
    fn refuse_lost_checkpoint(&self) -> Result<(), InputError> {
        if !self.best().exists() {
            return Ok(());
        }
        let cause = format!("is missing, but there is a `{BEST}`, which a new training would replace");
        Err(InputError::new(self.last(), cause).hint("restore it from a copy, or remove the folder"))
    }

    /// Writes the best checkpoint that a kill has prevented: the one of the step from which the training resumes.
    fn write_best_after_kill(&self, best: &Series<'_>, model: &Decoder, state: &State) -> Result<(), InputError> {
        let written = Description::read(&self.best()).ok().map(|description| description.state.step);
        if written == Some(state.step) {
            return Ok(());
        }
        best.write(written, |path| checkpoint::save(path, model, None, &self.describe(state)))
    }

    /// Takes the next step of the plan. Waits for the device only once the whole step is queued, unless the step may be skipped:
    /// then no weight changes if the loss or the gradient is not finite.
    fn step(&self, model: &mut Decoder, optimizer: &mut AdamW, plan: &Plan, state: &State) -> Taken<'_> {
        let (config, step) = (self.config, state.step);
        let epoch = &self.training[step / plan.steps_per_epoch % self.training.len()];
        let windows: Vec<&Stream> = plan.steps[step].iter().map(|&index| &epoch[index]).collect();
        let scale = 1.0 / windows.iter().map(|window| window.supervised_tokens()).sum::<usize>() as f64;
        let dropout = Some(DropoutKey { seed: self.seed, step: step as u64 });

        let (mut gradients, mut nats, mut tokens) = (Gradients::default(), Vec::new(), 0);
        for row in pack(windows.iter().copied(), config.row_tokens) {
            nats.extend(model.nats_and_gradients(&row, scale, config.recompute, dropout, &mut gradients));
            tokens += row.tokens.len();
        }
        let norm = global_norm(model, &gradients);
        let clip = clip_factor(&norm, config.clip_norm);
        let learning_rate = config.learning_rate_at(step, plan.steps.len());
        let update = Update { gradients, clip, learning_rate, step: step - state.skipped_steps };
        let may_skip = config.max_skipped_steps > 0;
        let held_back = if may_skip {
            Some(update)
        } else {
            optimizer.step(model, update, config);
            None
        };
        let sum_of_row = |nats| values(nats).into_iter().map(f64::from).sum::<f64>();
        let nats: f64 = nats.into_iter().map(sum_of_row).sum();
        let taken = Taken { nats, gradient_norm: scalar(norm), learning_rate, windows, tokens };
        if let Some(update) = held_back.filter(|_| taken.trouble().is_none()) {
            optimizer.step(model, update, config);
        }
        taken
    }

    fn validate(&self, model: &Decoder) -> f64 {
        let tokens: usize = self.validation.iter().map(Stream::supervised_tokens).sum();
        let rows = pack(self.validation, self.config.row_tokens);
        let nats: f64 = rows.iter().flat_map(|row| model.nats(row)).map(f64::from).sum();
        nats / tokens as f64
    }

    fn describe(&self, state: &State) -> Description {
        let users = |streams: &[Stream]| {
            let users: BTreeSet<&String> = streams.iter().map(|stream| &stream.user).collect();
            users.into_iter().cloned().collect()
        };
        Description {
            state: state.clone(),
            trained_users: users(&self.training[0]),
            validated_users: users(self.validation),
            ..self.description.clone()
        }
    }
}
