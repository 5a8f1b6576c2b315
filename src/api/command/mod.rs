//! The changes that people can make, over whatever surface. Each takes the [`Permit`](crate::policy::Permit) that
//! allows it, so that no handler can forget to ask; the store itself authorizes nothing.

pub(super) mod grants;
pub(super) mod nodes;
pub(super) mod people;
pub(super) mod secrets;
pub(super) mod services;
pub(super) mod tokens;
