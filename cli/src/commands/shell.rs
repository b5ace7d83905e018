//! `cas shell`: a step's clean folder, with a shell in it.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};

use cas_engine::memo::Wanted;
use cas_engine::prepare::{self, Unprepared};
use cas_engine::run::now_ms;
use cas_store::Create;

use crate::args::Which;
use crate::failure::{Code, Failure};
use crate::session::World;

/// Open a shell in the clean folder of a step; nothing is stored
///
/// The folder holds what the step would have when it runs: declared code and resource files, inputs, config.json, an
/// empty outputs/; the environment is the step's, too. `sh ../run.sh` does what the step would do. When the shell
/// ends, the folder is removed, and nothing of it is stored; this ends with what the shell ended with.
///
/// The shell is the one that SHELL names, else sh; it gets TERM and a prompt besides. What the step consumes has to
/// be stored.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Example:
  $ cas shell train
  $ cas shell 'train[lr=0.1]'
  $ echo 'ls -R inputs' | cas shell train")]
pub(crate) struct ShellArgs {
    /// The step, one element of it where it has several
    #[arg(value_name = "STEP")]
    step: String,
    #[command(flatten)]
    which: Which,
}

pub(crate) fn shell(world: &mut World, args: &ShellArgs) -> Result<Code, Failure> {
    let session = world.session(&args.which, Create::Never)?;
    let steps = session.graph.select(&args.step)?;
    let [step] = steps.as_slice() else {
        return Err(Failure::usage(format!("`{}` is {} steps", args.step, steps.len()))
            .hint(format!("name one: {}", session.graph.step_name(steps[0]))));
    };
    let store = session.store().ok_or_else(|| Failure::missing("there is no store: nothing is stored"))?;
    let plan = session.plan(world, session.graph.closure(&steps))?;
    // The step itself is not to be looked for: what stands above it is.
    let wanted =
        Wanted { steps: steps.clone(), at_ms: now_ms(), frozen: session.frozen, ..Wanted::default() };
    let resolved = session.memo.resolve(&plan, &wanted)?;
    let name = session.graph.step_name(*step);
    let folder = store.work_folder(&format!("shell-{name}"))?;
    let prepared = prepare::prepare(&plan, &session.memo, &resolved, *step, &world.environment, &folder);
    let ended = match prepared {
        Ok(Ok(prepared)) => run(world, &name, &prepared),
        Ok(Err(unprepared)) => Err(match unprepared {
            Unprepared::Function => {
                Failure::usage(format!("`{name}` is a function: there is no command to try"))
            }
            Unprepared::Missing(output) => {
                Failure::missing(format!("`{output}`, which `{name}` consumes, is not stored"))
                    .hint("`cas run` makes it")
            }
            Unprepared::Failed(failure) => {
                let problem = Failure::missing(format!("the folder of `{name}` cannot be prepared"));
                let problem = problem.because(&failure.message);
                match failure.hint {
                    Some(hint) => problem.hint(hint),
                    None => problem,
                }
            }
        }),
        Err(error) => Err(error.into()),
    };
    // Whatever was made read-only in it: the folder was only lent.
    for work in store.work_folders()?.into_iter().filter(|work| work.path == folder) {
        let _ = store.remove_work_folder(&cas_store::WorkFolder { in_use: false, ..work });
    }
    ended
}

fn run(world: &World, name: &str, prepared: &prepare::Prepared) -> Result<Code, Failure> {
    let var = |name: &str| world.environment.vars.get(name).filter(|value| !value.is_empty());
    let shell = var("SHELL").map_or("/bin/sh", String::as_str);
    world.tell(format_args!("in the folder of {name}; nothing in it is stored, and it goes when you leave"));
    if prepared.script.is_some() {
        world.tell("`sh ../run.sh` does what the step would do");
    }
    let mut command = Command::new(shell);
    command.current_dir(&prepared.folder).env_clear().envs(prepared.env.iter().cloned());
    if let Some(term) = var("TERM") {
        command.env("TERM", term);
    }
    command.env("PS1", format!("{name}$ "));
    match command.status() {
        Ok(ended) => Ok(Code::Shell(status(ended))),
        Err(error) => Err(Failure::usage(format!("cannot start the shell `{shell}`"))
            .because(error)
            .hint("set SHELL to one that is there")),
    }
}

/// What a shell would say that it ended with.
fn status(ended: ExitStatus) -> u8 {
    let number = ended.code().or_else(|| ended.signal().map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(number).unwrap_or(1)
}
