//! What SQLite's failures mean for who asked.

use rusqlite::ErrorCode;

use crate::store::StoreError;

/// The failure for who asked; its text never holds a value, because statements carry values as parameters only.
pub(super) fn failure(error: rusqlite::Error) -> StoreError {
    use rusqlite::Error as E;
    match &error {
        E::SqliteFailure(cause, text) => match cause.code {
            ErrorCode::DatabaseCorrupt => damaged("the file is damaged"),
            ErrorCode::NotADatabase => damaged("the file is not a SQLite database"),
            // Every reference is looked up before it is written; a constraint that still fails says that two changes
            // contradict each other, and nothing was written.
            ErrorCode::ConstraintViolation => {
                StoreError::Refused(text.clone().unwrap_or_else(|| "the change contradicts what is there".to_owned()))
            }
            ErrorCode::Unknown => damaged(cause),
            _ => StoreError::Unavailable(error.to_string()),
        },
        E::FromSqlConversionFailure(..)
        | E::IntegralValueOutOfRange(..)
        | E::InvalidColumnType(..)
        | E::Utf8Error(..)
        | E::QueryReturnedNoRows => damaged(&error),
        // A missing table or column; the statement itself is of no use to who reads this.
        E::SqlInputError { msg, .. } => damaged(msg),
        _ => StoreError::Unavailable(error.to_string()),
    }
}

/// Damage, and what to do about it.
pub(super) fn damaged(what: impl std::fmt::Display) -> StoreError {
    StoreError::Damaged(format!("{what}\nthe file was left as it is: restore a backup, or look with `sqlite3`"))
}
