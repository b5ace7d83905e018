//! A run as a trace of OpenTelemetry, sent by the standard exporter when the run has ended.
//!
//! The feature `otel` decides whether a program can; without it, [`Collector::new`] says so. With it: which spans there
//! are is decided in `spans.rs`, how bytes get to a collector in `client.rs`. Invariant: whatever becomes of the trace,
//! the run and its exit code are what they are without it.

#[cfg(feature = "otel")]
mod client;
#[cfg(feature = "otel")]
mod spans;

use std::collections::BTreeMap;

use cas_engine::chronicle::Chronicle;

use crate::failure::Failure;

/// Where traces are sent to, with what they belong to.
pub(crate) struct Collector {
    #[cfg(feature = "otel")]
    sender: client::Sender,
    #[cfg(feature = "otel")]
    parent: Option<spans::Parent>,
}

impl Collector {
    /// Takes in where to send to: an address, else what the variables of OpenTelemetry say.
    #[cfg(feature = "otel")]
    pub(crate) fn new(
        address: Option<&str>,
        variables: &BTreeMap<String, String>,
    ) -> Result<Option<Self>, Failure> {
        if variables.get("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Ok(None);
        }
        let sender = client::Sender::new(address, variables)
            .map_err(|what| Failure::usage(format!("the trace cannot be sent: {what}")))?;
        let parent = variables.get("TRACEPARENT").and_then(|text| spans::Parent::read(text));
        Ok(Some(Self { sender, parent }))
    }

    /// Says that this program cannot.
    #[cfg(not(feature = "otel"))]
    pub(crate) fn new(
        _address: Option<&str>,
        _variables: &BTreeMap<String, String>,
    ) -> Result<Option<Self>, Failure> {
        Err(Failure::usage("this program was built without OpenTelemetry").hint(
            "`cargo install --path cli --features otel` builds one with it; `--trace FILE` writes a trace to a file",
        ))
    }

    /// Sends a run.
    ///
    /// # Errors
    /// In words, why it did not arrive.
    pub(crate) fn send(&self, chronicle: &Chronicle) -> Result<(), String> {
        #[cfg(feature = "otel")]
        return self.sender.send(spans::spans(chronicle, self.parent.as_ref()));
        #[cfg(not(feature = "otel"))]
        {
            let _ = chronicle;
            Ok(())
        }
    }
}
