//! How spans get to a collector: the standard exporter (OTLP over HTTP) with a client of our own that blocks, so that
//! no other runtime comes with it.
//!
//! Which collector, which headers and which of the two encodings is the exporter's to read from the variables of
//! OpenTelemetry. Invariant: sending takes no longer than [`ALTOGETHER`] and one request.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use opentelemetry::Key;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, RetryPolicy, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkError;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};

/// How long one request may take where the variables say nothing: whoever ran something waits for it.
const REQUEST: Duration = Duration::from_secs(3);

/// After so long no further request is begun.
const ALTOGETHER: Duration = Duration::from_secs(10);

/// So many spans go with one request.
const SPANS: usize = 2_000;

/// The most that an answer may have: it says what was not accepted.
const ANSWER_BYTES: u64 = 1024 * 1024;

/// Below this path a collector takes traces.
const PATH: &str = "/v1/traces";

/// Sends spans to one collector.
#[derive(Debug)]
pub(super) struct Sender {
    exporter: SpanExporter,
    /// What it is called in messages.
    to: String,
}

impl Sender {
    pub(super) fn new(address: Option<&str>, variables: &BTreeMap<String, String>) -> Result<Self, String> {
        let said = |names: &[&str]| names.iter().find_map(|name| variables.get(*name)).cloned();
        let endpoint = address.map(with_path);
        let to = endpoint
            .clone()
            .or_else(|| said(&["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"]))
            .unwrap_or_else(|| "http://localhost:4318".to_owned());
        if !to.starts_with("http://") {
            return Err(format!(
                "`{to}` does not begin with `http://` (a collector on this machine can hand it on with TLS)"
            ));
        }
        let timeout = said(&["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"])
            .and_then(|text| text.parse().ok())
            .map_or(REQUEST, Duration::from_millis);
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(timeout))
            .http_status_as_error(false)
            .build()
            .new_agent();
        let mut builder = SpanExporter::builder()
            .with_http()
            .with_http_client(Client { agent })
            .with_timeout(timeout)
            .with_retry_policy(RetryPolicy::disabled());
        // The standard's default; left to itself, the exporter prefers the other encoding where it has both.
        let protocol = said(&["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"]);
        if protocol.as_deref() != Some("http/json") {
            builder = builder.with_protocol(Protocol::HttpBinary);
        }
        if let Some(endpoint) = endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        let mut exporter = builder.build().map_err(|error| error.to_string())?;
        exporter.set_resource(&resource());
        Ok(Self { exporter, to })
    }

    /// Sends spans, in as many requests as that takes.
    pub(super) fn send(&self, spans: Vec<SpanData>) -> Result<(), String> {
        let (all, began) = (spans.len(), Instant::now());
        for (at, some) in spans.chunks(SPANS).enumerate() {
            if began.elapsed() > ALTOGETHER {
                return Err(format!("{} took {} of {all} spans, and is too slow", self.to, at * SPANS));
            }
            futures_executor::block_on(self.exporter.export(some.to_vec())).map_err(|error| match error {
                OTelSdkError::InternalFailure(what) => format!("{}: {what}", self.to),
                error => format!("{}: {error}", self.to),
            })?;
        }
        Ok(())
    }
}

/// The address of a collector, with the path below which it takes traces where none is given.
fn with_path(address: &str) -> String {
    let base = address.trim_end_matches('/');
    let has_path = base.split_once("://").is_some_and(|(_, rest)| rest.contains('/'));
    if has_path { base.to_owned() } else { format!("{base}{PATH}") }
}

/// What the trace is of: as the variables of OpenTelemetry say, else `cas`.
fn resource() -> Resource {
    let resource = Resource::builder().build();
    let name = resource.get(&Key::from_static_str("service.name"));
    let is_named = name.is_some_and(|name| !name.as_str().starts_with("unknown_service"));
    if is_named { resource } else { Resource::builder().with_service_name("cas").build() }
}

/// What the exporter sends with.
#[derive(Debug)]
struct Client {
    agent: ureq::Agent,
}

impl Client {
    fn exchange(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (parts, body) = request.into_parts();
        let answer = self.agent.run(Request::from_parts(parts, body.to_vec()))?;
        let (parts, mut body) = answer.into_parts();
        let bytes = body.with_config().limit(ANSWER_BYTES).read_to_vec()?;
        Ok(Response::from_parts(parts, Bytes::from(bytes)))
    }
}

impl HttpClient for Client {
    // As the trait's macro writes it: what comes back is done already.
    fn send_bytes<'a, 'b>(
        &'a self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(std::future::ready(self.exchange(request)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_a_path_gets_the_usual_one() {
        assert_eq!(with_path("http://localhost:4318"), "http://localhost:4318/v1/traces");
        assert_eq!(with_path("http://localhost:4318/"), "http://localhost:4318/v1/traces");
        assert_eq!(with_path("http://host/otlp/v1/traces"), "http://host/otlp/v1/traces");
    }

    #[test]
    fn what_cannot_be_sent_to_is_said_at_once() {
        let none = BTreeMap::new();
        let refused = Sender::new(Some("https://host"), &none).map(|_| ());
        assert!(refused.is_err_and(|what| what.contains("does not begin with `http://`")));
        assert!(Sender::new(Some("http://local host"), &none).is_err());
    }
}
