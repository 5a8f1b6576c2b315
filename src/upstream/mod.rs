//! Backends: addresses, connections, pools, TLS, and which targets may be connected to.
