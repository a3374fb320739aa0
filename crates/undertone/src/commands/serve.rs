//! `undertone serve`: a checkpoint as a simulated user behind the OpenAI chat protocol.

use std::net::SocketAddr;

use serde_json::json;
use undertone_files::InputError;
use undertone_serve::{Options, Roles, Served, serve};
use undertone_study::Simulator;

use crate::cli::{Serve, UserRole};
use crate::shell::{Shell, say};

/// The environment variable with the key that requests must carry.
const KEY: &str = "UNDERTONE_API_KEY";

pub(crate) fn run(args: &Serve, shell: &Shell) -> anyhow::Result<()> {
    let key = match std::env::var(KEY) {
        Ok(key) if key.is_empty() => return Err(InputError::new(KEY, "is set to an empty key").into()),
        Ok(key) => Some(key),
        Err(std::env::VarError::NotPresent) => None,
        Err(std::env::VarError::NotUnicode(_)) => return Err(InputError::new(KEY, "is not UTF-8").into()),
    };
    let options = Options {
        address: SocketAddr::new(args.host, args.port),
        roles: match args.user_role {
            UserRole::Assistant => Roles::UserAnswers,
            UserRole::User => Roles::AsInData,
        },
        max_new_tokens: args.max_new_tokens as usize,
        key,
    };
    let simulator = Simulator::open(&args.checkpoint, &args.set)?;
    for warning in &simulator.warnings {
        say(format!("! {warning}"));
    }
    let ready = |Served { address, models }: &Served| {
        let url = format!("http://{address}/v1");
        say(format!("serving {} at {url}; Ctrl-C ends it", models.join(", ")));
        if shell.json {
            shell.print_json(&json!({ "url": url, "models": models }));
        }
    };
    serve(simulator, &options, ready)?;
    Ok(())
}
