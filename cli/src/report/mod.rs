//! What a run tells while it goes on: live on a terminal, line by line elsewhere, or as JSON.
//!
//! A thread of its own owns the terminal and all that is known of the run, so that a slow terminal never holds the
//! run up. It is told by messages, in the order in which the coordinator decided.

pub(crate) mod json;
pub(crate) mod lines;
pub(crate) mod live;
pub(crate) mod progress;
pub(crate) mod table;
pub(crate) mod words;

use std::io::{self, Write};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cas_engine::event::Event;

use self::lines::Detail;
use self::live::Live;
use self::progress::Progress;

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
enum Message {
    Event(Event),
    Note(String),
}

/// Tells a run.
pub(crate) struct Report {
    sender: Sender<Message>,
    thread: JoinHandle<()>,
}

/// Adds a line to what is told, from another thread.
#[derive(Clone)]
pub(crate) struct Notes(Sender<Message>);

impl Notes {
    /// Says something once.
    pub(crate) fn say(&self, text: impl Into<String>) {
        // The report may have ended already; then there is nothing left to say this about.
        let _ = self.0.send(Message::Note(text.into()));
    }
}

impl Report {
    /// Begins to tell.
    ///
    /// # Errors
    /// No thread could be started.
    pub(crate) fn start(look: Look, detail: Detail) -> io::Result<Self> {
        let (sender, receiver) = mpsc::channel();
        let thread = std::thread::Builder::new().name("report".to_owned()).spawn(move || match look {
            Look::Live => tell_live(&receiver, detail),
            Look::Lines => tell_lines(&receiver, detail),
            Look::Json => tell_json(&receiver),
        })?;
        Ok(Self { sender, thread })
    }

    /// Tells an event.
    pub(crate) fn tell(&self, event: &Event) {
        // The thread ends only after this sender has gone, unless it panicked; `finish` finds that out.
        let _ = self.sender.send(Message::Event(event.clone()));
    }

    /// A way to say something from another thread.
    pub(crate) fn notes(&self) -> Notes {
        Notes(self.sender.clone())
    }

    /// Waits until everything is told.
    pub(crate) fn finish(self) {
        drop(self.sender);
        if let Err(panic) = self.thread.join() {
            std::panic::resume_unwind(panic);
        }
    }
}

// Nothing below stops a run because nobody can be told of it: what cannot be written is not told.

/// How long nothing may be said before a sign of life is given: some CI services end a job that is silent.
const SILENCE: Duration = Duration::from_secs(60);

fn tell_lines(receiver: &Receiver<Message>, detail: Detail) {
    let mut progress = Progress::new(Instant::now());
    let mut said = Instant::now();
    loop {
        let message = match receiver.recv_timeout(SILENCE.saturating_sub(said.elapsed())) {
            Ok(message) => message,
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                said = Instant::now();
                if let Some(line) = progress.sign_of_life(said).filter(|_| detail > Detail::Quiet) {
                    write_err(&[line]);
                }
                continue;
            }
        };
        let lines = absorb(&mut progress, message, detail);
        if !lines.is_empty() {
            said = Instant::now();
        }
        lines.print();
    }
}

fn tell_live(receiver: &Receiver<Message>, detail: Detail) {
    /// How often the status area is drawn at most.
    const FRAME: Duration = Duration::from_millis(100);
    let mut progress = Progress::new(Instant::now());
    let mut live = Live::default();
    let mut drawn = Instant::now();
    loop {
        let message = receiver.recv_timeout(FRAME.saturating_sub(drawn.elapsed()));
        match message {
            Ok(message) => {
                let lines = absorb(&mut progress, message, detail);
                if !lines.is_empty() {
                    live.clear();
                    lines.print();
                }
                if drawn.elapsed() < FRAME {
                    continue;
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                live.clear();
                return;
            }
        }
        drawn = Instant::now();
        if detail > Detail::Quiet {
            live.draw(&progress, drawn);
        }
    }
}

fn tell_json(receiver: &Receiver<Message>) {
    let mut out = io::BufWriter::new(io::stdout());
    let mut listened_to = true;
    loop {
        // What is buffered is written when nothing more waits to be told: a reader is never behind for long.
        let message = match receiver.try_recv() {
            Ok(message) => message,
            Err(_) => {
                listened_to = listened_to && out.flush().is_ok();
                match receiver.recv() {
                    Ok(message) => message,
                    Err(_) => return,
                }
            }
        };
        match message {
            Message::Event(event) if listened_to => {
                listened_to = writeln!(out, "{}", event.to_json()).is_ok();
            }
            Message::Event(_) => {}
            Message::Note(text) => write_err(&[text]),
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

    fn print(&self) {
        write_err(&self.err);
        if !self.out.is_empty() {
            let mut to = anstream::stdout().lock();
            for line in &self.out {
                let _ = writeln!(to, "{line}");
            }
            let _ = to.flush();
        }
    }
}

fn absorb(progress: &mut Progress, message: Message, detail: Detail) -> Lines {
    match message {
        Message::Event(event) => {
            let lines = lines::lines(progress, &event, detail);
            progress.absorb(&event, Instant::now());
            lines
        }
        Message::Note(text) => Lines { err: vec![text], out: Vec::new() },
    }
}

fn write_err(lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    // One write, so that the lines of two processes on one terminal do not mix.
    let mut text = String::new();
    for line in lines {
        text.push_str(line);
        text.push('\n');
    }
    let mut to = anstream::stderr().lock();
    let _ = to.write_all(text.as_bytes());
    let _ = to.flush();
}
