//! Who a permission of version 1 is about: a user, a group, or a node of a kind, by id or name.

use jiff::Timestamp;
use utoipa::IntoParams;

use super::access::holds_any;
use super::error::Refusal;
use super::extract::{Asked, Caller};
use super::node::Node;
use super::role::SubjectKind;
use super::view::View;

/// What kind of thing the subject is.
#[derive(IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
#[expect(dead_code, reason = "it describes what `kind` reads")]
pub(super) struct Kind {
    /// `User` where it is left out.
    #[param(nullable = false, pattern = "^(User|UserGroup|NamespaceItem|ProjectItem|WorkflowItem|WorkspaceItem)?$")]
    user_type: Option<String>,
}

/// The kind that the query names; without one, a user.
pub(super) fn kind(asked: &Asked) -> Result<SubjectKind, Refusal> {
    let Some(text) = asked.value("userType")? else { return Ok(SubjectKind::User) };
    SubjectKind::parse(text).ok_or_else(|| {
        Refusal::input(format!(
            "unknown userType `{text}`\nwrite User, UserGroup, NamespaceItem, ProjectItem, WorkflowItem or WorkspaceItem"
        ))
    })
}

/// The subject by id or name; an id wins. None where the kind is not known; a name that several have is a refusal for
/// later, because it is the content that is at fault.
pub(super) type Found = Option<Result<Node, Refusal>>;

pub(super) fn find_subject(
    view: &View,
    caller: &Caller,
    kind: &Result<SubjectKind, Refusal>,
    text: &str,
) -> Result<Found, Refusal> {
    let Ok(kind) = kind else { return Ok(None) };
    let unknown = || Refusal::unknown("subject", text);
    match kind {
        SubjectKind::User => view.user(text).map(Node::from).map(Ok).map(Some).ok_or_else(unknown),
        SubjectKind::UserGroup => view.group(text).map(Node::from).map(Ok).map(Some).ok_or_else(unknown),
        SubjectKind::Item(label) => {
            if let Some(node) = view.node(text).filter(|node| node.is(label)) {
                return Ok(Some(Ok(node)));
            }
            if *label == "Namespace" {
                let found = view.catalog.namespace(text).cloned().ok_or_else(unknown)?;
                return Ok(Some(Ok(found.into())));
            }
            let shelf = view.catalog.shelf();
            if *label == "Workspace" {
                // Theirs is the only name that nobody else can take: a label says what its maker likes.
                let found = shelf.workspace(text).cloned().ok_or_else(unknown)?;
                return Ok(Some(Ok(found.into())));
            }
            let (me, now) = (Node::from(caller.identity.account.clone()), Timestamp::now());
            // Anybody may give a record of theirs any name: it means none but what the caller knows.
            let known = |record: &Node| holds_any(view, &me, record, now);
            let mut named = shelf.named(label, text).cloned().map(Node::from).filter(known);
            let found = named.next().ok_or_else(unknown)?;
            if named.next().is_none() {
                return Ok(Some(Ok(found)));
            }
            let detail = format!("several have the name `{text}`\nwrite the id of the one that is meant");
            Ok(Some(Err(Refusal::input(detail))))
        }
    }
}

pub(super) fn known(kind: Result<SubjectKind, Refusal>, found: Found) -> Result<(SubjectKind, Node), Refusal> {
    let kind = kind?;
    // With a kind that is known, there is something or a refusal.
    let found = found.unwrap_or_else(|| Err(Refusal::unknown("subject", kind.word())))?;
    Ok((kind, found))
}
