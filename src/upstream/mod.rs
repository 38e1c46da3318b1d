//! upstream

pub mod reflection;
