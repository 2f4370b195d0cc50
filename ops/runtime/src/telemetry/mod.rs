//! Structured logs on standard error.
//!
//! One event is one line: JSON for machines, readable text for a terminal. What an event belongs to
//! (`saga_id`, `trace_id`) is an ordinary field, of the event or of a span around it; in JSON both are
//! members of the same flat object, so that `jq 'select(.saga_id == …)'` finds everything. Panics are
//! logged as events too, wherever they happen.

mod json;

use std::io::{IsTerminal, Write};
use std::panic::PanicHookInfo;

use serde::{Deserialize, Serialize};
use tracing::{Dispatch, Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, MakeWriter};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

/// The section `log`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How a line looks.
    pub format: Format,
    /// What is logged: a level, and exceptions by target, such as `info,engine=debug`.
    pub filter: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            format: Format::Auto,
            // The bus tells what becomes of connections and of messages that come back; its library
            // would write them out whole.
            filter: "info,lapin=off".to_owned(),
        }
    }
}

impl Config {
    /// What is wrong with it although the types are right.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let wrong = EnvFilter::try_new(&self.filter).err();
        let describe = |error| format!("filter is not like `info,engine=debug`: {error}");
        wrong.map(describe).into_iter().collect()
    }
}

/// How a line looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Text if standard error is a terminal, else JSON.
    #[default]
    Auto,
    /// One flat JSON object.
    Json,
    /// For people; coloured on a terminal, unless `NO_COLOR` is set to something.
    Text,
}

/// The logs could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// See [`Config::problems`].
    #[error("the log filter is not like `info,engine=debug`")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// A process does this once.
    #[error("logging is set up already")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// Sends the events of the whole process, those of the `log` crate and panics to standard error, each
/// marked with `role`. Once per process, first of all.
///
/// # Errors
/// If the filter cannot be read, or if it was called before.
pub fn init(role: &'static str, config: &Config) -> Result<(), InitError> {
    let terminal = std::io::stderr().is_terminal();
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let text = match config.format {
        Format::Auto => terminal,
        Format::Json => false,
        Format::Text => true,
    };
    let style = match (text, terminal && !no_color) {
        (false, _) => Style::Json,
        (true, ansi) => Style::Text { ansi },
    };
    let filter = EnvFilter::try_new(&config.filter)?;
    dispatch(role, style, filter, std::io::stderr).try_init()?;
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

#[derive(Clone, Copy)]
enum Style {
    Json,
    Text { ansi: bool },
}

fn dispatch<W>(role: &'static str, style: Style, filter: EnvFilter, writer: W) -> Dispatch
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer);
    match style {
        Style::Json => builder
            .fmt_fields(JsonFields::new())
            .event_format(json::Lines { role })
            .into(),
        Style::Text { ansi } => builder
            .with_ansi(ansi)
            .map_event_format(|line| WithRole { role, line })
            .into(),
    }
}

/// A line of text that begins with the role: the processes of one machine often share a terminal.
struct WithRole<F> {
    role: &'static str,
    line: F,
}

impl<S, N, F> FormatEvent<S, N> for WithRole<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        write!(writer, "{:<12} ", self.role)?;
        self.line.format_event(context, writer, event)
    }
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let text = crate::panic_text(panic.payload());
    let location = panic.location().map(ToString::to_string);
    let thread = std::thread::current();
    // Empty unless RUST_BACKTRACE asks for it.
    let backtrace = std::backtrace::Backtrace::capture();
    tracing::error!(
        panic = text,
        location,
        thread = thread.name(),
        %backtrace,
        "panicked"
    );
    // What follows may be the end of the process.
    let _unwritable = std::io::stderr().flush();
}

#[cfg(test)]
mod tests;
