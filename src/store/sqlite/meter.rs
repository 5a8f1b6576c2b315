//! What changes with use and is no change: it raises no revision and leaves no audit record.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

use super::code::micros;
use super::failure::failure;
use crate::store::{ApiTokenId, StoreError};

/// Takes one use off each of these tokens, in one transaction and in their order; how many each has left, none for one
/// that has none to take or may not be used any more.
pub(super) fn spend(
    connection: &mut Connection,
    tokens: &[ApiTokenId],
    now: Timestamp,
) -> Result<Vec<Option<u64>>, StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failure)?;
    let statement = "UPDATE api_tokens SET uses = uses - 1, last_used = max(coalesce(last_used, 0), ?2) \
                     WHERE id = ?1 AND uses > 0 AND revoked = 0 AND (expires IS NULL OR expires > ?2) RETURNING uses";
    let mut left = Vec::with_capacity(tokens.len());
    {
        let mut update = transaction.prepare_cached(statement).map_err(failure)?;
        for token in tokens {
            let row = (token.0.as_bytes(), micros(now));
            let uses: Option<i64> = update.query_row(row, |row| row.get(0)).optional().map_err(failure)?;
            left.push(uses.and_then(|uses| u64::try_from(uses).ok()));
        }
    }
    transaction.commit().map_err(failure)?;
    Ok(left)
}

/// Notes when tokens were last used; one that is gone is left out.
pub(super) fn note(connection: &mut Connection, used: &[(ApiTokenId, Timestamp)]) -> Result<(), StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failure)?;
    {
        let statement = "UPDATE api_tokens SET last_used = max(coalesce(last_used, 0), ?2) WHERE id = ?1";
        let mut update = transaction.prepare_cached(statement).map_err(failure)?;
        for (token, at) in used {
            update.execute((token.0.as_bytes(), micros(*at))).map_err(failure)?;
        }
    }
    transaction.commit().map_err(failure)
}
