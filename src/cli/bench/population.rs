//! Who and what decisions are measured on.

use std::path::Path;

use uuid::Uuid;

use super::Failure;
use crate::cli::open::{block_on, config, store};
use crate::policy::{
    Change, Grant, GroupId, Levels, Member, NameError, Pattern, PatternKey, Resource, ResourceId, Snapshot, Subject,
    UserId,
};
use crate::refresh;
use crate::store::Item;

/// The questions that can be asked: any user about any service.
pub(super) struct Population {
    pub(super) users: Vec<UserId>,
    /// Namespace and name.
    pub(super) services: Vec<[String; 2]>,
}

/// What the store of this configuration holds.
pub(super) fn of_store(path: &Path) -> Result<(Snapshot, Population), Failure> {
    let config = config(path)?;
    let contents = block_on(async { Ok(store(&config)?.load().await?) })?;
    let mut population = Population { users: Vec::new(), services: Vec::new() };
    for item in &contents.items {
        match item {
            Item::User(user, _) => population.users.push(user.id),
            Item::Service(service) => population.services.push([service.namespace.clone(), service.name.clone()]),
            _ => {}
        }
    }
    Ok((refresh::policy(&contents.items), population))
}

/// Users in two groups each, with one of five roles; services granted to eight users (one grant in fifty a deny), a group
/// and, by their namespace, a role.
pub(super) fn made_up(users: u32, services: u32) -> Result<(Snapshot, Population), Failure> {
    let id = |kind: u128, number: usize| Uuid::from_u128((kind << 64) | number as u128);
    let users: Vec<UserId> = (0..users.max(1) as usize).map(|number| UserId(id(1, number))).collect();
    let groups = users.len().div_ceil(20);
    let group = |number: usize| GroupId(id(2, number % groups));
    let services: Vec<[String; 2]> =
        (0..services.max(1)).map(|number| [format!("ns{}", number / 10), format!("svc{number}")]).collect();
    let mut changes: Vec<Change> = users
        .iter()
        .enumerate()
        .map(|(number, user)| {
            let groups = vec![group(number / 20), group(number.wrapping_mul(7) + 1)];
            Change::Member(Member { id: *user, role: format!("role{}", number % 5).into(), groups })
        })
        .collect();
    let give = |subject, pattern, levels| Change::Grant(Grant { subject, pattern, levels, expires: None });
    for (number, [namespace, service]) in services.iter().enumerate() {
        let name = Pattern::literal([namespace.as_str(), service.as_str()]).map_err(wrong)?;
        let user = |step: usize| users.get((number * 13 + step * 101) % users.len()).copied();
        changes.push(Change::Resource(Resource { id: ResourceId(id(3, number)), name: name.clone(), owner: user(8) }));
        for step in 0..8 {
            let levels = if (number + step) % 50 == 0 { Levels::NONE } else { Levels::READ | Levels::EXECUTE };
            changes.extend(user(step).map(|user| give(Subject::User(user), name.clone(), levels)));
        }
        changes.push(give(Subject::Group(group(number)), name, Levels::EXECUTE));
        let role = Subject::Role(format!("role{}", number % 5).into());
        let below = Pattern::new([PatternKey::Key(namespace.as_str().into()), PatternKey::Any]).map_err(wrong)?;
        changes.push(give(role, below, Levels::READ));
    }
    Ok((Snapshot::empty().patched(changes), Population { users, services }))
}

fn wrong(error: NameError) -> Failure {
    Failure::Internal(error.to_string())
}
