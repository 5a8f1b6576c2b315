//! `audit verify|head|export`.

use std::io::Write;

use clap::Subcommand;

use super::open::{self, block_on};
use super::progress::Progress;
use super::{ConfigArg, Failure};
use crate::config::StoreUrl;
use crate::store::sqlite::SqliteStore;
use crate::store::{Auditor, Break, Followed, Head, Noted, Reader, Step};

/// Entries that are looked at before it is said how far it is.
const AT_ONCE: usize = 10_000;

/// The commands about the audit.
#[derive(Debug, Subcommand)]
pub(super) enum AuditCommand {
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

/// Runs the command.
pub(super) fn run(command: &AuditCommand, out: &mut dyn Write) -> Result<(), Failure> {
    block_on(async {
        match command {
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
    Ok(store)
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
        return Ok(());
    }
    writeln!(out, "whole: entries 1 to {}, each following from the one before", end.seq)?;
    if end.before > 0 {
        let before = end.before;
        writeln!(
            out,
            "entries 1 to {before} are older than the chain: what became of them until it began is not known"
        )?;
    }
    writeln!(out, "head {}", Head { seq: end.seq, mac: end.mac })?;
    if args.head.is_empty() {
        writeln!(out, "that no newer entries were removed, only a head kept elsewhere can tell: see --head")?;
    }
    Ok(())
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
        for entry in &entries {
            serde_json::to_writer(&mut *out, entry).map_err(std::io::Error::from)?;
            writeln!(out)?;
        }
    }
}
