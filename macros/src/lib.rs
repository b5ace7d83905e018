//! cas-macros
