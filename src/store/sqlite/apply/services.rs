//! Namespaces and services of the API: made, renamed, given away, removed.

use jiff::Timestamp;
use rusqlite::Connection;
use serde_json::json;
use uuid::Uuid;

use super::{Outcome, exists, grants, missing, nodes, quota, secrets, user, write};
use crate::policy::{Pattern, ResourceId, Subject, UserId};
use crate::store::sqlite::{audit, read};
use crate::store::{Consent, Grant, Key, Namespace, Origin, Service, StoreError, Withdrawal};

pub(super) fn reserve(connection: &Connection, name: String, owner: UserId) -> Result<Outcome, StoreError> {
    user(connection, owner)?;
    if namespace_named(connection, &name)?.is_some() {
        return Err(exists("namespace", name));
    }
    quota::namespaces(connection, owner)?;
    let namespace = insert_namespace(connection, name, owner, Some(owner))?;
    Ok(Outcome::changed("namespace.reserve", &namespace.name)
        .about(namespace.id)
        .touching([Key::Namespace(namespace.id)])
        .after(audit::namespace(&namespace))
        .with_id(namespace.id))
}

pub(super) fn put(
    connection: &Connection,
    namespace: &str,
    name: String,
    replaces: Option<ResourceId>,
    owner: UserId,
    table: serde_json::Value,
) -> Result<Outcome, StoreError> {
    let place = namespace_named(connection, namespace)?.ok_or_else(|| missing("namespace", namespace))?;
    match service_named(connection, namespace, &name)? {
        Some(before) if before.origin == Origin::File => Err(of_the_file(&before)),
        Some(before) if replaces != Some(before.id) => Err(exists("service", title(&before))),
        None if replaces.is_some() => Err(missing("service", format!("{namespace}/{name}"))),
        Some(before) if before.table == table => Ok(Outcome::unchanged().with_id(before.id)),
        Some(before) => {
            let after = Service { table, ..before.clone() };
            let row = (after.id.0.as_bytes(), after.table.to_string());
            write(connection, "UPDATE services SET config = ?2 WHERE id = ?1", row)?;
            Ok(Outcome::changed("service.put", title(&after))
                .about(after.id)
                .touching([Key::Service(after.id)])
                .before(audit::service(&before))
                .after(audit::service(&after))
                .with_id(after.id))
        }
        None => {
            user(connection, owner)?;
            quota::services(connection, &place, owner)?;
            let service = Service {
                id: ResourceId(Uuid::new_v4()),
                namespace: place.name,
                name,
                owner: Some(owner),
                origin: Origin::Api,
                present: true,
                table,
            };
            insert_service(connection, place.id, &service, Some(owner))?;
            Ok(Outcome::changed("service.put", title(&service))
                .about(service.id)
                .touching([Key::Service(service.id)])
                .after(audit::service(&service))
                .with_id(service.id))
        }
    }
}

pub(super) fn rename(connection: &Connection, id: ResourceId, to: String) -> Result<Outcome, StoreError> {
    let before = service(connection, id)?;
    if before.origin == Origin::File {
        return Err(of_the_file(&before));
    }
    if before.name == to {
        return Ok(Outcome::unchanged().with_id(id));
    }
    let after = Service { name: to, ..before.clone() };
    if service_named(connection, &after.namespace, &after.name)?.is_some() {
        return Err(exists("service", title(&after)));
    }
    write(connection, "UPDATE services SET name = ?2 WHERE id = ?1", (id.0.as_bytes(), &after.name))?;
    // The service keeps exactly what was granted on it: nothing that was left on the new name becomes true.
    let displaced = grants::take_below(connection, &name_of(&after)?)?;
    let left = grants::take_below(connection, &name_of(&before)?)?;
    let moved = left.iter().map(|grant| moved(grant, &after.name)).collect::<Result<Vec<_>, _>>()?;
    moved.iter().try_for_each(|grant| grants::write_grant(connection, grant))?;
    Ok(Outcome::changed("service.rename", title(&before))
        .about(id)
        .touching([Key::Service(id)])
        .touching(displaced.iter().chain(&left).chain(&moved).map(grants::key))
        .before(json!({ "name": before.name, "displaced_grants": audit::grants(&displaced) }))
        .after(json!({ "name": after.name, "moved_grants": moved.len() }))
        .with_id(id))
}

pub(super) fn remove(connection: &Connection, id: ResourceId) -> Result<Outcome, StoreError> {
    let service = service(connection, id)?;
    if service.origin == Origin::File && service.present {
        return Err(of_the_file(&service));
    }
    let consents: Vec<Consent> = read::all(connection, "WHERE service = ?1", [id.0.as_bytes()])?;
    write(connection, "DELETE FROM consents WHERE service = ?1", [id.0.as_bytes()])?;
    let withdrawals: Vec<Withdrawal> = read::all(connection, "WHERE service = ?1", [id.0.as_bytes()])?;
    write(connection, "DELETE FROM withdrawals WHERE service = ?1", [id.0.as_bytes()])?;
    let mut taken = grants::take_below(connection, &name_of(&service)?)?;
    taken.extend(grants::take_of_holders(connection, &[id])?);
    write(connection, "DELETE FROM services WHERE id = ?1", [id.0.as_bytes()])?;
    let before = json!({
        "service": audit::service(&service),
        "grants": audit::grants(&taken),
        "consents": consents.len(),
    });
    Ok(Outcome::changed("service.remove", title(&service))
        .about(id)
        .touching([Key::Service(id)])
        .touching(taken.iter().map(grants::key))
        .touching(consents.into_iter().map(secrets::key))
        .touching(withdrawals.into_iter().map(secrets::withdrawal_key))
        .before(before))
}

pub(super) fn remove_namespace(connection: &Connection, id: ResourceId) -> Result<Outcome, StoreError> {
    let namespace = namespace(connection, id)?;
    let services: Vec<Service> = read::all(connection, "WHERE s.namespace = ?1 LIMIT 1", [id.0.as_bytes()])?;
    if let Some(service) = services.first() {
        return Err(StoreError::Refused(format!("the namespace is not empty: it has `{}`", service.name)));
    }
    let mut taken = grants::take_below(connection, &literal([&namespace.name])?)?;
    taken.extend(grants::take_of_holders(connection, &[id])?);
    write(connection, "DELETE FROM namespaces WHERE id = ?1", [id.0.as_bytes()])?;
    let before = json!({ "namespace": audit::namespace(&namespace), "grants": audit::grants(&taken) });
    Ok(Outcome::changed("namespace.remove", namespace.name)
        .about(id)
        .touching([Key::Namespace(id)])
        .touching(taken.iter().map(grants::key))
        .before(before))
}

pub(super) fn transfer(
    connection: &Connection,
    resource: ResourceId,
    (from, to): (Option<UserId>, UserId),
    keep: Option<crate::policy::Grant>,
    at: Timestamp,
) -> Result<Outcome, StoreError> {
    user(connection, to)?;
    let id = resource.0.as_bytes();
    let (key, name, title, before) = owned(connection, resource)?;
    if before == Some(to) {
        return Ok(Outcome::unchanged().with_id(resource));
    }
    if before != from {
        let why = format!("`{title}` has another owner by now\nlook who it is");
        return Err(StoreError::Refused(why));
    }
    for table in ["UPDATE namespaces SET owner = ?2 WHERE id = ?1", "UPDATE services SET owner = ?2 WHERE id = ?1"] {
        write(connection, table, (id, to.0.as_bytes()))?;
    }
    nodes::give(connection, resource, to)?;
    // An owner has no grant: what was given before would come back, unseen, with the next transfer.
    let given = grants::take_whole(connection, &Subject::User(to), &name)?;
    let kept = keep.filter(|grant| !grant.levels.is_empty()).map(|row| Grant { row, by: before, at });
    if let Some(kept) = &kept {
        grants::write_grant(connection, kept)?;
    }
    Ok(Outcome::changed("owner.transfer", title)
        .about(resource)
        .touching([key])
        .touching(kept.iter().chain(&given).map(grants::key))
        .before(json!({ "owner": before, "had": given.as_ref().map(audit::grant) }))
        .after(json!({ "owner": to, "former_owner_keeps": kept.as_ref().map(audit::grant) }))
        .with_id(resource))
}

/// What has an owner: its key, its name in grants, its title, and who that is.
fn owned(connection: &Connection, id: ResourceId) -> Result<(Key, Pattern, String, Option<UserId>), StoreError> {
    if let Some(namespace) = read::one::<Namespace>(connection, "WHERE id = ?1", [id.0.as_bytes()])? {
        return Ok((Key::Namespace(id), literal([&namespace.name])?, namespace.name, namespace.owner));
    }
    if let Some(node) = nodes::one(connection, id)? {
        return Ok((Key::Node(id), node.pattern(), node.name, node.owner));
    }
    let service = service(connection, id)?;
    if service.origin == Origin::File {
        return Err(of_the_file(&service));
    }
    Ok((Key::Service(id), name_of(&service)?, title(&service), service.owner))
}

/// The namespace of this name.
pub(super) fn namespace_named(connection: &Connection, name: &str) -> Result<Option<Namespace>, StoreError> {
    read::one(connection, "WHERE name = ?1", [name])
}

/// The service of this name, absent ones of the file included.
pub(super) fn service_named(
    connection: &Connection,
    namespace: &str,
    name: &str,
) -> Result<Option<Service>, StoreError> {
    read::one(connection, "WHERE n.name = ?1 AND s.name = ?2", [namespace, name])
}

/// Makes a namespace, which must not be there; without a maker it counts in nobody's share.
pub(super) fn insert_namespace(
    connection: &Connection,
    name: String,
    owner: UserId,
    maker: Option<UserId>,
) -> Result<Namespace, StoreError> {
    let namespace = Namespace { id: ResourceId(Uuid::new_v4()), name, owner: Some(owner) };
    let row = (namespace.id.0.as_bytes(), &namespace.name, owner.0.as_bytes(), maker.map(|id| *id.0.as_bytes()));
    write(connection, "INSERT INTO namespaces (id, name, owner, maker) VALUES (?1, ?2, ?3, ?4)", row)?;
    Ok(namespace)
}

/// Makes a service, which must not be there; without a maker it counts in nobody's share.
pub(super) fn insert_service(
    connection: &Connection,
    namespace: ResourceId,
    service: &Service,
    maker: Option<UserId>,
) -> Result<(), StoreError> {
    let statement = "INSERT INTO services (id, namespace, name, owner, origin, present, config, maker) \
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    let row = (
        service.id.0.as_bytes(),
        namespace.0.as_bytes(),
        &service.name,
        service.owner.map(|id| *id.0.as_bytes()),
        match service.origin {
            Origin::File => "file",
            Origin::Api => "api",
        },
        service.present,
        service.table.to_string(),
        maker.map(|id| *id.0.as_bytes()),
    );
    write(connection, statement, row).map(|_| ())
}

/// `ns/svc`.
pub(super) fn title(service: &Service) -> String {
    format!("{}/{}", service.namespace, service.name)
}

fn namespace(connection: &Connection, id: ResourceId) -> Result<Namespace, StoreError> {
    read::one(connection, "WHERE id = ?1", [id.0.as_bytes()])?.ok_or_else(|| missing("namespace", id))
}

fn service(connection: &Connection, id: ResourceId) -> Result<Service, StoreError> {
    read::one(connection, "WHERE s.id = ?1", [id.0.as_bytes()])?.ok_or_else(|| missing("service", id))
}

fn of_the_file(service: &Service) -> StoreError {
    StoreError::Refused(format!(
        "the service `{}` is declared in the configuration file\nchange it there",
        title(service)
    ))
}

fn name_of(service: &Service) -> Result<Pattern, StoreError> {
    literal([&service.namespace, &service.name])
}

fn literal<const N: usize>(keys: [&String; N]) -> Result<Pattern, StoreError> {
    Pattern::literal(keys.map(String::as_str)).map_err(|error| StoreError::Refused(error.to_string()))
}

/// The grant with `to` for the second key of its pattern: the service's name.
fn moved(grant: &Grant, to: &str) -> Result<Grant, StoreError> {
    let mut keys = grant.row.pattern.keys().to_vec();
    if let Some(key) = keys.get_mut(1) {
        *key = crate::policy::PatternKey::Key(to.into());
    }
    let pattern = Pattern::new(keys).map_err(|error| StoreError::Refused(error.to_string()))?;
    Ok(Grant { row: crate::policy::Grant { pattern, ..grant.row.clone() }, ..grant.clone() })
}
