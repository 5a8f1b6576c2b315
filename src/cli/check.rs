//! `carta-gateway check`: every fault at once; the JSON Schema with `--schema`.

use std::io::{self, Write};
use std::path::Path;

use crate::config::{self, Config, Fault, Faults, StoreUrl};
use crate::store::sqlite::SqliteStore;
use crate::store::{Item, Key, Origin, Reader, StoreError};

/// Writes every fault of the configuration to `out`, or one line that says that it is fine; with `schema`, writes the
/// JSON Schema of the file instead and reads nothing. True where nothing is wrong.
///
/// Where the store is there already, services are compared with it: an owner that is no user, and a name that is
/// registered, are faults too.
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
    let compared = if file.exists() {
        let faults = match SqliteStore::open(file) {
            Ok(store) => against_store(&config, path, &store).await,
            Err(error) => Err(error),
        };
        match faults {
            Ok(faults) if faults.is_empty() => "owners and names agree with the store",
            Ok(faults) => return report(&faults, out),
            Err(error) => {
                writeln!(out, "{}: {error}", file.display())?;
                return Ok(false);
            }
        }
    } else {
        "the store is not there yet, so owners were not looked up"
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

/// What is wrong with the services of the file at `path`, judged by what the store holds.
///
/// # Errors
/// Where the store cannot be read.
pub async fn against_store(config: &Config, path: &Path, store: &dyn Reader) -> Result<Faults, StoreError> {
    let mut faults: Vec<Fault> = Vec::new();
    for (index, service) in config.services.iter().enumerate() {
        let (namespace, name) = (&service.namespace, &service.name);
        if let Some(owner) = &service.owner
            && store.user_named(owner).await?.is_none()
        {
            let what = format!("there is no user `{owner}`");
            let instead = format!("make the user: `carta-gateway user add {owner}`");
            faults.push(config::service_fault(path, index, "owner", what, instead));
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
    Ok(Faults::new(faults))
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

    #[tokio::test]
    async fn a_namespace_that_a_stranger_reserved_is_a_fault() {
        use crate::policy::UserId;
        use crate::store::{Actor, Mutation, NewUser, User, Writer};
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&directory.path().join("carta.db")).unwrap();
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

    #[tokio::test]
    async fn an_owner_that_is_no_user_is_a_fault_once_there_is_a_store() {
        let directory = tempfile::tempdir().unwrap();
        let text = "[[service]]\nnamespace = 'a'\nname = 'b'\nbase_url = 'http://127.0.0.1:1'\nowner = 'alice'\n";
        let (fine, answer) = check(directory.path(), text).await;
        assert!(fine);
        assert!(answer.contains("1 service, proxy at 127.0.0.1:8080, API at 127.0.0.1:8081; the store is not there"));
        drop(SqliteStore::open(&directory.path().join("carta.db")).unwrap());
        let (fine, answer) = check(directory.path(), text).await;
        assert!(!fine);
        assert_eq!(
            answer,
            "gateway.toml:5:9: service[0].owner: there is no user `alice`\n  make the user: `carta-gateway user add \
             alice`\n1 fault\n"
        );
    }
}
