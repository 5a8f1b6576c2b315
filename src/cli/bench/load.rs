//! The full load, as at a start: from a file of the embedded store to the state that requests read.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::{Connection, Transaction};

use super::population::Population;
use crate::cli::Failure;
use crate::cli::progress::Progress;
use crate::config::{self, Config};
use crate::policy::{Member, Subject};
use crate::proxy::State;
use crate::refresh::{Parts, Refresher};
use crate::store::sqlite::{SqliteStore, pattern_text};
use crate::upstream::{Roots, TargetGuard};
use crate::vault::Vault;

/// What a load took.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// From the open file to the state.
    pub wall: Duration,
    /// Of all threads of the process, where the system tells.
    pub cpu: Option<Duration>,
    /// Bytes by which the process grew, where the system tells.
    pub memory: Option<u64>,
}

/// A configuration of no more than a store.
const CONFIG: &str =
    "[vault]\nkey = \"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\"\n[store]\nurl = \"sqlite://bench.db\"\n";

/// Writes the population into a new file of the embedded store in `folder`.
///
/// Straight into its tables, as ten million changes of one grant each, with their audit records, are another measurement.
///
/// # Errors
/// [`Failure::Usage`] where the file cannot be written.
pub fn write(population: Population, folder: &Path) -> Result<(), Failure> {
    let path = folder.join("bench.db");
    drop(SqliteStore::open(&path, Arc::new(vault(&config(folder)?)?))?);
    let mut connection = Connection::open(&path).map_err(|error| cannot(&error))?;
    let quick = "PRAGMA synchronous = OFF; PRAGMA cache_size = -65536; DROP INDEX grants_pattern;";
    connection.execute_batch(quick).map_err(|error| cannot(&error))?;
    for part in [people, places, grants] {
        let transaction = connection.transaction().map_err(|error| cannot(&error))?;
        part(population, &transaction).map_err(|error| cannot(&error))?;
        transaction.commit().map_err(|error| cannot(&error))?;
    }
    let index = "CREATE INDEX grants_pattern ON grants (pattern); UPDATE meta SET revision = 1, floor = 1;";
    connection.execute_batch(index).map_err(|error| cannot(&error))
}

/// Loads what [`write()`] wrote, the way `serve` does.
///
/// # Errors
/// [`Failure`] where the file cannot be read.
pub fn load(folder: &Path) -> Result<(Arc<State>, Cost), Failure> {
    let config = config(folder)?;
    let vault = Arc::new(vault(&config)?);
    let guard = Arc::new(TargetGuard::new(&config.register, &[]));
    let (started, cpu, memory) = (Instant::now(), cpu(), resident());
    let store = Arc::new(SqliteStore::open(&folder.join("bench.db"), vault.clone())?);
    let parts =
        Parts { store, vault, issuer: None, config: Arc::new(config), guard, roots: Arc::new(Roots::default()) };
    let published = crate::cli::open::block_on(async {
        let loaded = Refresher::load(parts).await.map_err(|error| Failure::NotFine(error.to_string()))?;
        Ok(loaded.published())
    })?;
    let cost = Cost {
        wall: started.elapsed(),
        cpu: cpu.and_then(|before| self::cpu()?.checked_sub(before)),
        memory: memory.and_then(|before| resident()?.checked_sub(before)),
    };
    Ok((published.state.load_full(), cost))
}

fn config(folder: &Path) -> Result<Config, Failure> {
    config::parse(CONFIG, folder, &|_| None).map_err(|faults| Failure::Internal(faults.to_string()))
}

fn vault(config: &Config) -> Result<Vault, Failure> {
    Vault::new(&config.vault).map_err(|error| Failure::Internal(error.to_string()))
}

fn people(population: Population, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    let mut group = transaction.prepare("INSERT INTO groups (id, name) VALUES (?1, ?2)")?;
    for number in 0..population.groups() {
        group.execute((population.group(number).0.as_bytes(), format!("Org:Group {number}")))?;
    }
    // In the order of the tables, which grow at their end then.
    let mut members: Vec<Member> = population.members().collect();
    members.sort_unstable_by_key(|member| member.id);
    let mut user = transaction.prepare(
        "INSERT INTO users (id, name, email, email_verified, role, administrator, disabled, created)
         VALUES (?1, ?2, ?3, 1, ?4, 0, 0, 0)",
    )?;
    for Member { id, role, .. } in &members {
        let name = id.0.simple().to_string();
        user.execute((id.0.as_bytes(), &name, format!("{name}@example.org"), &**role))?;
    }
    let mut membership = transaction.prepare("INSERT INTO members (user, group_id) VALUES (?1, ?2)")?;
    for member in &members {
        for group in &member.groups {
            membership.execute((member.id.0.as_bytes(), group.0.as_bytes()))?;
        }
    }
    Ok(())
}

fn places(population: Population, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    let mut namespace = transaction.prepare("INSERT OR IGNORE INTO namespaces (id, name) VALUES (?1, ?2)")?;
    let mut service = transaction.prepare(
        "INSERT INTO services (id, namespace, name, owner, origin, present, config)
         SELECT ?1, id, ?2, ?3, 'file', 0, '{}' FROM namespaces WHERE name = ?4",
    )?;
    for (number, resource) in (0..population.services).zip(population.resources()) {
        let [in_namespace, name] = population.service(number);
        let id = uuid::Uuid::from_u64_pair(u64::MAX - 1, number);
        namespace.execute((id.as_bytes(), &in_namespace))?;
        let owner = resource.owner.map(|owner| owner.0.into_bytes());
        service.execute((resource.id.0.as_bytes(), name, owner, in_namespace))?;
    }
    Ok(())
}

fn grants(population: Population, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    let mut insert = transaction
        .prepare("INSERT INTO grants (subject, pattern, levels, given_at) VALUES (?1, ?2, ?3, 1700000000000000)")?;
    let mut progress = Progress::of("writing grants");
    // One subject's at a time, in no order: the file is not written in the order in which it will be read either.
    let (mut done, mut last): (u64, Option<(Subject, String)>) = (0, None);
    for grant in population.grants() {
        let subject = match last.take() {
            Some((subject, text)) if subject == grant.subject => (subject, text),
            _ => (grant.subject.clone(), grant.subject.to_string()),
        };
        insert.execute((&subject.1, pattern_text(&grant.pattern), grant.levels.bits()))?;
        last = Some(subject);
        done += 1;
        if done.is_multiple_of(65_536) {
            progress.at(done, population.grants);
        }
    }
    Ok(())
}

/// The processor time of this process.
#[must_use]
pub fn cpu() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // What follows the name of the program, which may hold anything, begins with the third field.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    // In hundredths of a second, whatever the kernel's own clock.
    Some(Duration::from_millis((user + system) * 10))
}

/// The memory of this process in bytes.
#[must_use]
pub fn resident() -> Option<u64> {
    let pages: u64 = std::fs::read_to_string("/proc/self/statm").ok()?.split(' ').nth(1)?.parse().ok()?;
    Some(pages * 4096)
}

fn cannot(error: &rusqlite::Error) -> Failure {
    Failure::Usage(format!("cannot write the population: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Snapshot;

    fn in_order(policy: &Snapshot) -> Vec<crate::policy::Grant> {
        let mut all: Vec<_> = policy.grants().collect();
        all.sort_by(|a, b| (&a.subject, &a.pattern).cmp(&(&b.subject, &b.pattern)));
        all
    }

    #[test]
    fn what_is_loaded_from_the_file_is_the_population() {
        let folder = tempfile::tempdir().unwrap();
        let population = Population { users: 300, services: 40, grants: 6_000 };
        write(population, folder.path()).unwrap();
        let (state, _) = load(folder.path()).unwrap();
        let made = population.compiled();
        assert_eq!(in_order(&state.policy), in_order(&made));
        assert_eq!(state.directory.len(), 300);
        let now = jiff::Timestamp::UNIX_EPOCH;
        for number in 0..300 {
            let (user, [namespace, service]) = (population.user(number), population.service(number % 40));
            let keys = [namespace.as_str(), service.as_str()];
            assert_eq!(state.policy.levels(user, &keys, now), made.levels(user, &keys, now));
        }
    }
}
