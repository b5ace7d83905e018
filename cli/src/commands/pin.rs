//! `cas pin`, `unpin`, `pins`: what is never collected.

use std::time::Duration;

use cas_engine::run::now_ms;
use cas_store::Pin;
use serde::Serialize;

use super::{done, out};
use crate::address::Ground;
use crate::args::Which;
use crate::failure::{Code, Failure};
use crate::report::table::Table;
use crate::report::{json, words};
use crate::session::World;

/// Keep outputs, whatever `cas gc` collects
///
/// VERSION is `step.output`, `step` (all its outputs), or four digits or more of a version's hex. A pin belongs to the
/// version that it has now: what is made later under another version is not pinned.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Example:
  $ cas pin train.model --reason 'shipped in 1.2'
  $ cas pin report --for 90d")]
pub(crate) struct PinArgs {
    /// Keep these
    #[arg(value_name = "VERSION", required = true)]
    versions: Vec<String>,
    /// Say why
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Keep them for this long only
    #[arg(long = "for", value_name = "TIME", value_parser = cas_store::config::parse_age)]
    time: Option<Duration>,
    #[command(flatten)]
    which: Which,
}

/// Let pinned outputs be collected again
///
/// VERSION is one that `cas pins` shows, by its name, by what it was pinned as, or by its hex.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Example:
  $ cas unpin train.model")]
pub(crate) struct UnpinArgs {
    /// Keep these no longer
    #[arg(value_name = "VERSION", required = true)]
    versions: Vec<String>,
    #[command(flatten)]
    which: Which,
}

/// List what is pinned
///
/// Oldest first.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Example:
  $ cas pins --format json")]
pub(crate) struct PinsArgs {
    #[command(flatten)]
    which: Which,
}

#[derive(Serialize)]
struct Row {
    version: String,
    name: String,
    reason: Option<String>,
    at: Option<String>,
    until: Option<String>,
}

pub(crate) fn pin(world: &mut World, args: &PinArgs) -> Result<Code, Failure> {
    let ground = Ground::new(world, &args.which)?;
    let items = ground.find(world, &args.versions)?.items;
    let now = now_ms();
    let mut pins = Vec::new();
    for item in &items {
        item.stored()?;
        let version = item.version.ok_or_else(|| {
            Failure::missing(format!("`{}` has no version before something above it runs", item.name))
        })?;
        pins.push(Pin {
            version,
            label: item.name.clone(),
            reason: args.reason.clone(),
            at_ms: now,
            until_ms: args
                .time
                .map(|time| now.saturating_add(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))),
        });
    }
    let store = ground.store()?;
    for pin in &pins {
        store.pin(pin.clone())?;
        world.tell(format_args!("pinned {}", pin.label));
    }
    answer(world, "pin", pins)
}

fn row(pin: Pin) -> Row {
    Row {
        version: pin.version.to_string(),
        name: pin.label,
        reason: pin.reason,
        at: words::moment_utc(pin.at_ms),
        until: pin.until_ms.and_then(words::moment_utc),
    }
}

/// What was pinned, or is no longer, for programs; people were told already.
fn answer(world: &World, command: &str, pins: Vec<Pin>) -> Result<Code, Failure> {
    let mut out = out();
    if world.json() {
        json::document(&mut out, command, pins.into_iter().map(row))?;
    }
    done(out)
}

pub(crate) fn unpin(world: &mut World, args: &UnpinArgs) -> Result<Code, Failure> {
    // Pins are found by what they were pinned as first: the pipeline may have moved on since.
    let (_, store) = world.store_to_read(&args.which)?;
    let store = store.ok_or_else(|| Failure::missing("there is no store: nothing is pinned"))?;
    let pins = store.pins()?;
    let mut unpinned: Vec<Pin> = Vec::new();
    for name in &args.versions {
        let hex = name.len() >= 4 && name.bytes().all(|b| b.is_ascii_hexdigit());
        let named: Vec<&Pin> = pins
            .iter()
            .filter(|pin| {
                let of_step = pin.label.rsplit_once('.').is_some_and(|(step, _)| step == name);
                pin.label == *name
                    || of_step
                    || (hex && pin.version.to_string().starts_with(&name.to_ascii_lowercase()))
            })
            .collect();
        if named.is_empty() {
            return Err(Failure::missing(format!("`{name}` is not pinned"))
                .hint(format!("`{} pins` lists what is", world.name)));
        }
        for pin in named {
            store.unpin(&pin.version)?;
            world.tell(format_args!("unpinned {}", pin.label));
            if unpinned.iter().all(|other| other.version != pin.version) {
                unpinned.push(pin.clone());
            }
        }
    }
    answer(world, "unpin", unpinned)
}

pub(crate) fn pins(world: &mut World, args: &PinsArgs) -> Result<Code, Failure> {
    let (_, store) = world.store_to_read(&args.which)?;
    let pins = match &store {
        Some(store) => store.pins()?,
        None => Vec::new(),
    };
    let mut out = out();
    if world.json() {
        json::document(&mut out, "pins", pins.into_iter().map(row))?;
        return done(out);
    }
    let mut table = Table::new(["VERSION", "PINNED", "UNTIL", "NAME", "REASON"]);
    for pin in pins {
        table.row([
            pin.version.to_string()[..12].to_owned(),
            words::moment(pin.at_ms),
            pin.until_ms.map_or_else(|| "for good".to_owned(), words::moment),
            pin.label,
            pin.reason.unwrap_or_default(),
        ]);
    }
    if table.is_empty() {
        world.tell("nothing is pinned");
    } else {
        table.write_wrapped(&mut out, words::columns())?;
    }
    done(out)
}
