//! `cas run --otel`: what a collector of OpenTelemetry receives of a run, and what becomes of a run where there is none.

mod kit;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread::JoinHandle;

use kit::Folder;
use serde_json::Value;

/// One step, one below it, and one that fails twice.
const PIPELINE: &str = "\
pipeline: t
solids:
  a: {command: echo 1, stdout: result}
  b: {inputs: {x: a}, command: cat inputs/x, stdout: result}
  c: {inputs: {x: a}, command: exit 3, outputs: [], retries: {times: 1, back_off: 1ms}}
";

/// What a collector was sent in one request.
struct Received {
    /// The first line and the headers, in lower case.
    head: String,
    body: Vec<u8>,
}

/// A collector that takes one request.
fn collector() -> (String, JoinHandle<Received>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("it has one"));
    let takes = std::thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a request comes");
        receive(stream)
    });
    (address, takes)
}

fn receive(mut stream: TcpStream) -> Received {
    let mut bytes = Vec::new();
    let end = loop {
        let mut some = [0; 4096];
        let count = stream.read(&mut some).expect("it can be read");
        assert!(count > 0, "it ended before its headers did");
        bytes.extend_from_slice(&some[..count]);
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
    let mut body = bytes.split_off(end + 4);
    let length =
        head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("it has a length");
    let length: usize = length.parse().expect("a number");
    let have = body.len();
    body.resize(length, 0);
    stream.read_exact(&mut body[have..]).expect("all of it comes");
    stream
        .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}")
        .expect("it can be answered");
    Received { head, body }
}

/// The spans of a request in JSON: name, parent, outcome, attempt, and what the status says.
fn spans(received: &Received) -> Vec<String> {
    let document: Value = serde_json::from_slice(&received.body).expect("it is JSON");
    let spans = document["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().expect("there are spans");
    let name = |id: &Value| {
        let of = spans.iter().find(|span| span["spanId"] == *id).map(|span| span["name"].clone());
        of.unwrap_or_else(|| id.clone())
    };
    spans
        .iter()
        .map(|span| {
            let attribute = |key: &str| {
                let attributes = span["attributes"].as_array().expect("it has attributes");
                let of = attributes.iter().find(|attribute| attribute["key"] == key);
                let value = of.map(|attribute| attribute["value"].clone()).unwrap_or_default();
                let text = value["stringValue"].as_str().or(value["intValue"].as_str()).map(str::to_owned);
                text.or_else(|| value["intValue"].as_i64().map(|number| number.to_string()))
                    .unwrap_or_default()
            };
            let message = span["status"]["message"].as_str().unwrap_or_default();
            [
                span["name"].as_str().unwrap_or_default(),
                name(&span["parentSpanId"]).as_str().unwrap_or_default(),
                &attribute("cas.outcome"),
                &attribute("cas.attempt"),
                &attribute("cas.cause"),
                message,
            ]
            .join(" | ")
        })
        .collect()
}

#[test]
fn otel_has_a_span_for_the_run_and_below_it_one_for_each_attempt() {
    let (address, takes) = collector();
    let mut folder = Folder::with(&[("pipeline.yaml", PIPELINE)]);
    folder.variable("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json");
    folder.variable("TRACEPARENT", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    let ran = folder.cas(&format!("run -k -j 1 --otel={address}")).code(1);
    assert!(!ran.stderr.contains("warning"), "{}", ran.stderr);
    let received = takes.join().expect("it was received");
    assert!(received.head.starts_with("post /v1/traces http/1.1"), "{}", received.head);
    assert_eq!(ran.steps(), ["a", "b"]);
    assert_eq!(
        spans(&received),
        [
            "cas run t | 00f067aa0ba902b7 |  |  |  | 1 failed",
            "a | cas run t | ran | 1 | for the first time | ",
            "b | cas run t | ran | 1 | for the first time | ",
            "c | cas run t | failed | 1 | for the first time | exit status 3",
            "c | cas run t | failed | 2 | for the first time | exit status 3",
        ]
    );
    let text = String::from_utf8_lossy(&received.body);
    assert_eq!(text.matches("4bf92f3577b34da6a3ce929d0e0e4736").count(), 5, "{text}");
}

#[test]
fn otel_sends_where_the_standard_variables_say_and_in_the_form_that_they_say() {
    let (address, takes) = collector();
    let mut folder = Folder::with(&[("pipeline.yaml", PIPELINE)]);
    folder.variable("OTEL_EXPORTER_OTLP_ENDPOINT", &address);
    folder.variable("OTEL_EXPORTER_OTLP_HEADERS", "x-key=secret");
    folder.variable("OTEL_SERVICE_NAME", "nightly");
    assert_eq!(folder.cas("run b -j 1 --otel").ok().steps(), ["a", "b"]);
    let received = takes.join().expect("it was received");
    for line in ["post /v1/traces http/1.1", "content-type: application/x-protobuf", "x-key: secret"] {
        assert!(received.head.contains(line), "{}", received.head);
    }
    // Texts stand in protobuf as they are.
    let text = String::from_utf8_lossy(&received.body);
    for word in ["nightly", "cas run t", "cas.reused", "for the first time"] {
        assert!(text.contains(word), "{text}");
    }
}

#[test]
fn otel_that_nobody_takes_is_one_warning_and_the_run_is_as_good_without() {
    let folder = Folder::with(&[("pipeline.yaml", PIPELINE)]);
    let nobody = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("it has one");
    let ran = folder.cas(&format!("run b --otel=http://{nobody}")).ok();
    assert_eq!(ran.steps(), ["a", "b"]);
    assert_eq!(ran.stderr.matches("warning:").count(), 1, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("warning: the trace of this run was not sent: http://127.0.0.1:"),
        "{}",
        ran.stderr
    );
    let mut folder = folder;
    folder.variable("OTEL_SDK_DISABLED", "true");
    let off = folder.cas(&format!("run b --otel=http://{nobody}")).ok();
    assert_eq!((off.counts(), off.stderr.contains("warning")), ("nothing to run: 2 reused", false));
}

#[test]
fn otel_says_what_is_wrong_with_an_address_before_anything_runs() {
    let folder = Folder::with(&[("pipeline.yaml", PIPELINE)]);
    let refused = folder.cas("run --otel=https://collector").code(2);
    assert!(
        refused.stderr.contains(
            "error: the trace cannot be sent: `https://collector/v1/traces` does not begin with `http://`"
        ),
        "{}",
        refused.stderr
    );
    assert!(refused.steps().is_empty());
}
