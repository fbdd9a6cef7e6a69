//! x
use super::run::Record;
use crate::backend::Failure;
use std::path::Path;
/// x
pub fn store(_: &Path, _: &[Record]) -> Result<(), Failure> {
    Ok(())
}
