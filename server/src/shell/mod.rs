//! `pyralog sql`: statements of SQL and SPARQL from the command line, a file, standard input or a person.

pub mod caret;
pub mod command;
pub mod completion;
pub mod connection;
pub mod highlight;
pub mod interactive;
pub mod language;
pub mod output;
pub mod runner;
pub mod script;
pub mod sparql;
pub mod statement;
