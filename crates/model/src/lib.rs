//! Configurations, architectures, weight files and the two executors.
#![forbid(unsafe_code)]
