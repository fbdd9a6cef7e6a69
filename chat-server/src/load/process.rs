//! The processor time and the memory of processes, from `/proc`.

use std::fs;

use super::Failure;

/// What `/proc/PID/stat` counts in, for all of Linux's architectures: ticks of 10 ms.
const TICKS_PER_S: f64 = 100.0;

/// The processor time that these processes have used so far, in seconds, in user and in kernel mode.
///
/// # Errors
///
/// When one of them is not there.
pub fn cpu_s(pids: &[u32]) -> Result<f64, Failure> {
    pids.iter().map(|pid| cpu_of(&pid.to_string())).sum()
}

/// The processor time of this process, in seconds.
///
/// # Errors
///
/// When there is no `/proc`.
pub fn own_cpu_s() -> Result<f64, Failure> {
    cpu_of("self")
}

fn cpu_of(pid: &str) -> Result<f64, Failure> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).map_err(|error| Failure::of(&path, error))?;
    cpu_in(&text).ok_or_else(|| Failure::of(&path, "is not as expected"))
}

fn cpu_in(stat: &str) -> Option<f64> {
    // The name in parentheses may hold anything, parentheses and spaces too. Behind it, utime and stime are the fields 14
    // and 15 of all.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) as f64 / TICKS_PER_S)
}

/// The resident memory of these processes, in bytes.
///
/// # Errors
///
/// When one of them is not there.
pub fn resident_bytes(pids: &[u32]) -> Result<u64, Failure> {
    pids.iter()
        .map(|pid| {
            let path = format!("/proc/{pid}/status");
            let text = fs::read_to_string(&path).map_err(|error| Failure::of(&path, error))?;
            resident_in(&text).ok_or_else(|| Failure::of(&path, "is not as expected"))
        })
        .sum()
}

fn resident_in(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// The processor's model.
pub fn cpu_model() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':').map(|(_, model)| model));
    model.unwrap_or("unknown").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_memory_are_found_behind_any_name() {
        let stat =
            "42 (a) b (c) S 1 42 42 0 -1 4194560 100 0 0 0 250 150 0 0 20 0 3 0 100 1000 200 18446744073709551615";
        assert_eq!(cpu_in(stat), Some(4.0));
        assert_eq!(resident_in("Name:\tx\nVmRSS:\t    1024 kB\n"), Some(1024 * 1024));
        assert_eq!(cpu_in("nonsense"), None);
    }

    #[test]
    fn this_process_has_some_of_both() {
        assert!(resident_bytes(&[std::process::id()]).unwrap() > 0);
        assert!(own_cpu_s().unwrap() >= 0.0);
        assert!(cpu_s(&[u32::MAX]).is_err());
    }
}
