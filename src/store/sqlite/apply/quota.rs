//! How much one user may keep, counted in the transaction that adds to it.

use rusqlite::{Connection, Params};

use crate::policy::{Pattern, ResourceId, UserId};
use crate::store::sqlite::code::pattern_text;
use crate::store::sqlite::failure::failure;
use crate::store::{
    MOST_API_TOKENS, MOST_CONNECTIONS, MOST_CONSENTS, MOST_GRANTS, MOST_GROUPS, MOST_IN_NAMESPACE, MOST_NAMESPACES,
    MOST_NODE_BYTES, MOST_NODES, MOST_SECRETS, MOST_SERVICES, MOST_SHARES, Namespace, StoreError,
};

/// Refuses one namespace more.
pub(super) fn namespaces(connection: &Connection, maker: UserId) -> Result<(), StoreError> {
    let there = count(connection, "SELECT count(*) FROM namespaces WHERE maker = ?1", maker.0.as_bytes())?;
    within(there + 1, MOST_NAMESPACES, "namespaces that one user made", "remove one that is not needed")
}

/// Refuses one group more.
pub(super) fn groups(connection: &Connection, owner: UserId) -> Result<(), StoreError> {
    let there = count(connection, "SELECT count(*) FROM groups WHERE owner = ?1", owner.0.as_bytes())?;
    within(there + 1, MOST_GROUPS, "groups that one user runs", "use one that is there")
}

/// Refuses one service more.
pub(super) fn services(connection: &Connection, place: &Namespace, maker: UserId) -> Result<(), StoreError> {
    let made = count(connection, "SELECT count(*) FROM services WHERE maker = ?1", maker.0.as_bytes())?;
    within(made + 1, MOST_SERVICES, "services that one user made", "remove one that is not needed")?;
    let there = count(connection, "SELECT count(*) FROM services WHERE namespace = ?1", place.id.0.as_bytes())?;
    within(there + 1, MOST_IN_NAMESPACE, "services in one namespace", "remove one that is not needed")
}

/// Refuses what was added to the share of who made the node, where it is too much.
pub(super) fn nodes(connection: &Connection, node: ResourceId) -> Result<(), StoreError> {
    let of = |what: &str| {
        let statement = format!("SELECT {what} FROM nodes WHERE maker = (SELECT maker FROM nodes WHERE id = ?1)");
        count(connection, &statement, node.0.as_bytes())
    };
    within(of("count(*)")?, MOST_NODES, "nodes that one user made", "delete one that is not needed")?;
    let bytes = of("coalesce(sum(octet_length(name) + octet_length(labels) + octet_length(props)), 0)")?;
    within(bytes, MOST_NODE_BYTES, "bytes of nodes that one user made", "delete one that is not needed")
}

/// Refuses the grant that was given, where it is too much. One that gives nothing has as much room again: who may give no
/// more must still be able to deny, but not without end.
pub(super) fn grants(connection: &Connection, giver: UserId, gives: bool) -> Result<(), StoreError> {
    let there = count(connection, "SELECT coalesce(sum(grants), 0) FROM givers WHERE user = ?1", giver.0.as_bytes())?;
    let instead = "give to a group or a role what many users are to have, or take one away that is not needed";
    within(there, room(MOST_GRANTS, gives), "grants that one user gave", instead)
}

/// Refuses the share of the name that was made, where it is too much; one that gives nothing as there.
pub(super) fn shares(connection: &Connection, name: &Pattern, gives: bool) -> Result<(), StoreError> {
    let there = number(connection, SHARES, [pattern_text(name)])?;
    let instead = "share it with a group, or take one away that is not needed";
    within(there, room(MOST_SHARES, gives), "shares of one resource with who holds something on others", instead)
}

const fn room(most: u32, gives: bool) -> u32 {
    if gives { most } else { 2 * most }
}

/// The grants on a name to the holders of levels elsewhere: up to the character after the colon.
pub(super) const SHARES: &str =
    "SELECT count(*) FROM grants WHERE pattern = ?1 AND subject >= 'holders:' AND subject < 'holders;'";

/// Refuses one connection more.
pub(super) fn connections(connection: &Connection, project: ResourceId) -> Result<(), StoreError> {
    let there = count(connection, "SELECT count(*) FROM nodes WHERE parent = ?1", project.0.as_bytes())?;
    within(there + 1, MOST_CONNECTIONS, "connections of one project", "delete one that is not needed")
}

/// Refuses what was added, where it is too much.
pub(super) fn api_tokens(connection: &Connection, user: UserId) -> Result<(), StoreError> {
    let there = count(connection, "SELECT count(*) FROM api_tokens WHERE user = ?1", user.0.as_bytes())?;
    within(there, MOST_API_TOKENS, "API tokens of one user", "delete one that is not needed")
}

/// Refuses what was added, where it is too much.
pub(super) fn secrets(connection: &Connection, user: UserId) -> Result<(), StoreError> {
    let there = count(connection, "SELECT count(*) FROM secrets WHERE user = ?1", user.0.as_bytes())?;
    within(there, MOST_SECRETS, "secrets of one user", "delete one that is not needed")
}

/// Refuses what was added, where it is too much.
pub(super) fn consents(connection: &Connection, user: UserId) -> Result<(), StoreError> {
    let statement = "SELECT (SELECT count(*) FROM consents WHERE user = ?1) \
                          + (SELECT count(*) FROM withdrawals WHERE user = ?1)";
    let there = count(connection, statement, user.0.as_bytes())?;
    within(there, MOST_CONSENTS, "consents of one user", "delete a secret that is not needed, and its consents with it")
}

fn count(connection: &Connection, statement: &str, of: &[u8; 16]) -> Result<u32, StoreError> {
    number(connection, statement, [of])
}

fn number(connection: &Connection, statement: &str, of: impl Params) -> Result<u32, StoreError> {
    connection.prepare_cached(statement).and_then(|mut count| count.query_row(of, |row| row.get(0))).map_err(failure)
}

fn within(count: u32, most: u32, what: &str, instead: &str) -> Result<(), StoreError> {
    if count <= most {
        return Ok(());
    }
    Err(StoreError::Full(format!("there would be more than {most} {what}\n{instead}")))
}
