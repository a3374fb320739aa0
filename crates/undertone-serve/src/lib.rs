//! A simulated user behind the OpenAI chat protocol, so that what evaluates assistants can plug it in as its user.
//!
//! A request is read and checked (`request`), turned into a conversation (`dialogue`) and a prompt, and queued. One
//! thread holds the model and continues up to eight texts side by side (`engine`). Each text is read as it grows
//! (`text`): whole characters, stop texts, log-probabilities. `answer` wraps texts in the protocol's bodies, and `http` serves them: routes, streams, errors.
//!
//! In the protocol, the answering side is `assistant`. Here the answering side is the simulated user, so by default a
//! request's `assistant` messages are the user's own, and its `user` messages are the replies of the assistant that is
//! being tested. See [`Roles`].
//!
//! Deliberately not here: tools, images, penalties, and other networks than this machine's own without a key.

#![warn(clippy::unwrap_used)]

mod answer;
mod dialogue;
mod engine;
mod http;
mod refusal;
mod request;
mod text;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use undertone_files::InputError;
use undertone_study::Simulator;

pub use dialogue::Roles;

/// How the simulated user is served.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to listen; port 0 lets the system choose one.
    pub address: SocketAddr,
    /// Which role of a request is the simulated user.
    pub roles: Roles,
    /// The most new tokens of a text, if a request names no limit.
    pub max_new_tokens: usize,
    /// If given, requests must carry it as a bearer token.
    pub key: Option<String>,
}

/// What a client needs to know.
#[derive(Debug, Clone)]
pub struct Served {
    /// Where the server listens.
    pub address: SocketAddr,
    /// The names under which it writes.
    pub models: Vec<String>,
}

/// Serves requests until the program ends. Calls `ready` once connections are accepted.
///
/// # Errors
/// The address cannot be used, or is reachable from other machines and there is no key.
pub fn serve(simulator: Simulator, options: &Options, ready: impl FnOnce(&Served)) -> Result<(), InputError> {
    let address = options.address;
    if !address.ip().is_loopback() && options.key.is_none() {
        return Err(InputError::new(address.to_string(), "is an address that other machines can reach").hint(
            "set the environment variable UNDERTONE_API_KEY, which requests must then carry, or listen on 127.0.0.1",
        ));
    }
    let refused = |error: std::io::Error| {
        InputError::new(address.to_string(), format!("cannot listen there: {error}"))
            .hint("choose another `--port`; 0 takes a free one")
    };
    let listener = TcpListener::bind(address).map_err(refused)?;
    listener.set_nonblocking(true).map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    let (jobs, queue) = engine::queue();
    let Simulator { prompter, decoder, arm, view, speakers, .. } = simulator;
    let models = http::names(&arm, &speakers);
    let served = Served { address, models: models.iter().map(|(name, _)| name.clone()).collect() };
    let state = Arc::new(http::Shared::new(prompter, view.to_string(), models, options, jobs));
    // The model stays on this thread, so that a panic of the model ends the program.
    let server = std::thread::spawn(move || http::run(listener, state));
    ready(&served);
    engine::run(&decoder, queue);
    // The queue ends with the other thread, and that ends with a panic alone.
    server.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    Ok(())
}
