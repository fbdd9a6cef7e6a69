//! The lab: every pool under the same workloads, on stubs, SQLite and MariaDB.
//!
//! ```text
//! workload x contender -> open, fill -> gate -> threads run, each reads the clock -> check the counts
//!     -> criterion or the rounds of `measure` -> collect -> record (with its stamp) -> chart and table -> reports
//! ```
//!
//! What is measured, how, and in whose favour it is biased: `METHODOLOGY.md`.

pub mod backend;
pub mod block;
pub mod chart;
pub mod chat_report;
pub mod collect;
pub mod conformance;
pub mod contender;
pub mod contenders;
pub mod drive;
pub mod fairness;
pub mod footprint;
pub mod measure;
pub mod options;
pub mod profile;
pub mod record;
pub mod report;
pub mod scenario;
pub mod stamp;
pub mod suite;
pub mod tasks;
pub mod units;
pub mod ways;
pub mod workload;
