//! The services of the configuration file: present under the ids that their names keep, or absent.

use std::collections::HashSet;

use rusqlite::Connection;
use serde_json::json;
use uuid::Uuid;

use super::services::{insert_namespace, insert_service, namespace_named, service_named, title};
use super::{Outcome, missing, user, write};
use crate::policy::{ResourceId, UserId};
use crate::store::sqlite::read;
use crate::store::{DeclaredService, Key, Namespace, Origin, Service, StoreError, User};

pub(super) fn declare(connection: &Connection, declared: &[DeclaredService]) -> Result<Outcome, StoreError> {
    let mut touched = Vec::new();
    let (mut present, mut absent) = (Vec::new(), Vec::new());
    let mut kept = HashSet::new();
    for service in declared {
        let owner = owner(connection, &service.owner)?;
        let place = match namespace_named(connection, &service.namespace)? {
            Some(place) => place,
            None => {
                let place = insert_namespace(connection, service.namespace.clone(), owner, None)?;
                touched.push(Key::Namespace(place.id));
                place
            }
        };
        let known = service_named(connection, &service.namespace, &service.name)?;
        if !known.is_some_and(|known| known.present) {
            not_squatted(connection, &place, declared)?;
        }
        let (id, changed) = one(connection, &place, service, owner)?;
        kept.insert(id);
        if changed {
            present.push(format!("{}/{} of {}", service.namespace, service.name, service.owner));
            touched.push(Key::Service(id));
        }
    }
    let services: Vec<Service> = read::all(connection, "WHERE s.origin = 'file' AND s.present = 1", [])?;
    for service in services.iter().filter(|service| !kept.contains(&service.id)) {
        write(connection, "UPDATE services SET present = 0 WHERE id = ?1", [service.id.0.as_bytes()])?;
        absent.push(title(service));
        touched.push(Key::Service(service.id));
    }
    if touched.is_empty() {
        return Ok(Outcome::unchanged());
    }
    Ok(Outcome::changed("service.declare", "configuration file")
        .touching(touched)
        .after(json!({ "present": present, "absent": absent })))
}

/// Makes one service present; its id, and whether anything was different.
fn one(
    connection: &Connection,
    place: &Namespace,
    declared: &DeclaredService,
    owner: UserId,
) -> Result<(ResourceId, bool), StoreError> {
    match service_named(connection, &declared.namespace, &declared.name)? {
        Some(known) if known.origin == Origin::Api => Err(StoreError::Refused(format!(
            "the service `{}` of the configuration file is registered by the API already\n\
             remove it there, or give it another name in the file",
            title(&known)
        ))),
        Some(known) if known.present && known.owner == Some(owner) => Ok((known.id, false)),
        Some(known) => {
            let row = (known.id.0.as_bytes(), owner.0.as_bytes());
            write(connection, "UPDATE services SET present = 1, owner = ?2 WHERE id = ?1", row)?;
            Ok((known.id, true))
        }
        None => {
            let service = Service {
                id: ResourceId(Uuid::new_v4()),
                namespace: declared.namespace.clone(),
                name: declared.name.clone(),
                owner: Some(owner),
                origin: Origin::File,
                present: true,
                table: json!({}),
            };
            insert_service(connection, place.id, &service, None)?;
            Ok((service.id, true))
        }
    }
}

/// A namespace's owner has rights on all in it, so whoever was first to reserve the name would have them on the
/// operator's service. Services that were declared there before stay, whoever has the namespace now: only who had it
/// rightfully can have given it away. `carta` belongs to an administrator from the start.
fn not_squatted(connection: &Connection, place: &Namespace, declared: &[DeclaredService]) -> Result<(), StoreError> {
    let Some(id) = place.owner.filter(|_| place.name != "carta") else { return Ok(()) };
    let name = user(connection, id)?.name;
    if declared.iter().any(|service| service.namespace == place.name && service.owner == name) {
        return Ok(());
    }
    Err(StoreError::Refused(format!(
        "the namespace `{}` belongs to `{name}`, who owns none of the services that the configuration file declares \
         there\nwrite another namespace, or let `{name}` give the namespace to the owner of the service",
        place.name
    )))
}

fn owner(connection: &Connection, name: &str) -> Result<UserId, StoreError> {
    let user: Option<User> = read::one(connection, "WHERE name = ?1", [name])?;
    user.map(|user| user.id).ok_or_else(|| missing("user", name))
}
