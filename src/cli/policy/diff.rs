//! `policy diff`: what another policy changes, before anybody has it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::world::World;
use crate::cli::Failure;
use crate::config::{self, Asked, Scenario};
use crate::policy::effects::meet;
use crate::policy::written::Written;
use crate::policy::{Levels, Pattern, PatternKey, UserId};
use crate::proxy::why::levels;

/// How many answers are compared, and how many names where two grants meet are looked at.
const MOST: (usize, usize) = (10_000_000, 10_000);

/// Arguments of `policy diff`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The policy as it is, in TOML as for `policy test`
    #[arg(value_name = "OLD")]
    old: PathBuf,
    /// The policy as it is to be
    #[arg(value_name = "NEW")]
    new: PathBuf,
}

/// Prints, for the time that the new file names, who gains and who loses what, and what calls need now; nothing where both are the same.
///
/// # Errors
/// [`Failure::Usage`] with the faults of a file; [`Failure::NotFine`] where the policies differ, or are too large to be
/// compared whole.
pub(super) fn run(args: &Args, out: &mut dyn Write) -> Result<(), Failure> {
    let (old, new) = (load(&args.old)?, load(&args.new)?);
    // One numbering for both, so that the same name is the same user.
    let mut names = World::default();
    names.fill(&old);
    names.fill(&new);
    let others = others(&mut names, [&old, &new]);
    let compiled = |scenario: &Scenario| {
        let mut world = names.emptied();
        world.fill(scenario);
        for (user, role, group) in &others {
            world.enlist(*user, role, group.as_deref());
        }
        world.compile()
    };
    let ((before, directory), (after, _)) = (compiled(&old), compiled(&new));
    let users: Vec<UserId> = names.all_users().collect();
    let resources: Vec<Pattern> = resources([&old, &new]).into_iter().collect();
    let compared = before.compared(&after, &users, &resources, new.now, |count| count <= MOST.0);

    let (mut gains, mut losses) = (0, 0);
    for one in &compared.differences {
        let user = directory.by_id(one.user).map_or_else(|| one.user.to_string(), |account| account.name.to_string());
        let name = resources.get(one.name).map(Pattern::to_string).unwrap_or_default();
        let both = format!("was {}, is {}", levels(one.before), levels(one.after));
        for (sign, count, more) in
            [('+', &mut gains, one.after.without(one.before)), ('-', &mut losses, one.before.without(one.after))]
        {
            if !more.is_empty() {
                *count += 1;
                writeln!(out, "{sign} {user} on {name}: {} ({both})", levels(more))?;
            }
        }
    }
    let needs = compare_needs(&needs(&old), &needs(&new), out)?;
    if !compared.complete {
        return Err(Failure::NotFine(
            "the policies are too large to be compared whole: this is of the first names only".to_owned(),
        ));
    }
    if gains + losses + needs == 0 {
        return Ok(());
    }
    let plural = |count: usize, one: &str, many: &str| format!("{count} {}", if count == 1 { one } else { many });
    writeln!(
        out,
        "{}, {}, {}",
        plural(gains, "gain", "gains"),
        plural(losses, "loss", "losses"),
        plural(needs, "call needs something else", "calls need something else")
    )?;
    Err(Failure::NotFine(String::new()))
}

fn load(path: &Path) -> Result<Scenario, Failure> {
    config::load_policy(path).map_err(|faults| {
        let all: Vec<String> = faults.iter().map(ToString::to_string).collect();
        Failure::Usage(format!("{}\nnothing was compared", all.join("\n")))
    })
}

/// Users who stand for all whom the files do not list: anybody, and anybody of each role and group that is granted
/// something. Their names are no names of users, because of the space.
fn others(names: &mut World, both: [&Scenario; 2]) -> Vec<(UserId, String, Option<String>)> {
    let granted = both.iter().flat_map(|scenario| &scenario.grants).map(|grant| &grant.subject);
    let subjects: BTreeMap<String, &Written> = granted.map(|subject| (subject.to_string(), subject)).collect();
    let mut others = vec![(names.user("anybody else"), String::new(), None)];
    for (text, subject) in subjects {
        let (role, group) = match subject {
            Written::Role(role) => (role.clone(), None),
            Written::Group(group) => (String::new(), Some(group.clone())),
            _ => continue,
        };
        others.push((names.user(&format!("anybody of {text}")), role, group));
    }
    others
}

/// Every name that the files speak of, and those where two of their grants meet.
fn resources(both: [&Scenario; 2]) -> BTreeSet<Pattern> {
    let mut names = BTreeSet::new();
    let literal = |keys: &[&str]| Pattern::literal(keys.iter().copied()).unwrap_or_default();
    for scenario in both {
        names.extend(scenario.owners.iter().map(|(name, _)| name.clone()));
        names.extend(scenario.grants.iter().map(|grant| grant.pattern.clone()));
        names.extend(scenario.assertions.iter().filter_map(|assertion| match &assertion.question {
            Asked::Levels(name, _) => Some(name.clone()),
            Asked::Call(..) => None,
        }));
        for service in &scenario.services {
            names.insert(literal(&[&service.namespace]));
            names.insert(literal(&[&service.namespace, &service.name]));
            names.extend(service.operations.iter().map(|operation| operation.resource_pattern()));
        }
    }
    let wild = names.iter().filter(|name| name.keys().contains(&PatternKey::Any));
    let met: Vec<Pattern> =
        wild.flat_map(|one| names.iter().filter_map(move |other| meet(one, other))).take(MOST.1).collect();
    names.extend(met);
    names
}

/// What each operation, and each call that is none, needs on what.
fn needs(scenario: &Scenario) -> BTreeMap<String, (Levels, Pattern)> {
    let mut needs = BTreeMap::new();
    for service in &scenario.services {
        let label = format!("{}/{}", service.namespace, service.name);
        let base = Pattern::literal([service.namespace.as_str(), service.name.as_str()]).unwrap_or_default();
        needs.insert(label.clone(), (service.level, base));
        for (number, operation) in service.operations.iter().enumerate() {
            let level = operation.level.unwrap_or(service.level);
            // Several patterns may have one name.
            let mut key = format!("{label} {}", operation.name);
            if needs.contains_key(&key) {
                key = format!("{key} (operation {})", number + 1);
            }
            needs.insert(key, (level, operation.resource_pattern()));
        }
    }
    needs
}

fn compare_needs(
    old: &BTreeMap<String, (Levels, Pattern)>,
    new: &BTreeMap<String, (Levels, Pattern)>,
    out: &mut dyn Write,
) -> Result<usize, Failure> {
    let told = |needs: Option<&(Levels, Pattern)>| match needs {
        Some((need, name)) => format!("{} on {name}", levels(*need)),
        None => "not there".to_owned(),
    };
    let mut count = 0;
    for call in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
        let (before, after) = (old.get(call), new.get(call));
        if before != after {
            count += 1;
            writeln!(out, "~ {call}: needs {} (was {})", told(after), told(before))?;
        }
    }
    Ok(count)
}
