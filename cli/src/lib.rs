//! cas-cli
