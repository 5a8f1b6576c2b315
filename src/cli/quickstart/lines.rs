//! The lines to paste.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::Failure;
use super::backend::Backend;
use super::setup::{CONFIG, SECRET, Setup};
use crate::app::Running;
use crate::shell::word;

/// Where everything is.
pub(in crate::cli) struct Places {
    dir: PathBuf,
    pub(in crate::cli) proxy: SocketAddr,
    pub(in crate::cli) api: SocketAddr,
    backend: SocketAddr,
}

impl Places {
    /// The places of what runs.
    pub(in crate::cli) fn new(dir: &Path, running: &Running, backend: &Backend) -> Self {
        Self { dir: dir.to_owned(), proxy: running.proxy, api: running.api, backend: backend.addr }
    }

    /// The path that grants alice's service to bob.
    pub(in crate::cli) fn grant(setup: &Setup) -> String {
        format!("/permissions/{}/bob?role=User", setup.service)
    }
}

/// The program that runs, wherever it was started from: it need not be on anybody's path.
fn program() -> PathBuf {
    std::env::current_exe().unwrap_or_else(|_| "carta-gateway".into())
}

/// The path as one word of a shell.
fn quoted(path: &Path) -> String {
    word(&path.display().to_string()).into_owned()
}

/// Writes what is there and the calls that show it, each complete.
pub(in crate::cli) fn write(setup: &Setup, places: &Places, out: &mut dyn Write) -> Result<(), Failure> {
    let Places { dir, proxy, api, backend } = places;
    let (alice, bob, secret, grant) = (&setup.alice, &setup.bob, &setup.secret, Places::grant(setup));
    writeln!(
        out,
        "
carta-gateway is running.

  calls        http://{proxy}/demo/echo/…   →  the demonstration service at http://{backend}
  REST API     http://{api}
  everything   {dir}   (configuration, vault key, store)
  alice        owns demo/echo
  bob          wants to call it",
        dir = dir.display()
    )?;
    if setup.started_over {
        writeln!(
            out,
            "\nbob's grant and secret of the last run were taken back, so that the calls show what they say."
        )?;
    }
    writeln!(out, "\nPaste these into another terminal, one after the other.")?;
    let steps = [
        ("Nobody is identified: 401.", format!("curl -i http://{proxy}/demo/echo/hello")),
        (
            "bob is known, and may not: 403, with the level that is missing and whom to ask.",
            format!("curl -i -H 'Authorization: Bearer {bob}' http://{proxy}/demo/echo/hello"),
        ),
        (
            "bob stores his own key for the service. Nobody else can read it, no administrator either.",
            format!(
                "curl -i -X PUT -H 'Authorization: Bearer {bob}' -H 'secret-{SECRET}: {secret}' http://{api}/secret"
            ),
        ),
        (
            "alice, the owner, lets bob call.",
            format!("curl -i -X PUT -H 'Authorization: Bearer {alice}' 'http://{api}{grant}'"),
        ),
        (
            "The same call works, from the next request on. The service answers with what it received: x-api-key is\n     \
             bob's own, x-carta-user says who calls, and bob's token is nowhere.",
            format!("curl -i -H 'Authorization: Bearer {bob}' http://{proxy}/demo/echo/hello"),
        ),
        (
            "An answer that is streamed: each event arrives when it is sent.",
            format!("curl -N -H 'Authorization: Bearer {bob}' http://{proxy}/demo/echo/stream"),
        ),
        (
            "Why bob may.",
            format!(
                "{} explain --config {} --user bob GET /demo/echo/hello",
                quoted(&program()),
                quoted(&std::path::absolute(dir.join(CONFIG))?)
            ),
        ),
    ];
    for (number, (what, command)) in steps.iter().enumerate() {
        writeln!(out, "\n{:>2}.  {what}\n\n{command}", number + 1)?;
    }
    writeln!(out, "\nCtrl-C ends it. Run quickstart again in the same directory to start over.")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_word_of_a_shell() {
        assert_eq!(quoted(Path::new("/opt/carta-gateway")), "/opt/carta-gateway");
        assert_eq!(quoted(Path::new("/my files/it's")), r"'/my files/it'\''s'");
    }
}
