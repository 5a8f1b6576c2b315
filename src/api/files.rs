//! `/files`: file sources, of which a gateway has none (`docs/API.md` §18).

use axum::Json;

use super::error::Refusal;
use super::extract::Caller;
use crate::proxy::error::{Kind, Problem};

/// Sources of files
///
/// There are none.
#[utoipa::path(get, path = "/files", tag = "files",
    responses((status = 200, description = "an empty list", body = [String])))]
pub(super) async fn list_sources(_: Caller) -> Json<[String; 0]> {
    Json([])
}

/// Upload a file
///
/// Not here: 501.
#[utoipa::path(post, path = "/files/{source}", tag = "files",
    responses((status = 501, description = "this gateway keeps no files")))]
pub(super) async fn upload_file(_: Caller) -> Refusal {
    not_here()
}

/// What a source supports
///
/// Not here: 501.
#[utoipa::path(get, path = "/files/{source}/support", tag = "files",
    responses((status = 501, description = "this gateway keeps no files")))]
pub(super) async fn source_support(_: Caller) -> Refusal {
    not_here()
}

/// Files of a source
///
/// Not here: 501.
#[utoipa::path(get, path = "/files/{source}/list", tag = "files",
    responses((status = 501, description = "this gateway keeps no files")))]
pub(super) async fn list_files(_: Caller) -> Refusal {
    not_here()
}

/// Read a file
///
/// Not here: 501.
#[utoipa::path(get, path = "/files/{source}/file/{file_id}", tag = "files",
    responses((status = 501, description = "this gateway keeps no files")))]
pub(super) async fn read_file(_: Caller) -> Refusal {
    not_here()
}

/// Replace a file
///
/// Not here: 501.
#[utoipa::path(patch, path = "/files/{source}/file/{file_id}", tag = "files",
    responses((status = 501, description = "this gateway keeps no files")))]
pub(super) async fn update_file(_: Caller) -> Refusal {
    not_here()
}

/// Delete a file
///
/// Not here: 501.
#[utoipa::path(delete, path = "/files/{source}/file/{file_id}", tag = "files",
    responses((status = 501, description = "this gateway keeps no files")))]
pub(super) async fn delete_file(_: Caller) -> Refusal {
    not_here()
}

/// Whatever is asked of a source.
fn not_here() -> Refusal {
    let detail = "this gateway keeps no files\nput them behind a service, and call that";
    Problem::new(&Kind::NOT_IMPLEMENTED, detail).into()
}
