//! Errors of TOML's syntax in this house's words. The reader goes on after an error, so each is reported.

use std::collections::HashSet;
use std::path::Path;

use toml::de::{DeTable, Error};

use super::fault::{Fault, Place};
use super::tree::Node;

/// After so many the file is not TOML at all.
const MOST_FAULTS: usize = 200;
/// Each round blanks every line without `=` that the parser saw, so that two are the rule.
const MOST_ROUNDS: usize = 10;

/// A text as far as it could be read.
pub(super) struct Document {
    /// What could be read.
    pub(super) tree: Node,
    /// One fault for each line that has errors: the first, as the others mostly follow from it.
    pub(super) faults: Vec<Fault>,
    /// Whether the line of the fault is the header of a table.
    headers: Vec<bool>,
}

impl Document {
    /// Reads the text of the file `path`.
    ///
    /// The parser reads on after an error, but for a line without `=`, where it ends. So that line is blanked, which
    /// moves nothing, and the text is read again.
    pub(super) fn read(text: &str, path: &Path) -> Self {
        let mut left = text.to_owned();
        let mut found = Self { tree: Node::nothing(), faults: Vec::new(), headers: Vec::new() };
        for _ in 0..MOST_ROUNDS {
            let (document, mut errors) = DeTable::parse_recoverable(&left);
            errors.sort_by_key(|error| start(error, text));
            found.tree = Node::from_toml(document.get_ref(), document.span());
            found.report(&errors, text, path);
            let ends: Vec<_> =
                errors.iter().filter(|error| is_end(error)).map(|error| line_at(text, start(error, text))).collect();
            if ends.is_empty() {
                break;
            }
            for line in ends {
                left.replace_range(line.clone(), &" ".repeat(line.len()));
            }
        }
        found
    }

    fn report(&mut self, errors: &[Error], text: &str, path: &Path) {
        // A list that does not end takes all that follows for its items.
        let place = |error: &Error| Place::at(path, text, start(error, text));
        let in_list: HashSet<usize> =
            errors.iter().take(MOST_FAULTS).filter(|error| is_in_list(error)).map(|error| place(error).line).collect();
        for error in errors.iter().take(MOST_FAULTS) {
            let at = start(error, text);
            let place = place(error);
            if in_list.contains(&place.line) && in_list.contains(&(place.line - 1)) {
                continue;
            }
            if self.faults.iter().any(|fault| fault.place.as_ref().is_some_and(|earlier| earlier.line == place.line)) {
                continue;
            }
            let (what, instead) = words(error.message(), text.get(at..).unwrap_or_default());
            self.faults.push(Fault { place: Some(place), key: String::new(), what, instead });
            self.headers.push(text.get(line_at(text, at)).is_some_and(|line| line.trim_start().starts_with('[')));
        }
    }

    /// Whether a fault only follows from an error of syntax: it is on the same line, or below the header of a table
    /// that could not be read, so that its keys fell to another table.
    pub(super) fn explains(&self, fault: &Fault) -> bool {
        let Some(place) = &fault.place else { return false };
        self.faults.iter().zip(&self.headers).any(|(error, is_header)| {
            let line = error.place.as_ref().map_or(0, |place| place.line);
            place.line == line || (*is_header && place.line > line)
        })
    }
}

fn start(error: &Error, text: &str) -> usize {
    error.span().map_or(text.len(), |span| span.start)
}

/// Whether the parser ends at this error.
fn is_end(error: &Error) -> bool {
    error.message().starts_with("key with no value")
}

/// Whether the parser is within a list.
fn is_in_list(error: &Error) -> bool {
    error.message().starts_with("missing comma between array elements")
}

/// The line that the offset is in, without its end.
fn line_at(text: &str, offset: usize) -> std::ops::Range<usize> {
    let (before, after) = text.split_at_checked(offset).unwrap_or((text, ""));
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let end = after.find('\n').map_or(text.len(), |newline| before.len() + newline);
    start..end
}

/// What is wrong, and what to write; by the parser's message, which holds nothing of the file. `rest` is what stands at
/// the place.
fn words(message: &str, rest: &str) -> (String, String) {
    let (what, expected) = message.split_once(", expected ").unwrap_or((message, ""));
    let no_value = rest.lines().next().is_none_or(|line| line.trim().is_empty() || line.trim_start().starts_with('#'));
    let (what, instead) = match what {
        "string values must be quoted" if no_value => ("the value is missing", "write a value after the `=`"),
        "string values must be quoted" => ("a text without quotes", "put it in quotes: `key = \"value\"`"),
        "invalid boolean" | "invalid float" => (
            "a text without quotes, or a word that is no value",
            "write `true` or `false` in lower case, and text in quotes; leave a key out that has no value",
        ),
        "key with no value" | "invalid unquoted key" | "unquoted keys cannot be empty" => (
            "there is no `key = value` here",
            "write `key = value`, a key of letters, digits, `_` and `-`; a comment begins with `#`",
        ),
        "unexpected key or value" => ("something follows the value", "begin a new line, or a comment with `#`"),
        "duplicate key" => (
            "this key or table is there already",
            "write each key and each [table] once; [[…]] with two brackets begins another item of a list",
        ),
        "missing escaped value" => {
            ("a backslash that escapes nothing", "write `\\\\` for a backslash, or the text in single quotes")
        }
        "missing comma between array elements" => {
            ("the list goes on without a comma", "write `,` between the items and `]` after the last")
        }
        "unexpected leading zero" => {
            ("a number with a zero before it", "write the number without it, or text in quotes")
        }
        _ if what.starts_with("cannot extend value") => {
            ("this key has a value already and cannot be a table too", "write it in one of the two ways")
        }
        _ if what.starts_with("invalid") && what.ends_with("string") => {
            ("the text does not end", "close it on the same line with the quote that it began with")
        }
        _ if what.starts_with("unclosed") => return (what.to_owned(), format!("close it with {expected}")),
        _ if expected.is_empty() => {
            return (message.to_owned(), "see https://toml.io for how TOML is written".to_owned());
        }
        _ => return (what.to_owned(), format!("write {expected}")),
    };
    (what.to_owned(), instead.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<String> {
        let line = |fault: Fault| {
            let place = fault.place.unwrap();
            format!("{}:{} {} / {}", place.line, place.column, fault.what, fault.instead)
        };
        Document::read(text, Path::new("x")).faults.into_iter().map(line).collect()
    }

    #[test]
    fn each_error_of_syntax_says_what_to_write() {
        for (text, expected) in [
            ("a = 30s", "1:5 a text without quotes / put it in quotes: `key = \"value\"`"),
            ("a = /p", "1:5 a text without quotes / put it in quotes: `key = \"value\"`"),
            ("a = # x\n", "1:5 the value is missing / write a value after the `=`"),
            ("\n a = ", "2:6 the value is missing / write a value after the `=`"),
            (
                "a = True",
                "1:5 a text without quotes, or a word that is no value / write `true` or `false` in lower case, and \
                 text in quotes; leave a key out that has no value",
            ),
            (
                "ä: b",
                "1:1 there is no `key = value` here / write `key = value`, a key of letters, digits, `_` and `-`; a \
                 comment begins with `#`",
            ),
            ("a = 'x", "1:7 the text does not end / close it on the same line with the quote that it began with"),
            ("a = 'x' y", "1:9 something follows the value / begin a new line, or a comment with `#`"),
            (
                "a = \"\\q\"",
                "1:7 a backslash that escapes nothing / write `\\\\` for a backslash, or the text in single quotes",
            ),
            ("a = [1, 2", "1:10 unclosed array / close it with `]`"),
            ("[a\nb = 2", "1:3 unclosed table / close it with `]`"),
            (
                "[a]\n[a]",
                "2:2 this key or table is there already / write each key and each [table] once; [[…]] with two \
                 brackets begins another item of a list",
            ),
            (
                "a = 1\n[a.b]",
                "2:2 this key has a value already and cannot be a table too / write it in one of the two ways",
            ),
            ("a = 01", "1:5 a number with a zero before it / write the number without it, or text in quotes"),
            ("a = 1e", "1:7 invalid exponent / write digits"),
        ] {
            assert_eq!(shown(text), [expected], "{text}");
        }
    }

    #[test]
    fn a_line_with_several_errors_has_one_fault_and_each_line_its_own() {
        let mut faults = shown("a: b c\nb = x\nü\nc = 'y\nd = 1\ne f = 2\ng = /");
        faults.sort();
        let places: Vec<_> = faults.iter().map(|line| &line[..3]).collect();
        assert_eq!(places, ["1:2", "2:5", "3:2", "4:7", "6:3", "7:5"]);
        assert_eq!(shown(&"x\n".repeat(300)).len(), 200);
    }
}
