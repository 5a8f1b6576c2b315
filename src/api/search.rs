//! `GET /user/users`: which users, by one attribute (`docs/API.md` §4).

use std::sync::Arc;

use utoipa::IntoParams;

use super::error::Refusal;
use super::extract::Asked;
use crate::identity::{Account, Directory};

/// What the three parameters ask for. Values are plain text, never patterns.
enum Filter<'a> {
    Everybody,
    /// E-mail addresses have no case.
    Address(String),
    AddressBegins(String),
    Equal(Attribute, &'a str),
    Begins(Attribute, &'a str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attribute {
    Id,
    Name,
    Email,
    FirstName,
    LastName,
}

/// What the query of a search says.
#[derive(IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
#[expect(dead_code, reason = "it describes what `Filter::read` reads")]
pub(super) struct Parameters {
    /// `UserId`, `UserName`, `Email`, `FirstName`, `LastName`, or its number from 0 on.
    #[param(nullable = false, pattern = "^(UserId|UserName|Email|FirstName|LastName|[0-4])?$")]
    attribute_name: Option<String>,
    /// What it is compared with.
    #[param(nullable = false)]
    attribute_value: Option<String>,
    /// `=` equal, `^=` begins with.
    #[param(nullable = false, pattern = "^( *\\^?= *)?$")]
    attribute_filter: Option<String>,
}

/// The users that are asked for, by name.
pub(super) fn find(directory: &Directory, asked: &Asked) -> Result<Vec<Arc<Account>>, Refusal> {
    let filter = Filter::read(asked)?;
    let mut found: Vec<_> = match filter {
        Filter::Equal(Attribute::Name, name) => directory.by_name(name).cloned().into_iter().collect(),
        _ => directory.users().filter(|account| filter.takes(account)).cloned().collect(),
    };
    found.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    Ok(found)
}

impl<'a> Filter<'a> {
    fn read(asked: &'a Asked) -> Result<Self, Refusal> {
        let (name, value) = (asked.value("attributeName")?, asked.value("attributeValue")?);
        let (name, value, comparison) = match (name, value, asked.value("attributeFilter")?) {
            (None, None, None) => return Ok(Self::Everybody),
            (Some(name), Some(value), Some(comparison)) => (name, value, comparison),
            _ => {
                let detail = "Must provide attributeName, attributeValue, and attributeFilter query parameters";
                return Err(Refusal::input(detail));
            }
        };
        let attribute = Attribute::read(name).ok_or_else(|| {
            Refusal::input(format!(
                "unknown attributeName `{name}`\nwrite UserId, UserName, Email, FirstName or LastName"
            ))
        })?;
        match comparison.trim() {
            "=" if matches!(attribute, Attribute::Email) => Ok(Self::Address(value.to_lowercase())),
            "^=" if matches!(attribute, Attribute::Email) && value != "*" => {
                Ok(Self::AddressBegins(value.to_lowercase()))
            }
            "=" => Ok(Self::Equal(attribute, value)),
            "^=" if value == "*" => Ok(Self::Everybody),
            "^=" => Ok(Self::Begins(attribute, value)),
            _ => Err(Refusal::input(format!("unknown attributeFilter `{comparison}`\nwrite `=` or `^=`"))),
        }
    }

    fn takes(&self, account: &Account) -> bool {
        let email = || account.email.as_deref().map(str::to_lowercase);
        match self {
            Self::Everybody => true,
            Self::Address(value) => email().is_some_and(|email| email == *value),
            Self::AddressBegins(value) => email().is_some_and(|email| email.starts_with(value)),
            Self::Equal(attribute, value) => attribute.of(account, |text| text == *value),
            Self::Begins(attribute, value) => attribute.of(account, |text| text.starts_with(value)),
        }
    }
}

impl Attribute {
    /// By name, as the new client sends it, or by number, as the old one does.
    fn read(text: &str) -> Option<Self> {
        Some(match text {
            "UserId" | "0" => Self::Id,
            "UserName" | "1" => Self::Name,
            "Email" | "2" => Self::Email,
            "FirstName" | "3" => Self::FirstName,
            "LastName" | "4" => Self::LastName,
            _ => return None,
        })
    }

    fn of(self, account: &Account, fits: impl Fn(&str) -> bool) -> bool {
        match self {
            Self::Id => fits(&account.id.to_string()),
            Self::Name => fits(&account.name),
            Self::Email => account.email.as_deref().is_some_and(fits),
            Self::FirstName => account.first_name.as_deref().is_some_and(fits),
            Self::LastName => account.last_name.as_deref().is_some_and(fits),
        }
    }
}
