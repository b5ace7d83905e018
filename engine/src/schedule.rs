//! Which step is next: Waiting, Ready, Running, then its outcome. Pure.
