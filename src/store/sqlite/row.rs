//! Which columns make a record.

use rusqlite::Row;

use super::code::{Texts, column};
use crate::policy::{GroupId, UserId};
use crate::store::{
    ApiToken, Audit, Consent, Grant, Group, Link, Namespace, Node, Origin, Password, Revision, Secret, Service,
    SigningKey, StoreError, User, Withdrawal,
};

/// A record that a statement reads, from its columns in order.
pub(super) trait Record: Sized {
    /// `SELECT … FROM …`, without a condition.
    const SELECT: &'static str;

    fn read(row: &Row<'_>) -> Result<Self, StoreError>;
}

impl Record for User {
    const SELECT: &'static str = "SELECT id, name, email, email_verified, first_name, last_name, organization, role, \
                                  administrator, disabled, tokens_dead_until, created FROM users";

    fn read(row: &Row<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            id: column(row, 0)?,
            name: column(row, 1)?,
            email: column(row, 2)?,
            email_verified: column(row, 3)?,
            first_name: column(row, 4)?,
            last_name: column(row, 5)?,
            organization: column(row, 6)?,
            role: column(row, 7)?,
            administrator: column(row, 8)?,
            disabled: column(row, 9)?,
            tokens_dead_until: column(row, 10)?,
            created: column(row, 11)?,
        })
    }
}

impl Record for Link {
    const SELECT: &'static str = "SELECT issuer, subject, user FROM links";

    fn read(row: &Row<'_>) -> Result<Self, StoreError> {
        Ok(Self { issuer: column(row, 0)?, subject: column(row, 1)?, user: column(row, 2)? })
    }
}

impl Record for Group {
    const SELECT: &'static str = "SELECT id, name, owner FROM groups";

    fn read(row: &Row<'_>) -> Result<Self, StoreError> {
        Ok(Self { id: column(row, 0)?, name: column(row, 1)?, owner: column(row, 2)? })
    }
}

impl Record for Namespace {
    const SELECT: &'static str = "SELECT id, name, owner FROM namespaces";

    fn read(row: &Row<'_>) -> Result<Self, StoreError> {
        Ok(Self { id: column(row, 0)?, name: column(row, 1)?, owner: column(row, 2)? })
    }
}

impl Record for Service {
    const SELECT: &'static str = "SELECT s.id, n.name, s.name, s.owner, s.origin, s.present, s.config \
                                  FROM services s JOIN namespaces n ON n.id = s.namespace";

    fn read(row: &Row<'_>) -> Result<Self, StoreError> {
        let origin: String = column(row, 4)?;
        Ok(Self {
            id: column(row, 0)?,
            namespace: column(row, 1)?,
            name: column(row, 2)?,
            owner: column(row, 3)?,
            origin: if origin == "file" { Origin::File } else { Origin::Api },
            present: column(row, 5)?,
            table: column(row, 6)?,
        })
    }
}

impl Record for Node {
    const SELECT: &'static str = "SELECT id, kind, name, labels, props, owner, parent FROM nodes";

    fn read(row: &Row<'_>) -> Result<Self, StoreError> {
        let Texts(labels) = column(row, 3)?;
        Ok(Self {
            id: column(row, 0)?,
            kind: column(row, 1)?,
            name: column(row, 2)?,
            labels,
            props: column(row, 4)?,
            owner: column(row, 5)?,
            parent: column(row, 6)?,
        })
    }
}

impl Record for Grant {
    const SELECT: &'static str = "SELECT subject, pattern, levels, expires, given_by, given_at FROM grants";

    fn read(row: &Row<'_>) -> Result<Self, StoreError> {
        let (subject, pattern) = (column(row, 0)?, column(row, 1)?);
        let (levels, expires) = (column(row, 2)?, column(row, 3)?);
        let (by, at) = (column(row, 4)?, column(row, 5)?);
        Ok(Self { row: crate::policy::Grant { subject, pattern, levels, expires }, by, at })
    }
}

impl Record for Secret {
    const SELECT: &'static str = "SELECT user, name, sealed, created, expires FROM secrets";

    fn read(row: &Row<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            user: column(row, 0)?,
            name: column(row, 1)?,
            sealed: column(row, 2)?,
            created: column(row, 3)?,
            expires: column(row, 4)?,
        })
    }
}

impl Record for Consent {
    const SELECT: &'static str = "SELECT user, secret, service, fingerprint, origins, given_at FROM consents";

    fn read(row: &Row<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            user: column(row, 0)?,
            secret: column(row, 1)?,
            service: column(row, 2)?,
            fingerprint: column(row, 3)?,
            origins: column(row, 4)?,
            at: column(row, 5)?,
        })
    }
}

impl Record for Withdrawal {
    const SELECT: &'static str = "SELECT user, secret, service, at FROM withdrawals";

    fn read(row: &Row<'_>) -> Result<Self, StoreError> {
        Ok(Self { user: column(row, 0)?, secret: column(row, 1)?, service: column(row, 2)?, at: column(row, 3)? })
    }
}

impl Record for ApiToken {
    const SELECT: &'static str = "SELECT id, user, name, digest, hint, patterns, expires, uses, revoked, auto_remove, \
                                  created, last_used FROM api_tokens";

    fn read(row: &Row<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            id: column(row, 0)?,
            user: column(row, 1)?,
            name: column(row, 2)?,
            digest: column(row, 3)?,
            hint: column(row, 4)?,
            patterns: column::<Texts>(row, 5)?.0,
            expires: column(row, 6)?,
            uses: column(row, 7)?,
            revoked: column(row, 8)?,
            auto_remove: column(row, 9)?,
            created: column(row, 10)?,
            last_used: column(row, 11)?,
        })
    }
}

impl Record for SigningKey {
    const SELECT: &'static str = "SELECT kid, sealed, public, created, retired FROM signing_keys";

    fn read(row: &Row<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            kid: column(row, 0)?,
            sealed: column(row, 1)?,
            public: column(row, 2)?,
            created: column(row, 3)?,
            retired: column(row, 4)?,
        })
    }
}

impl Record for (UserId, Password) {
    const SELECT: &'static str = "SELECT user, sealed, temporary, reset FROM passwords";

    fn read(row: &Row<'_>) -> Result<Self, StoreError> {
        Ok((column(row, 0)?, Password { sealed: column(row, 1)?, temporary: column(row, 2)?, reset: column(row, 3)? }))
    }
}

impl Record for Audit {
    const SELECT: &'static str = "SELECT seq, revision, at, user, via, came_from, request_id, what, target, before, after, resource, \
         chain FROM audit";

    fn read(row: &Row<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            seq: column(row, 0)?,
            revision: Revision(column(row, 1)?),
            at: column(row, 2)?,
            user: column(row, 3)?,
            via: column(row, 4)?,
            from: column(row, 5)?,
            request_id: column(row, 6)?,
            what: column(row, 7)?,
            target: column(row, 8)?,
            before: column(row, 9)?,
            after: column(row, 10)?,
            resource: column(row, 11)?,
            mac: super::chain::mac(row, 12)?,
        })
    }
}

impl Record for (UserId, GroupId) {
    const SELECT: &'static str = "SELECT user, group_id FROM members";

    fn read(row: &Row<'_>) -> Result<Self, StoreError> {
        Ok((column(row, 0)?, column(row, 1)?))
    }
}
