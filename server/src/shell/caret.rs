//! Errors as the shell prints them: the line of the statement with a caret under the place.

use pyralog_models::Position;
use unicode_width::UnicodeWidthStr;

use super::connection::StatementError;

/// Columns of the source line shown on each side of the place.
const CONTEXT: usize = 60;

/// The error's text, several lines, without a line end behind the last.
pub fn describe(error: &StatementError, sql: &str) -> String {
    let mut out = format!("error [{}]: {}", error.code, error.message);
    if let Some(place) = error.position.and_then(|position| excerpt(sql, position)) {
        out.push('\n');
        out.push_str(&place);
    }
    if let Some(hint) = &error.hint {
        out.push_str("\nhint: ");
        out.push_str(hint);
    }
    out
}

/// The line at the position and a caret line; `None` if the text has no such place.
fn excerpt(sql: &str, position: Position) -> Option<String> {
    let line = sql.lines().nth(usize::try_from(position.line.checked_sub(1)?).ok()?)?;
    let column = usize::try_from(position.column.checked_sub(1)?).ok()?;
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    let characters: Vec<char> = line.chars().map(printable).collect();
    if column > characters.len() {
        return None;
    }
    let start = column.saturating_sub(CONTEXT);
    let end = characters.len().min(column + CONTEXT);
    let before: String = characters[start..column].iter().collect();
    let shown: String = characters[start..end].iter().collect();
    let label = format!("line {}: {}", position.line, if start > 0 { "…" } else { "" });
    let tail = if end < characters.len() { "…" } else { "" };
    Some(format!("{label}{shown}{tail}\n{}^", " ".repeat(label.width() + before.width())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(line: u64, column: u64) -> StatementError {
        StatementError {
            code: "42601".into(),
            message: "unexpected".into(),
            position: Some(Position { line, column }),
            hint: Some("look".into()),
        }
    }

    #[test]
    fn the_caret_stands_under_the_place() {
        let text = describe(&error(2, 3), "SELECT\n長 FORM t");
        assert_eq!(text, "error [42601]: unexpected\nline 2: 長 FORM t\n           ^\nhint: look");
    }

    #[test]
    fn long_lines_are_cut() {
        let text = describe(&error(1, 500), &"x".repeat(1000));
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].width() < 150);
        assert_eq!(lines[2].width(), "line 1: …".width() + CONTEXT + 1);
    }

    #[test]
    fn a_place_outside_is_left_out() {
        for (line, column) in [(0, 1), (1, 0), (9, 1), (1, 99), (u64::MAX, u64::MAX)] {
            assert_eq!(describe(&error(line, column), "SELECT 1").lines().count(), 2);
        }
    }
}
