//! `carta-gateway check`: every fault at once; the JSON Schema with `--schema`.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use crate::config::{self, Config, Fault, Faults, StoreUrl};
use crate::shell::word;
use crate::store::sqlite::SqliteStore;
use crate::store::{Item, Key, Origin, Reader, StoreError};
use crate::vault::{self, KeyError, Vault};

/// Writes every fault of the configuration to `out`, or one line that says that it is fine; with `schema`, writes the
/// JSON Schema of the file instead and reads nothing. True where nothing is wrong.
///
/// What the store says against the configuration is a fault too: an owner that is no user, a name that is registered,
/// a vault key that is not the store's. It is only looked at: nothing is made, and no older schema brought up to date.
///
/// # Errors
/// Where `out` cannot be written.
pub async fn run(
    path: &Path,
    schema: bool,
    env: &dyn Fn(&str) -> Option<String>,
    out: &mut dyn Write,
) -> io::Result<bool> {
    if schema {
        serde_json::to_writer_pretty(&mut *out, &config::schema())?;
        writeln!(out)?;
        return Ok(true);
    }
    let config = match config::load(path, env) {
        Ok(config) => config,
        Err(faults) => return report(&faults, out),
    };
    let StoreUrl::Sqlite(file) = &config.store.url;
    let compared = match against_file(&config, path, file).await {
        Ok((there, faults)) if faults.is_empty() => {
            if there {
                "owners, names and the vault key agree with the store"
            } else {
                "the store is not there yet"
            }
        }
        Ok((_, faults)) => return report(&faults, out),
        Err(error) => {
            writeln!(out, "{}: {error}", file.display())?;
            return Ok(false);
        }
    };
    let count = config.services.len();
    let services = if count == 1 { "1 service".to_owned() } else { format!("{count} services") };
    writeln!(
        out,
        "{}: fine: {services}, proxy at {}, API at {}; {compared}",
        path.display(),
        config.listen.proxy,
        config.listen.api
    )?;
    Ok(true)
}

fn report(faults: &Faults, out: &mut dyn Write) -> io::Result<bool> {
    let count = faults.len();
    writeln!(out, "{faults}\n{count} {}", if count == 1 { "fault" } else { "faults" })?;
    Ok(false)
}

/// What is wrong with the configuration at `path`, judged by the store in `file`; and whether there is one.
async fn against_file(config: &Config, path: &Path, file: &Path) -> Result<(bool, Faults), StoreError> {
    let vault = Vault::new(&config.vault).map(Arc::new).map_err(|error| StoreError::Refused(error.to_string()))?;
    let Some(store) = SqliteStore::look(file, vault.clone())? else {
        let owners =
            config.services.iter().enumerate().filter_map(|(index, service)| Some((index, service.owner.as_ref()?)));
        let faults = owners.map(|(index, owner)| no_user(path, index, owner)).collect();
        return Ok((false, Faults::new(faults)));
    };
    let mut faults = key_faults(path, &store, &vault).await?;
    service_faults(config, path, &store, &mut faults).await?;
    Ok((true, Faults::new(faults)))
}

async fn key_faults(path: &Path, store: &dyn Reader, vault: &Vault) -> Result<Vec<Fault>, StoreError> {
    match vault::compare_key(store, vault).await {
        Ok(()) => Ok(Vec::new()),
        Err(KeyError::Store(error)) => Err(error),
        Err(error) => {
            let text = error.to_string();
            let (what, instead) = text.split_once('\n').unwrap_or((&text, "name the key that was in use"));
            Ok(vec![config::vault_key_fault(path, what, instead)])
        }
    }
}

async fn service_faults(
    config: &Config,
    path: &Path,
    store: &dyn Reader,
    faults: &mut Vec<Fault>,
) -> Result<(), StoreError> {
    for (index, service) in config.services.iter().enumerate() {
        let (namespace, name) = (&service.namespace, &service.name);
        if let Some(owner) = &service.owner
            && store.user_named(owner).await?.is_none()
        {
            faults.push(no_user(path, index, owner));
        }
        let registered = store.service_named(namespace, name).await?;
        let declared = registered.as_ref().is_some_and(|known| known.origin == Origin::File && known.present);
        if !declared && let Some(holder) = foreign_owner(config, namespace, store).await? {
            let what = format!(
                "the namespace `{namespace}` belongs to `{holder}`, who owns none of the services declared in it and \
                 would have rights on all of them"
            );
            let instead = format!("write another namespace, or let `{holder}` give it to the owner of the service");
            faults.push(config::service_fault(path, index, "namespace", what, instead));
        }
        if registered.is_some_and(|registered| registered.origin == Origin::Api) {
            let what = format!("`{namespace}/{name}` is registered in the store already");
            let instead = "give this one another name, or remove the registered one first";
            faults.push(config::service_fault(path, index, "name", what, instead));
        }
    }
    Ok(())
}

fn no_user(path: &Path, index: usize, owner: &str) -> Fault {
    let instead = format!("make the user: `carta-gateway user add {}`", word(owner));
    config::service_fault(path, index, "owner", format!("there is no user `{owner}`"), instead)
}

/// The owner of the namespace, where that is nobody who owns a service that the file declares there. `carta` belongs
/// to an administrator from the start.
async fn foreign_owner(config: &Config, namespace: &str, store: &dyn Reader) -> Result<Option<String>, StoreError> {
    let Some(id) = store.namespace_named(namespace).await?.and_then(|place| place.owner) else { return Ok(None) };
    let Item::User(holder, _) = store.item(Key::User(id)).await? else { return Ok(None) };
    let theirs = |service: &config::Service| {
        service.namespace == namespace && service.owner.as_deref() == Some(holder.name.as_str())
    };
    Ok((namespace != "carta" && !config.services.iter().any(theirs)).then_some(holder.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn write(directory: &Path, text: &str) -> PathBuf {
        std::fs::write(directory.join("vault.key"), "BwgHCAcIBwgHCAcIBwgHCAcIBwgHCAcIBwgHCAcIBwg=").unwrap();
        let path = directory.join("gateway.toml");
        std::fs::write(&path, text).unwrap();
        path
    }

    async fn check(directory: &Path, text: &str) -> (bool, String) {
        let path = write(directory, text);
        let mut out = Vec::new();
        let fine = run(&path, false, &|_| None, &mut out).await.unwrap();
        (fine, String::from_utf8(out).unwrap().replace(&format!("{}/", directory.display()), ""))
    }

    #[tokio::test]
    async fn the_schema_describes_every_table() {
        let mut out = Vec::new();
        assert!(run(Path::new("nowhere"), true, &|_| None, &mut out).await.unwrap());
        let schema: serde_json::Value = serde_json::from_slice(&out).unwrap();
        for table in ["listen", "limits", "store", "vault", "auth", "service", "register", "log"] {
            assert!(schema["properties"][table]["description"].is_string(), "{table}");
        }
    }

    #[tokio::test]
    async fn faults_are_listed_and_counted() {
        let directory = tempfile::tempdir().unwrap();
        let (fine, text) = check(directory.path(), "[log]\nacces = true\n").await;
        assert!(!fine);
        assert_eq!(
            text,
            "gateway.toml:2:1: log.acces: unknown key\n  did you mean `access`? known here: `filter`, `format`, \
             `access`\n1 fault\n"
        );
    }

    /// The keys of a store's audit.
    fn keys() -> Arc<Vault> {
        let config = config::VaultConfig { key: config::VaultKey([1; 32]), previous: Vec::new() };
        Arc::new(Vault::new(&config).unwrap())
    }

    #[tokio::test]
    async fn a_namespace_that_a_stranger_reserved_is_a_fault() {
        use crate::policy::UserId;
        use crate::store::{Actor, Mutation, NewUser, User, Writer};
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&directory.path().join("carta.db"), keys()).unwrap();
        let actor = || Actor { user: None, via: "cli", from: "test".into(), request_id: None };
        let mut ids = Vec::new();
        for name in ["alice", "mallory"] {
            let id = UserId(uuid::Uuid::new_v4());
            ids.push(id);
            let user = User {
                id,
                name: name.to_owned(),
                email: None,
                email_verified: false,
                first_name: None,
                last_name: None,
                organization: None,
                role: "Guest".to_owned(),
                administrator: false,
                disabled: false,
                tokens_dead_until: None,
                created: jiff::Timestamp::UNIX_EPOCH,
            };
            let new = NewUser { user, link: None, password: None, first_role: None };
            store.commit(actor(), Mutation::CreateUser(Box::new(new))).await.unwrap();
        }
        let reserve = Mutation::ReserveNamespace { name: "a".to_owned(), owner: ids[1] };
        store.commit(actor(), reserve).await.unwrap();
        let service = |owner: &str, name: &str| {
            format!(
                "[[service]]\nnamespace = 'a'\nname = '{name}'\nbase_url = 'http://127.0.0.1:1'\nowner = '{owner}'\n"
            )
        };
        let (fine, answer) = check(directory.path(), &service("alice", "b")).await;
        assert!(!fine);
        assert!(
            answer.starts_with("gateway.toml:2:13: service[0].namespace: the namespace `a` belongs to `mallory`"),
            "{answer}"
        );
        let both = format!("{}{}", service("alice", "b"), service("mallory", "c"));
        let (fine, answer) = check(directory.path(), &both).await;
        assert!(fine, "{answer}");
    }

    const SERVICE: &str =
        "[[service]]\nnamespace = 'a'\nname = 'b'\nbase_url = 'http://127.0.0.1:1'\nowner = 'alice'\n";

    #[tokio::test]
    async fn an_owner_that_is_no_user_is_a_fault_with_and_without_a_store() {
        let directory = tempfile::tempdir().unwrap();
        let store = directory.path().join("carta.db");
        let (fine, answer) = check(directory.path(), "").await;
        assert!(fine && answer.ends_with("; the store is not there yet\n"), "{answer}");
        let missing = "gateway.toml:5:9: service[0].owner: there is no user `alice`\n  make the user: `carta-gateway user \
                       add alice`\n1 fault\n";
        assert_eq!(check(directory.path(), SERVICE).await, (false, missing.to_owned()));
        assert!(!store.exists(), "looked at, not made");
        drop(SqliteStore::open(&store, keys()).unwrap());
        assert_eq!(check(directory.path(), SERVICE).await, (false, missing.to_owned()));
    }

    #[tokio::test]
    async fn an_empty_file_and_a_store_of_an_older_schema_stay_as_they_are() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("carta.db");
        std::fs::write(&file, "").unwrap();
        let (fine, answer) = check(directory.path(), SERVICE).await;
        assert!(!fine && answer.contains("no user `alice`"), "{answer}");
        assert!(std::fs::read(&file).unwrap().is_empty(), "the file was changed");

        let old = rusqlite::Connection::open(&file).unwrap();
        old.execute_batch(include_str!("../../migrations/sqlite/0001_start.sql")).unwrap();
        old.execute_batch("PRAGMA application_id = 0x63677477; PRAGMA user_version = 1").unwrap();
        let alice = "INSERT INTO users VALUES (?1, 'alice', NULL, 0, NULL, NULL, NULL, 'Guest', 0, 0, NULL, 0)";
        old.execute(alice, [[7_u8; 16]]).unwrap();
        drop(old);
        let before = std::fs::read(&file).unwrap();
        let (fine, answer) = check(directory.path(), SERVICE).await;
        assert!(fine, "{answer}");
        assert!(std::fs::read(&file).unwrap() == before, "the file was changed");
    }

    #[tokio::test]
    async fn a_vault_key_that_is_not_the_stores_is_a_fault() {
        let directory = tempfile::tempdir().unwrap();
        let path = write(directory.path(), "");
        let config = config::load(&path, &|_| None).unwrap();
        let vault = Arc::new(Vault::new(&config.vault).unwrap());
        let store = SqliteStore::open(&directory.path().join("carta.db"), vault.clone()).unwrap();
        crate::vault::verify_key(&store, &vault).await.unwrap();
        drop(store);
        assert!(check(directory.path(), "").await.0);
        std::fs::write(directory.path().join("other.key"), "CQoJCgkKCQoJCgkKCQoJCgkKCQoJCgkKCQoJCgkKCQo=").unwrap();
        let (fine, answer) = check(directory.path(), "[vault]\nkey = 'file:other.key'\n").await;
        assert!(!fine);
        assert!(
            answer.starts_with("gateway.toml:2:7: vault.key: the store's secrets are sealed under vault key `"),
            "{answer}"
        );
        let both = "[vault]\nkey = 'file:other.key'\nprevious = ['file:vault.key']\n";
        let (fine, answer) = check(directory.path(), both).await;
        assert!(fine, "{answer}");
    }
}
