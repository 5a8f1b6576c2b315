//! A plan against the store: what is there already, what is in the way, one change for the rest, and the report.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Write;
use std::path::Path;

use jiff::Timestamp;
use uuid::Uuid;

use super::plan::{Fate, NewGrant, Plan, Remark, shown};
use crate::cli::Failure;
use crate::cli::open::{Opened, block_on, open};
use crate::cli::user::new_user;
use crate::policy::written::Written;
use crate::policy::{Grant, GroupId, Pattern, PatternKey, Snapshot, Subject, UserId};
use crate::refresh;
use crate::store::{self, Group, Item, Mutation, User};

/// What the store has, by name.
struct Present {
    users: HashMap<String, User>,
    by_email: HashMap<String, Vec<String>>,
    groups: HashMap<String, GroupId>,
    members: BTreeSet<(UserId, GroupId)>,
    policy: Snapshot,
}

/// How much there is to do.
#[derive(Default)]
struct Tally {
    made: usize,
    there: usize,
}

/// Makes the change, unless it is only to be shown, and reports.
///
/// # Errors
/// [`Failure`] where the store cannot be used.
pub(super) fn run(
    mut plan: Plan,
    under: &[PatternKey],
    dry_run: bool,
    config: &Path,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    block_on(async {
        let opened = open(config).await?;
        let present = Present::of(&opened).await?;
        let now = Timestamp::now();
        let mut changes = Vec::new();
        let (users, user_tally) = users(&mut plan, &present, &mut changes, now);
        let (groups, group_tally) = groups(&plan, &present, &users, &mut changes);
        let grants = std::mem::take(&mut plan.grants);
        let mut tally = Tally::default();
        for grant in grants {
            let subject = subject(&grant.who, &users, &groups, &opened).await?;
            give(&mut plan, grant, subject, under, &present, now, &mut changes, &mut tally);
        }
        report(&plan.remarks, out)?;
        writeln!(
            out,
            "users: {} new, {} there already; groups: {} new, {} there already; grants: {} new, {} there already",
            user_tally.made, user_tally.there, group_tally.made, group_tally.there, tally.made, tally.there
        )?;
        if dry_run {
            writeln!(out, "nothing was changed: this was a dry run")?;
        } else if changes.is_empty() {
            writeln!(out, "nothing was changed: all of it is there already")?;
        } else {
            let done = opened.commit(Mutation::Batch(changes)).await?;
            writeln!(out, "done as one change (revision {})", done.revision.0)?;
        }
        Ok(())
    })
}

impl Present {
    async fn of(opened: &Opened) -> Result<Self, Failure> {
        let items = opened.store.load().await?.items;
        let policy = refresh::policy(&items);
        let mut present = Self {
            users: HashMap::new(),
            by_email: HashMap::new(),
            groups: HashMap::new(),
            members: BTreeSet::new(),
            policy,
        };
        for item in items {
            match item {
                Item::User(user, groups) => {
                    present.members.extend(groups.into_iter().map(|group| (user.id, group)));
                    if let Some(email) = &user.email {
                        present.by_email.entry(email.clone()).or_default().push(user.name.clone());
                    }
                    present.users.insert(user.name.clone(), *user);
                }
                Item::Group(group) => {
                    present.groups.insert(group.name, group.id);
                }
                _ => {}
            }
        }
        Ok(present)
    }

    /// The account of this name or, where there is none, the only one of this address.
    fn user(&self, name: &str, email: Option<&str>) -> Option<&User> {
        self.users.get(name).or_else(|| match self.by_email.get(email?).map(Vec::as_slice) {
            Some([only]) => self.users.get(only),
            _ => None,
        })
    }
}

/// The users by their names in the plan.
fn users(
    plan: &mut Plan,
    present: &Present,
    changes: &mut Vec<Mutation>,
    now: Timestamp,
) -> (BTreeMap<String, UserId>, Tally) {
    let (mut ids, mut tally) = (BTreeMap::new(), Tally::default());
    let mut remarks = Vec::new();
    for new in &plan.users {
        if let Some(user) = present.user(&new.name, new.email.as_deref()) {
            tally.there += 1;
            ids.insert(new.name.clone(), user.id);
            if user.role != new.role {
                let what = format!("there already as {}, whose role stays {}, not {}", user.name, user.role, new.role);
                remarks.push((format!("user {}", new.name), what));
            }
            continue;
        }
        tally.made += 1;
        let user = User {
            first_name: new.first_name.clone(),
            last_name: new.last_name.clone(),
            created: now,
            ..new_user(&new.name, new.email.as_deref(), &new.role, false)
        };
        let id = user.id;
        ids.insert(new.name.clone(), id);
        let new_user = store::NewUser { user, link: None, password: None, first_role: None };
        changes.push(Mutation::CreateUser(Box::new(new_user)));
        if new.disabled {
            changes.push(Mutation::DisableUser { user: id, disabled: true, at: now });
        }
    }
    for (row, what) in remarks {
        plan.remark("there", Fate::Note, row, what);
    }
    (ids, tally)
}

fn groups(
    plan: &Plan,
    present: &Present,
    users: &BTreeMap<String, UserId>,
    changes: &mut Vec<Mutation>,
) -> (BTreeMap<String, GroupId>, Tally) {
    let (mut ids, mut tally) = (BTreeMap::new(), Tally::default());
    for (name, members) in &plan.groups {
        let id = match present.groups.get(name) {
            Some(id) => {
                tally.there += 1;
                *id
            }
            None => {
                tally.made += 1;
                let id = GroupId(Uuid::new_v4());
                changes.push(Mutation::CreateGroup(Group { id, name: name.clone(), owner: None }));
                id
            }
        };
        ids.insert(name.clone(), id);
        let members = members.iter().filter_map(|name| users.get(name));
        let new = members.filter(|user| !present.members.contains(&(**user, id)));
        changes.extend(new.map(|user| Mutation::AddMember(id, *user)));
    }
    (ids, tally)
}

async fn subject(
    who: &Written,
    users: &BTreeMap<String, UserId>,
    groups: &BTreeMap<String, GroupId>,
    opened: &Opened,
) -> Result<Subject, Failure> {
    let planned = match who {
        Written::User(name) => users.get(name).copied().map(Subject::User),
        Written::Group(name) => groups.get(name).copied().map(Subject::Group),
        _ => None,
    };
    match planned {
        Some(subject) => Ok(subject),
        None => who.resolve(opened).await,
    }
}

#[expect(clippy::too_many_arguments, reason = "what one grant meets, called from one place")]
fn give(
    plan: &mut Plan,
    grant: NewGrant,
    subject: Subject,
    under: &[PatternKey],
    present: &Present,
    now: Timestamp,
    changes: &mut Vec<Mutation>,
    tally: &mut Tally,
) {
    let keys: Vec<PatternKey> = under.iter().chain(&grant.keys).cloned().collect();
    let Ok(pattern) = Pattern::new(keys.iter().cloned()) else {
        return plan.drop("G6", grant.row, "the name has too many keys with what it is put under");
    };
    let literal: Option<Vec<&str>> = keys.iter().map(PatternKey::literal).collect();
    let owner = literal.and_then(|keys| present.policy.owner(&keys));
    if owner.is_some_and(|owner| subject == Subject::User(owner)) {
        return plan.drop("owner", grant.row, "the user owns it here, and holds everything without a grant");
    }
    let new = Grant { subject, pattern, levels: grant.levels, expires: None };
    match present.policy.grant_of(&new.subject, &new.pattern) {
        Some(there) if there == new => {
            tally.there += 1;
            return;
        }
        Some(there) => {
            let what = format!("replaces {} on {} that was there", there.levels, shown(&keys));
            plan.remark("there", Fate::Note, grant.row, what);
        }
        None => {}
    }
    tally.made += 1;
    changes.push(Mutation::PutGrant { grant: new, by: None, at: now });
}

/// Remarks of one kind together, what is lost first.
fn report(remarks: &[Remark], out: &mut dyn Write) -> Result<(), Failure> {
    let mut sorted: Vec<&Remark> = remarks.iter().collect();
    sorted.sort();
    sorted.sort_by_key(|remark| remark.fate);
    for (fate, title) in [
        (Fate::Dropped, "not imported"),
        (Fate::Changed, "imported, and means something else here"),
        (Fate::Note, "to know"),
    ] {
        let all: Vec<&&Remark> = sorted.iter().filter(|remark| remark.fate == fate).collect();
        if all.is_empty() {
            continue;
        }
        writeln!(out, "{title}:")?;
        for remark in all {
            writeln!(out, "  [{}] {}: {}", remark.quirk, remark.row, remark.what)?;
        }
    }
    Ok(())
}
