//! The shell with a person before it: line editing, history, completion, and Ctrl-C that stops only the statement.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::history::DefaultHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{CompletionType, Config, Context, Editor, Helper, Hinter};
use tokio::runtime::Handle;

use super::caret;
use super::command::{self, Next};
use super::completion::{Names, complete, load};
use super::highlight::highlight;
use super::language::{Language, Splitter};
use super::runner::{Failure, Runner};
use super::script::Stopped;
use super::statement::tag;

/// Lines of history kept.
const HISTORY_LINES: usize = 10_000;

/// Talks with a person until they leave. Runs on the calling thread, which belongs to no runtime; statements run on `runtime`.
pub fn run(runtime: &Handle, runner: &mut Runner, history: Option<PathBuf>) -> Result<(), String> {
    let config = Config::builder()
        .completion_type(CompletionType::List)
        .max_history_size(HISTORY_LINES)
        .and_then(|builder| builder.history_ignore_dups(true))
        .map_err(|error| error.to_string())?
        .history_ignore_space(true)
        .build();
    let mut editor: Editor<LineHelper, DefaultHistory> = Editor::with_config(config).map_err(|error| error.to_string())?;
    let names: Arc<Mutex<Names>> = Arc::default();
    editor.set_helper(Some(LineHelper {
        names: names.clone(),
        language: Language::default(),
    }));
    if let Some(path) = history.as_deref().filter(|path| path.exists())
        && let Err(error) = editor.load_history(path)
    {
        eprintln!("{}: the history cannot be read: {error}", path.display());
    }
    println!(
        "pyralog {} · {} · .help for commands, ; ends a statement",
        env!("CARGO_PKG_VERSION"),
        runner.connection.target()
    );
    refresh(runtime, runner, &names);
    loop {
        if let Some(helper) = editor.helper_mut() {
            helper.language = runner.language.clone();
        }
        match editor.readline(&runner.language.prompt()) {
            Ok(input) => {
                if input.trim().is_empty() {
                    continue;
                }
                // The history is a convenience: a full disk must not end the session.
                let _added = editor.add_history_entry(input.trim_end());
                if let Some(path) = &history {
                    let _saved = editor.append_history(path);
                }
                if answer(runtime, runner, &input, &names) == Next::Quit {
                    return Ok(());
                }
            }
            Err(ReadlineError::Interrupted) => println!("(Ctrl-D or .quit leaves)"),
            Err(ReadlineError::Eof) => return Ok(()),
            Err(error) => return Err(error.to_string()),
        }
    }
}

/// Runs what was entered.
fn answer(runtime: &Handle, runner: &mut Runner, input: &str, names: &Mutex<Names>) -> Next {
    let mut splitter = Splitter::of_person(&runner.language);
    if splitter.is_command(input) {
        let outcome = runtime.block_on(async {
            tokio::select! {
                outcome = command::run(runner, input.trim(), 0) => outcome,
                () = interrupted() => Err(Stopped::Failed),
            }
        });
        return if matches!(outcome, Ok(Next::Quit) | Err(Stopped::Quit)) {
            Next::Quit
        } else {
            Next::Continue
        };
    }
    splitter.push(input);
    let mut statements: Vec<String> = std::iter::from_fn(|| splitter.next_statement())
        .map(|statement| statement.text)
        .collect();
    statements.extend(splitter.finish().map(|statement| statement.text));
    let mut changed = false;
    for sql in statements {
        let outcome = runtime.block_on(async {
            tokio::select! {
                outcome = runner.run_statement(&sql) => Some(outcome),
                () = interrupted() => None,
            }
        });
        match outcome {
            Some(Ok(())) if runner.language != Language::Sql => {}
            Some(Ok(())) => changed |= ["CREATE", "DROP", "ALTER"].iter().any(|verb| tag(&sql).starts_with(verb)),
            Some(Err(Failure::Statement(error))) => {
                eprintln!("{}", caret::describe(&error, &sql));
                break;
            }
            Some(Err(Failure::Output(problem))) => {
                eprintln!("{problem}");
                break;
            }
            Some(Err(Failure::Closed)) => return Next::Quit,
            // Only what ran is dropped; the session and its transaction stay.
            None => {
                eprintln!("cancelled");
                break;
            }
        }
    }
    if changed {
        refresh(runtime, runner, names);
    }
    Next::Continue
}

/// Comes back at Ctrl-C. If signals cannot be heard, never: the terminal's own handling is left then.
async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Reads the catalog's names again. A database that does not tell them leaves the keywords.
fn refresh(runtime: &Handle, runner: &Runner, names: &Mutex<Names>) {
    match runtime.block_on(load(runner.connection.as_ref())) {
        Ok(found) => *names.lock() = found,
        Err(error) => tracing::debug!("no names for completion: {error}"),
    }
}

/// What the line editor asks while a line is typed.
#[derive(Helper, Hinter)]
struct LineHelper {
    names: Arc<Mutex<Names>>,
    language: Language,
}

impl Completer for LineHelper {
    type Candidate = String;

    fn complete(&self, line: &str, position: usize, _context: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        let names = self.names.lock().clone();
        Ok(complete(line, position, &names, &self.language))
    }
}

impl Highlighter for LineHelper {
    fn highlight<'l>(&self, line: &'l str, _position: usize) -> Cow<'l, str> {
        Cow::Owned(highlight(line, &self.language))
    }

    fn highlight_char(&self, _line: &str, _position: usize, _kind: CmdKind) -> bool {
        true
    }
}

impl Validator for LineHelper {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        Ok(if is_complete(context.input(), &self.language) {
            ValidationResult::Valid(None)
        } else {
            ValidationResult::Incomplete
        })
    }
}

/// Whether Enter runs the input: a command, nothing, or statements that all have their end.
fn is_complete(input: &str, language: &Language) -> bool {
    let mut splitter = Splitter::of_person(language);
    if splitter.is_command(input) {
        return !command::goes_on(input);
    }
    splitter.push(input);
    while splitter.next_statement().is_some() {}
    !splitter.is_pending()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enter_runs_whole_statements() {
        for input in [
            "",
            "  ",
            ".tables",
            "SELECT 1;",
            "SELECT 1; SELECT 2; ",
            "SELECT ';';",
            "\\sparql kb ASK {}",
        ] {
            assert!(is_complete(input, &Language::Sql), "{input}");
        }
        for input in ["SELECT 1", "SELECT ';", "SELECT 1; SELECT 2", "/* open", "\\sparql kb ASK {"] {
            assert!(!is_complete(input, &Language::Sql), "{input}");
        }
        let sparql = Language::Sparql("kb".into());
        for input in ["", "\\sql", "ASK {};", "ASK {}\n", "CLEAR ALL;", "INSERT DATA {} ; CLEAR ALL;"] {
            assert!(is_complete(input, &sparql), "{input}");
        }
        for input in [
            "ASK {}",
            "ASK {\n\n",
            "CLEAR ALL\n",
            "INSERT DATA {} ; CLEAR ALL",
            "ASK { ?s ?p '''};\n",
        ] {
            assert!(!is_complete(input, &sparql), "{input}");
        }
    }
}
