//! Who and what decisions are measured on: made up, the same in every run, of any size.

use std::sync::Arc;

use jiff::Timestamp;
use uuid::Uuid;

use crate::policy::{
    Builder, Grant, GroupId, Levels, Member, NameError, Pattern, PatternKey, Resource, ResourceId, Snapshot, Subject,
    UserId,
};
use crate::store::{Group, Item, User};

/// Groups that hold a tenth of the users each, and every user is in one of.
const LARGE_GROUPS: u64 = 10;

/// Groups of the users who are in many.
const MANY: u64 = 20;

/// Roles; each user has one.
const ROLES: u64 = 5;

/// Users who are in [`MANY`] groups: enough that what one was decided on is not in the processor's cache for the next.
const BUSY: u64 = 1000;

/// Services of one namespace.
const SERVICES_OF_NAMESPACE: u64 = 20;

/// A population of so many users, services and grants.
///
/// Nine grants in ten are to users, the others to groups, roles and everyone; on services, operations of services, names
/// with `*`, and some on whole namespaces. Of the users' one in fifty is a deny. Every user has a role and is in three groups, one
/// of them with a tenth of all users in it; some are in twenty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Population {
    /// Users, those in many groups among them.
    pub users: u64,
    /// Services.
    pub services: u64,
    /// Grants, of which no subject has more than five for each service.
    pub grants: u64,
}

impl Population {
    /// A population with so many grants, as the target has them: ten to a user, a thousand services.
    #[must_use]
    pub fn of_grants(grants: u64) -> Self {
        Self { users: (grants / 10).max(1), services: 1000, grants }
    }

    /// The user of this number. Ids are as random as in life: nothing is to be gained from their order.
    #[must_use]
    pub fn user(&self, number: u64) -> UserId {
        let mut random = Random(number.wrapping_add(1));
        UserId(Uuid::from_u64_pair(random.next(), random.next()))
    }

    /// A user in twenty groups, by number.
    #[must_use]
    pub fn busy_user(&self, number: u64) -> UserId {
        self.user(number % self.busy())
    }

    /// Namespace and name of the service of this number.
    #[must_use]
    pub fn service(&self, number: u64) -> [String; 2] {
        [format!("ns-{}", number / SERVICES_OF_NAMESPACE), format!("svc-{number}")]
    }

    /// How many users are in twenty groups.
    #[must_use]
    pub fn busy(&self) -> u64 {
        BUSY.min(self.users.div_ceil(10)).max(1)
    }

    /// How many groups there are.
    #[must_use]
    pub fn groups(&self) -> u64 {
        LARGE_GROUPS + (self.users / 100).max(MANY)
    }

    /// The group of this number, the large ones first.
    #[must_use]
    pub fn group(&self, number: u64) -> GroupId {
        GroupId(Uuid::from_u64_pair(Random(number).next(), number))
    }

    /// The users.
    pub fn members(self) -> impl Iterator<Item = Member> {
        (0..self.users).map(move |number| {
            let mut random = Random(!number);
            let small = if number < self.busy() { MANY - 1 } else { 2 };
            let others = self.groups() - LARGE_GROUPS;
            let first = random.below(others);
            let some = (0..small).map(|step| self.group(LARGE_GROUPS + (first + step) % others));
            let groups = some.chain([self.group(number % LARGE_GROUPS)]).collect();
            Member { id: self.user(number), role: role(number), groups }
        })
    }

    /// Groups and users as a store has them.
    pub fn accounts(self) -> impl Iterator<Item = Item> {
        let groups = (0..self.groups()).map(move |number| {
            Item::Group(Group { id: self.group(number), name: format!("Org:Group {number}"), owner: None })
        });
        groups.chain(self.members().map(|member| {
            let name = member.id.0.simple().to_string();
            let user = User {
                id: member.id,
                email: Some(format!("{name}@example.org")),
                name,
                email_verified: true,
                first_name: None,
                last_name: None,
                organization: None,
                role: member.role.to_string(),
                administrator: false,
                disabled: false,
                tokens_dead_until: None,
                created: Timestamp::UNIX_EPOCH,
            };
            Item::User(Box::new(user), member.groups.to_vec())
        }))
    }

    /// The services, as far as decisions need them.
    pub fn resources(self) -> impl Iterator<Item = Resource> {
        (0..self.services).map(move |number| {
            let name = literal(&self.service(number));
            let id = ResourceId(Uuid::from_u64_pair(u64::MAX, number));
            Resource { id, name, owner: Some(self.user(number.wrapping_mul(7919) % self.users.max(1))) }
        })
    }

    /// The grants, those of one subject together.
    pub fn grants(self) -> impl Iterator<Item = Grant> {
        let names = self.names();
        let to_users = self.grants - self.grants / 10;
        let to_groups = (self.grants / 10).saturating_sub(2 * ROLES);
        let groups = self.groups();
        let users =
            (0..self.users).map(move |user| (Subject::User(self.user(user)), share(to_users, self.users, user)));
        let groups = (0..groups).map(move |group| (Subject::Group(self.group(group)), share(to_groups, groups, group)));
        let roles = (0..ROLES).map(|number| (Subject::Role(role(number)), 1));
        let everyone = [(Subject::Everyone, ROLES)];
        users.chain(groups).chain(roles).chain(everyone).enumerate().flat_map(move |(number, (subject, count))| {
            let mut random = Random(number as u64);
            let (names, first) = (names.clone(), random.below(names.len() as u64));
            (0..count.min(names.len() as u64)).filter_map(move |step| {
                // A step that has no common factor with any number of names that matters meets each name once.
                let at = (u128::from(first) + u128::from(step) * 999_999_937) % names.len() as u128;
                let pattern = names.get(usize::try_from(at).ok()?)?.clone();
                let deny = matches!(subject, Subject::User(_)) && random.below(50) == 0;
                let levels = if deny { Levels::NONE } else { Levels::READ | Levels::EXECUTE };
                Some(Grant { subject: subject.clone(), pattern, levels, expires: None })
            })
        })
    }

    /// What grants are on.
    fn names(&self) -> Arc<[Pattern]> {
        let key = |key: &str| PatternKey::Key(key.into());
        let mut names = Vec::new();
        for number in 0..self.services {
            let [namespace, service] = self.service(number);
            names.push(literal(&[&namespace, &service]));
            names.extend((0..3).map(|tag| literal(&[&namespace, &service, &format!("tag-{tag}")])));
            let any = Pattern::new([key(&namespace), PatternKey::Any, key(&format!("tag-{number}"))]);
            names.push(any.unwrap_or_default());
            if number.is_multiple_of(SERVICES_OF_NAMESPACE) {
                names.push(literal(&[&namespace]));
            }
        }
        names.into()
    }

    /// The policy of this population.
    #[must_use]
    pub fn compiled(self) -> Snapshot {
        let mut policy = Builder::new();
        self.members().for_each(|member| policy.member(member));
        self.resources().for_each(|resource| policy.resource(resource));
        self.grants().for_each(|grant| policy.grant(&grant));
        policy.finish()
    }
}

fn role(number: u64) -> Arc<str> {
    format!("role-{}", number % ROLES).into()
}

/// How many of `all` the one of this number gets where they are shared out evenly among `count`.
fn share(all: u64, count: u64, number: u64) -> u64 {
    all / count + u64::from(number < all % count)
}

/// No name here is too long.
fn literal(keys: &[impl AsRef<str>]) -> Pattern {
    let literal: Result<Pattern, NameError> = Pattern::literal(keys.iter().map(|key| Arc::<str>::from(key.as_ref())));
    literal.unwrap_or_default()
}

/// Random enough, and the same in every run (splitmix64).
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next number.
    #[expect(clippy::should_implement_trait, reason = "a source of numbers that does not end is no iterator here")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_population_has_the_grants_that_were_asked_for() {
        for (users, services, grants) in [(100, 50, 1_000), (1_000, 1_000, 10_000), (1_000, 20, 5_000)] {
            let population = Population { users, services, grants };
            let all: BTreeSet<_> = population.grants().map(|grant| (grant.subject, grant.pattern)).collect();
            assert_eq!(all.len() as u64, grants, "{population:?}");
            let compiled = population.compiled();
            assert_eq!(compiled.size().grants as u64, grants);
            assert_eq!(compiled.size().resources as u64, services);
        }
    }

    #[test]
    fn some_users_are_in_twenty_groups_and_some_groups_are_large() {
        let population = Population::of_grants(20_000);
        let members: Vec<Member> = population.members().collect();
        let busy = members.iter().filter(|member| member.groups.len() == 20).count();
        assert_eq!(busy as u64, population.busy());
        let large = population.group(0);
        assert_eq!(members.iter().filter(|member| member.groups.contains(&large)).count(), 200);
    }
}
