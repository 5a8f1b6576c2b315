//! `user add|disable|enable|passwd|role|admin|link`.

use std::io::{BufRead, Write};

use clap::Subcommand;
use jiff::Timestamp;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::open::{Opened, block_on, open};
use super::{ConfigArg, Failure};
use crate::config::Auth;
use crate::identity::is_login_name;
use crate::identity::srp::{self, Verifier};
use crate::policy::UserId;
use crate::store::{HEADER_ISSUER, Item, Key, Link, Mutation, NewUser, Password, User};

/// The commands about users.
#[derive(Debug, Subcommand)]
pub(super) enum UserCommand {
    /// Make an account
    ///
    /// Without a password the user cannot log in by name and password; tokens (carta-gateway token), and the issuers
    /// and proxies of the configuration, work all the same.
    Add(Add),
    /// Refuse every credential of a user; tokens and streams end at once
    Disable(Name),
    /// Admit a user again; tokens from before stay dead
    Enable(Name),
    /// Set a user's password, read from standard input
    ///
    /// The user's secrets are deleted: whoever sets somebody else's password can never read them by that way.
    Passwd(Passwd),
    /// Give a user another role; what was granted to the role before ends with the next request
    Role(Role),
    /// Make a user an administrator, or no longer one
    ///
    /// An administrator may manage users and the platform, and has no rights on resources by that. The last one who is not
    /// disabled stays one.
    Admin(Admin),
    /// Let one more identity prove an account
    ///
    /// For a person who is answered 403 `identity-conflict`, because the name that the token gives them is an account that
    /// something else proved first. The user's secrets and consents are deleted: whoever links an identity that they hold
    /// themselves can never read another's secrets by that way. The user stores them again.
    Link(LinkArgs),
}

/// Arguments of `user link`.
#[derive(Debug, clap::Args)]
pub(super) struct LinkArgs {
    /// The login name of the account
    name: String,
    /// Who proves it: the `issuer` of an [[auth.jwt]] table, or `header` for the one of [auth.header]
    issuer: String,
    /// As whom: the `sub` of its tokens, or the e-mail address of the header
    subject: String,
    #[command(flatten)]
    config: ConfigArg,
}

/// Arguments of `user role`.
#[derive(Debug, clap::Args)]
pub(super) struct Role {
    /// The login name
    name: String,
    /// The user's one role from now on; its name carries no power, grants to it do
    #[arg(value_parser = role)]
    role: String,
    #[command(flatten)]
    config: ConfigArg,
}

/// Arguments of `user admin`.
#[derive(Debug, clap::Args)]
pub(super) struct Admin {
    /// The login name
    name: String,
    /// Whether the user is to be an administrator
    #[arg(value_enum)]
    set: Switch,
    #[command(flatten)]
    config: ConfigArg,
}

/// Whether something is to be so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Switch {
    On,
    Off,
}

/// Arguments of `user passwd`.
#[derive(Debug, clap::Args)]
pub(super) struct Passwd {
    #[command(flatten)]
    name: Name,
    /// Say that the password comes by standard input, as it always does
    #[arg(long = "password-stdin")]
    _password_stdin: bool,
    /// The user must choose another password at the next login
    #[arg(long)]
    temporary: bool,
}

/// Arguments of `user add`.
#[derive(Debug, clap::Args)]
pub(super) struct Add {
    /// The login name
    name: String,
    /// The e-mail address: an invitation to whoever proves it is theirs
    #[arg(long)]
    email: Option<String>,
    /// The user's one role; its name carries no power, grants to it do
    #[arg(long, default_value = "Guest", value_parser = role)]
    role: String,
    /// May manage users and the platform; gives no rights on resources
    #[arg(long)]
    admin: bool,
    /// Read the password from standard input, one line
    #[arg(long)]
    password_stdin: bool,
    /// The user must choose another password at the first login
    #[arg(long, requires = "password_stdin")]
    temporary: bool,
    #[command(flatten)]
    config: ConfigArg,
}

/// A user's name.
#[derive(Debug, clap::Args)]
pub(super) struct Name {
    /// The login name
    name: String,
    #[command(flatten)]
    config: ConfigArg,
}

/// Runs the command.
pub(super) fn run(command: &UserCommand, input: &mut dyn BufRead, out: &mut dyn Write) -> Result<(), Failure> {
    match command {
        UserCommand::Add(args) => add(args, input, out),
        UserCommand::Disable(args) => set_disabled(args, true, out),
        UserCommand::Enable(args) => set_disabled(args, false, out),
        UserCommand::Passwd(args) => passwd(&args.name, args.temporary, input, out),
        UserCommand::Role(args) => set_role(args, out),
        UserCommand::Admin(args) => set_administrator(args, out),
        UserCommand::Link(args) => link(args, out),
    }
}

fn add(args: &Add, input: &mut dyn BufRead, out: &mut dyn Write) -> Result<(), Failure> {
    check_name(&args.name)?;
    if let Some(email) = &args.email {
        check_email(email)?;
    }
    let password = if args.password_stdin { Some(read_password(input)?) } else { None };
    block_on(async {
        let opened = open(&args.config.config).await?;
        let user = new_user(&args.name, args.email.as_deref(), &args.role, args.admin);
        let password = password.map(|text| seal_password(&opened, &user, &text, args.temporary)).transpose()?;
        let id = user.id;
        let new = NewUser { user, link: None, password, first_role: None };
        let done = opened.commit(Mutation::CreateUser(Box::new(new))).await?;
        let standing = if args.admin { ", an administrator" } else { "" };
        writeln!(out, "user {} added{standing} (id {id}, revision {})", args.name, done.revision.0)?;
        Ok(())
    })
}

/// An account as the command line makes it.
pub(super) fn new_user(name: &str, email: Option<&str>, role: &str, administrator: bool) -> User {
    User {
        id: UserId(Uuid::new_v4()),
        name: name.to_owned(),
        email: email.map(str::to_lowercase),
        // Whoever runs the command vouches for the person, not for the address. It invites all the same: whoever proves
        // it may take up the account while nothing has proved that (`identity::account`).
        email_verified: false,
        first_name: None,
        last_name: None,
        organization: None,
        role: role.to_owned(),
        administrator,
        disabled: false,
        tokens_dead_until: None,
        created: Timestamp::now(),
    }
}

fn set_disabled(args: &Name, disabled: bool, out: &mut dyn Write) -> Result<(), Failure> {
    block_on(async {
        let opened = open(&args.config.config).await?;
        let user = opened.user(&args.name).await?;
        let at = Timestamp::now();
        let done = opened.commit(Mutation::DisableUser { user: user.id, disabled, at }).await?;
        let word = if disabled { "disabled" } else { "enabled" };
        writeln!(out, "user {} is {word} (revision {})", args.name, done.revision.0)?;
        Ok(())
    })
}

fn passwd(args: &Name, temporary: bool, input: &mut dyn BufRead, out: &mut dyn Write) -> Result<(), Failure> {
    let text = read_password(input)?;
    block_on(async {
        let opened = open(&args.config.config).await?;
        let user = opened.user(&args.name).await?;
        let password = seal_password(&opened, &user, &text, temporary)?;
        let at = Timestamp::now();
        let done = opened
            .commit(Mutation::SetPassword { user: user.id, password, by_self: false, replaces: None, at })
            .await?;
        writeln!(
            out,
            "the password of {} is set; older tokens and the secrets are gone (revision {})",
            args.name, done.revision.0
        )?;
        Ok(())
    })
}

fn set_role(args: &Role, out: &mut dyn Write) -> Result<(), Failure> {
    block_on(async {
        let opened = open(&args.config.config).await?;
        let user = opened.user(&args.name).await?;
        if user.role == args.role {
            writeln!(out, "{} has the role {} already", args.name, args.role)?;
            return Ok(());
        }
        let done = opened.commit(Mutation::SetRole { user: user.id, role: args.role.clone() }).await?;
        let (name, role, before) = (&args.name, &args.role, &user.role);
        writeln!(out, "{name} has the role {role} now, and {before} no longer (revision {})", done.revision.0)?;
        Ok(())
    })
}

fn set_administrator(args: &Admin, out: &mut dyn Write) -> Result<(), Failure> {
    block_on(async {
        let opened = open(&args.config.config).await?;
        let user = opened.user(&args.name).await?;
        let administrator = args.set == Switch::On;
        if user.administrator == administrator {
            let word = if administrator { "an administrator already" } else { "no administrator" };
            writeln!(out, "{} is {word}", args.name)?;
            return Ok(());
        }
        let done = opened.commit(Mutation::SetAdministrator { user: user.id, administrator }).await?;
        let word = if administrator { "an administrator now" } else { "no administrator any more" };
        writeln!(out, "{} is {word} (revision {})", args.name, done.revision.0)?;
        Ok(())
    })
}

fn link(args: &LinkArgs, out: &mut dyn Write) -> Result<(), Failure> {
    block_on(async {
        let opened = open(&args.config.config).await?;
        let user = opened.user(&args.name).await?;
        let (issuer, subject) = identity(&opened.config.auth, &args.issuer, &args.subject)?;
        let known = opened.store.item(Key::Link(issuer.clone(), subject.clone())).await?;
        if matches!(known, Item::Link(known) if known.user == user.id) {
            writeln!(out, "{} of {} proves the user {} already", args.subject, args.issuer, args.name)?;
            return Ok(());
        }
        let link = Link { issuer, subject, user: user.id };
        let done = opened.commit(Mutation::Link { link, by_self: false }).await?;
        writeln!(
            out,
            "{} of {} proves the user {}, whose secrets are gone (revision {})",
            args.subject, args.issuer, args.name, done.revision.0
        )?;
        Ok(())
    })
}

/// What an issuer, or the header, calls a user; a link to anything else would never prove anybody.
fn identity(auth: &Auth, issuer: &str, subject: &str) -> Result<(String, String), Failure> {
    if subject.is_empty() {
        return Err(Failure::Usage("the subject is empty\nwrite the `sub` of the issuer's tokens".to_owned()));
    }
    if issuer == HEADER_ISSUER {
        check_email(subject)?;
        return Ok((issuer.to_owned(), subject.to_lowercase()));
    }
    if auth.jwt.iter().any(|known| known.issuer == issuer) {
        return Ok((issuer.to_owned(), subject.to_owned()));
    }
    let known: Vec<&str> = auth.jwt.iter().map(|known| known.issuer.as_str()).chain([HEADER_ISSUER]).collect();
    Err(Failure::Usage(format!("`{issuer}` is no issuer of the configuration\nknown are: {}", known.join(", "))))
}

fn seal_password(opened: &Opened, user: &User, text: &str, temporary: bool) -> Result<Password, Failure> {
    let pool = srp::pool_name(&opened.config.auth.local.pool_id);
    Verifier::new(pool, &user.name, text)
        .and_then(|verifier| verifier.seal(&opened.vault, user.id, temporary))
        .map_err(|error| Failure::Internal(error.to_string()))
}

/// One line; its end is not part of the password.
fn read_password(input: &mut dyn BufRead) -> Result<Zeroizing<String>, Failure> {
    let mut line = Zeroizing::new(String::new());
    input
        .read_line(&mut line)
        .map_err(|error| Failure::Usage(format!("cannot read the password from standard input: {error}")))?;
    let text = Zeroizing::new(line.trim_end_matches(['\r', '\n']).to_owned());
    check_password(&text)?;
    Ok(text)
}

fn check_password(text: &str) -> Result<(), Failure> {
    let faults = srp::password_faults(text);
    if faults.is_empty() {
        return Ok(());
    }
    Err(Failure::Usage(format!("the password is too simple\nit needs {}", faults.join(", "))))
}

/// What [`Subject::Role`](crate::policy::Subject) can name, and people can see.
fn role(text: &str) -> Result<String, String> {
    let fine = !text.is_empty() && text.len() <= 255 && text.trim() == text && !text.chars().any(char::is_control);
    if fine {
        return Ok(text.to_owned());
    }
    Err("write 1 to 255 bytes, without blanks around them and without control characters".to_owned())
}

fn check_name(name: &str) -> Result<(), Failure> {
    if is_login_name(name) {
        return Ok(());
    }
    Err(Failure::Usage(format!(
        "`{name}` cannot be a login name\nuse up to 128 characters without blanks, `/` and `:`, and not `everyone`"
    )))
}

/// The rule by which an address is read from a token or a trusted header: what it refuses could never sign in.
fn check_email(email: &str) -> Result<(), Failure> {
    match crate::identity::email(email) {
        Some(_) => Ok(()),
        None => Err(Failure::Usage(format!("`{email}` is no e-mail address"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_be_read_as_something_else_are_refused() {
        for name in ["", "everyone", "group:x", "a b", "a/b", "a\n"] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        for name in ["alice", "ann@example.com", "Ünal", "x.y-z_1"] {
            assert!(check_name(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn an_email_has_one_at_sign() {
        assert!(check_email("a@b.example").is_ok());
        for email in ["a", "a@b@c", "@b", "a@", "a b@c", "a@b,c@d", "<a@b.example>", "a\u{200b}@b.example"] {
            assert!(check_email(email).is_err(), "{email}");
        }
    }

    #[test]
    fn a_simple_password_is_refused_and_the_end_of_the_line_is_not_part_of_it() {
        assert_eq!(*read_password(&mut &b"Secret-77\r\n"[..]).unwrap(), "Secret-77");
        for text in ["short1A", "alllower1", "ALLUPPER1", "NoDigits"] {
            assert!(check_password(text).is_err(), "{text}");
        }
    }
}
