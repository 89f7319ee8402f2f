//! What goes between a controller and its agents: the join token, signed documents, messages, TLS.
