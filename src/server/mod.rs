//! Listeners: bind, accept, TLS, HTTP/1.1 and HTTP/2, drain.
