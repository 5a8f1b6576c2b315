//! A policy and what is expected of it: a file of policy tests as it is meant.

use http::{Method, Uri};
use jiff::Timestamp;

use super::{Place, Service};
use crate::policy::written::Written;
use crate::policy::{Levels, Pattern};

/// A policy, and assertions about it. Every name in it is one that it declares.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Who there is.
    pub users: Vec<Person>,
    /// Whose a resource is, that of services among them; each resource once.
    pub owners: Vec<(Pattern, String)>,
    /// The services, with as much of their tables as decides.
    pub services: Vec<Service>,
    /// Who may do what.
    pub grants: Vec<NamedGrant>,
    /// What is expected.
    pub assertions: Vec<Assertion>,
    /// When questions are asked that say no time of their own.
    pub now: Timestamp,
}

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// The login name.
    pub name: String,
    /// The one role; may be empty.
    pub role: String,
    /// The groups.
    pub groups: Vec<String>,
}

/// A grant, by names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedGrant {
    /// Who holds it.
    pub subject: Written,
    /// What it is on.
    pub pattern: Pattern,
    /// What may be done; the empty set is a deny.
    pub levels: Levels,
    /// When it ends.
    pub expires: Option<Timestamp>,
}

/// What is expected of one question.
#[derive(Clone, Debug)]
pub struct Assertion {
    /// What it is called; empty where it has no name.
    pub name: String,
    /// Where it is written.
    pub place: Option<Place>,
    /// Who asks: a declared user.
    pub user: String,
    /// What is asked.
    pub question: Asked,
    /// Whether it is to be allowed.
    pub allow: bool,
    /// What is to decide.
    pub by: Option<Decider>,
    /// When it is asked.
    pub now: Timestamp,
}

/// What is asked.
#[derive(Clone, Debug)]
pub enum Asked {
    /// These levels, all of them, on the resource.
    Levels(Pattern, Levels),
    /// This call at the proxy's address; and, where it is said, what it is to need.
    Call(Method, Uri, Option<Levels>),
}

/// What is to decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decider {
    /// The ownership.
    Owner,
    /// That there is no grant.
    Nothing,
    /// A grant of this subject on exactly this name.
    Grant(Written, Pattern),
}
