//! Opening the file: looked at before anything is written, then brought to this program's schema.

use std::fs::OpenOptions;
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::failure::{damaged, failure};
use crate::store::StoreError;

/// The steps from an empty file to this program's schema; a file's `user_version` counts those it has.
pub(super) const MIGRATIONS: &[&str] = &[
    include_str!("../../../migrations/sqlite/0001_start.sql"),
    include_str!("../../../migrations/sqlite/0002_withdrawals.sql"),
    include_str!("../../../migrations/sqlite/0003_access.sql"),
    include_str!("../../../migrations/sqlite/0004_makers.sql"),
    include_str!("../../../migrations/sqlite/0005_blank.sql"),
    include_str!("../../../migrations/sqlite/0006_audit.sql"),
    include_str!("../../../migrations/sqlite/0007_api_tokens.sql"),
    include_str!("../../../migrations/sqlite/0008_nodes.sql"),
    include_str!("../../../migrations/sqlite/0009_password_reset.sql"),
    include_str!("../../../migrations/sqlite/0010_given.sql"),
];

/// `cgtw`: tells our files from those of other programs.
const APPLICATION: i64 = 0x6367_7477;

/// Bytes of a file whose structure is checked page by page when it is opened: a fraction of a second. In a larger one
/// damage shows where it is read, and a start reads every table before it serves.
const CHECKED: u64 = 32 << 20;

/// How long another process may hold the file before a change is given up.
const BUSY: Duration = Duration::from_secs(5);

/// Opens the file for the one thread that writes, makes it where there is none, and brings its schema up to date.
///
/// # Errors
/// [`StoreError::Damaged`] for a file that is no database, damaged, another program's or newer than this program; such
/// a file is left byte for byte as it is. [`StoreError::Unavailable`] where it cannot be opened or made.
pub(super) fn open_writer(path: &Path) -> Result<Connection, StoreError> {
    make(path)?;
    let mut connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    // Closing the last connection would fold the log into a file that turned out to be damaged.
    set(&connection, DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    look(&connection, path)?;
    set(&connection, DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
    use_log(&connection)?;
    connection
        .execute_batch(
            // A change that was answered survives the loss of power; `fullfsync` matters on macOS only.
            "PRAGMA synchronous = FULL;
             PRAGMA fullfsync = ON;
             PRAGMA checkpoint_fullfsync = ON;
             PRAGMA foreign_keys = ON;
             PRAGMA secure_delete = ON;
             PRAGMA journal_size_limit = 67108864;",
        )
        .map_err(failure)?;
    migrate(&mut connection)?;
    Ok(connection)
}

/// Opens a file for reading only, and leaves it as it is; none where there is none, or one without anything in it.
///
/// # Errors
/// As [`open_writer`].
pub(super) fn open_to_look(path: &Path) -> Result<Option<Connection>, StoreError> {
    if !path.exists() {
        return Ok(None);
    }
    let connection = open_reader(path)?;
    look(&connection, path)?;
    Ok((number(&connection, "SELECT count(*) FROM sqlite_schema")? > 0).then_some(connection))
}

/// Opens a file that [`open_writer`] has opened before, for reading only.
pub(super) fn open_reader(path: &Path) -> Result<Connection, StoreError> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.execute_batch("PRAGMA query_only = ON; PRAGMA cache_size = -16384;").map_err(failure)?;
    Ok(connection)
}

/// Makes an empty file that only its owner may read: SQLite gives its log the same permissions.
fn make(path: &Path) -> Result<(), StoreError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(StoreError::Unavailable(format!("cannot make `{}`: {error}", path.display()))),
    }
}

fn connect(path: &Path, mode: OpenFlags) -> Result<Connection, StoreError> {
    // Without SQLITE_OPEN_URI: the path is a path, whatever it looks like.
    let flags = mode | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let connection = Connection::open_with_flags(path, flags)
        .map_err(|error| StoreError::Unavailable(format!("cannot open `{}`: {error}", path.display())))?;
    connection.busy_timeout(BUSY).map_err(failure)?;
    connection.set_prepared_statement_cache_capacity(128);
    set(&connection, DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    set(&connection, DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    Ok(connection)
}

fn set(connection: &Connection, what: DbConfig, on: bool) -> Result<(), StoreError> {
    connection.set_db_config(what, on).map(|_| ()).map_err(failure)
}

/// Reads enough to know that the file is ours and whole.
fn look(connection: &Connection, file: &Path) -> Result<(), StoreError> {
    // Every fault of the file names the file.
    ours_and_whole(connection, file).map_err(|error| match error {
        StoreError::Damaged(cause) => StoreError::Damaged(format!("`{}`: {cause}", file.display())),
        other => other,
    })
}

fn ours_and_whole(connection: &Connection, file: &Path) -> Result<(), StoreError> {
    let tables = number(connection, "SELECT count(*) FROM sqlite_schema")?;
    if tables > 0 && number(connection, "PRAGMA application_id")? != APPLICATION {
        return Err(damaged("the file is a database of another program"));
    }
    let version = number(connection, "PRAGMA user_version")?;
    let known = MIGRATIONS.len();
    if usize::try_from(version).is_ok_and(|version| version > known) {
        return Err(StoreError::Damaged(format!(
            "the file has schema {version}, and this program knows {known} and older\n\
             run the newer carta-gateway that wrote it"
        )));
    }
    if std::fs::metadata(file).map_or(0, |metadata| metadata.len()) > CHECKED {
        return Ok(());
    }
    let fault: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(failure)?;
    if fault == "ok" { Ok(()) } else { Err(damaged(format!("the file is damaged: {fault}"))) }
}

/// Switches the file to a write-ahead log: readers and the writer never wait for each other.
fn use_log(connection: &Connection) -> Result<(), StoreError> {
    let start = Instant::now();
    loop {
        // SQLite does not wait for another process that switches at the same moment, so we do.
        match connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get::<_, String>(0)) {
            Ok(mode) if mode == "wal" => return Ok(()),
            Ok(mode) => return Err(StoreError::Unavailable(format!("the file system allows no log: mode `{mode}`"))),
            Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy) => {
                if start.elapsed() > BUSY {
                    return Err(failure(error));
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(error) => return Err(failure(error)),
        }
    }
}

fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    if number(connection, "PRAGMA user_version")? == MIGRATIONS.len() as i64 {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failure)?;
    // Once more, now that no other process can migrate.
    let done = usize::try_from(number(&transaction, "PRAGMA user_version")?).unwrap_or(0);
    for step in MIGRATIONS.iter().skip(done) {
        transaction.execute_batch(step).map_err(failure)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION).map_err(failure)?;
    transaction.pragma_update(None, "user_version", MIGRATIONS.len() as i64).map_err(failure)?;
    transaction.commit().map_err(failure)
}

fn number(connection: &Connection, statement: &str) -> Result<i64, StoreError> {
    connection.query_row(statement, [], |row| row.get(0)).map_err(failure)
}
