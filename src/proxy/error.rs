//! The gateway's own answers as the walk and the API speak of them: [`crate::problem`], and what a refused credential
//! means there.

use crate::identity::AuthError;
pub use crate::problem::{CARTA_GATEWAY, Kind, Problem, ProblemBody, X_REQUEST_ID};

impl From<AuthError> for Problem {
    fn from(error: AuthError) -> Self {
        let kind = match &error {
            // The phrase of the API for whoever is not signed in.
            AuthError::Missing => {
                let detail = "no credential was sent\nsend `Authorization: Bearer <token>`";
                return Self::new(&Kind::NOT_AUTHENTICATED, detail).phrase("not authenticated");
            }
            AuthError::Invalid(_) => &Kind::INVALID_CREDENTIAL,
            AuthError::HeaderRequired(_) => &Kind::HEADER_REQUIRED,
            AuthError::Malformed(_) => &Kind::MALFORMED_CREDENTIAL,
            AuthError::Conflicting => &Kind::CONFLICTING_CREDENTIALS,
            AuthError::IdentityConflict(_) => &Kind::IDENTITY_CONFLICT,
            AuthError::ForeignOrigin => &Kind::ORIGIN_REFUSED,
            AuthError::NotInvited => &Kind::NOT_INVITED,
            AuthError::Unavailable(_) => &Kind::IDENTITY_UNAVAILABLE,
        };
        let problem = Self::new(kind, error.to_string());
        match error {
            AuthError::Invalid(_) => problem.phrase("not authenticated"),
            AuthError::Unavailable(_) => problem.retry_after(1),
            _ => problem,
        }
    }
}
