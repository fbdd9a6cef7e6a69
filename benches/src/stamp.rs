//! Where, when and from what a number came. No record is without it.

use std::path::Path;
use std::process::Command;
use std::{fs, thread};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// The circumstances of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// The commit measured; `+dirty` when the source had changes that are not part of it.
    pub commit: String,
    /// The compiler.
    pub rustc: String,
    /// The processor's model.
    pub cpu: String,
    /// Processors the run could use.
    pub cores: usize,
    /// How much was measured: `quick`, `default` or `full`.
    pub profile: String,
    /// The day of the run, UTC.
    pub date: String,
}

impl Stamp {
    /// The circumstances of this process.
    #[must_use]
    pub fn now(profile: &str) -> Self {
        Self {
            commit: commit().unwrap_or_else(|| "unknown".to_owned()),
            rustc: env!("RUSTC_VERSION").to_owned(),
            cpu: cpu().unwrap_or_else(|| "unknown".to_owned()),
            cores: thread::available_parallelism().map_or(1, usize::from),
            profile: profile.to_owned(),
            date: today(),
        }
    }

    /// Whether records of both may stand in one table: everything but the day is the same.
    #[must_use]
    pub fn is_comparable(&self, other: &Self) -> bool {
        Self { date: String::new(), ..self.clone() } == Self { date: String::new(), ..other.clone() }
    }

    /// One line for under a chart's title.
    #[must_use]
    pub fn line(&self) -> String {
        let Self { commit, rustc, cpu, cores, profile, date } = self;
        let rustc = rustc.split(" (").next().unwrap_or(rustc);
        format!("{cpu}, {cores} cores · commit {commit} · {rustc} · {date} · {profile} run")
    }
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn commit() -> Option<String> {
    let commit = git(&["rev-parse", "--short=10", "HEAD"])?;
    // What the lab itself writes does not change what it measures.
    let changes = git(&["status", "--porcelain", "--", ":/", ":!/reports", ":!/**/*.md", ":!/*.md"])?;
    Some(if changes.is_empty() { commit } else { format!("{commit}+dirty") })
}

fn cpu() -> Option<String> {
    let info = fs::read_to_string(Path::new("/proc/cpuinfo")).ok()?;
    let field = |key: &str| {
        info.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            (name.trim() == key).then(|| value.trim().to_owned())
        })
    };
    let mut cpu = field("model name")?;
    if info.lines().any(|line| line.starts_with("flags") && line.split(' ').any(|flag| flag == "hypervisor")) {
        cpu.push_str(" (virtual machine)");
    }
    Some(cpu)
}

fn today() -> String {
    OffsetDateTime::now_utc().date().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_day_may_differ() {
        let stamp = Stamp::now("quick");
        assert!(stamp.is_comparable(&Stamp { date: "1970-01-01".into(), ..stamp.clone() }));
        assert!(!stamp.is_comparable(&Stamp { profile: "full".into(), ..stamp.clone() }));
        assert!(!stamp.is_comparable(&Stamp { commit: "0000000000".into(), ..stamp.clone() }));
    }
}
