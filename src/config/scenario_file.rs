//! What may be written in a file of policy tests. Every field is optional here, so that one wrong entry never hides
//! another; `resolve` says which are required.

use serde::Deserialize;

use super::service_file::ServiceFile;
use super::written::TextOrList;

/// Who and what there is, who may do what, and what is expected of it.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ScenarioFile {
    /// When the questions are asked; 2000-01-01 where it is not said, so that no test depends on the day.
    pub(super) now: Option<String>,
    /// Roles that grants name and no user has.
    pub(super) roles: Vec<String>,
    pub(super) user: Vec<UserFile>,
    pub(super) group: Vec<GroupFile>,
    pub(super) owner: Vec<OwnerFile>,
    /// As in `gateway.toml`; what does not decide about permissions may be left out and is not read.
    pub(super) service: Vec<ServiceFile>,
    pub(super) grant: Vec<GrantFile>,
    pub(super) assert: Vec<AssertFile>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct UserFile {
    pub(super) name: Option<String>,
    pub(super) role: Option<String>,
    pub(super) groups: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct GroupFile {
    pub(super) name: Option<String>,
    pub(super) members: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct OwnerFile {
    pub(super) resource: Option<TextOrList>,
    pub(super) user: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct GrantFile {
    pub(super) subject: Option<String>,
    pub(super) resource: Option<TextOrList>,
    pub(super) levels: Option<TextOrList>,
    pub(super) expires: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct AssertFile {
    pub(super) name: Option<String>,
    pub(super) user: Option<String>,
    pub(super) resource: Option<TextOrList>,
    pub(super) level: Option<TextOrList>,
    pub(super) method: Option<String>,
    pub(super) path: Option<String>,
    pub(super) expect: Option<ExpectFile>,
    pub(super) by: Option<String>,
    pub(super) now: Option<String>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ExpectFile {
    Allow,
    Deny,
}
