//! cas-engine
