//! From the change feed to the snapshot that requests read.
