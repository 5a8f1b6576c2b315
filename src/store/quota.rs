//! How much one user may keep: what anybody can add without being asked must end somewhere, as every gateway holds all
//! of it in memory. Services of the configuration file do not count.

/// API tokens of one user, those that were revoked or have expired included.
pub const MOST_API_TOKENS: u32 = 256;

/// Secrets of one user.
pub const MOST_SECRETS: u32 = 1024;

/// Consents of one user, and withdrawals: each is for one secret, one service and what that service was then.
pub const MOST_CONSENTS: u32 = 16 * 1024;

/// Namespaces that one user made. Whoever has them now: a gift would else take of the share of somebody who was not
/// asked, and give the giver's back.
pub const MOST_NAMESPACES: u32 = 100;

/// Groups that one user runs.
pub const MOST_GROUPS: u32 = 1000;

/// Services that one user made, whoever has them now. The bytes of each are bounded where its table is read.
pub const MOST_SERVICES: u32 = 1000;

/// Services in one namespace, whoever made them.
pub const MOST_IN_NAMESPACE: u32 = 1000;

/// Projects, connections, workspaces and generic resources that one user made, whoever has them now.
pub const MOST_NODES: u32 = 10_000;

/// Bytes of the names, labels and props of all of them together.
pub const MOST_NODE_BYTES: u32 = 16 * 1024 * 1024;

/// Grants that one user gave and that are still there, whoever is an administrator apart: what they are on may have
/// another owner by now, and who gave them is who made everybody hold them in memory.
pub const MOST_GRANTS: u32 = 100_000;

/// Grants on one name to those who hold levels elsewhere: every decision about the name looks at each of them.
pub const MOST_SHARES: u32 = 1000;

/// Connections of one project, whoever made them.
pub const MOST_CONNECTIONS: u32 = 1000;
