//! How much one user may keep: what anybody can add without being asked must end somewhere, as every gateway holds all
//! of it in memory. Services of the configuration file do not count.

/// Secrets of one user.
pub const MOST_SECRETS: u32 = 1024;

/// Consents of one user, and withdrawals: each is for one secret, one service and what that service was then.
pub const MOST_CONSENTS: u32 = 16 * 1024;

/// Namespaces of one owner.
pub const MOST_NAMESPACES: u32 = 100;

/// Services in one namespace.
pub const MOST_SERVICES: u32 = 1000;
