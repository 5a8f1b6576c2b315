//! What the quickstart makes in its directory: configuration, vault key, store, users, tokens.

use std::fs;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use zeroize::Zeroizing;

use super::Failure;
use crate::cli::open::{Opened, actor, open};
use crate::cli::user::new_user;
use crate::identity::{Directory, Issuer};
use crate::policy::{Pattern, ResourceId, Subject};
use crate::refresh;
use crate::store::{Mutation, NewUser, StoreError};

/// The configuration's file name.
pub(in crate::cli) const CONFIG: &str = "gateway.toml";

/// The name of bob's secret.
pub(in crate::cli) const SECRET: &str = "demo-key";

const KEY: &str = "vault.key";

/// The addresses that are tried first.
const PORTS: [(&str, u16); 3] = [("proxy", 8080), ("api", 8081), ("demonstration service", 8082)];

/// Where things listen.
pub(in crate::cli) struct Ports {
    pub(in crate::cli) backend: SocketAddr,
}

/// What the calls need.
pub(in crate::cli) struct Setup {
    /// A token of alice, who owns the service.
    pub(in crate::cli) alice: String,
    /// A token of bob, who calls it.
    pub(in crate::cli) bob: String,
    /// The id of the service.
    pub(in crate::cli) service: ResourceId,
    /// What bob stores as his own key.
    pub(in crate::cli) secret: String,
    /// Whether a grant of an earlier run was taken back, so that the calls show what they say.
    pub(in crate::cli) started_over: bool,
}

/// Makes the files that are not there, and moves addresses that are taken.
pub(in crate::cli) fn write_files(dir: &Path, out: &mut dyn Write) -> Result<Ports, Failure> {
    let cannot = |what: &Path, error: &io::Error| Failure::Usage(format!("cannot write `{}`: {error}", what.display()));
    fs::create_dir_all(dir).map_err(|error| cannot(dir, &error))?;
    let key = dir.join(KEY);
    write_key(&key).map_err(|error| cannot(&key, &error))?;
    let path = dir.join(CONFIG);
    let before = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => template(),
        Err(error) => return Err(Failure::Usage(format!("cannot read `{}`: {error}", path.display()))),
    };
    let (text, ports) = move_taken(&before, out)?;
    if text != before || !path.exists() {
        fs::write(&path, &text).map_err(|error| cannot(&path, &error))?;
    }
    Ok(ports)
}

/// 32 random bytes for the owner's eyes only; never replaced, because what it sealed would be lost.
fn write_key(path: &Path) -> io::Result<()> {
    let mut file = match fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut bytes = Zeroizing::new([0_u8; 32]);
    aws_lc_rs::rand::fill(&mut *bytes).map_err(|_| io::Error::other("no random bytes"))?;
    let text = Zeroizing::new(STANDARD.encode(*bytes));
    writeln!(file, "{}", *text)?;
    file.sync_all()
}

fn template() -> String {
    let [(_, proxy), (_, api), (_, backend)] = PORTS;
    format!(
        r#"# Made by `carta-gateway quickstart`. It is yours to change; quickstart only moves addresses that are taken.

[listen]
proxy = "127.0.0.1:{proxy}"   # calls: /<namespace>/<service>/<path>
api = "127.0.0.1:{api}"     # the REST API

[store]
url = "sqlite://carta.db"

[vault]
key = "file:{KEY}"      # 32 random bytes, base64; secrets are sealed under it

[auth.local]                 # the built-in issuer: `carta-gateway token bob`
enabled = true

[[service]]
namespace = "demo"
name = "echo"
base_url = "http://127.0.0.1:{backend}"
owner = "alice"

[service.inject]
headers = {{ X-Api-Key = "{{secret:{SECRET}}}" }}   # each caller's own secret
"#
    )
}

/// Replaces every address of ours that is taken by a free one, and says so.
fn move_taken(text: &str, out: &mut dyn Write) -> Result<(String, Ports), Failure> {
    let mut text = text.to_owned();
    let mut backend = None;
    for (position, (what, _)) in PORTS.iter().enumerate() {
        let written = written_port(&text, position).ok_or_else(|| {
            Failure::Usage(format!(
                "`{CONFIG}` no longer has the address of the {what} at 127.0.0.1\nrun quickstart in another --dir, or \
                 `carta-gateway serve` with this configuration"
            ))
        })?;
        let free = free_port(written)?;
        if free != written {
            writeln!(out, "port {written} is taken: the {what} listens at {free}")?;
            text = text.replace(&format!("127.0.0.1:{written}\""), &format!("127.0.0.1:{free}\""));
        }
        backend = Some(local(free));
    }
    let backend = backend.ok_or_else(|| Failure::Internal("there is no address".to_owned()))?;
    Ok((text, Ports { backend }))
}

/// The port that the file has for proxy, api and service, in this order.
fn written_port(text: &str, position: usize) -> Option<u16> {
    let key = ["proxy = \"127.0.0.1:", "api = \"127.0.0.1:", "base_url = \"http://127.0.0.1:"];
    let after = text.split_once(key.get(position)?)?.1;
    after.split_once('"')?.0.trim_end_matches('/').parse().ok()
}

fn free_port(wanted: u16) -> Result<u16, Failure> {
    for port in [wanted, 0] {
        if let Ok(listener) = TcpListener::bind(local(port)) {
            let bound = listener.local_addr().map_err(|error| Failure::Internal(error.to_string()))?;
            return Ok(bound.port());
        }
    }
    Err(Failure::Usage("no port is free at 127.0.0.1".to_owned()))
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

impl Setup {
    /// Makes the users and the tokens, and takes back what an earlier run granted.
    pub(in crate::cli) async fn prepare(config: &Path) -> Result<Self, Failure> {
        let opened = open(config).await?;
        for (name, administrator) in [("alice", true), ("bob", false)] {
            add_user(&opened, name, administrator).await?;
        }
        refresh::declare(&*opened.store, &opened.config).await?;
        let service = opened.resource(&service_pattern()?).await?;
        let started_over = start_over(&opened).await?;
        let contents = opened.store.load().await?;
        let issuer = Issuer::new(&opened.config.auth.local, &opened.config.listen.public_api);
        issuer.load(&opened.vault, &contents.items);
        let now = Timestamp::now();
        let internal = |error: crate::identity::IssuerError| Failure::Internal(error.to_string());
        issuer.ensure_key(&*opened.store, &opened.vault, actor(), now).await.map_err(internal)?;
        let directory = Directory::empty().patched(&contents.items);
        let token = |name: &str| {
            let account =
                directory.by_name(name).ok_or_else(|| Failure::Internal(format!("the user `{name}` is not there")))?;
            Ok::<_, Failure>(issuer.mint(account, None, now).map_err(internal)?.token)
        };
        let secret = format!("bobs-own-key-{:04}", rand::random_range(0..10_000_u32));
        Ok(Self { alice: token("alice")?, bob: token("bob")?, service, secret, started_over })
    }
}

/// The name of the service.
fn service_pattern() -> Result<Pattern, Failure> {
    Pattern::literal(["demo", "echo"]).map_err(|error| Failure::Internal(error.to_string()))
}

async fn add_user(opened: &Opened, name: &str, administrator: bool) -> Result<(), Failure> {
    let role = if administrator { "Admin" } else { "Guest" };
    let user = new_user(name, Some(&format!("{name}@example.org")), role, administrator);
    let new = NewUser { user, link: None, password: None, first_role: None };
    match opened.store.commit(actor(), Mutation::CreateUser(Box::new(new))).await {
        Ok(_) | Err(StoreError::Exists { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Takes bob's grant and secret of an earlier run away.
async fn start_over(opened: &Opened) -> Result<bool, Failure> {
    let bob = opened.user("bob").await?.id;
    let (subject, pattern) = (Subject::User(bob), service_pattern()?);
    let granted = opened.grant(&subject, &pattern).await?.is_some();
    if granted {
        opened.commit(Mutation::RemoveGrant(subject, pattern)).await?;
    }
    match opened.store.commit(actor(), Mutation::DeleteSecret(bob, SECRET.to_owned())).await {
        Ok(_) | Err(StoreError::Missing { .. }) => Ok(granted),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_address_is_moved_and_nothing_else_changes() {
        let taken = TcpListener::bind(local(0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let before = template().replace("127.0.0.1:8081", &format!("127.0.0.1:{port}"));
        let mut said = Vec::new();
        let (after, _) = move_taken(&before, &mut said).unwrap();
        let moved = written_port(&after, 1).unwrap();
        assert_ne!(moved, port);
        assert!(
            String::from_utf8(said).unwrap().contains(&format!("port {port} is taken: the api listens at {moved}"))
        );
        assert_eq!(after.lines().count(), before.lines().count());
    }

    #[test]
    fn the_template_is_a_configuration_without_a_fault() {
        let dir = tempfile::tempdir().unwrap();
        write_key(&dir.path().join(KEY)).unwrap();
        let path = dir.path().join(CONFIG);
        fs::write(&path, template()).unwrap();
        let config = crate::config::load(&path, &|_| None).unwrap();
        assert_eq!(config.services.len(), 1);
    }

    #[test]
    fn the_vault_key_is_for_its_owner_only_and_never_replaced() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(KEY);
        write_key(&path).unwrap();
        let first = fs::read_to_string(&path).unwrap();
        write_key(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), first);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
