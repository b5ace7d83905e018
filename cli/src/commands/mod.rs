//! The commands, one a file: what each takes, what it asks of the engine or the store, and how it answers.

pub(crate) mod archive;
pub(crate) mod cat;
pub(crate) mod clean;
pub(crate) mod completions;
pub(crate) mod diff;
pub(crate) mod explain;
mod follow;
pub(crate) mod gc;
pub(crate) mod get;
pub(crate) mod graph;
pub(crate) mod init;
pub(crate) mod judgement;
pub(crate) mod lineage;
pub(crate) mod logs;
pub(crate) mod ls;
pub(crate) mod pin;
pub(crate) mod report;
pub(crate) mod run;
pub(crate) mod runs;
pub(crate) mod schema;
pub(crate) mod shell;
pub(crate) mod show;
pub(crate) mod stats;
pub(crate) mod status;
pub(crate) mod sweep;
pub(crate) mod table;
pub(crate) mod verify;
pub(crate) mod versions;
mod watch;

use std::io::{self, BufWriter, Write};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;

use crate::args::Command;
use crate::failure::{Code, Failure};
use crate::session::World;

/// Does what was asked.
pub(crate) fn command(world: &mut World, command: Command) -> Result<Code, Failure> {
    match command {
        Command::Run(args) => run::run(world, &args),
        Command::Status(args) => status::status(world, &args),
        Command::Versions(args) => versions::versions(world, &args),
        Command::Graph(args) => graph::graph(world, &args),
        Command::Diff(args) => diff::diff(world, &args),
        Command::Lineage(args) => lineage::lineage(world, &args),
        Command::Shell(args) => shell::shell(world, &args),
        Command::Table(args) => table::table(world, &args),
        Command::Forget(args) => judgement::forget(world, &args),
        Command::Accept(args) => judgement::accept(world, &args),
        Command::Cat(args) => cat::cat(world, &args),
        Command::Get(args) => get::get(world, &args),
        Command::Pin(args) => pin::pin(world, &args),
        Command::Unpin(args) => pin::unpin(world, &args),
        Command::Pins(args) => pin::pins(world, &args),
        Command::Explain(args) => explain::explain(world, &args),
        Command::Ls(args) => ls::ls(world, &args),
        Command::Show(args) => show::show(world, &args),
        Command::Runs(args) => runs::runs(world, &args),
        Command::Report(args) => report::report(world, &args),
        Command::Logs(args) => logs::logs(world, &args),
        Command::Stats(args) => stats::stats(world, &args),
        Command::Gc(args) => gc::gc(world, &args),
        Command::Clean(args) => clean::clean(world, &args),
        Command::Verify(args) => verify::verify(world, &args),
        Command::Export(args) => archive::export(world, &args),
        Command::Import(args) => archive::import(world, &args),
        Command::Init(args) => init::init(world, &args),
        Command::Schema(args) => schema::schema(world, &args),
        Command::Completions(args) => completions::completions(world, &args),
    }
}

/// Where answers go: stdout, buffered, without colours where they are not wanted.
fn out() -> BufWriter<impl Write> {
    BufWriter::with_capacity(1 << 16, anstream::stdout().lock())
}

/// Whether whoever read the answers has gone: what comes of several questions need not be found out for nobody.
fn is_unread() -> bool {
    let stdout = rustix::stdio::stdout();
    let mut asked = [PollFd::new(&stdout, PollFlags::empty())];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    // Of a pipe it says so without being asked.
    poll(&mut asked, Some(&at_once)).is_ok() && asked[0].revents().contains(PollFlags::ERR)
}

/// Ends an answer; whoever reads it is told of all of it, or that it could not be written.
fn done(mut out: impl Write) -> Result<Code, Failure> {
    match out.flush() {
        Ok(()) => Ok(Code::Done),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Code::Done),
        Err(error) => Err(error.into()),
    }
}
