//! A real MariaDB behind a proxy.
use crate::backend::Failure;
/// x
pub const MYSQL_POOL_CONFIGURATION: &str = "";
/// x
#[derive(Debug)]
pub struct Server;
impl Server {
    /// x
    pub fn from_env() -> Result<Option<Self>, Failure> {
        Ok(None)
    }
    /// x
    pub fn version(&self) -> Result<String, Failure> {
        Ok(String::new())
    }
}
