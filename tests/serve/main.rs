//! The simulated user behind the OpenAI chat protocol, as clients see it.
#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use undertone_testing::program::{EXPERIMENT, Running, Workplace};
use undertone_testing::python::packages;

const CHECKPOINT: &str = "out/tiny/past/fold0/best.safetensors";

/// A running server.
struct Server {
    place: Workplace,
    running: Running,
    url: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.running.child.kill().unwrap();
        self.running.child.wait().unwrap();
    }
}

impl Server {
    /// Trains the arm `past`, also on reactions, and serves it.
    fn start(options: &str) -> Self {
        let place = Workplace::new(12);
        place.write("x.toml", EXPERIMENT.replace("[data]", "[data]\ntargets = [\"next_prompt\", \"reaction\"]"));
        place.run("train x.toml --arm past").succeeded();
        let running = place.start(&format!("serve {CHECKPOINT} --port 0 --json{options}"));
        let served: Value = serde_json::from_str(&running.printed("}")).unwrap();
        assert_eq!(served["models"], json!(["past", "past:reaction"]));
        Self { place, running, url: served["url"].as_str().unwrap().to_owned() }
    }

    /// The status and the body of an answer.
    fn ask(&self, request: &Value) -> (u16, String) {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let mut answer = agent.post(format!("{}/chat/completions", self.url)).send_json(request).unwrap();
        (answer.status().as_u16(), answer.body_mut().read_to_string().unwrap())
    }

    fn answer(&self, request: &Value) -> Value {
        let (status, body) = self.ask(request);
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    #[track_caller]
    fn refuses(&self, request: &Value, status: u16, code: Option<&str>, message: &str) {
        let (given, body) = self.ask(request);
        let error = &serde_json::from_str::<Value>(&body).unwrap()["error"];
        assert_eq!((given, error["code"].as_str(), error["message"].as_str().unwrap()), (status, code, message));
    }
}

/// The request for `past` with these messages and parameters.
fn request(messages: Value, parameters: Value) -> Value {
    let mut request = json!({"model": "past", "messages": messages});
    request.as_object_mut().unwrap().extend(parameters.as_object().unwrap().clone());
    request
}

fn content(answer: &Value, choice: usize) -> String {
    answer["choices"][choice]["message"]["content"].as_str().unwrap().to_owned()
}

#[test]
fn it_writes_what_predict_writes_with_the_thoughts_of_a_request() {
    let server = Server::start(" --user-role user");
    let line: Value = serde_json::from_str(server.place.text("data.jsonl").lines().next().unwrap()).unwrap();
    // The conversation up to its second user message. Each thought is written at once, as a request's thoughts are.
    let mut line = line;
    let messages = line["messages"].as_array_mut().unwrap();
    messages.truncate(2);
    let chat: Vec<Value> = messages
        .iter_mut()
        .map(|message| {
            let key = if message["type"] == "user" { "reason" } else { "reaction" };
            let sent_at = message["timestamp"].clone();
            let thoughts = message[format!("{key}s")].as_array_mut().unwrap();
            thoughts.iter_mut().for_each(|thought| thought["timestamp"] = sent_at.clone());
            let texts: Vec<Value> = thoughts.iter().map(|thought| thought["content"].clone()).collect();
            json!({"role": message["type"], "content": message["content"], key: texts})
        })
        .collect();
    assert!(chat[1]["reaction"][0].is_string(), "{chat:?}");
    server.place.write("so-far.jsonl", line.to_string());
    for (model, speaker) in [("past", "user"), ("past:reaction", "reaction")] {
        let predicted = server
            .place
            .run(&format!(
                "predict {CHECKPOINT} so-far.jsonl --speaker {speaker} --temperature 1 --max-new-tokens 20 --json"
            ))
            .json();
        let asked = json!({"model": model, "messages": chat, "seed": 0, "max_tokens": 20});
        let answer = server.answer(&asked);
        assert_eq!(content(&answer, 0), predicted["text"].as_str().unwrap());
        assert_eq!(answer["usage"]["prompt_tokens"], predicted["prompt_tokens"]);
        assert_eq!(answer["usage"]["completion_tokens"], predicted["tokens"]);
    }
    // Other thoughts make another prompt.
    let silent: Vec<Value> =
        chat.iter().map(|message| json!({"role": message["role"], "content": message["content"]})).collect();
    let tokens = |chat: &[Value]| {
        server.answer(&request(json!(chat), json!({"max_tokens": 1})))["usage"]["prompt_tokens"].as_u64()
    };
    assert!(tokens(&silent) < tokens(&chat));
}

#[test]
fn streams_choices_and_stops_agree_with_whole_answers() {
    let server = Server::start("");
    let messages =
        json!([{"role": "system", "content": "You want a cake."}, {"role": "user", "content": "How can I help?"}]);
    let whole =
        server.answer(&request(messages.clone(), json!({"seed": 5, "n": 9, "max_tokens": 40, "logprobs": true})));
    for choice in 0..9 {
        let alone = server.answer(&request(messages.clone(), json!({"seed": 5 + choice, "max_tokens": 40})));
        assert_eq!(content(&whole, choice), content(&alone, 0), "choice {choice}");
        assert_eq!(alone["undertone"]["seed"], 5 + choice);
    }
    let (_, stream) = server.ask(&request(
        messages.clone(),
        json!({"seed": 5, "n": 9, "max_tokens": 40, "logprobs": true, "stream": true, "stream_options": {"include_usage": true}}),
    ));
    let events: Vec<&str> = stream.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    assert_eq!(events.last(), Some(&"[DONE]"));
    let chunks: Vec<Value> =
        events[..events.len() - 1].iter().map(|event| serde_json::from_str(event).unwrap()).collect();
    let mut streamed = vec![(String::new(), Vec::new(), Value::Null); 9];
    for chunk in &chunks {
        for choice in chunk["choices"].as_array().unwrap() {
            let (text, logprobs, finished) = &mut streamed[choice["index"].as_u64().unwrap() as usize];
            text.push_str(choice["delta"]["content"].as_str().unwrap_or_default());
            logprobs.extend(choice["logprobs"]["content"].as_array().unwrap().clone());
            assert!(finished.is_null(), "nothing follows the end of a text");
            *finished = choice["finish_reason"].clone();
        }
    }
    for (choice, (text, logprobs, finished)) in streamed.into_iter().enumerate() {
        let of_whole = &whole["choices"][choice];
        assert_eq!(text, content(&whole, choice));
        assert_eq!(&Value::Array(logprobs), &of_whole["logprobs"]["content"]);
        assert_eq!(finished, of_whole["finish_reason"]);
    }
    assert_eq!(chunks.last().unwrap()["usage"], whole["usage"]);

    // A stop text that begins in the middle of the text ends it there, in a stream, too.
    let text = content(&whole, 0);
    let stop: String = text.chars().skip(6).take(3).collect();
    let cut = text.split(&stop).next().unwrap();
    let stopped = request(messages, json!({"seed": 5, "max_tokens": 40, "stop": [stop, "never"], "logprobs": true}));
    let answer = server.answer(&stopped);
    assert_eq!((content(&answer, 0).as_str(), &answer["choices"][0]["finish_reason"]), (cut, &json!("stop")));
    let mut streamed = stopped;
    streamed["stream"] = json!(true);
    let (_, stream) = server.ask(&streamed);
    let chunk = |line: &str| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok();
    let deltas: String = stream
        .lines()
        .filter_map(chunk)
        .map(|chunk| chunk["choices"][0]["delta"]["content"].as_str().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(deltas, cut);
}

#[test]
fn log_probabilities_are_those_of_the_model() {
    let server = Server::start("");
    let messages = json!([{"role": "user", "content": "How can I help?"}]);
    let greedy = json!({"temperature": 0, "max_tokens": 8, "logprobs": true, "top_logprobs": 20});
    for token in server.answer(&request(messages, greedy))["choices"][0]["logprobs"]["content"].as_array().unwrap() {
        let top = token["top_logprobs"].as_array().unwrap();
        let logprobs: Vec<f64> = top.iter().map(|one| one["logprob"].as_f64().unwrap()).collect();
        assert_eq!(top.len(), 20);
        assert!(logprobs.is_sorted_by(|a, b| a >= b), "{logprobs:?}");
        assert_eq!((&token["logprob"], &token["token"]), (&top[0]["logprob"], &top[0]["token"]));
        let total: f64 = logprobs.iter().map(|logprob| logprob.exp()).sum();
        assert!(
            total > 20.0 / 258.0 && total < 1.0,
            "the 20 most likely of 258 tokens have {total} of the probability"
        );
    }
}

#[test]
fn wrong_requests_are_refused_in_the_form_of_the_protocol() {
    let server = Server::start(" --set data.context_tokens=300");
    let hello = json!([{"role": "user", "content": "Hello!"}]);
    let of = |parameters: Value| request(hello.clone(), parameters);
    server.refuses(
        &of(json!({"model": "gpt-4o"})),
        404,
        Some("model_not_found"),
        "there is no model `gpt-4o`; there is `past`, `past:reaction`",
    );
    server.refuses(&of(json!({"n": 17})), 400, None, "n: 17 is not from 1 to 16");
    server.refuses(
        &of(json!({"tools": [{}]})),
        400,
        None,
        "tools: is not supported, and would change the text if it were",
    );
    server.refuses(
        &of(json!({"max_tokens": 300})), 400, Some("context_length_exceeded"),
        "messages: the conversation: its last message is longer than the 0 tokens that the new tokens leave of the context",
    );
    let long = json!([{"role": "system", "content": "x".repeat(300)}]);
    server.refuses(
        &request(long, json!({"max_tokens": 100})), 400, Some("context_length_exceeded"),
        "messages: the conversation: its last message is longer than the 200 tokens that the new tokens leave of the context",
    );
    server.refuses(
        &json!({"model": "past:reaction", "messages": [{"role": "assistant", "content": "A cake"}]}),
        400,
        None,
        "messages: the conversation: ends with the wrong role: a reaction follows a message of the assistant",
    );
    // A web page whose name leads to this machine, and one that sends a form.
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let url = format!("{}/chat/completions", server.url);
    let page = agent.post(&url).header("Host", "example.com").send_json(of(json!({}))).unwrap();
    let form = agent.post(&url).header("Content-Type", "text/plain").send(of(json!({})).to_string()).unwrap();
    assert_eq!([page.status().as_u16(), form.status().as_u16()], [403, 415]);
    let (status, body) = server.ask(&json!({"model": "past", "messages": 7}));
    assert!(status == 400 && body.contains("the body is no chat request"), "{body}");
    // Earlier messages that do not fit are left out, and the answer says so.
    let many = json!([{"role": "assistant", "content": "x".repeat(250)}, {"role": "user", "content": "Which?"}]);
    let answer = server.answer(&request(many, json!({"max_tokens": 100})));
    assert_eq!(answer["undertone"]["messages_left_out"], 1);
}

#[test]
fn a_client_that_leaves_costs_the_others_nothing() {
    let server = Server::start("");
    let hello = json!([{"role": "user", "content": "Hello!"}]);
    // No text of the tiny model ends by itself before this limit, so that all places are taken.
    let body =
        request(hello.clone(), json!({"n": 16, "max_tokens": 1500, "temperature": 2, "stream": true})).to_string();
    let host = server.url.trim_start_matches("http://").trim_end_matches("/v1");
    for _ in 0..3 {
        let mut leaver = TcpStream::connect(host).unwrap();
        write!(leaver, "POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let answer = server.answer(&request(hello, json!({"max_tokens": 5})));
    assert_eq!(answer["choices"].as_array().unwrap().len(), 1);
}

#[test]
fn other_machines_need_a_key() {
    let server = Server::start("");
    let refused = server.place.run(&format!("serve {CHECKPOINT} --host 0.0.0.0 --port 0"));
    assert_eq!(refused.status.code(), Some(2));
    assert!(refused.stderr.contains("error: `0.0.0.0:0`: is an address that other machines can reach\n\nhint: set the environment variable UNDERTONE_API_KEY"), "{}", refused.stderr);
    let port = server.url.trim_end_matches("/v1").rsplit_once(':').unwrap().1;
    let taken = server.place.run(&format!("serve {CHECKPOINT} --port {port}"));
    assert_eq!(taken.status.code(), Some(2));
    assert!(taken.stderr.contains("cannot listen there: Address already in use"), "{}", taken.stderr);
    let keyed = server.place.start_under(
        "UNDERTONE_API_KEY=secret; export UNDERTONE_API_KEY",
        &format!("serve {CHECKPOINT} --port 0 --json"),
    );
    let served: Value = serde_json::from_str(&keyed.printed("}")).unwrap();
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let models = format!("{}/models", served["url"].as_str().unwrap());
    let status = |key: &str| agent.get(&models).header("Authorization", key).call().unwrap().status().as_u16();
    assert_eq!([status(""), status("Bearer wrong"), status("secret"), status("Bearer secret")], [401, 401, 401, 200]);
    let mut keyed = keyed;
    keyed.child.kill().unwrap();
    keyed.child.wait().unwrap();
}

#[test]
fn openais_own_client_converses_with_it() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/serve").canonicalize().unwrap();
    let Some(packages) = packages(&folder, Path::new(env!("CARGO_TARGET_TMPDIR"))) else { return };
    let server = Server::start("");
    let ran = Command::new("python3")
        .arg(folder.join("client.py"))
        .arg(&server.url)
        .env("PYTHONPATH", &packages)
        .output()
        .unwrap();
    let [stdout, stderr] = [&ran.stdout, &ran.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    assert!(ran.status.success(), "{stdout}{stderr}");
    println!("{stdout}");
}
