//! What is typed: SQL, or SPARQL for a dataset. `\sparql` and `\sql` switch.

use super::sparql;
use super::statement::{self, Statement};

/// A language of the shell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Language {
    /// SQL.
    #[default]
    Sql,
    /// SPARQL on the dataset of this name.
    Sparql(String),
}

impl Language {
    /// What stands before a person's input.
    pub fn prompt(&self) -> String {
        match self {
            Language::Sql => "pyralog> ".to_owned(),
            Language::Sparql(dataset) => format!("{dataset} sparql> "),
        }
    }
}

/// Splits text of either language into statements as it arrives.
#[derive(Debug, Clone)]
pub enum Splitter {
    /// At `;`.
    Sql(statement::Splitter),
    /// Where a request ends.
    Sparql(sparql::splitter::Splitter),
}

impl Splitter {
    /// For a file whose next line is this one, from 1.
    pub fn of_script(language: &Language, line: u64) -> Self {
        match language {
            Language::Sql => Splitter::Sql(statement::Splitter::at_line(line)),
            Language::Sparql(_) => Splitter::Sparql(sparql::splitter::Splitter::of_script(line)),
        }
    }

    /// For what a person types.
    pub fn of_person(language: &Language) -> Self {
        match language {
            Language::Sql => Splitter::Sql(statement::Splitter::default()),
            Language::Sparql(_) => Splitter::Sparql(sparql::splitter::Splitter::of_person()),
        }
    }

    /// Takes further lines.
    pub fn push(&mut self, lines: &str) {
        match self {
            Splitter::Sql(splitter) => splitter.push(lines),
            Splitter::Sparql(splitter) => splitter.push(lines),
        }
    }

    /// The next whole statement; `None`: more text is needed.
    pub fn next_statement(&mut self) -> Option<Statement> {
        match self {
            Splitter::Sql(splitter) => splitter.next_statement(),
            Splitter::Sparql(splitter) => splitter.next_statement(),
        }
    }

    /// What is left. The splitter is empty afterwards.
    pub fn finish(&mut self) -> Option<Statement> {
        match self {
            Splitter::Sql(splitter) => splitter.finish(),
            Splitter::Sparql(splitter) => splitter.finish(),
        }
    }

    /// Whether a statement has begun that nothing has ended.
    pub fn is_pending(&self) -> bool {
        match self {
            Splitter::Sql(splitter) => splitter.is_pending(),
            Splitter::Sparql(splitter) => splitter.is_pending(),
        }
    }

    /// Whether the next line is a command of the shell: it begins with `.` or `\`, where no statement is on its way. A request of SPARQL that
    /// could be whole is ended by a `\`, since no line of SPARQL begins so.
    pub fn is_command(&self, line: &str) -> bool {
        let line = line.trim_start();
        let may_end = matches!(self, Splitter::Sparql(splitter) if !splitter.is_open());
        match self.is_pending() {
            false => line.starts_with(['.', '\\']),
            true => may_end && line.starts_with('\\'),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_stand_between_statements() {
        for (language, before, dot, backslash) in [
            (Language::Sql, "", true, true),
            (Language::Sql, "SELECT 1", false, false),
            (Language::Sparql("kb".into()), "# x\n", true, true),
            (Language::Sparql("kb".into()), "ASK {}\n", false, true),
            (Language::Sparql("kb".into()), "ASK {\n", false, false),
            (Language::Sparql("kb".into()), "ASK {};\n", true, true),
        ] {
            let mut splitter = Splitter::of_script(&language, 1);
            splitter.push(before);
            while splitter.next_statement().is_some() {}
            assert_eq!(
                (splitter.is_command(" .mode csv"), splitter.is_command("\\sql")),
                (dot, backslash),
                "{before}"
            );
        }
    }
}
