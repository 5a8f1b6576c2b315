//! `GET /user/users`: which users, by one attribute (`docs/API.md` §4).

use std::sync::Arc;

use utoipa::IntoParams;

use super::Api;
use super::error::Refusal;
use super::extract::{Asked, Caller};
use super::paging::{Entries, Wanted};
use super::reach::{self, TooLong};
use super::view::View;
use crate::identity::Account;

/// What the three parameters ask for. Values are plain text, never patterns.
enum Filter {
    Everybody,
    /// E-mail addresses have no case.
    Address(String),
    AddressBegins(String),
    Equal(Attribute, String),
    Begins(Attribute, String),
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

/// The page that is asked for of the users that are asked for, by name. Of many users the listener's thread looks at none.
pub(super) async fn find(api: &Api, caller: &Caller, asked: &Asked) -> Result<Entries<Arc<Account>>, Refusal> {
    let count = match Filter::read(asked)? {
        Filter::Equal(Attribute::Name, _) => 1,
        _ => api.view().state.directory.len(),
    };
    let may = |view| Ok((view, Filter::read(asked)?, Wanted::read(asked)?));
    let found = reach::looking_at(count, api, caller, may, |(view, filter, wanted), mut deadline| {
        let directory = &view.state.directory;
        let mut found = Vec::new();
        if let Filter::Equal(Attribute::Name, name) = &filter {
            found.extend(directory.by_name(name).cloned());
        } else {
            for account in directory.users() {
                deadline.goes_on()?;
                found.extend(Some(account).filter(|account| filter.takes(account)).cloned());
            }
        }
        by_name(found, wanted)
    });
    found.await
}

/// The page that is asked for of the members of the group of this name, by theirs.
pub(super) async fn members(
    api: &Api,
    caller: &Caller,
    name: &str,
    asked: &Asked,
) -> Result<Entries<Arc<Account>>, Refusal> {
    let group = |view: &View| view.group_named(name).map(|group| group.id);
    let may = |view: Arc<View>| {
        let group = group(&view).ok_or_else(|| Refusal::unknown("group", name))?;
        Ok((view, group, Wanted::read(asked)?))
    };
    let view = api.view();
    let some = group(&view).into_iter().flat_map(|group| view.state.directory.members(group));
    let count = some.take(reach::FEW + 1).count();
    let found = reach::looking_at(count, api, caller, may, |(view, group, wanted), mut deadline| {
        let mut found = Vec::new();
        for account in view.state.directory.members(group) {
            deadline.goes_on()?;
            found.push(account.clone());
        }
        by_name(found, wanted)
    });
    found.await
}

fn by_name(mut all: Vec<Arc<Account>>, wanted: Wanted) -> Result<Entries<Arc<Account>>, TooLong> {
    all.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    wanted.of(&all, |account| Ok(account.clone()))
}

impl Filter {
    fn read(asked: &Asked) -> Result<Self, Refusal> {
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
            "=" => Ok(Self::Equal(attribute, value.to_owned())),
            "^=" if value == "*" => Ok(Self::Everybody),
            "^=" => Ok(Self::Begins(attribute, value.to_owned())),
            _ => Err(Refusal::input(format!("unknown attributeFilter `{comparison}`\nwrite `=` or `^=`"))),
        }
    }

    fn takes(&self, account: &Account) -> bool {
        let email = || account.email.as_deref().map(str::to_lowercase);
        match self {
            Self::Everybody => true,
            Self::Address(value) => email().is_some_and(|email| email == *value),
            Self::AddressBegins(value) => email().is_some_and(|email| email.starts_with(value)),
            Self::Equal(attribute, value) => attribute.of(account, |text| text == value),
            Self::Begins(attribute, value) => attribute.of(account, |text| text.starts_with(value.as_str())),
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
