//! `explain`.

use std::io::Write;
use std::sync::Arc;

use http::{Method, Uri};
use jiff::Timestamp;
use uuid::Uuid;

use super::open::{Opened, block_on, open};
use super::{ConfigArg, Failure};
use crate::config::{Config, Service};
use crate::identity::Directory;
use crate::policy::{Because, Explanation, Grant, Pattern, ResourceId, Snapshot, Subject, Winner};
use crate::proxy::authorize::{self, Call, Judge, Needed};
use crate::proxy::{Door, Route, Target};
use crate::refresh;
use crate::store::{Contents, Item};
use crate::upstream::{Roots, TargetGuard, Upstream};

/// Arguments of `explain`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Who calls: the login name
    #[arg(long, value_name = "NAME")]
    user: String,
    /// The method of the call
    method: Method,
    /// The path of the call at the proxy's address: /NAMESPACE/SERVICE/…
    path: Uri,
    #[command(flatten)]
    config: ConfigArg,
}

/// Writes the decision and its reasons; ends with a failure where the call is refused.
///
/// What a call needs is found by the functions that the gateway itself decides with, in the order in which it does.
pub(super) fn run(args: &Args, out: &mut dyn Write) -> Result<(), Failure> {
    block_on(async {
        let opened = open(&args.config.config).await?;
        let user = opened.user(&args.user).await?;
        let contents = opened.store.load().await?;
        let target = Target::parse(&args.path, Door::Proxy).map_err(|problem| refused(problem.detail()))?;
        let route = route(&opened, &contents, &target);
        let call = route.as_ref().map(|route| Call { route, target: &target, method: &args.method });
        if call.as_ref().is_some_and(|call| authorize::public(call).is_some()) {
            writeln!(out, "allowed: {} is open to all, and nothing is injected", args.path.path())?;
            return Ok(());
        }
        if user.disabled {
            return Err(refused(&format!("{} is disabled, so every credential of theirs is refused", user.name)));
        }
        let Some(call) = call else {
            let (namespace, name) = (target.namespace(), target.service());
            return Err(refused(&format!(
                "there is no service `{namespace}/{name}`\nwrite the path as /NAMESPACE/SERVICE/…"
            )));
        };
        let policy = refresh::policy(&contents.items);
        let directory = Directory::empty().patched(&contents.items);
        let judge = Judge { policy: &policy, directory: &directory, decisions: None };
        let asked = authorize::ask(&call, |needed| {
            let explained = policy.explain(user.id, needed.keys, needed.need, Timestamp::now());
            (described(&call, &needed), explained)
        });
        let (described, explained) =
            asked.map_err(|no_question| refused(no_question.problem(&judge, &call).detail()))?;
        writeln!(out, "{described}")?;
        report(&explained, &user.name, &Names { directory, policy: &policy }, out)?;
        if let Some(fault) = call.route.fault() {
            writeln!(out, "note: the service cannot be called as it is configured: {fault}")?;
        }
        if explained.allowed { Ok(()) } else { Err(Failure::NotFine(String::new())) }
    })
}

fn refused(why: &str) -> Failure {
    Failure::NotFine(format!("refused: {why}"))
}

/// The service that the path names, as a gateway would have it.
fn route(opened: &Opened, contents: &Contents, target: &Target) -> Option<Arc<Route>> {
    let (namespace, name) = (target.namespace(), target.service());
    let stored = contents.items.iter().find_map(|item| match item {
        Item::Service(service) if service.namespace == namespace && service.name == name => Some(service),
        _ => None,
    });
    let id = stored.map_or(ResourceId(Uuid::nil()), |service| service.id);
    let table = stored.and_then(|service| refresh::table(&opened.config, service));
    let table = table.or_else(|| declared(&opened.config, namespace, name))?;
    let guard = Arc::new(TargetGuard::new(&opened.config.register, &[]));
    Some(Route::compile(id, Arc::new(table), None, |table| Upstream::new(table, guard, &Roots::default())))
}

/// A service of the file that no gateway has made known to the store yet.
fn declared(config: &Config, namespace: &str, name: &str) -> Option<Service> {
    config.services.iter().find(|service| service.namespace == namespace && service.name == name).cloned()
}

/// What the call is, and what it needs.
fn described(call: &Call<'_>, needed: &Needed<'_, '_>) -> String {
    let label = call.route.label();
    let what = match needed.operation {
        Some(operation) => format!("the operation `{}` of {label}", operation.name),
        None if call.route.operations().is_empty() => format!("a call of {label}"),
        None => format!("no declared operation of {label}, judged by its level"),
    };
    let name = Pattern::literal(needed.keys.iter().copied()).map(|name| name.to_string()).unwrap_or_default();
    format!("{} {}: {what}\nneeds {} on {name}", call.method, call.target.path(), needed.need)
}

/// What ids are called.
struct Names<'a> {
    directory: Directory,
    policy: &'a Snapshot,
}

impl Names<'_> {
    fn user(&self, id: crate::policy::UserId) -> String {
        self.directory.by_id(id).map_or_else(|| id.to_string(), |account| account.name.to_string())
    }

    fn grant(&self, grant: &Grant) -> String {
        let subject = match &grant.subject {
            Subject::User(id) => format!("user {}", self.user(*id)),
            Subject::Group(id) => {
                format!(
                    "group {}",
                    self.directory.group(*id).map_or_else(|| id.to_string(), |group| group.name.clone())
                )
            }
            Subject::Role(name) => format!("role {name}"),
            Subject::Everyone => "everyone".to_owned(),
            Subject::Holders(levels, id) => {
                let name = self.policy.resource(*id).map_or_else(|| id.to_string(), |known| known.name.to_string());
                format!("whoever holds {levels} on {name}")
            }
        };
        let gives =
            if grant.levels.is_empty() { "is denied everything".to_owned() } else { format!("has {}", grant.levels) };
        let until = grant.expires.map(|at| format!(" until {at}")).unwrap_or_default();
        format!("{subject} {gives} on {}{until}", grant.pattern)
    }
}

fn report(explained: &Explanation, user: &str, names: &Names<'_>, out: &mut dyn Write) -> Result<(), Failure> {
    let verdict = if explained.allowed { "allowed" } else { "refused" };
    let why = match explained.because {
        Because::Owner => format!("{user} owns it"),
        Because::Granted => "grants give what is needed".to_owned(),
        Because::OwnDeny => format!("{user} is denied in person, and that is final"),
        Because::Deny => "a deny binds, and no deeper grant gives what is needed".to_owned(),
        Because::TooLittle => format!("{user} has {} only", explained.held),
        Because::Nothing => format!("no grant covers it for {user}"),
    };
    writeln!(out, "{verdict}: {why}")?;
    for grant in &explained.deciding {
        writeln!(out, "  decides: {}", names.grant(grant))?;
    }
    for beaten in &explained.beaten {
        let by = match beaten.by {
            Winner::Nearer => "a nearer grant of the same subject counts",
            Winner::Deny => "a deny at the same name or deeper binds",
            Winner::OwnDeny => "the user's own deny is final",
            Winner::Deeper => "something deeper counts",
            Winner::Owner => "the owner needs no grant",
        };
        writeln!(out, "  does not count: {} ({by})", names.grant(&beaten.grant))?;
    }
    match explained.owner {
        Some(owner) => {
            writeln!(out, "who can change it: {}, the owner, and whoever has admin on it", names.user(owner))?
        }
        None => writeln!(out, "who can change it: whoever has admin on it, and `carta-gateway grant`; nobody owns it")?,
    }
    if let Some(change) = explained.smallest_change.as_ref().filter(|_| !explained.allowed) {
        let levels: Vec<&str> = change.levels.words().collect();
        writeln!(out, "to allow it: carta-gateway grant {user} {} {}", change.pattern, levels.join(","))?;
    }
    Ok(())
}
