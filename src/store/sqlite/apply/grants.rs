//! Grants: given, taken, moved and removed with what they are on.

use std::collections::BTreeSet;

use jiff::Timestamp;
use rusqlite::Connection;

use super::{Outcome, group, missing, nodes, quota, services, user, write};
use crate::policy::{Levels, Pattern, ResourceId, Subject, UserId};
use crate::store::sqlite::code::{micros, pattern_text};
use crate::store::sqlite::{audit, read};
use crate::store::{Grant, Group, Key, StoreError, User};

pub(super) fn put(
    connection: &Connection,
    row: crate::policy::Grant,
    by: Option<UserId>,
    at: Timestamp,
) -> Result<Outcome, StoreError> {
    subject_is_there(connection, &row.subject)?;
    // What a wildcard reaches may be owned by several, and by others.
    if let Subject::User(user) = row.subject
        && row.pattern.is_literal()
        && owner(connection, &row.pattern)? == Some(user)
    {
        let why = format!("the user owns `{}` and holds every level on it without a grant", row.pattern);
        return Err(StoreError::Refused(why));
    }
    let grant = Grant { row, by, at };
    let before = of(connection, &grant.row.subject, &grant.row.pattern)?;
    let held = |grant: &Grant| (grant.row.levels, grant.row.expires.map(micros));
    if before.as_ref().map(held) == Some(held(&grant)) {
        return Ok(Outcome::unchanged());
    }
    write_grant(connection, &grant)?;
    let gives = grant.row.levels.has_any(Levels::ALL);
    if before.is_none() && grant.row.subject.through().is_some() {
        quota::shares(connection, &grant.row.pattern, gives)?;
    }
    // What the same user gave before is one of theirs already, and who makes a grant narrower is not stopped.
    let anew = before.as_ref().is_none_or(|before| before.by != grant.by && !is_within(&grant.row, &before.row));
    if let Some(giver) = grant.by.filter(|_| anew) {
        let known: Option<User> = read::one(connection, "WHERE id = ?1", [giver.0.as_bytes()])?;
        if !known.is_some_and(|user| user.administrator) {
            quota::grants(connection, giver, gives)?;
        }
    }
    Ok(Outcome::changed("grant.put", grant.row.pattern.to_string())
        .about(resource(connection, &grant.row.pattern)?)
        .before(before.as_ref().map(audit::grant))
        .after(audit::grant(&grant))
        .touching([key(&grant)]))
}

/// Gives a part of a permission; what that takes is decided by what is there now.
pub(super) fn put_part(
    connection: &Connection,
    row: crate::policy::Grant,
    (others, keeps): (&[Subject], bool),
    by: Option<UserId>,
    at: Timestamp,
) -> Result<Outcome, StoreError> {
    let holds = |grant: &Grant| grant.row.expires.is_none_or(|end| end > at);
    let has = |name: &Pattern| of(connection, &row.subject, name).map(|grant| grant.as_ref().is_some_and(holds));
    let blank =
        |pattern| crate::policy::Grant { subject: row.subject.clone(), pattern, levels: Levels::BLANK, expires: None };
    if keeps && has(&row.pattern)? {
        return Ok(Outcome::unchanged());
    }
    if row.levels.is_empty() {
        let keys = row.pattern.keys();
        for length in 1..keys.len() {
            // The beginning of a name is no longer than the name.
            let above = Pattern::new(keys.iter().take(length).cloned()).unwrap_or_default();
            if has(&above)? {
                return put(connection, blank(row.pattern.clone()), by, at);
            }
        }
        return remove(connection, row.subject, row.pattern);
    }
    let mut bare = BTreeSet::new();
    for other in others {
        let below = below(connection, other, &row.pattern)?;
        bare.extend(below.into_iter().filter(holds).map(|grant| grant.row.pattern));
    }
    let mut done = put(connection, row.clone(), by, at)?;
    for name in bare {
        if !has(&name)? {
            done = done.and(put(connection, blank(name), by, at)?);
        }
    }
    Ok(done)
}

pub(super) fn take(
    connection: &Connection,
    subject: Subject,
    pattern: Pattern,
    levels: Levels,
) -> Result<Outcome, StoreError> {
    let before = of(connection, &subject, &pattern)?.ok_or_else(|| missing("grant", &pattern))?;
    let left = before.row.levels.without(levels);
    if left == before.row.levels {
        return Ok(Outcome::unchanged());
    }
    // An empty set left over would be a deny, which is more than was asked for.
    if left.is_empty() {
        return remove(connection, subject, pattern);
    }
    let after = Grant { row: crate::policy::Grant { levels: left, ..before.row.clone() }, ..before.clone() };
    write_grant(connection, &after)?;
    Ok(Outcome::changed("grant.take", pattern.to_string())
        .about(resource(connection, &pattern)?)
        .before(audit::grant(&before))
        .after(audit::grant(&after))
        .touching([key(&after)]))
}

pub(super) fn remove(connection: &Connection, subject: Subject, pattern: Pattern) -> Result<Outcome, StoreError> {
    let Some(before) = of(connection, &subject, &pattern)? else { return Ok(Outcome::unchanged()) };
    delete(connection, &before)?;
    Ok(Outcome::changed("grant.remove", pattern.to_string())
        .about(resource(connection, &pattern)?)
        .before(audit::grant(&before))
        .touching([key(&before)]))
}

/// Gives the grant, or replaces what the subject has on the pattern.
pub(super) fn write_grant(connection: &Connection, grant: &Grant) -> Result<(), StoreError> {
    // Not `OR REPLACE`, by which a row goes without being counted.
    let statement = "INSERT INTO grants (subject, pattern, levels, expires, given_by, given_at) \
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
                     ON CONFLICT (subject, pattern) DO UPDATE SET levels = excluded.levels, \
                         expires = excluded.expires, given_by = excluded.given_by, given_at = excluded.given_at";
    let row = (
        grant.row.subject.to_string(),
        pattern_text(&grant.row.pattern),
        grant.row.levels.bits(),
        grant.row.expires.map(micros),
        grant.by.map(|id| *id.0.as_bytes()),
        micros(grant.at),
    );
    write(connection, statement, row).map(|_| ())
}

/// Whether the one grant gives no more than the other, and no longer.
fn is_within(one: &crate::policy::Grant, other: &crate::policy::Grant) -> bool {
    let no_longer = other.expires.is_none_or(|end| one.expires.is_some_and(|ends| ends <= end));
    one.levels.without(other.levels).is_empty() && no_longer
}

/// Takes away every grant on the name and below it.
pub(super) fn take_below(connection: &Connection, name: &Pattern) -> Result<Vec<Grant>, StoreError> {
    let (from, to) = range(name);
    let taken = read::all(connection, "WHERE pattern >= ?1 AND pattern < ?2", (&from, &to))?;
    write(connection, "DELETE FROM grants WHERE pattern >= ?1 AND pattern < ?2", (&from, &to))?;
    Ok(taken)
}

/// The texts of the name and of all below it: from the one up to the other.
fn range(name: &Pattern) -> (String, String) {
    let from = pattern_text(name);
    // All that begins with `ns.svc.` is from there up to `ns.svc/`, the character after the full stop.
    let to = format!("{}/", from.strip_suffix('.').unwrap_or(&from));
    (from, to)
}

/// What the subject has on names below this one.
fn below(connection: &Connection, subject: &Subject, name: &Pattern) -> Result<Vec<Grant>, StoreError> {
    let (from, to) = range(name);
    read::all(connection, "WHERE subject = ?1 AND pattern > ?2 AND pattern < ?3", (subject.to_string(), from, to))
}

/// The grants to the holders of a resource, which are those whose subjects end with its id: led by the index of just them,
/// as its own condition is repeated.
const OF_HOLDERS: &str = "WHERE subject >= 'holders:' AND subject < 'holders;' AND substr(subject, -36) = ?1";

/// Takes away every grant to these resources themselves and to the holders of levels on them.
pub(super) fn take_of_holders(connection: &Connection, resources: &[ResourceId]) -> Result<Vec<Grant>, StoreError> {
    let mut taken: Vec<Grant> = Vec::new();
    for resource in resources {
        taken.extend(read::all::<Grant>(connection, OF_HOLDERS, [resource.0.to_string()])?);
        let itself = Subject::Itself(*resource).to_string();
        taken.extend(read::all::<Grant>(connection, "WHERE subject = ?1", [itself])?);
    }
    taken.iter().try_for_each(|grant| delete(connection, grant))?;
    Ok(taken)
}

/// The key of the grant.
pub(super) fn key(grant: &Grant) -> Key {
    Key::Grant(grant.row.subject.clone(), grant.row.pattern.clone())
}

/// Takes away what the subject has on exactly the name.
pub(super) fn take_whole(
    connection: &Connection,
    subject: &Subject,
    name: &Pattern,
) -> Result<Option<Grant>, StoreError> {
    let taken = of(connection, subject, name)?;
    taken.iter().try_for_each(|grant| delete(connection, grant))?;
    Ok(taken)
}

/// What the name is about: the service, or else the namespace.
fn resource(connection: &Connection, name: &Pattern) -> Result<Option<ResourceId>, StoreError> {
    let mut keys = name.literal_prefix();
    let Some(namespace) = keys.next() else { return Ok(None) };
    if let Some(id) = ResourceId::of_key(namespace) {
        return Ok(Some(keys.next().and_then(ResourceId::of_key).unwrap_or(id)));
    }
    let service = match keys.next() {
        Some(service) => services::service_named(connection, namespace, service)?,
        None => None,
    };
    match service {
        Some(service) => Ok(Some(service.id)),
        None => Ok(services::namespace_named(connection, namespace)?.map(|namespace| namespace.id)),
    }
}

/// The owner of what the name is about: of the service, or else of the namespace.
fn owner(connection: &Connection, name: &Pattern) -> Result<Option<UserId>, StoreError> {
    let mut keys = name.literal_prefix();
    let Some(namespace) = keys.next() else { return Ok(None) };
    if let Some(id) = ResourceId::of_key(namespace) {
        let below = keys.next().and_then(ResourceId::of_key);
        let below = below.map(|id| nodes::one(connection, id)).transpose()?.flatten().and_then(|node| node.owner);
        return Ok(if below.is_some() { below } else { owner_of(connection, id)? });
    }
    let service = match keys.next() {
        Some(service) => services::service_named(connection, namespace, service)?.and_then(|service| service.owner),
        None => None,
    };
    match service {
        Some(owner) => Ok(Some(owner)),
        None => Ok(services::namespace_named(connection, namespace)?.and_then(|namespace| namespace.owner)),
    }
}

/// The owner of the node; a user owns what stands for that user, and who runs a group what stands for the group.
fn owner_of(connection: &Connection, id: ResourceId) -> Result<Option<UserId>, StoreError> {
    if let Some(node) = nodes::one(connection, id)? {
        return Ok(node.owner);
    }
    if let Some(group) = read::one::<Group>(connection, "WHERE id = ?1", [id.0.as_bytes()])? {
        return Ok(group.owner);
    }
    let known: Option<User> = read::one(connection, "WHERE id = ?1", [id.0.as_bytes()])?;
    Ok(known.map(|user| user.id))
}

fn of(connection: &Connection, subject: &Subject, pattern: &Pattern) -> Result<Option<Grant>, StoreError> {
    let condition = "WHERE subject = ?1 AND pattern = ?2";
    read::one(connection, condition, (subject.to_string(), pattern_text(pattern)))
}

fn delete(connection: &Connection, grant: &Grant) -> Result<(), StoreError> {
    let statement = "DELETE FROM grants WHERE subject = ?1 AND pattern = ?2";
    write(connection, statement, (grant.row.subject.to_string(), pattern_text(&grant.row.pattern))).map(|_| ())
}

fn subject_is_there(connection: &Connection, subject: &Subject) -> Result<(), StoreError> {
    match subject {
        Subject::User(id) => user(connection, *id).map(|_| ()),
        Subject::Group(id) => group(connection, *id).map(|_| ()),
        Subject::Holders(_, id) | Subject::Same(id) | Subject::Itself(id) => {
            // Users and groups stand for themselves: somebody may hold levels on what they are.
            let known = "SELECT 1 FROM namespaces WHERE id = ?1 UNION ALL SELECT 1 FROM services WHERE id = ?1 \
                         UNION ALL SELECT 1 FROM nodes WHERE id = ?1 \
                         UNION ALL SELECT 1 FROM users WHERE id = ?1 UNION ALL SELECT 1 FROM groups WHERE id = ?1";
            if read::any(connection, known, [id.0.as_bytes()])? { Ok(()) } else { Err(missing("resource", id)) }
        }
        Subject::Role(_) | Subject::Everyone => Ok(()),
    }?;
    // What does not read back would be damage on the next start.
    if subject.to_string().parse().as_ref() == Ok(subject) {
        Ok(())
    } else {
        Err(StoreError::Refused(format!("`{subject}` is nobody")))
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::policy;
    use crate::store::sqlite::row::Record;
    use crate::store::{MOST_GRANTS, MOST_SHARES};

    /// A store in memory with a namespace, an administrator and a user who is none.
    fn opened() -> (Connection, UserId, UserId) {
        let connection = Connection::open_in_memory().unwrap();
        for step in crate::store::sqlite::connection::MIGRATIONS {
            connection.execute_batch(step).unwrap();
        }
        let [ann, bob] = [(1, "ann", true), (2, "bob", false)].map(|(number, name, administrator)| {
            let id = Uuid::from_u128(number);
            let statement = "INSERT INTO users (id, name, email_verified, role, administrator, disabled, created) \
                             VALUES (?1, ?2, 0, 'Guest', ?3, 0, 0)";
            connection.execute(statement, (id.as_bytes(), name, administrator)).unwrap();
            UserId(id)
        });
        (connection, ann, bob)
    }

    fn name(number: u32) -> Pattern {
        Pattern::literal(["ns".to_owned(), format!("s{number}")]).unwrap()
    }

    fn give(
        connection: &Connection,
        subject: Subject,
        pattern: Pattern,
        by: Option<UserId>,
    ) -> Result<Outcome, StoreError> {
        let levels = Levels::READ;
        put(connection, policy::Grant { subject, pattern, levels, expires: None }, by, Timestamp::UNIX_EPOCH)
    }

    fn given(connection: &Connection, by: UserId) -> u32 {
        let statement = "SELECT coalesce(sum(grants), 0) FROM givers WHERE user = ?1";
        connection.query_row(statement, [by.0.as_bytes()], |row| row.get(0)).unwrap()
    }

    fn plan(connection: &Connection, statement: &str) -> String {
        let mut explained = connection.prepare(&format!("EXPLAIN QUERY PLAN {statement}")).unwrap();
        let steps = explained.query_map(["x"], |row| row.get::<_, String>(3)).unwrap();
        steps.map(Result::unwrap).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn what_goes_with_a_resource_and_what_a_name_is_shared_with_are_found_by_an_index() {
        let (connection, ..) = opened();
        let of_holders = plan(&connection, &format!("{} {OF_HOLDERS}", Grant::SELECT));
        assert!(of_holders.contains("USING INDEX grants_holders (<expr>=?"), "{of_holders}");
        let shares = plan(&connection, quota::SHARES);
        assert!(shares.contains("grants_pattern (pattern=? AND subject>? AND subject<?)"), "{shares}");
    }

    #[test]
    fn the_grants_that_one_user_gave_end_somewhere_and_an_administrators_do_not() {
        let (connection, ann, bob) = opened();
        for by in [ann, bob] {
            let fill = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1) \
                        INSERT INTO grants SELECT 'role:' || i || hex(?2), 'ns.', 1, NULL, ?2, 0 FROM n";
            connection.execute(fill, (MOST_GRANTS - 1, by.0.as_bytes())).unwrap();
        }
        let to_all = |number, by| give(&connection, Subject::Everyone, name(number), by);
        to_all(1, Some(bob)).unwrap();
        assert_eq!(given(&connection, bob), MOST_GRANTS);
        let full = to_all(2, Some(bob));
        let Err(StoreError::Full(why)) = full.map(|_| ()) else { panic!("one more than the quota") };
        assert!(why.starts_with("there would be more than 100000 grants that one user gave\ngive to a group"), "{why}");
        connection.execute("DELETE FROM grants WHERE pattern = 'ns.s2.'", []).unwrap();

        // What is theirs already may be another one, and what is another's is theirs only after that.
        let again = policy::Grant { subject: Subject::Everyone, pattern: name(1), levels: Levels::NONE, expires: None };
        put(&connection, again, Some(bob), Timestamp::UNIX_EPOCH).unwrap();
        for number in [2, 3] {
            to_all(number, Some(ann)).unwrap();
            to_all(10 + number, None).unwrap();
        }
        assert_eq!((given(&connection, ann), given(&connection, bob)), (MOST_GRANTS + 1, MOST_GRANTS));
        let taken = policy::Grant { subject: Subject::Everyone, pattern: name(2), levels: Levels::ALL, expires: None };
        assert!(matches!(put(&connection, taken, Some(bob), Timestamp::UNIX_EPOCH), Err(StoreError::Full(_))));
    }

    #[test]
    fn who_may_give_no_more_may_still_take_and_deny_within_bounds() {
        let (connection, ann, bob) = opened();
        let fill = |kind: &str, count: u32| {
            let fill = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1) \
                        INSERT INTO grants SELECT 'role:' || ?3 || i, 'ns.', 1, NULL, ?2, 0 FROM n";
            connection.execute(fill, (count, bob.0.as_bytes(), kind)).unwrap();
        };
        let all = policy::Grant { subject: Subject::Everyone, pattern: name(1), levels: Levels::ALL, expires: None };
        put(&connection, all.clone(), Some(ann), Timestamp::UNIX_EPOCH).unwrap();
        fill("a", MOST_GRANTS);
        let by_bob = |grant| put(&connection, grant, Some(bob), Timestamp::UNIX_EPOCH).map(|_| ());
        let for_a_while = policy::Grant { expires: Timestamp::from_second(2_000_000_000).ok(), ..all.clone() };
        by_bob(for_a_while.clone()).unwrap();
        by_bob(policy::Grant { levels: Levels::READ, ..for_a_while }).unwrap();
        let deny = |number| policy::Grant { pattern: name(number), levels: Levels::NONE, ..all.clone() };
        by_bob(deny(2)).unwrap();
        fill("b", MOST_GRANTS - 2);
        let Err(StoreError::Full(why)) = by_bob(deny(3)) else { panic!("denies without end") };
        assert!(why.starts_with("there would be more than 200000 grants that one user gave"), "{why}");
    }

    #[test]
    fn a_grant_counts_for_who_gave_it_last_and_no_longer_than_it_is_there() {
        let (connection, ann, bob) = opened();
        let counts = || (given(&connection, ann), given(&connection, bob));
        for number in 0..3 {
            give(&connection, Subject::Everyone, name(number), Some(bob)).unwrap();
        }
        assert_eq!(counts(), (0, 3));
        let other = policy::Grant { subject: Subject::Everyone, pattern: name(0), levels: Levels::ALL, expires: None };
        put(&connection, other.clone(), Some(ann), Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(counts(), (1, 2));
        let nobodys = policy::Grant { levels: Levels::READ, ..other };
        put(&connection, nobodys, None, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(counts(), (0, 2));
        take(&connection, Subject::Everyone, name(1), Levels::READ).unwrap();
        assert_eq!(counts(), (0, 1));
        take_below(&connection, &Pattern::literal(["ns"]).unwrap()).unwrap();
        assert_eq!(counts(), (0, 0));
        let left: u32 = connection.query_row("SELECT count(*) FROM givers", [], |row| row.get(0)).unwrap();
        assert_eq!(left, 0);
    }

    #[test]
    fn the_shares_of_one_name_end_somewhere_and_its_other_grants_do_not() {
        let (connection, ann, _) = opened();
        let fill = "WITH RECURSIVE n (i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < ?1) \
                    INSERT INTO grants SELECT 'holders:same:' || printf('%036d', i), 'ns.s1.', 1, NULL, NULL, 0 FROM n";
        connection.execute(fill, [MOST_SHARES]).unwrap();
        let share = |levels, number| {
            give(&connection, Subject::Holders(levels, ResourceId(ann.0)), name(number), None).map(|_| ())
        };
        share(Levels::READ, 1).unwrap();
        let Err(StoreError::Full(why)) = share(Levels::ALL, 1) else { panic!("one more than the bound") };
        assert!(why.starts_with("there would be more than 1000 shares of one resource"), "{why}");
        connection.execute("DELETE FROM grants WHERE subject LIKE 'holders:%admin%'", []).unwrap();
        let blank = policy::Grant {
            subject: Subject::Same(ResourceId(ann.0)),
            pattern: name(1),
            levels: Levels::BLANK,
            expires: None,
        };
        put(&connection, blank, None, Timestamp::UNIX_EPOCH).unwrap();
        share(Levels::READ, 1).unwrap();
        share(Levels::ALL, 2).unwrap();
        give(&connection, Subject::Everyone, name(1), None).unwrap();
    }
}
