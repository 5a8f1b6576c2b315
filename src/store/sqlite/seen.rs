//! The audit as a running process has seen it: an entry that was there must stay, and what follows must follow from it.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use rusqlite::{Connection, TransactionBehavior};

use super::chain::{self, Chain};
use super::failure::failure;
use super::follow;
use super::read;
use crate::store::{Break, Followed, Head, Step, StoreError};
use crate::telemetry::metrics;

/// How many entries are followed before changes get their turn.
const AT_ONCE: usize = 1024;

/// Between two lines of the log that tell the head.
const PACE: Duration = Duration::from_secs(60);

/// How far this process knows the audit.
pub(super) struct Seen {
    /// None while the chain has not begun.
    at: Option<Followed>,
    told: Option<(Instant, Head)>,
    /// A break that was found and could not be noted yet: it is counted once.
    found: Option<Break>,
}

impl Seen {
    /// Begins at the end: what was before this process, `audit verify` looks at.
    pub(super) fn begin(connection: &Connection) -> Result<Self, StoreError> {
        let at = match chain::end(connection)? {
            Some(end) => Some(end),
            None if read::any(connection, "SELECT 1 FROM audit", [])? => None,
            None => Some(Followed::default()),
        };
        Ok(Self { at, told: None, found: None })
    }

    /// Looks at what was appended since, and notes in the audit itself where it is not what it was. True: there is more to
    /// look at.
    pub(super) fn look(&mut self, connection: &mut Connection, chain: &mut Chain) -> Result<bool, StoreError> {
        let Some(at) = self.at else {
            self.at = chain::end(connection)?;
            return Ok(false);
        };
        let mut more = false;
        let broken = match still_there(connection, at)? {
            Some(fault) => Some(fault),
            None => match follow::follow(connection, chain, at, AT_ONCE)? {
                Step::More(next, _) => {
                    (self.at, more) = (Some(next), true);
                    None
                }
                Step::Whole(next, _) => {
                    self.at = Some(next);
                    None
                }
                Step::Broken(fault) => Some(fault),
            },
        };
        if let Some(fault) = broken {
            self.note(connection, chain, at, fault)?;
        }
        self.tell(false);
        Ok(more)
    }

    /// Tells the head to the log, from which it can be kept elsewhere.
    pub(super) fn tell(&mut self, last: bool) {
        let Some(at) = self.at.filter(|at| at.seq > 0) else { return };
        let head = Head { seq: at.seq, mac: at.mac };
        metrics::audit_head(at.seq);
        let due = self.told.is_none_or(|(when, told)| told != head && (last || when.elapsed() >= PACE));
        if due {
            tracing::info!(head = %head, "audit head");
            self.told = Some((Instant::now(), head));
        }
    }

    fn note(
        &mut self,
        connection: &mut Connection,
        chain: &mut Chain,
        at: Followed,
        fault: Break,
    ) -> Result<(), StoreError> {
        let known = Head { seq: at.seq, mac: at.mac };
        if self.found.replace(fault) != Some(fault) {
            tracing::error!(%fault, %known, "the audit is not what it was: somebody else writes to the store");
            metrics::audit_broken();
        }
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failure)?;
        let entry = chain::note(&fault.to_string(), Some(known));
        let revision = read::revision(&transaction)?;
        chain.append(&transaction, revision, Timestamp::now(), &chain::of_the_store("watch"), &[entry])?;
        transaction.commit().map_err(failure)?;
        self.found = None;
        self.at = chain::end(connection)?;
        Ok(())
    }
}

fn still_there(connection: &Connection, at: Followed) -> Result<Option<Break>, StoreError> {
    if at.seq == 0 {
        return Ok(None);
    }
    Ok(match chain::mac_at(connection, at.seq)? {
        Some(mac) if mac == at.mac => None,
        Some(_) => Some(Break::Replaced { seq: at.seq }),
        // Removed by who has the keys, if what says so holds: that is followed to.
        None if follow::floor(connection)?.seq >= at.seq => None,
        None => Some(Break::Gone { seq: at.seq }),
    })
}
