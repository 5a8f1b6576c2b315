//! Words of the lines that people are shown to paste into a shell. Everything in such a line that somebody else chose is
//! written by [`word`], because it would be run in the name of who pastes it.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The text as one word that a shell (bash, zsh, ksh, or POSIX as of 2024) reads back as it is: bare where nothing in it
/// means anything to a shell, else in single quotes. What is unseen, or moves the cursor, is spelled out in octal, so that
/// neither a terminal nor a reader's eye is led astray by it.
#[must_use]
pub fn word(text: &str) -> Cow<'_, str> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.:@,-/+".contains(&byte)) {
        return Cow::Borrowed(text);
    }
    if text.chars().all(is_seen) {
        return Cow::Owned(format!("'{}'", text.replace('\'', r"'\''")));
    }
    let mut quoted = String::from("$'");
    for character in text.chars() {
        match character {
            '\'' | '\\' => quoted.extend(['\\', character]),
            seen if is_seen(seen) => quoted.push(seen),
            other => other.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| {
                // Writing into a string cannot fail.
                let _ = write!(quoted, "\\{byte:03o}");
            }),
        }
    }
    quoted.push('\'');
    Cow::Owned(quoted)
}

/// Marks that combine, other blanks than the common one and whatever turns the direction of writing are among the unseen.
fn is_seen(character: char) -> bool {
    character == ' ' || character.is_ascii_graphic() || (!character.is_ascii() && character.is_alphanumeric())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn words_without_a_meaning_to_a_shell_stand_as_they_are() {
        for text in ["user:bob", "materials.mp.tag", "execute,read", "ann@example.org", "a-b_c"] {
            assert_eq!(word(text), text);
        }
        assert_eq!(word("a;b"), "'a;b'");
        assert_eq!(word("it's"), r"'it'\''s'");
        assert_eq!(word("a\u{3}b\u{202e}'"), r"$'a\003b\342\200\256\''");
    }

    #[test]
    fn a_shell_reads_every_word_back_as_it_was_and_runs_nothing() {
        for text in [
            "",
            "x;touch evil|sh",
            "$(id)`id`${HOME}",
            "it's",
            "'; id; '",
            "a b\tc\nd\re",
            "\u{3}\u{1b}[2J",
            "!x #y ~z *?[a]{b,c}",
            r"back\slash \n \x41 \101",
            "back\\slash\n'and quote'",
            "\u{7}7",
            "Ünal \u{202e}ecila\u{200b}",
            "=x",
            "<>&()",
        ] {
            let line = format!("printf %s {}", word(text));
            let read = Command::new("bash").args(["-c", &line]).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&read.stdout), text, "{line}");
            assert!(read.stderr.is_empty() && read.status.success(), "{line}");
            assert!(!line.chars().any(char::is_control), "{line:?}");
        }
    }
}
