//! Logs, metrics and the access line: what an operator sees. No secret ever gets here.
