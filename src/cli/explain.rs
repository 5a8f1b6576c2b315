//! `explain`.

use std::io::Write;

use http::{Method, Uri};
use jiff::Timestamp;

use super::open::{Opened, block_on, open};
use super::{ConfigArg, Failure};
use crate::config::{Config, Service, Unmatched};
use crate::identity::Directory;
use crate::policy::{Because, Explanation, Grant, Levels, Snapshot, Subject, Winner};
use crate::proxy::target::{Door, Target};
use crate::refresh;
use crate::store::{Contents, Item};

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

/// What a call asks for.
struct Question {
    keys: Vec<String>,
    need: Levels,
    /// The operation that the call is, in words.
    operation: String,
}

/// Writes the decision and its reasons; ends with a failure where the call is refused.
pub(super) fn run(args: &Args, out: &mut dyn Write) -> Result<(), Failure> {
    block_on(async {
        let opened = open(&args.config.config).await?;
        let user = opened.user(&args.user).await?;
        let contents = opened.store.load().await?;
        let target =
            Target::parse(&args.path, Door::Proxy).map_err(|problem| Failure::NotFine(problem.detail().to_owned()))?;
        let service = service_of(&opened, &contents, &target)?;
        if user.disabled {
            return Err(Failure::NotFine(format!(
                "refused: {} is disabled, so every credential of theirs is refused",
                user.name
            )));
        }
        if is_public(&service, args, &target) {
            writeln!(out, "allowed: {} is open to all, and nothing is injected", args.path.path())?;
            return Ok(());
        }
        let question = match ask(&service, &args.method, &target) {
            Ok(question) => question,
            Err(why) => return Err(Failure::NotFine(format!("refused: {why}"))),
        };
        let keys: Vec<&str> = question.keys.iter().map(String::as_str).collect();
        let policy = refresh::policy(&contents.items);
        let explained = policy.explain(user.id, &keys, question.need, Timestamp::now());
        let names = Names { directory: Directory::empty().patched(&contents.items), policy: &policy };
        writeln!(out, "{}", question.operation)?;
        writeln!(out, "needs {} on {}", question.need, keys.join("."))?;
        report(&explained, &user.name, &names, out)?;
        if explained.allowed { Ok(()) } else { Err(Failure::NotFine(String::new())) }
    })
}

fn service_of(opened: &Opened, contents: &Contents, target: &Target) -> Result<Service, Failure> {
    let (namespace, name) = (target.namespace(), target.service());
    let stored = contents.items.iter().find_map(|item| match item {
        Item::Service(service) if service.namespace == namespace && service.name == name => Some(service),
        _ => None,
    });
    let table = stored.and_then(|service| refresh::table(&opened.config, service));
    table.or_else(|| declared(&opened.config, namespace, name)).ok_or_else(|| {
        Failure::NotFine(format!(
            "refused: there is no service `{namespace}/{name}`\nwrite the path as /NAMESPACE/SERVICE/…"
        ))
    })
}

/// A service of the file that no gateway has made known to the store yet.
fn declared(config: &Config, namespace: &str, name: &str) -> Option<Service> {
    config.services.iter().find(|service| service.namespace == namespace && service.name == name).cloned()
}

fn is_public(service: &Service, args: &Args, target: &Target) -> bool {
    let rest = if target.remainder().is_empty() { "/" } else { target.remainder() };
    (args.method == Method::GET || args.method == Method::HEAD) && service.public.iter().any(|path| path == rest)
}

fn ask(service: &Service, method: &Method, target: &Target) -> Result<Question, String> {
    let label = format!("{}/{}", service.namespace, service.name);
    let base = || vec![service.namespace.clone(), service.name.clone()];
    if service.operations.is_empty() {
        return Ok(Question {
            keys: base(),
            need: service.level,
            operation: format!("{method} {}: a call of {label}", target.path()),
        });
    }
    let segments = target.segments();
    for operation in &service.operations {
        if let Some(captures) = operation.matches(method, &segments) {
            return Ok(Question {
                keys: operation.resource_keys(&captures).map(str::to_owned).collect(),
                need: operation.level.unwrap_or(service.level),
                operation: format!("{method} {}: the operation `{}` of {label}", target.path(), operation.name),
            });
        }
    }
    match service.unmatched {
        Unmatched::Level => Ok(Question {
            keys: base(),
            need: service.level,
            operation: format!("{method} {}: no declared operation of {label}, judged by its level", target.path()),
        }),
        Unmatched::Refuse => Err(format!(
            "{method} {} is no operation of {label} that is declared\nits owner can declare one, or set `unmatched = \"level\"`",
            target.path()
        )),
    }
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
