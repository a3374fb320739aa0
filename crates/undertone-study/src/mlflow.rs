//! Sends trainings to an MLflow server through its REST interface: hyperparameters, losses step by step, scores and state.
//!
//! A study is an experiment of MLflow, and a training a run of it. A training that was sent before replaces its run. Nothing
//! of a training depends on the server: what is sent is read from the folder of the run.

use std::time::Duration;

use serde_json::{Value, json};
use undertone_files::InputError;
use undertone_train::{Scalars, read_log};
use ureq::Agent;

use crate::runs::{RunState, StudyRuns, TrainingRun};

/// The timeout of one request.
const PATIENCE: Duration = Duration::from_secs(60);
/// The most metrics and hyperparameters that MLflow takes at once.
const METRICS_AT_ONCE: usize = 1000;
const PARAMETERS_AT_ONCE: usize = 100;
/// The most characters of a hyperparameter's value; the rest is cut off.
const LONGEST_PARAMETER: usize = 500;
/// The tag that tells which run of MLflow is which training.
const TRAINING: &str = "undertone.training";

/// Sends every training of these studies to the server at `url`, and returns how many there were. The environment variable
/// MLFLOW_TRACKING_TOKEN is sent as a bearer token, if it is set.
///
/// # Errors
/// The server cannot be reached or refuses a request; a log cannot be read.
pub fn send_to_mlflow(studies: &[StudyRuns], url: &str) -> Result<usize, InputError> {
    let server = Server::new(url)?;
    let mut sent = 0;
    for study in studies {
        let whole =
            std::fs::canonicalize(&study.folder).map_err(|error| InputError::io(&study.folder, "read", &error))?;
        let name = whole.file_name().unwrap_or(whole.as_os_str()).to_string_lossy();
        let experiment = server.experiment(&name)?;
        for training in &study.trainings {
            server.send(&experiment, study, training)?;
            sent += 1;
        }
    }
    Ok(sent)
}

struct Server {
    url: String,
    agent: Agent,
    token: Option<String>,
}

impl Server {
    fn new(url: &str) -> Result<Self, InputError> {
        let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
        let Some(rest) = rest else {
            return Err(InputError::new(url, "is no address of a server").hint("it begins with http:// or https://"));
        };
        if rest.split('/').next().is_some_and(|host| host.contains('@')) {
            return Err(InputError::new("--mlflow", "holds a password, which would be shown in messages")
                .hint("set the environment variable MLFLOW_TRACKING_TOKEN"));
        }
        let config = Agent::config_builder().timeout_global(Some(PATIENCE)).http_status_as_error(false).build();
        Ok(Self {
            url: url.trim_end_matches('/').to_owned(),
            agent: config.into(),
            token: std::env::var("MLFLOW_TRACKING_TOKEN").ok().filter(|token| !token.is_empty()),
        })
    }

    /// Asks the server; returns the status and the body of its answer.
    fn ask(&self, path: &str, body: &Value) -> Result<(u16, Value), InputError> {
        let failed = |error: ureq::Error| {
            InputError::new(&self.url, format!("cannot be asked: {error}"))
                .hint("is this the address of an MLflow server, such as http://127.0.0.1:5000?")
        };
        let mut request = self.agent.post(format!("{}/api/2.0/mlflow/{path}", self.url));
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let mut answer = request.send_json(body).map_err(failed)?;
        let text = answer.body_mut().read_to_string().map_err(failed)?;
        Ok((answer.status().as_u16(), serde_json::from_str(&text).unwrap_or(Value::Null)))
    }

    /// As [`Self::ask`], for a request that must succeed.
    fn tell(&self, path: &str, body: &Value) -> Result<Value, InputError> {
        match self.ask(path, body)? {
            (200, answer) => Ok(answer),
            (status, answer) => Err(self.refused(path, status, &answer)),
        }
    }

    fn refused(&self, path: &str, status: u16, answer: &Value) -> InputError {
        let why = answer["message"].as_str().unwrap_or("it gives no reason");
        InputError::new(&self.url, format!("refuses `{path}` with status {status}: {why}"))
            .hint("is this the address of an MLflow server, such as http://127.0.0.1:5000?")
    }

    /// The id of the experiment with this name, which is made if there is none.
    fn experiment(&self, name: &str) -> Result<String, InputError> {
        let name = &name.replace('\'', "");
        let filter = format!("name = '{name}'");
        let found = self.tell("experiments/search", &json!({ "filter": filter, "max_results": 1 }))?;
        let id = match found["experiments"][0]["experiment_id"].as_str() {
            Some(id) => id.to_owned(),
            None => text(&self.tell("experiments/create", &json!({ "name": name }))?["experiment_id"]),
        };
        Ok(id)
    }

    /// Sends one training.
    fn send(&self, experiment: &str, study: &StudyRuns, training: &TrainingRun) -> Result<(), InputError> {
        // The whole path: studies of the same name in other folders keep their runs.
        let folder = study.folder.join(&training.place);
        let whole = std::fs::canonicalize(&folder).map_err(|error| InputError::io(&folder, "read", &error))?;
        let path = whole.to_string_lossy().replace('\'', "");
        let filter = format!("tags.`{TRAINING}` = '{path}'");
        let earlier = self.tell("runs/search", &json!({ "experiment_ids": [experiment], "filter": filter }))?;
        let now = jiff::Timestamp::now().as_millisecond();
        let tags = json!([{ "key": TRAINING, "value": path }]);
        let created =
            json!({ "experiment_id": experiment, "run_name": training.place, "start_time": now, "tags": tags });
        let run = text(&self.tell("runs/create", &created)?["run"]["info"]["run_id"]);
        let arm = training.place.parent().unwrap_or(&training.place).to_string_lossy().into_owned();
        let short = |value: &str| value.chars().take(LONGEST_PARAMETER).collect::<String>();
        let parameters: Vec<Value> = study
            .keys
            .iter()
            .map(|(key, value)| json!({ "key": key, "value": short(value) }))
            .chain([json!({ "key": "arm", "value": arm })])
            .collect();
        for parameters in parameters.chunks(PARAMETERS_AT_ONCE) {
            self.tell("runs/log-batch", &json!({ "run_id": run, "params": parameters }))?;
        }
        let log = read_log(&folder)?;
        let last = log.last().map_or(0, |scalars| scalars.step);
        let test = training.test.map(|loss| metric("test_nats_per_token", loss, last, now));
        let metrics: Vec<Value> = log.iter().flat_map(|scalars| metrics(scalars, now)).chain(test).collect();
        for metrics in metrics.chunks(METRICS_AT_ONCE) {
            self.tell("runs/log-batch", &json!({ "run_id": run, "metrics": metrics }))?;
        }
        let status = match training.state {
            RunState::Running => "RUNNING",
            RunState::Finished => "FINISHED",
            RunState::Stopped => "KILLED",
            RunState::NoCheckpoint => "FAILED",
        };
        let mut update = json!({ "run_id": run, "status": status });
        if training.state != RunState::Running {
            update["end_time"] = json!(now);
        }
        self.tell("runs/update", &update)?;
        // Only now is the new run whole.
        for run in earlier["runs"].as_array().into_iter().flatten() {
            self.tell("runs/delete", &json!({ "run_id": run["info"]["run_id"] }))?;
        }
        Ok(())
    }
}

/// The scalars of a step that are numbers.
fn metrics(scalars: &Scalars, now: i64) -> Vec<Value> {
    let all = [
        ("loss_nats_per_token", Some(scalars.loss_nats_per_token)),
        ("validation_nats_per_token", scalars.validation_nats_per_token),
        ("learning_rate", Some(scalars.learning_rate)),
        ("gradient_norm", Some(scalars.gradient_norm)),
        ("tokens_per_second", Some(scalars.tokens_per_second)),
        ("memory_mib", Some(scalars.memory_mib)),
    ];
    let numbers = all.into_iter().filter_map(|(name, value)| Some((name, value.filter(|value| value.is_finite())?)));
    numbers.map(|(name, value)| metric(name, value, scalars.step, now)).collect()
}

fn metric(name: &str, value: f64, step: usize, now: i64) -> Value {
    json!({ "key": name, "value": value, "timestamp": now, "step": step })
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
