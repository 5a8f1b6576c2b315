//! The Carta REST API: commands over the store, each of which takes a permit.
