//! What a run tells while it goes on: live on a terminal, line by line elsewhere, or as JSON.
//!
//! A thread of its own owns the terminal and all that is known of the run, so that a slow terminal never holds the
//! run up. It is told by messages, in the order in which the coordinator decided.

pub(crate) mod elements;
pub(crate) mod json;
pub(crate) mod lines;
pub(crate) mod live;
pub(crate) mod progress;
pub(crate) mod runs;
pub(crate) mod started;
pub(crate) mod table;
pub(crate) mod words;

use std::io::{self, Write};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use cas_engine::event::Event;
use cas_engine::execute;

use self::lines::Detail;
use self::live::Live;
use self::runs::Runs;

/// The form in which a run is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// A status area at the bottom of a terminal, lines above it.
    Live,
    /// Lines.
    Lines,
    /// One JSON document per event, on stdout.
    Json,
}

/// What the thread is told.
#[derive(Debug)]
enum Message {
    /// In the run with this place.
    Event(usize, Event),
    /// One of the runs that were to come does not.
    NotToCome,
    Note(String),
    /// A document for whoever reads the events.
    Document(String),
    /// What is live goes away, says so, and waits until the other end of this one is gone.
    Pause(Sender<()>, Receiver<()>),
}

/// Tells a run, or several that go on together.
pub(crate) struct Report {
    sender: Sender<Message>,
    thread: JoinHandle<io::Result<()>>,
}

/// Adds a line to what is told, from another thread.
#[derive(Debug, Clone)]
pub(crate) struct Notes(Sender<Message>);

impl Notes {
    /// Says something once.
    pub(crate) fn say(&self, text: impl Into<String>) {
        // The report may have ended already; then there is nothing left to say this about.
        let _ = self.0.send(Message::Note(text.into()));
    }

    /// Takes away what is live on the terminal, until what this gives is dropped.
    pub(crate) fn pause(&self) -> Paused {
        /// A terminal that takes nothing does not hold up whoever asks.
        const PATIENCE: Duration = Duration::from_millis(500);
        let (cleared, is_cleared) = mpsc::channel();
        let (going_on, goes_on) = mpsc::channel();
        if self.0.send(Message::Pause(cleared, goes_on)).is_ok() {
            let _ = is_cleared.recv_timeout(PATIENCE);
        }
        Paused(going_on)
    }
}

/// While it is there, nothing is told.
pub(crate) struct Paused(#[expect(dead_code, reason = "it is there to be dropped")] Sender<()>);

impl Report {
    /// Begins to tell: one run, or several by their names.
    ///
    /// # Errors
    /// No thread could be started.
    pub(crate) fn start(look: Look, detail: Detail, names: Vec<String>) -> io::Result<Self> {
        let (sender, receiver) = mpsc::channel();
        let thread = std::thread::Builder::new().name("report".to_owned()).spawn(move || {
            let runs = Runs::new(names, execute::now());
            match look {
                Look::Live => tell_live(&receiver, detail, runs),
                Look::Lines => tell_lines(&receiver, detail, runs),
                Look::Json => tell_json(&receiver, runs),
            }
        })?;
        Ok(Self { sender, thread })
    }

    /// Tells an event of the run with this place.
    pub(crate) fn tell(&self, place: usize, event: &Event) {
        // The thread ends only after this sender has gone, unless it panicked; `finish` finds that out.
        let _ = self.sender.send(Message::Event(place, event.clone()));
    }

    /// Tells that one of several runs will not begin.
    pub(crate) fn not_to_come(&self) {
        let _ = self.sender.send(Message::NotToCome);
    }

    /// Tells whoever reads the events of something that is none.
    pub(crate) fn document(&self, text: String) {
        let _ = self.sender.send(Message::Document(text));
    }

    /// A way to say something from another thread.
    pub(crate) fn notes(&self) -> Notes {
        Notes(self.sender.clone())
    }

    /// Waits until everything is told.
    ///
    /// # Errors
    /// The answer could not be written; that its reader has gone is no error.
    pub(crate) fn finish(self) -> io::Result<()> {
        drop(self.sender);
        let told = self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        match told {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            told => told,
        }
    }
}

// Nothing below stops a run because nobody can be told of it; that the answer could not be written is said at its
// end.

/// How long nothing may be said before a sign of life is given: some CI services end a job that is silent.
const SILENCE: Duration = Duration::from_secs(60);

fn tell_lines(receiver: &Receiver<Message>, detail: Detail, mut runs: Runs) -> io::Result<()> {
    let mut answered = Ok(());
    let mut said = execute::now();
    loop {
        let message = match receiver.recv_timeout(SILENCE.saturating_sub(execute::since(said))) {
            Ok(message) => message,
            Err(RecvTimeoutError::Disconnected) => return answered,
            Err(RecvTimeoutError::Timeout) => {
                said = execute::now();
                if let Some(line) = runs.together().sign_of_life(said).filter(|_| detail > Detail::Quiet) {
                    write_err(&[line]);
                }
                continue;
            }
        };
        let lines = absorb(&mut runs, message, detail);
        if !lines.is_empty() {
            said = execute::now();
        }
        answered = answered.and(lines.print());
    }
}

fn tell_live(receiver: &Receiver<Message>, detail: Detail, mut runs: Runs) -> io::Result<()> {
    /// How often the status area is drawn at most.
    const FRAME: Duration = Duration::from_millis(100);
    let mut live = Live::default();
    let mut drawn = execute::now();
    let mut answered = Ok(());
    // What is to go above the area with the next frame.
    let mut new = String::new();
    loop {
        match receiver.recv_timeout(FRAME.saturating_sub(execute::since(drawn))) {
            Ok(Message::Pause(cleared, goes_on)) => {
                live.clear();
                write_shown(&std::mem::take(&mut new));
                let _ = cleared.send(());
                // An error is what it waits for: the other end is gone.
                let _ = goes_on.recv();
                continue;
            }
            Ok(message) => {
                let lines = absorb(&mut runs, message, detail);
                if !lines.out.is_empty() || detail == Detail::Quiet {
                    live.clear();
                    write_shown(&std::mem::take(&mut new));
                    answered = answered.and(lines.print());
                } else if !lines.err.is_empty() {
                    new.push_str(&shown(&lines.err));
                }
                // What comes together is told together: the area is drawn once for many.
                if execute::since(drawn) < FRAME {
                    continue;
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                live.clear();
                write_shown(&new);
                return answered;
            }
        }
        drawn = execute::now();
        if detail > Detail::Quiet {
            if runs.is_to_be_foreseen(drawn) {
                runs.foresee(drawn);
                runs.foreseeing_took(execute::since(drawn));
            }
            live.draw(&std::mem::take(&mut new), &runs.together(), drawn);
        }
    }
}

fn tell_json(receiver: &Receiver<Message>, mut runs: Runs) -> io::Result<()> {
    let mut out = io::BufWriter::new(io::stdout());
    let mut answered = Ok(());
    loop {
        // What is buffered is written when nothing more waits to be told: a reader is never behind for long.
        let message = match receiver.try_recv() {
            Ok(message) => message,
            Err(_) => {
                if answered.is_ok() {
                    answered = out.flush();
                }
                match receiver.recv() {
                    Ok(message) => message,
                    Err(_) => return answered,
                }
            }
        };
        match message {
            Message::Event(place, event) if answered.is_ok() => {
                answered = writeln!(out, "{}", runs.document(place, &event));
            }
            Message::Document(text) if answered.is_ok() => answered = writeln!(out, "{text}"),
            Message::Event(..) | Message::Document(_) | Message::NotToCome => {}
            Message::Note(text) => write_err(&[text]),
            // Nothing of it is live.
            Message::Pause(cleared, _) => drop(cleared),
        }
    }
}

/// Lines to print: those for stderr, then those for stdout.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Lines {
    pub(crate) err: Vec<String>,
    pub(crate) out: Vec<String>,
}

impl Lines {
    fn is_empty(&self) -> bool {
        self.err.is_empty() && self.out.is_empty()
    }

    fn print(&self) -> io::Result<()> {
        write_err(&self.err);
        if self.out.is_empty() {
            return Ok(());
        }
        let mut to = anstream::stdout().lock();
        for line in &self.out {
            writeln!(to, "{line}")?;
        }
        to.flush()
    }
}

fn absorb(runs: &mut Runs, message: Message, detail: Detail) -> Lines {
    match message {
        Message::Event(place, event) => runs.absorb(place, &event, detail, execute::now()),
        Message::NotToCome => {
            runs.not_to_come();
            Lines::default()
        }
        Message::Note(text) => Lines { err: vec![text], out: Vec::new() },
        Message::Document(_) | Message::Pause(..) => Lines::default(),
    }
}

/// Lines as they are shown on stderr: broken where its screen ends, coloured where that is wanted.
fn shown(lines: &[String]) -> String {
    let columns =
        terminal_size::terminal_size_of(io::stderr()).map(|(width, _)| usize::from(width.0).max(10));
    let mut text = String::new();
    for line in lines {
        // What stands behind an outcome goes on where it began.
        text.push_str(&words::wrapped(line, 10, columns));
        text.push('\n');
    }
    match anstream::stderr().current_choice() {
        anstream::ColorChoice::Never => anstream::adapter::strip_str(&text).to_string(),
        _ => text,
    }
}

fn write_shown(text: &str) {
    if text.is_empty() {
        return;
    }
    // One write, so that the lines of two processes on one terminal do not mix.
    let mut to = io::stderr().lock();
    let _ = to.write_all(text.as_bytes());
    let _ = to.flush();
}

fn write_err(lines: &[String]) {
    // Most of what happens gives no line, and then nobody is asked how wide and how colourful the screen is.
    if !lines.is_empty() {
        write_shown(&shown(lines));
    }
}
