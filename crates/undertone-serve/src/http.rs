//! Routes, streams and errors of the protocol.

use std::convert::Infallible;
use std::net::{IpAddr, TcpListener};
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use futures_util::stream::unfold;
use serde_json::{Value, json};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Sender, channel, unbounded_channel};
use undertone_data::Speaker;
use undertone_model::{Cache, Opening, Sampling};
use undertone_study::{Prompt, PromptError, Prompter};

use crate::Options;
use crate::answer::{Answer, Broken, Head};
use crate::dialogue::Roles;
use crate::engine::Job;
use crate::refusal::Refusal;
use crate::request::{Asked, ChatRequest};
use crate::text::Text;

/// The longest body of a request, in bytes.
const LONGEST_BODY: usize = 16 << 20;
/// Bodies of a stream that wait for a slow reader.
const WAITING_CHUNKS: usize = 64;

/// What all requests share.
pub(crate) struct Shared {
    prompter: Prompter,
    /// Which thoughts the model sees, in words.
    view: String,
    /// The names of models, and whose text each writes.
    models: Vec<(String, Speaker)>,
    roles: Roles,
    max_new_tokens: usize,
    /// Whether only this machine can connect.
    is_local: bool,
    /// The hash of the key that requests must carry, which is compared in constant time.
    key: Option<blake3::Hash>,
    jobs: Sender<Job>,
    started: i64,
}

impl Shared {
    pub(crate) fn new(
        prompter: Prompter,
        view: String,
        models: Vec<(String, Speaker)>,
        options: &Options,
        jobs: Sender<Job>,
    ) -> Self {
        let key = options.key.as_ref().map(|key| blake3::hash(key.as_bytes()));
        let Options { roles, max_new_tokens, .. } = *options;
        let is_local = options.address.ip().is_loopback();
        Self { prompter, view, models, roles, max_new_tokens, is_local, key, jobs, started: now() }
    }
}

/// The names of models: the arm's for the user's messages, and with `:reaction` or `:reason` for thoughts.
pub(crate) fn names(arm: &str, speakers: &[Speaker]) -> Vec<(String, Speaker)> {
    let name = |speaker: &Speaker| match speaker {
        Speaker::Thought(_) => format!("{arm}:{}", speaker.name()),
        _ => arm.to_owned(),
    };
    speakers.iter().map(|speaker| (name(speaker), *speaker)).collect()
}

/// Answers connections for ever.
pub(crate) fn run(listener: TcpListener, shared: Arc<Shared>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("an event loop");
    let served = runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        axum::serve(listener, router(shared)).await
    });
    served.expect("a listening socket");
}

fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/v1/models", get(models))
        .route("/v1/models/{name}", get(model))
        .route("/v1/chat/completions", post(chat))
        .layer(from_fn_with_state(Arc::clone(&shared), authorized))
        .route("/health", get(async || Json(json!({"status": "ok"}))))
        .fallback(async || Failure::new(StatusCode::NOT_FOUND, "there is no such path; see /v1/chat/completions"))
        .method_not_allowed_fallback(async || Failure::new(StatusCode::METHOD_NOT_ALLOWED, "another method is needed"))
        .layer(DefaultBodyLimit::max(LONGEST_BODY))
        .with_state(shared)
}

/// Lets requests with the right key through, and on this machine alone only those that name it: the name of a web page may
/// be made to lead here.
async fn authorized(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    request: Request,
    next: Next,
) -> Result<Response, Failure> {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if shared.is_local && !is_this_machine(host) {
        return Err(Failure::new(StatusCode::FORBIDDEN, format!("the host `{host}` is not this machine")));
    }
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let is_right = |key: &blake3::Hash| bearer.is_some_and(|given| blake3::hash(given.as_bytes()) == *key);
    match shared.key.as_ref().is_none_or(is_right) {
        true => Ok(next.run(request).await),
        false => Err(Failure {
            code: Some("invalid_api_key"),
            ..Failure::new(StatusCode::UNAUTHORIZED, "the API key is missing or wrong")
        }),
    }
}

/// Whether the host of a request, with or without a port, is this machine.
fn is_this_machine(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

async fn models(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let models: Vec<Value> = shared.models.iter().map(|(name, _)| model_card(name, shared.started)).collect();
    Json(json!({"object": "list", "data": models}))
}

async fn model(State(shared): State<Arc<Shared>>, Path(name): Path<String>) -> Result<Json<Value>, Failure> {
    shared.speaker(&name)?;
    Ok(Json(model_card(&name, shared.started)))
}

fn model_card(name: &str, created: i64) -> Value {
    json!({"id": name, "object": "model", "created": created, "owned_by": "undertone"})
}

async fn chat(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Failure> {
    let body = body.map_err(|rejection| Failure::new(rejection.status(), rejection.body_text()))?;
    // Pages of other sites can send text to this address, but not JSON.
    let is_json = |value: &header::HeaderValue| value.to_str().is_ok_and(|value| value.starts_with("application/json"));
    if !headers.get(header::CONTENT_TYPE).is_some_and(is_json) {
        return Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the content type is not application/json"));
    }
    let request: ChatRequest = serde_json::from_slice(&body)
        .map_err(|error| Failure::new(StatusCode::BAD_REQUEST, format!("the body is no chat request: {error}")))?;
    let asked = request.read(shared.roles, shared.max_new_tokens)?;
    asked.dialogue.refuse_hidden(shared.prompter.view().access)?;
    let speaker = shared.speaker(&asked.model)?;
    let (is_streamed, includes_usage) = (asked.is_streamed, asked.includes_usage);
    let answer = shared.begin(asked, speaker).await?;
    if is_streamed {
        return Ok(stream(shared, answer, includes_usage));
    }
    Ok(Json(answer.whole(shared.prompter.template()).await?).into_response())
}

impl Shared {
    fn speaker(&self, model: &str) -> Result<Speaker, Failure> {
        let found = self.models.iter().find(|(name, _)| name == model);
        found.map(|(_, speaker)| *speaker).ok_or_else(|| {
            let names: Vec<String> = self.models.iter().map(|(name, _)| format!("`{name}`")).collect();
            Failure {
                param: Some("model".into()),
                code: Some("model_not_found"),
                ..Failure::new(
                    StatusCode::NOT_FOUND,
                    format!("there is no model `{model}`; there is {}", names.join(", ")),
                )
            }
        })
    }

    /// Queues the texts of a request.
    async fn begin(self: &Arc<Self>, asked: Asked, speaker: Speaker) -> Result<Answer, Failure> {
        let Asked { model, dialogue, sampling, choices, stops, top_logprobs, .. } = asked;
        let shared = Arc::clone(self);
        let prompt = tokio::task::spawn_blocking(move || {
            let system = dialogue.system.as_deref();
            shared.prompter.prompt(dialogue.conversation, speaker, system, sampling.max_new_tokens)
        });
        let Prompt { ids, messages_left_out } = prompt.await.map_err(|_| Broken)??;
        let (steps, received) = unbounded_channel();
        for choice in 0..choices {
            let sampling = Sampling { seed: sampling.seed.wrapping_add(choice as u64), ..sampling };
            let opening = Opening { cache: Cache::default(), prompt: ids.clone(), sampling };
            let end = self.prompter.template().end(speaker);
            self.jobs.try_send(Job {
                opening,
                end,
                choice,
                keeps_logits: top_logprobs.is_some(),
                steps: steps.clone(),
            })?;
        }
        tracing::info!("{model}: {} prompt tokens, {choices} texts", ids.len());
        let head = Head {
            id: format!("chatcmpl-{:016x}{:016x}", rand::random::<u64>(), rand::random::<u64>()),
            created: now(),
            model,
            prompt_tokens: ids.len(),
            undertone: json!({
                "seed": sampling.seed,
                "view": self.view,
                "messages_left_out": messages_left_out,
            }),
        };
        Ok(Answer {
            head,
            texts: (0..choices).map(|_| Text::new(stops.clone(), top_logprobs)).collect(),
            has_logprobs: top_logprobs.is_some(),
            steps: received,
            finished: vec![None; choices],
        })
    }
}

/// An answer as server-sent events.
fn stream(shared: Arc<Shared>, mut answer: Answer, includes_usage: bool) -> Response {
    let (sender, receiver) = channel::<Event>(WAITING_CHUNKS);
    tokio::spawn(async move {
        let send = async |body: Value| sender.send(Event::default().data(body.to_string())).await.is_ok();
        for choice in 0..answer.texts.len() {
            if !send(answer.first_chunk(choice)).await {
                return;
            }
        }
        loop {
            match answer.next(shared.prompter.template()).await {
                Ok(Some((choice, grown))) => {
                    let is_new = !grown.text.is_empty() || !grown.logprobs.is_empty() || grown.finished.is_some();
                    let delta = match grown.text.is_empty() {
                        true => json!({}),
                        false => json!({"content": grown.text}),
                    };
                    if is_new && !send(answer.chunk(choice, &delta, &grown)).await {
                        return;
                    }
                }
                Ok(None) => break,
                Err(broken) => {
                    send(Failure::from(broken).body()).await;
                    return;
                }
            }
        }
        if includes_usage && !send(answer.usage_chunk()).await {
            return;
        }
        let _ = sender.send(Event::default().data("[DONE]")).await;
    });
    let events = unfold(receiver, async |mut receiver| {
        let event = receiver.recv().await?;
        Some((Ok::<_, Infallible>(event), receiver))
    });
    Sse::new(events).into_response()
}

/// An error in the protocol's form.
#[derive(Debug)]
struct Failure {
    status: StatusCode,
    message: String,
    param: Option<String>,
    code: Option<&'static str>,
}

impl Failure {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), param: None, code: None }
    }

    fn body(&self) -> Value {
        let kind = if self.status.is_server_error() { "server_error" } else { "invalid_request_error" };
        json!({"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}})
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.status, Json(self.body())).into_response()
    }
}

impl From<Refusal> for Failure {
    fn from(Refusal { message, param }: Refusal) -> Self {
        Self { param, ..Self::new(StatusCode::BAD_REQUEST, message) }
    }
}

impl From<PromptError> for Failure {
    fn from(error: PromptError) -> Self {
        let code = match error {
            PromptError::TooLong { .. } => Some("context_length_exceeded"),
            PromptError::WrongRole { .. } | PromptError::Tokenizer(_) => None,
        };
        let message = format!("messages: the conversation: {error}");
        Self { param: Some("messages".into()), code, ..Self::new(StatusCode::BAD_REQUEST, message) }
    }
}

impl From<Broken> for Failure {
    fn from(_: Broken) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "the model has stopped")
    }
}

impl From<TrySendError<Job>> for Failure {
    fn from(error: TrySendError<Job>) -> Self {
        match error {
            TrySendError::Full(_) => Self {
                code: Some("server_overloaded"),
                ..Self::new(StatusCode::TOO_MANY_REQUESTS, "too many texts are waiting; try again later")
            },
            TrySendError::Closed(_) => Broken.into(),
        }
    }
}

/// Seconds since 1970.
fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_this_machine() {
        for host in ["localhost", "LOCALHOST:8000", "127.0.0.1:8000", "127.0.0.5", "[::1]:80", "[::1]"] {
            assert!(is_this_machine(host), "{host}");
        }
        for host in
            ["", "example.com", "localhost.example.com:8000", "10.0.0.1:8000", "127.0.0.1.example.com", "[::2]:80"]
        {
            assert!(!is_this_machine(host), "{host}");
        }
    }
}
