//! Where lines come from and where lines go to: a terminal with line editing, or a pipe or file.
//!
//! The line editor blocks, so it has a thread of its own. While it waits for a line, what arrives is printed above the line
//! that is being typed.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::thread;

use nix::sys::termios::{SetArg, Termios, tcgetattr, tcsetattr};
use rustyline::error::{ReadlineError, Signal};
use rustyline::{DefaultEditor, ExternalPrinter};
use tokio::sync::mpsc;

/// Lines of a pipe that are read ahead.
const READ_AHEAD: usize = 64;

/// A question to a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question<'a> {
    /// A line, after this prompt.
    Line(&'a str),
    /// A line that is not shown.
    Secret(&'a str),
}

/// The terminal or what stands in for it.
pub enum Console {
    /// A terminal.
    Terminal {
        /// Questions to the editor's thread.
        questions: std::sync::mpsc::Sender<Asked>,
        /// Its answers; `None` is the end.
        answers: mpsc::UnboundedReceiver<Option<String>>,
        /// A question was asked and not answered.
        is_asked: bool,
        /// Prints above the line that is being typed.
        printer: Box<dyn ExternalPrinter + Send>,
    },
    /// A pipe or a file.
    Lines(mpsc::Receiver<String>),
}

/// A question on its way to the editor's thread.
#[derive(Debug)]
pub struct Asked {
    prompt: String,
    is_secret: bool,
}

/// Gives the terminal back as it was: showing what is typed, line by line.
#[derive(Debug)]
pub struct Restore {
    was: Option<Termios>,
}

impl Restore {
    /// Remembers how the terminal on standard input is now, and makes it so again when it is dropped.
    pub fn at_the_end() -> Self {
        Self { was: tcgetattr(io::stdin()).ok() }
    }
}

impl Drop for Restore {
    fn drop(&mut self) {
        // It may be gone; then there is nothing to give back.
        if let Some(was) = &self.was {
            let _ = tcsetattr(io::stdin(), SetArg::TCSADRAIN, was);
        }
    }
}

impl Console {
    /// The terminal on standard input.
    ///
    /// # Errors
    ///
    /// When the terminal cannot be used.
    pub fn terminal() -> io::Result<Self> {
        let mut editor = DefaultEditor::new().map_err(io::Error::other)?;
        let printer = editor.create_external_printer().map_err(io::Error::other)?;
        let (questions, to_answer) = std::sync::mpsc::channel::<Asked>();
        let (answers, answered) = mpsc::unbounded_channel();
        thread::Builder::new().name("terminal".into()).spawn(move || {
            for asked in to_answer {
                let answer = if asked.is_secret {
                    rpassword::prompt_password(&asked.prompt).ok()
                } else {
                    read(&mut editor, &asked.prompt)
                };
                if answers.send(answer).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self::Terminal { questions, answers: answered, is_asked: false, printer: Box::new(printer) })
    }

    /// The lines of a file, or of standard input.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened.
    pub fn lines(file: Option<&Path>) -> io::Result<Self> {
        let reader: Box<dyn BufRead + Send> = match file {
            Some(file) => Box::new(BufReader::new(File::open(file)?)),
            None => Box::new(BufReader::new(io::stdin())),
        };
        let (lines, to_take) = mpsc::channel(READ_AHEAD);
        thread::Builder::new().name("lines".into()).spawn(move || {
            for line in reader.lines() {
                let Ok(line) = line else { return };
                if lines.blocking_send(line).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self::Lines(to_take))
    }

    /// Whether a person sits before it.
    pub fn is_terminal(&self) -> bool {
        matches!(self, Self::Terminal { .. })
    }

    /// The next line; `None` at the end. Dropping the future loses nothing: a line that is being typed when that happens
    /// is the answer to the next question.
    pub async fn ask(&mut self, question: Question<'_>) -> Option<String> {
        match self {
            Self::Lines(lines) => lines.recv().await,
            Self::Terminal { questions, answers, is_asked, .. } => {
                if !*is_asked {
                    let (prompt, is_secret) = match question {
                        Question::Line(prompt) => (prompt, false),
                        Question::Secret(prompt) => (prompt, true),
                    };
                    questions.send(Asked { prompt: prompt.to_owned(), is_secret }).ok()?;
                    *is_asked = true;
                }
                let answer = answers.recv().await.flatten();
                *is_asked = false;
                answer
            }
        }
    }

    /// Prints a line, above the one that is being typed if there is one.
    pub fn print(&mut self, line: &str) {
        // If nobody can read it any more, the next question finds out.
        match self {
            Self::Terminal { printer, .. } => {
                let _ = printer.print(format!("{line}\n"));
            }
            Self::Lines(_) => {
                let mut out = io::stdout().lock();
                let _ = writeln!(out, "{line}").and_then(|()| out.flush());
            }
        }
    }
}

/// A line that was typed; `None` after Ctrl-C, Ctrl-D, or when the terminal is gone.
fn read(editor: &mut DefaultEditor, prompt: &str) -> Option<String> {
    loop {
        match editor.readline(prompt) {
            Ok(line) => {
                if !line.trim().is_empty() {
                    let _ = editor.add_history_entry(line.as_str());
                }
                return Some(line);
            }
            Err(ReadlineError::Signal(Signal::Resize)) => {}
            Err(_) => return None,
        }
    }
}
