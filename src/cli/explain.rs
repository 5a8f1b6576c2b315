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
use crate::policy::ResourceId;
use crate::proxy::authorize::{self, Call, Judge, Needed};
use crate::proxy::why::{self, Why};
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
    /// The path of the call: /NAMESPACE/SERVICE/… as at the proxy's address, or /service/NAMESPACE/SERVICE/… as at the
    /// API's
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
        let target =
            Target::parse(&args.path, Door::of(args.path.path())).map_err(|problem| refused(problem.detail()))?;
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
        let now = Timestamp::now();
        let asked = authorize::ask(&call, |needed| {
            let explained = policy.explain(user.id, needed.keys, needed.need, now);
            let told = Why::of(judge.names(), &explained, needed.keys, now).to_string();
            (described(&call, &needed), told, explained.allowed)
        });
        let (described, told, allowed) =
            asked.map_err(|no_question| refused(no_question.problem(&judge, &call).detail()))?;
        write!(out, "{described}\n{told}")?;
        if let Some(fault) = call.route.fault() {
            writeln!(out, "note: the service cannot be called as it is configured: {fault}")?;
        }
        if allowed { Ok(()) } else { Err(Failure::NotFine(String::new())) }
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
    let name = why::resource(needed.keys);
    format!("{} {}: {what}\nneeds {} on {name}", call.method, call.target.path(), needed.need)
}
