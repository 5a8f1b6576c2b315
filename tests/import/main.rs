//! `import`: tables and files of mara-acl, django-grainy and ctl, as those libraries make them, into a real store.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may stop on the spot")]

#[path = "../support/mod.rs"]
mod support;

mod libraries;
mod present;

use std::path::Path;

use rusqlite::Connection;
use serde_json::json;
use support::Gateway;
use support::gateway::OWNER;

/// What `sqlalchemy.orm` makes of mara-acl 2.1.1's models (`Base.metadata.create_all` on SQLite).
const MARA: &str = "CREATE TABLE acl_user (email VARCHAR NOT NULL, role VARCHAR, PRIMARY KEY (email));
CREATE TABLE acl_permission (user_key VARCHAR NOT NULL, resource_key VARCHAR NOT NULL, PRIMARY KEY (user_key, resource_key));";

/// What `manage.py migrate` makes of django-grainy 2.0.1 and django.contrib.auth on SQLite, as far as it is read.
const GRAINY: &str = "CREATE TABLE \"auth_user\" (\"id\" integer NOT NULL PRIMARY KEY AUTOINCREMENT, \"password\" \
varchar(128) NOT NULL, \"last_login\" datetime NULL, \"is_superuser\" bool NOT NULL, \"username\" varchar(150) NOT NULL UNIQUE, \
\"last_name\" varchar(150) NOT NULL, \"email\" varchar(254) NOT NULL, \"is_staff\" bool NOT NULL, \"is_active\" bool NOT NULL, \
\"date_joined\" datetime NOT NULL, \"first_name\" varchar(150) NOT NULL);
CREATE TABLE \"auth_group\" (\"id\" integer NOT NULL PRIMARY KEY AUTOINCREMENT, \"name\" varchar(150) NOT NULL UNIQUE);
CREATE TABLE \"auth_user_groups\" (\"id\" integer NOT NULL PRIMARY KEY AUTOINCREMENT, \"user_id\" integer NOT NULL, \
\"group_id\" integer NOT NULL);
CREATE TABLE \"django_grainy_userpermission\" (\"id\" integer NOT NULL PRIMARY KEY AUTOINCREMENT, \"namespace\" varchar(255) NOT \
NULL, \"permission\" integer NOT NULL, \"user_id\" integer NOT NULL);
CREATE TABLE \"django_grainy_grouppermission\" (\"id\" integer NOT NULL PRIMARY KEY AUTOINCREMENT, \"namespace\" varchar(255) \
NOT NULL, \"permission\" integer NOT NULL, \"group_id\" integer NOT NULL);";

fn database(path: &Path, schema: &str, rows: &str) {
    Connection::open(path).unwrap().execute_batch(&format!("{schema}{rows}")).unwrap();
}

fn revision(gateway: &Gateway) -> i64 {
    Connection::open(gateway.path("carta.db"))
        .unwrap()
        .query_row("SELECT revision FROM meta", [], |row| row.get(0))
        .unwrap()
}

/// The grants of the store as text.
fn grants(gateway: &Gateway) -> Vec<String> {
    let store = Connection::open(gateway.path("carta.db")).unwrap();
    let mut statement = store
        .prepare(
            "SELECT coalesce('user:' || u.name, 'group:' || g.name, subject), pattern, levels FROM grants LEFT JOIN users u \
             ON subject = 'user:' || lower(substr(hex(u.id), 1, 8) || '-' || substr(hex(u.id), 9, 4) || '-' || \
             substr(hex(u.id), 13, 4) || '-' || substr(hex(u.id), 17, 4) || '-' || substr(hex(u.id), 21)) LEFT JOIN groups g \
             ON subject = 'group:' || lower(substr(hex(g.id), 1, 8) || '-' || substr(hex(g.id), 9, 4) || '-' || \
             substr(hex(g.id), 13, 4) || '-' || substr(hex(g.id), 17, 4) || '-' || substr(hex(g.id), 21)) ORDER BY 1, 2",
        )
        .unwrap();
    let row = |row: &rusqlite::Row<'_>| {
        let (who, on, levels): (String, String, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok(format!("{who} {on} {levels}"))
    };
    statement.query_map([], row).unwrap().map(Result::unwrap).collect()
}

/// The names of those in the group.
fn members(gateway: &Gateway, group: &str) -> Vec<String> {
    let store = Connection::open(gateway.path("carta.db")).unwrap();
    let query = "SELECT u.name FROM members m JOIN users u ON u.id = m.user JOIN groups g ON g.id = m.group_id \
                 WHERE g.name = ?1 ORDER BY 1";
    let mut statement = store.prepare(query).unwrap();
    statement.query_map([group], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}
