//! The built binary in a folder of its own: configured, populated by its own commands, started, and ended by its id.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use super::ports::{self, Port};
use super::{Ask, PATIENCE, Response, Wire, eventually};

/// The administrator who owns every service that names no other owner.
pub const OWNER: &str = "olga";

const VAULT_KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// What a gateway is to be.
#[derive(Default)]
pub struct Builder {
    listen: String,
    config: String,
    services: String,
    users: Vec<Vec<String>>,
    grants: Vec<[String; 3]>,
    environment: Vec<(String, String)>,
    files: Vec<(String, Vec<u8>)>,
}

impl Builder {
    /// Lines for the `[listen]` table.
    pub fn listen(mut self, lines: &str) -> Self {
        writeln!(self.listen, "{lines}").unwrap();
        self
    }

    /// Whole tables for `gateway.toml`.
    pub fn config(mut self, tables: &str) -> Self {
        writeln!(self.config, "{tables}").unwrap();
        self
    }

    /// A service, owned by [`OWNER`], with further lines and tables of it.
    pub fn service(self, namespace: &str, name: &str, base_url: &str, lines: &str) -> Self {
        self.service_of(OWNER, namespace, name, base_url, lines)
    }

    /// A service of another owner, who is a user.
    pub fn service_of(mut self, owner: &str, namespace: &str, name: &str, base_url: &str, lines: &str) -> Self {
        writeln!(
            self.services,
            "[[service]]\nnamespace = \"{namespace}\"\nname = \"{name}\"\nbase_url = \"{base_url}\"\nowner = \"{owner}\"\n{lines}"
        )
        .unwrap();
        self
    }

    /// An account, with further arguments of `user add`.
    pub fn user(mut self, name: &str, arguments: &[&str]) -> Self {
        let mut all = vec!["user".to_owned(), "add".to_owned(), name.to_owned()];
        all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        self.users.push(all);
        self
    }

    /// A grant, as `grant SUBJECT RESOURCE LEVELS`.
    pub fn grant(mut self, subject: &str, resource: &str, levels: &str) -> Self {
        self.grants.push([subject.to_owned(), resource.to_owned(), levels.to_owned()]);
        self
    }

    /// An environment variable of every command.
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A file beside `gateway.toml`.
    pub fn file(mut self, name: &str, content: impl AsRef<[u8]>) -> Self {
        self.files.push((name.to_owned(), content.as_ref().to_vec()));
        self
    }

    /// Writes the folder and runs the commands, without starting the gateway.
    pub fn prepare(self) -> Gateway {
        let folder = tempfile::tempdir().unwrap();
        let (proxy, api) = (ports::claim(), ports::claim());
        let text = format!(
            "[listen]\nproxy = \"{}\"\napi = \"{}\"\n{}\n[store]\nurl = \"sqlite://carta.db\"\n\n[vault]\nkey = \
             \"file:vault.key\"\n\n{}\n{}",
            proxy.address(),
            api.address(),
            self.listen,
            self.config,
            self.services
        );
        fs::write(folder.path().join("gateway.toml"), text).unwrap();
        fs::write(folder.path().join("vault.key"), VAULT_KEY).unwrap();
        restrict(&folder.path().join("vault.key"));
        for (name, content) in &self.files {
            fs::write(folder.path().join(name), content).unwrap();
        }
        let gateway =
            Gateway { folder, proxy, api, environment: self.environment, serving: Mutex::new(None), tls: false };
        gateway.run(&["user", "add", OWNER, "--admin", "--email", "olga@example.org"]).done();
        for arguments in &self.users {
            gateway.run(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).done();
        }
        for [subject, resource, levels] in &self.grants {
            gateway.run(&["grant", subject, resource, levels]).done();
        }
        gateway
    }

    /// Writes the folder, runs the commands, starts the gateway and waits until it is ready.
    pub fn start(self) -> Gateway {
        let gateway = self.prepare();
        gateway.serve();
        gateway
    }
}

/// A gateway that serves, or is about to.
pub struct Gateway {
    folder: tempfile::TempDir,
    proxy: Port,
    api: Port,
    environment: Vec<(String, String)>,
    serving: Mutex<Option<Child>>,
    /// Whether its listeners speak TLS, so that readiness is asked by other means.
    pub tls: bool,
}

impl Gateway {
    /// A gateway in the making.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// One service `materials/mp` that alice may call and bob may not.
    pub fn with_service(base_url: &str, lines: &str) -> Builder {
        Self::builder()
            .user("alice", &["--email", "alice@example.org"])
            .user("bob", &["--email", "bob@example.org"])
            .service("materials", "mp", base_url, lines)
            .grant("alice", "materials.mp", "execute")
    }

    /// The folder with `gateway.toml`, the store and the logs.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A file of the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    /// The proxy listener.
    pub fn proxy(&self) -> SocketAddr {
        self.proxy.address()
    }

    /// The API listener.
    pub fn api(&self) -> SocketAddr {
        self.api.address()
    }

    /// A request to the proxy listener.
    pub fn call(&self, method: &str, target: &str) -> Ask {
        Ask::new(self.proxy(), method, target)
    }

    /// A request to the API listener.
    pub fn rest(&self, method: &str, target: &str) -> Ask {
        Ask::new(self.api(), method, target)
    }

    /// A raw connection to the proxy listener.
    pub fn wire(&self) -> Wire {
        Wire::connect(self.proxy())
    }

    /// The binary with these arguments, in the folder.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_carta-gateway"));
        command.args(arguments).current_dir(self.folder()).stdin(Stdio::null());
        command.env_remove("RUST_LOG").envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(&mut self.command(arguments), arguments, None)
    }

    /// Runs a command with this text on its standard input.
    pub fn run_with(&self, arguments: &[&str], input: &str) -> Ran {
        Ran::of(&mut self.command(arguments), arguments, Some(input))
    }

    /// A token of the built-in issuer.
    pub fn token(&self, user: &str) -> String {
        self.run(&["token", user]).done().trim_end().to_owned()
    }

    /// Stores a secret over the API, as its user.
    pub fn secret(&self, token: &str, name: &str, value: &str) -> Response {
        self.rest("PUT", "/secret").token(token).header(&format!("secret-{name}"), value).body("").send()
    }

    /// Starts the gateway and waits until both listeners say that it is ready.
    pub fn serve(&self) {
        self.spawn();
        eventually("the gateway is ready", PATIENCE, || {
            if let Some(code) = self.ended() {
                panic!("the gateway ended with {code:?} instead of serving:\n{}", self.log());
            }
            (self.tls || (is_ready(self.proxy()) && is_ready(self.api()))).then_some(())
        });
    }

    /// Starts the gateway without waiting; its log goes on at the end of `serve.log`.
    pub fn spawn(&self) {
        let log = File::options().create(true).append(true).open(self.path("serve.log")).unwrap();
        let mut command = self.command(&["serve"]);
        let said = File::options().create(true).append(true).open(self.path("serve.out")).unwrap();
        let child = command.stdout(said).stderr(log).spawn().unwrap();
        let before = self.serving.lock().unwrap().replace(child);
        assert!(before.is_none(), "the gateway serves already");
    }

    /// The exit code, if the gateway has ended by itself; `Some(None)` when a signal ended it.
    pub fn ended(&self) -> Option<Option<i32>> {
        let mut serving = self.serving.lock().unwrap();
        let status = serving.as_mut()?.try_wait().unwrap()?;
        *serving = None;
        Some(status.code())
    }

    /// Waits until the gateway has ended by itself and gives its exit code.
    pub fn wait_for_end(&self) -> Option<i32> {
        eventually("the gateway ends", PATIENCE, || self.ended())
    }

    /// The id of the gateway's process.
    pub fn process(&self) -> u32 {
        self.serving.lock().unwrap().as_ref().expect("a gateway that serves").id()
    }

    /// Sends a signal, such as `TERM` or `HUP`.
    pub fn signal(&self, name: &str) {
        let id = self.process().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &id]).status().unwrap().success());
    }

    /// Ends the gateway as a power cut would.
    pub fn kill(&self) {
        if let Some(mut child) = self.serving.lock().unwrap().take() {
            child.kill().ok();
            child.wait().ok();
        }
    }

    /// All that the gateway has logged.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.path("serve.log")).unwrap_or_default()).into_owned()
    }

    /// The most memory that the gateway's process has held, in bytes.
    pub fn peak_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let from = log.len().saturating_sub(8_000);
            let from = (from..log.len()).find(|at| log.is_char_boundary(*at)).unwrap_or(log.len());
            eprintln!("--- the gateway's log ---\n{}\n--- end of the log ---", &log[from..]);
        }
    }
}

/// A command that has ended.
#[derive(Clone, Debug)]
pub struct Ran {
    /// What was run.
    pub arguments: Vec<String>,
    /// The exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Ran {
    fn of(command: &mut Command, arguments: &[&str], input: Option<&str>) -> Self {
        command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        if let Some(text) = input {
            child.stdin.take().unwrap().write_all(text.as_bytes()).ok();
        }
        let watch = Watch::over(child.id());
        let output = child.wait_with_output().unwrap();
        drop(watch);
        Self {
            arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Standard output of a command that must have worked.
    #[track_caller]
    pub fn done(self) -> String {
        assert_eq!(self.code, Some(0), "{:?}\n{}{}", self.arguments, self.out, self.err);
        self.out
    }

    /// The command must have ended with this code.
    #[track_caller]
    pub fn code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{:?}\n{}{}", self.arguments, self.out, self.err);
        self
    }
}

/// Ends a command that does not end by itself, so that its test fails instead of hanging.
struct Watch {
    _done: std::sync::mpsc::Sender<()>,
}

impl Watch {
    fn over(process: u32) -> Self {
        let (done, wait) = std::sync::mpsc::channel::<()>();
        std::thread::spawn(move || {
            if wait.recv_timeout(PATIENCE * 2) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                Command::new("kill").args(["-9", &process.to_string()]).status().ok();
            }
        });
        Self { _done: done }
    }
}

fn is_ready(address: SocketAddr) -> bool {
    Ask::new(address, "GET", "/-/ready").attempt().is_some_and(|response| response.status() == 200)
}

fn restrict(file: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
}
