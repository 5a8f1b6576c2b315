//! A plan against the store: what is there already, what is in the way, one change for the rest, and the report.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;

use jiff::Timestamp;
use uuid::Uuid;

use super::plan::{Fate, NewGrant, NewUser, Plan, Remark, shown};
use super::present::Present;
use crate::cli::Failure;
use crate::cli::open::{Opened, block_on, open};
use crate::cli::user::new_user;
use crate::identity::{is_group_name, is_login_name};
use crate::policy::written::Written;
use crate::policy::{Grant, GroupId, Levels, Pattern, PatternKey, Subject, UserId};
use crate::store::{self, Group, Mutation, User};

/// How much there is to do.
#[derive(Default)]
struct Tally {
    made: usize,
    there: usize,
    /// By which row each grant comes, and with which levels: a later one must not replace it unseen.
    rows: BTreeMap<(Subject, Pattern), (String, Levels)>,
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
        let several = several(&plan);
        let (groups, group_tally) = groups(&mut plan, &present, &users, &several, &mut changes);
        let grants = std::mem::take(&mut plan.grants);
        let mut tally = Tally::default();
        for grant in grants {
            if matches!(&grant.who, Written::Group(name) if several.contains(name)) && !grant.levels.is_empty() {
                let what = "of several groups of this name: their members are one group's here, and the others were not \
                            given it\nrename the groups there, or grant by hand";
                plan.drop("name", grant.row, what);
                continue;
            }
            match subject(&grant.who, &users, &groups, &opened).await? {
                Ok(subject) => give(&mut plan, grant, subject, under, &present, now, &mut changes, &mut tally),
                Err(why) => plan.drop("orphan", grant.row, why),
            }
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

/// The users by their names in the plan; none for who is not imported.
fn users(
    plan: &mut Plan,
    present: &Present,
    changes: &mut Vec<Mutation>,
    now: Timestamp,
) -> (BTreeMap<String, Option<UserId>>, Tally) {
    let (mut ids, mut tally) = (BTreeMap::new(), Tally::default());
    let all = std::mem::take(&mut plan.users);
    let mut taken: BTreeMap<UserId, BTreeSet<String>> = BTreeMap::new();
    for new in &all {
        if let Some(account) = meant(new, present) {
            taken.entry(account.id).or_default().insert(new.name.clone());
        }
    }
    for new in all {
        let (row, email) = (format!("user {}", new.name), new.email.as_deref());
        if ids.contains_key(&new.name) {
            plan.drop("name", row, "listed already: only the first row of a name counts");
            continue;
        }
        let others = meant(&new, present).and_then(|account| Some((account, taken.get(&account.id)?)));
        if let Some((account, names)) = others.filter(|(account, names)| names.len() > 1 && account.name != new.name) {
            let names: Vec<&str> = names.iter().map(String::as_str).filter(|name| *name != new.name).collect();
            let what = format!(
                "it would become {} by its address, and so would {}: what one has would replace what the other has\ngive \
                 them addresses of their own there, or grant by hand what {} is to have",
                account.name,
                names.join(" and "),
                account.name
            );
            plan.drop("name", row, what);
            ids.insert(new.name, None);
            continue;
        }
        let namesake = present.users.get(&new.name);
        let other = taken_by_another(&new, present);
        if let (Some(other), Some(email)) = (other, email) {
            let what = format!(
                "the name is an account's here, and the address {email} was checked for another: {}\nrename the user \
                 there, or the account here",
                other.name
            );
            plan.drop("name", row, what);
            ids.insert(new.name, None);
            continue;
        }
        let proved = email.and_then(|email| present.proved(email));
        if let Some(user) = namesake.filter(|_| proved.is_none()) {
            plan.remark("there", Fate::Note, &row, format!("taken to be {} by the name alone", user.name));
        }
        let proved = proved.filter(|_| namesake.is_none());
        if let (Some((user, why)), Some(email)) = (proved, email) {
            plan.remark("there", Fate::Note, &row, format!("taken to be {}, {why}: {email}", user.name));
        }
        if let Some(user) = namesake.or(proved.map(|(user, _)| user)) {
            tally.there += 1;
            if user.role != new.role {
                let what = format!("there already as {}, whose role stays {}, not {}", user.name, user.role, new.role);
                plan.remark("there", Fate::Note, row, what);
            }
            ids.insert(new.name, Some(user.id));
            continue;
        }
        if !is_login_name(&new.name) {
            let what = "this cannot be a login name: rename the user there, to up to 128 characters without blanks, `/` and \
                        `:`, and not `everyone`";
            plan.drop("name", row, what);
            ids.insert(new.name, None);
            continue;
        }
        let holders = email.and_then(|email| present.holders(email));
        if let (Some(holders), Some(email)) = (&holders, email) {
            let what = format!(
                "an account of its own, without the address {email}: nothing proves that {holders}, who has it here, is \
                 meant; if so, grant it to {holders} by hand"
            );
            plan.change("there", row, what);
        }
        tally.made += 1;
        let user = User {
            first_name: new.first_name,
            last_name: new.last_name,
            created: now,
            ..new_user(&new.name, email.filter(|_| holders.is_none()), &new.role, false)
        };
        let id = user.id;
        ids.insert(new.name, Some(id));
        let new_user = store::NewUser { user, link: None, password: None, first_role: None };
        changes.push(Mutation::CreateUser(Box::new(new_user)));
        if new.disabled {
            changes.push(Mutation::DisableUser { user: id, disabled: true, at: now });
        }
    }
    (ids, tally)
}

/// The account here that the user there is, if there is one.
fn meant<'p>(new: &NewUser, present: &'p Present) -> Option<&'p User> {
    if taken_by_another(new, present).is_some() {
        return None;
    }
    let proved = || new.email.as_deref().and_then(|email| present.proved(email)).map(|(user, _)| user);
    present.users.get(&new.name).or_else(proved)
}

/// The account for which the user's address was checked, where another one has the user's name.
fn taken_by_another<'p>(new: &NewUser, present: &'p Present) -> Option<&'p User> {
    let namesake = present.users.get(&new.name)?;
    present.checked(new.email.as_deref()?).find(|one| one.id != namesake.id)
}

/// The names that several groups have.
fn several(plan: &Plan) -> BTreeSet<String> {
    let mut known = BTreeSet::new();
    plan.groups.iter().filter(|(name, _)| !known.insert(name)).map(|(name, _)| name.clone()).collect()
}

/// The groups by their names in the plan; none for what is not imported.
fn groups(
    plan: &mut Plan,
    present: &Present,
    users: &BTreeMap<String, Option<UserId>>,
    several: &BTreeSet<String>,
    changes: &mut Vec<Mutation>,
) -> (BTreeMap<String, Option<GroupId>>, Tally) {
    let (mut ids, mut tally) = (BTreeMap::new(), Tally::default());
    let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, members) in std::mem::take(&mut plan.groups) {
        all.entry(name).or_default().extend(members);
    }
    for (name, members) in all {
        let there = present.groups.get(&name);
        if there.is_some() && several.contains(&name) {
            // Which of them it is cannot be told, and whoever joins it gets what it has.
            let what =
                "there are several of this name, and one here: rename them there, or fill the group here by hand";
            plan.drop("name", format!("group {name}"), what);
            ids.insert(name, None);
            continue;
        }
        if let Some(runs) = there.and_then(|group| present.runs(group)) {
            // Who runs the group would decide who gets what is imported.
            let what = format!(
                "{runs} runs the group of this name here and could join it: rename the group there, or grant by hand what \
                 {runs} may share"
            );
            plan.drop("there", format!("group {name}"), what);
            ids.insert(name, None);
            continue;
        }
        let id = match there {
            Some(group) => {
                tally.there += 1;
                group.id
            }
            None if !is_group_name(&name) => {
                let what = "this cannot be a group's name: rename the group there, to NAME or ORGANIZATION:NAME, up to 128 \
                            characters without `,` and `/`";
                plan.drop("name", format!("group {name}"), what);
                ids.insert(name, None);
                continue;
            }
            None => {
                tally.made += 1;
                if several.contains(&name) {
                    let what =
                        "there are several of this name: one group here, of all members, with what either was denied";
                    plan.change("name", format!("group {name}"), what);
                }
                let id = GroupId(Uuid::new_v4());
                changes.push(Mutation::CreateGroup(Group { id, name: name.clone(), owner: None }));
                id
            }
        };
        ids.insert(name, Some(id));
        let members = members.iter().filter_map(|name| users.get(name).copied().flatten());
        let new = members.filter(|user| !present.members.contains(&(*user, id)));
        changes.extend(new.map(|user| Mutation::AddMember(id, user)));
    }
    (ids, tally)
}

/// Whom the row is for.
///
/// # Errors
/// What is not imported, or else [`Failure`] where the store has nobody of this name.
async fn subject(
    who: &Written,
    users: &BTreeMap<String, Option<UserId>>,
    groups: &BTreeMap<String, Option<GroupId>>,
    opened: &Opened,
) -> Result<Result<Subject, &'static str>, Failure> {
    let planned = match who {
        Written::User(name) => users.get(name).map(|id| id.map(Subject::User).ok_or("its user is not imported")),
        Written::Group(name) => groups.get(name).map(|id| id.map(Subject::Group).ok_or("its group is not imported")),
        _ => None,
    };
    match planned {
        Some(planned) => Ok(planned),
        None => who.resolve(opened).await.map(Ok),
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
    if let Some((row, levels)) = tally.rows.get(&(new.subject.clone(), new.pattern.clone())) {
        let what = format!("{row} gives {levels} to the same subject on the same name here, and counts");
        return plan.drop("1.3", grant.row, what);
    }
    tally.rows.insert((new.subject.clone(), new.pattern.clone()), (grant.row.clone(), new.levels));
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
