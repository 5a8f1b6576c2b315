//! `${ENV}` and `file:PATH`: what is secret need not stand in the configuration itself.
//!
//! A reference that leads nowhere is a fault and never an empty text.

use std::io::Read;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::fault::{Complaint, shown};

/// Far above any key or chain.
const LONGEST_FILE: u64 = 1024 * 1024;

/// Where references lead.
#[derive(Clone, Copy)]
pub(super) enum References<'a> {
    /// In `gateway.toml`: to the environment, and to files named from its directory.
    Followed {
        /// The directory of the configuration file.
        directory: &'a Path,
        /// The environment.
        env: &'a dyn Fn(&str) -> Option<String>,
    },
    /// In a registered service: nowhere, as whoever registers it is no operator.
    Refused,
}

impl References<'_> {
    /// The value of a text that may be `file:PATH`, or hold `${ENV}`.
    pub(super) fn text(self, written: &str) -> Result<Zeroizing<String>, Complaint> {
        if let Some(path) = written.strip_prefix("file:") {
            return self.file(path);
        }
        let mut value = Zeroizing::new(String::with_capacity(written.len()));
        let mut rest = written;
        while let Some((before, after)) = rest.split_once("${") {
            value.push_str(before);
            let Some((name, after)) = after.split_once('}') else { return Err(unclosed()) };
            value.push_str(&self.variable(name)?);
            rest = after;
        }
        value.push_str(rest);
        Ok(value)
    }

    /// The value of the environment variable.
    pub(super) fn variable(self, name: &str) -> Result<Zeroizing<String>, Complaint> {
        let Self::Followed { env, .. } = self else {
            return Err(Complaint::new(
                "`${…}` is for gateway.toml only",
                "write the value itself, or `{secret:NAME}` for a secret of the caller",
            ));
        };
        let ordinary = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if name.is_empty() || !name.bytes().all(ordinary) || name.starts_with(|first: char| first.is_ascii_digit()) {
            // Not shown: it may be the middle of a secret that happens to have these characters.
            return Err(Complaint::new(
                "`${…}` holds no name of an environment variable",
                "write letters, digits and `_` in it; `${{` is a literal `${` in a template",
            ));
        }
        match env(name).map(Zeroizing::new) {
            Some(value) if !value.is_empty() => Ok(value),
            Some(_) => Err(Complaint::new(
                format!("the environment variable {} is empty", shown(name)),
                format!("give {name} a value before the gateway starts"),
            )),
            None => Err(Complaint::new(
                format!("the environment variable {} is not set", shown(name)),
                format!("set {name} before the gateway starts"),
            )),
        }
    }

    /// The text of a file, without one newline at its end.
    pub(super) fn file(self, path: &str) -> Result<Zeroizing<String>, Complaint> {
        let Self::Followed { directory, .. } = self else {
            return Err(Complaint::new(
                "`file:` is for gateway.toml only",
                "write the value itself, or `{secret:NAME}` for a secret of the caller",
            ));
        };
        if path.is_empty() {
            return Err(Complaint::new("`file:` without a path", "write `file:PATH`"));
        }
        let mut text = read(&directory.join(path)).map_err(|cause| cannot_read(path, &cause))?;
        if text.ends_with('\n') {
            text.pop();
            if text.ends_with('\r') {
                text.pop();
            }
        }
        if text.is_empty() {
            return Err(Complaint::new(format!("the file {} is empty", shown(path)), "write the value into the file"));
        }
        Ok(text)
    }

    /// A path that is not read here: `file:` may stand before it.
    pub(super) fn path(self, written: &str) -> Result<PathBuf, Complaint> {
        let path = written.strip_prefix("file:").unwrap_or(written);
        match self {
            Self::Followed { .. } if path.is_empty() => Err(Complaint::new("the path is empty", "write a path")),
            Self::Followed { directory, .. } => Ok(directory.join(path)),
            Self::Refused => Err(Complaint::new("paths are for gateway.toml only", "leave the key out")),
        }
    }
}

/// The text of a file that is a file: a pipe or a device could keep the reader for ever.
pub(super) fn read(path: &Path) -> std::io::Result<Zeroizing<String>> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::Error::other("it is no ordinary file"));
    }
    let mut text = Zeroizing::new(String::new());
    std::fs::File::open(path)?.take(LONGEST_FILE + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LONGEST_FILE {
        return Err(std::io::Error::other("it is larger than 1 MiB"));
    }
    Ok(text)
}

pub(super) fn cannot_read(path: &str, cause: &std::io::Error) -> Complaint {
    Complaint::new(
        format!("cannot read {}: {}", shown(path), cause_of(cause)),
        "check the name, which starts at the directory of gateway.toml, and that the gateway's user may read it",
    )
}

/// The system's words for it, in lower case and without its number.
pub(super) fn cause_of(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut characters = text.chars();
    characters.next().map(|first| first.to_lowercase().chain(characters).collect()).unwrap_or_default()
}

fn unclosed() -> Complaint {
    Complaint::new("`${` without `}`", "write `${NAME}`")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with<T>(run: impl FnOnce(References<'_>, &Path) -> T) -> T {
        let directory = tempfile::tempdir().unwrap();
        let env = |name: &str| match name {
            "KEY" => Some("canary-env".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        run(References::Followed { directory: directory.path(), env: &env }, directory.path())
    }

    #[test]
    fn references_are_followed_from_the_directory_of_the_file() {
        with(|references, directory| {
            for (content, value) in [("canary-file\n", "canary-file"), ("a\r\n", "a"), ("a\n\n", "a\n"), (" a ", " a ")]
            {
                std::fs::write(directory.join("key"), content).unwrap();
                assert_eq!(references.text("file:key").unwrap().as_str(), value);
            }
            assert_eq!(references.text("a ${KEY}-${KEY} $b {c}").unwrap().as_str(), "a canary-env-canary-env $b {c}");
        });
    }

    #[test]
    fn a_reference_that_leads_nowhere_is_a_fault_and_never_empty() {
        with(|references, directory| {
            std::fs::write(directory.join("empty"), "\n").unwrap();
            std::fs::write(directory.join("binary"), [0xff, 0xfe]).unwrap();
            for (written, what) in [
                ("${NOPE}", "the environment variable `NOPE` is not set"),
                ("${EMPTY}", "the environment variable `EMPTY` is empty"),
                ("${KEY", "`${` without `}`"),
                ("${}", "`${…}` holds no name of an environment variable"),
                ("${1A}", "`${…}` holds no name of an environment variable"),
                ("file:", "`file:` without a path"),
                ("file:nope", "cannot read `nope`: no such file or directory"),
                ("file:empty", "the file `empty` is empty"),
                ("file:binary", "cannot read `binary`: stream did not contain valid UTF-8"),
                ("file:.", "cannot read `.`: it is no ordinary file"),
            ] {
                assert_eq!(references.text(written).unwrap_err().what, what, "{written}");
            }
        });
    }

    #[test]
    fn a_registered_service_follows_no_reference() {
        assert_eq!(References::Refused.text("a ${KEY}").unwrap_err().what, "`${…}` is for gateway.toml only");
        assert_eq!(References::Refused.text("file:/etc/passwd").unwrap_err().what, "`file:` is for gateway.toml only");
        assert!(References::Refused.path("/etc/passwd").is_err());
        assert_eq!(References::Refused.text("plain").unwrap().as_str(), "plain");
    }
}
