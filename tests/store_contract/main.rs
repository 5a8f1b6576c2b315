//! What every store must do, as functions over `dyn Store`; each store runs all of them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail")]

mod access;
mod api_tokens;
mod chain;
mod feed;
mod fixture;
mod grants;
mod nodes;
mod people;
mod places;
mod secrets;
mod sequences;
mod sqlite;

/// Runs the named functions of a module against each store, each on a store of its own.
macro_rules! contract {
    ($($name:ident),+ $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test]
            async fn $name() {
                let directory = tempfile::tempdir().unwrap();
                let store = crate::fixture::sqlite(&directory);
                super::$name(&store).await;
            })+
        }
    };
}
pub(crate) use contract;
