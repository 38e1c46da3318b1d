//! The commands that look without serving: `check`, `routes` and `explain`.
use crate::cli::{Exit, Explain};
use crate::config::Loaded;
/// check
pub fn check(_: Loaded) -> Result<(), Exit> {
    Ok(())
}
/// routes
pub fn routes(_: Loaded) -> Result<(), Exit> {
    Ok(())
}
/// explain
pub fn explain(_: Explain) -> Result<(), Exit> {
    Ok(())
}
