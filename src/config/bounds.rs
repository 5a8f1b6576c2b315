//! How much the table of one service may hold: anybody may register one, and every call of it pays for what is in it.

/// Bytes of the table as compact JSON, trusted authorities included: each gateway holds every table in memory, and
/// each change of one is kept in the audit.
pub(super) const TABLE_BYTES: usize = 64 * 1024;

/// Bytes of one operation's pattern.
pub(super) const PATTERN_BYTES: usize = 512;

/// Patterns of all operations of a service together: each is compared with every call until one matches.
pub(super) const PATTERNS: usize = 256;

/// `*` within one segment of a pattern.
pub(super) const STARS: usize = 2;

/// `**` of one pattern.
pub(super) const RESTS: usize = 2;

/// Segments between the two `**` of a pattern: they alone are looked for from every segment of the path.
pub(super) const SEGMENTS_BETWEEN_RESTS: usize = 8;

/// Bytes of an operation's resource name.
pub(super) const RESOURCE_BYTES: usize = 1024;

/// Headers that an injection sets; and so many query parameters, and so many cookies.
pub(super) const INJECTIONS: usize = 64;

/// Bytes of one template, as written.
pub(super) const TEMPLATE_BYTES: usize = 8 * 1024;

/// Bytes of a secret's name, where a template names it and where the secret is stored.
pub const SECRET_NAME_BYTES: usize = 128;

/// Variables of one template: each may be a secret of 1024 characters.
pub(super) const VARIABLES: usize = 8;

/// Public paths of a service.
pub(super) const PUBLIC_PATHS: usize = 256;

/// Endpoints of a service.
pub(super) const ENDPOINTS: usize = 64;

/// Origins, methods and headers, each, of cross-origin rules.
pub(super) const CORS_ITEMS: usize = 64;
