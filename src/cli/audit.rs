//! `audit list|verify|head|export|prune`.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Known;
use std::io::Write;

use clap::Subcommand;
use jiff::Timestamp;

use super::open::{self, block_on};
use super::progress::Progress;
use super::{ConfigArg, Failure};
use crate::config::StoreUrl;
use crate::policy::UserId;
use crate::store::sqlite::SqliteStore;
use crate::store::{
    AUDIT_PRUNED, Audit, AuditQuery, Auditor, Break, Followed, Head, Item, Key, Mutation, Noted, Reader, Step,
};

/// Entries that are looked at before it is said how far it is.
const AT_ONCE: usize = 10_000;

/// The commands about the audit.
#[derive(Debug, Subcommand)]
pub(super) enum AuditCommand {
    /// Print what was changed, the newest first
    ///
    /// Only entries for which all that is given holds. A gateway that runs answers the same at GET /audit, which needs no
    /// file.
    List(List),
    /// Tell whether the audit is as it was written
    ///
    /// Follows the chain of keyed hashes from the first entry to the last, and tells the first entry that was altered, removed,
    /// put there or moved. Who can write the store but lacks the vault key can hide none of that, except by removing the newest
    /// entries, or by putting an older state of the whole store back: that is found with a head that was kept elsewhere
    /// (--head). Only looks. Ends with 1 where something is wrong.
    Verify(Verify),
    /// Print the newest entry's number and hash: keep the line elsewhere, for `audit verify --head`
    Head(HeadArgs),
    /// Print entries as JSON lines, the oldest first
    Export(Export),
    /// Remove the oldest entries
    ///
    /// Verifies the audit first, as `audit verify` does, and removes nothing where something is wrong. Leaves an entry that says
    /// which entries were removed, and by whom; the chain is followed from there. Export what is to be kept before. Heads of
    /// removed entries tell nothing any more: the new one is printed. A gateway that runs goes on meanwhile; entries are removed
    /// some thousands at a time.
    Prune(Prune),
}

/// Arguments of `audit list`.
#[derive(Debug, clap::Args)]
pub(super) struct List {
    /// Made by this user
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Of this kind, such as `grant.put`
    #[arg(long, value_name = "WHAT")]
    what: Option<String>,
    /// To this, as the entries name it: a user, a group, `ns/svc`, `ns.svc` for grants
    #[arg(long, value_name = "TARGET")]
    target: Option<String>,
    /// At this time or later: 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    from: Option<Timestamp>,
    /// Before this time
    #[arg(long, value_name = "TIME")]
    to: Option<Timestamp>,
    /// The most entries to print
    #[arg(long, value_name = "NUMBER", default_value_t = 50)]
    limit: usize,
    /// Print JSON lines, with before and after
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArg,
}

/// Arguments of `audit verify`.
#[derive(Debug, clap::Args)]
pub(super) struct Verify {
    /// A head that was kept elsewhere, as `audit head` and the log (`audit head`) tell it; several may be given
    #[arg(long, value_name = "SEQ:MAC")]
    head: Vec<Head>,
    /// An entry `audit.broken` that was looked into already; several may be given
    #[arg(long, value_name = "SEQ")]
    known: Vec<u64>,
    /// How many entries are older than the chain: those of a store that an older version of this program made
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    before: u64,
    #[command(flatten)]
    config: ConfigArg,
}

/// Arguments of `audit head`.
#[derive(Debug, clap::Args)]
pub(super) struct HeadArgs {
    #[command(flatten)]
    config: ConfigArg,
}

/// Arguments of `audit export`.
#[derive(Debug, clap::Args)]
pub(super) struct Export {
    /// Only entries after the one of this number
    #[arg(long, value_name = "SEQ", default_value_t = 0)]
    after: u64,
    #[command(flatten)]
    config: ConfigArg,
}

/// Arguments of `audit prune`.
#[derive(Debug, clap::Args)]
pub(super) struct Prune {
    /// Entries made before this time: 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    to: Timestamp,
    #[command(flatten)]
    verify: Verify,
}

/// Runs the command.
pub(super) fn run(command: &AuditCommand, out: &mut dyn Write) -> Result<(), Failure> {
    block_on(async {
        match command {
            AuditCommand::List(args) => list(args, out).await,
            AuditCommand::Verify(args) => verify(args, out).await,
            AuditCommand::Head(args) => {
                let store = look(&args.config).await?;
                match store.audit_head().await? {
                    Some(head) => Ok(writeln!(out, "{head}")?),
                    None => {
                        Err(Failure::NotFine("no entry has a hash yet\nthe next change makes the first".to_owned()))
                    }
                }
            }
            AuditCommand::Export(args) => export(args, out).await,
            AuditCommand::Prune(args) => prune(args, out).await,
        }
    })
}

/// The store, for reading only: a copy of it will do.
async fn look(config: &ConfigArg) -> Result<SqliteStore, Failure> {
    let config = open::config(&config.config)?;
    let vault = open::vault(&config)?;
    let StoreUrl::Sqlite(path) = &config.store.url;
    let store = SqliteStore::look(path, vault.clone())?
        .ok_or_else(|| Failure::NotFine(format!("there is no store in `{}` yet", path.display())))?;
    crate::vault::compare_key(&store, &vault).await?;
    if !crate::vault::audit_keys_are_current(&store, &vault).await? {
        return Err(Failure::NotFine(
            "the audit is broken: its keys are sealed under an older vault key than the store: they were put back\nrestore the \
             setting `audit.keys` from a backup, and run this again"
                .to_owned(),
        ));
    }
    Ok(store)
}

async fn list(args: &List, out: &mut dyn Write) -> Result<(), Failure> {
    let store = look(&args.config).await?;
    let user = match &args.user {
        None => None,
        Some(name) => match store.user_named(name).await? {
            Some(user) => Some(user.id),
            None => return Err(Failure::NotFine(format!("no user `{name}`"))),
        },
    };
    let mut query = AuditQuery {
        user,
        what: args.what.clone(),
        target: args.target.clone(),
        from: args.from,
        to: args.to,
        limit: args.limit,
        ..AuditQuery::default()
    };
    let mut names = HashMap::new();
    while query.limit > 0 {
        let page = store.find_audit(query.clone()).await?;
        for entry in &page.entries {
            if args.json {
                json_line(entry, out)?;
                continue;
            }
            let who = match entry.user {
                None => &entry.from,
                Some(id) => match names.entry(id) {
                    Known::Occupied(known) => known.into_mut(),
                    Known::Vacant(new) => new.insert(name_of(&store, id).await?),
                },
            };
            let Audit { seq, at, via, what, target, .. } = entry;
            let at = at.strftime("%Y-%m-%dT%H:%M:%SZ");
            let [who, via, what, target] = [who, via, what, target].map(|text| text.escape_debug());
            writeln!(out, "{seq}  {at}  {who}  {via}  {what}  {target}")?;
        }
        query.limit -= page.entries.len().min(query.limit);
        query.after = page.next;
        if page.next.is_none() {
            break;
        }
    }
    Ok(())
}

async fn name_of(store: &SqliteStore, id: UserId) -> Result<String, Failure> {
    Ok(match store.item(Key::User(id)).await? {
        Item::User(user, _) => user.name,
        _ => id.to_string(),
    })
}

async fn verify(args: &Verify, out: &mut dyn Write) -> Result<(), Failure> {
    let store = look(&args.config).await?;
    let of = store.audit_head().await?.map_or(0, |head| head.seq);
    let mut progress = Progress::of("following");
    let (mut at, mut noted) = (Followed::default(), Vec::new());
    let end = loop {
        match store.follow_audit(at, AT_ONCE).await? {
            Step::More(next, more) => {
                at = next;
                noted.extend(more);
                progress.at(at.seq, of);
            }
            Step::Whole(end, more) => {
                noted.extend(more);
                break end;
            }
            Step::Broken(fault) => return Err(broken(fault)),
        }
    };
    drop(progress);
    for head in &args.head {
        match store.audit_mac(head.seq).await? {
            Some(mac) if mac == head.mac => {}
            Some(_) => return Err(broken(Break::Replaced { seq: head.seq })),
            None if head.seq <= end.pruned => {
                return Err(Failure::NotFine(format!(
                    "entry {} was removed by `audit prune`, and the head cannot be compared\ntake one of a newer entry: `audit \
                     head`",
                    head.seq
                )));
            }
            None => return Err(broken(Break::Gone { seq: head.seq })),
        }
    }
    tell(end, args, out)?;
    noted.retain(|noted| !args.known.contains(&noted.seq));
    match noted.first() {
        None => Ok(()),
        Some(Noted { seq, said }) => Err(Failure::NotFine(format!(
            "entry {seq} notes that a running gateway found the audit changed: {said}\nlook in its log at that time; when it \
             is known what happened, say so with --known {seq}"
        ))),
    }
}

fn tell(end: Followed, args: &Verify, out: &mut dyn Write) -> Result<(), Failure> {
    if end.seq == end.before {
        writeln!(out, "{} entries, and no chain yet: the next change begins it", end.seq)?;
        return older(end, args);
    }
    writeln!(out, "whole: entries {} to {}, each following from the one before", end.pruned + 1, end.seq)?;
    if end.pruned > 0 {
        writeln!(
            out,
            "entries 1 to {} were removed by `audit prune`: see `audit list --what {AUDIT_PRUNED}`",
            end.pruned
        )?;
    }
    if end.before > 0 {
        writeln!(out, "entries 1 to {} are older than the chain", end.before)?;
    }
    writeln!(out, "head {}", Head { seq: end.seq, mac: end.mac })?;
    if args.head.is_empty() {
        writeln!(out, "that no newer entries were removed, only a head kept elsewhere can tell: see --head")?;
    }
    older(end, args)
}

/// Whoever takes every hash away makes all entries look older than the chain: how many are, the operator says.
fn older(end: Followed, args: &Verify) -> Result<(), Failure> {
    let before = end.before;
    // Those that were known to be older may have been removed since.
    if before == args.before || (before == 0 && args.before <= end.pruned) {
        return Ok(());
    }
    Err(Failure::NotFine(format!(
        "{before} entries are older than the chain, and {} are known to be: what became of them until it began, nothing tells\n\
         where a version of this program without the chain made the store, say so with --before {before}; else the hashes \
         were taken away",
        args.before
    )))
}

fn broken(fault: Break) -> Failure {
    let instead = match fault {
        Break::Cut { .. } | Break::Gone { .. } | Break::Replaced { .. } => {
            "if nobody put a backup back: copy the store's files before anything else, compare them with a backup or an \
             export, and find who could write to them"
        }
        _ => {
            "copy the store's files before anything else, compare them with a backup or an export, and find who could write \
             to them"
        }
    };
    Failure::NotFine(format!("the audit is broken: {fault}\n{instead}"))
}

async fn export(args: &Export, out: &mut dyn Write) -> Result<(), Failure> {
    let store = look(&args.config).await?;
    let mut after = args.after;
    loop {
        let entries = store.audit(after, AT_ONCE).await?;
        let Some(last) = entries.last() else { return Ok(()) };
        after = last.seq;
        entries.iter().try_for_each(|entry| json_line(entry, out))?;
    }
}

async fn prune(args: &Prune, out: &mut dyn Write) -> Result<(), Failure> {
    verify(&args.verify, out).await?;
    let opened = open::open(&args.verify.config.config).await?;
    let (mut last, mut after) = (0, 0);
    loop {
        let page = opened.store.audit(after, AT_ONCE).await?;
        let newest = opened.store.audit_head().await?.map_or(0, |head| head.seq);
        let old = |entry: &&Audit| entry.at < args.to && entry.seq < newest;
        let Some(oldest) = page.iter().take_while(old).last() else { break };
        after = oldest.seq;
        // Those from before the chain go when its first one goes.
        if let Some(mac) = oldest.mac {
            opened.commit(Mutation::PruneAudit(Head { seq: oldest.seq, mac })).await?;
            last = oldest.seq;
        }
        if page.len() < AT_ONCE {
            break;
        }
    }
    if last == 0 {
        return Ok(writeln!(out, "nothing is removed: no entry of the chain is older than {}", args.to)?);
    }
    writeln!(out, "entries up to {last} are removed")?;
    if let Some(head) = opened.store.audit_head().await? {
        writeln!(out, "head {head}")?;
    }
    Ok(())
}

fn json_line(entry: &Audit, out: &mut dyn Write) -> Result<(), Failure> {
    serde_json::to_writer(&mut *out, entry).map_err(std::io::Error::from)?;
    Ok(writeln!(out)?)
}
