//! Reads the contenders' versions from the lock file and the compiler's from the compiler, so that no record can carry
//! a version that was typed in.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Crates whose version is part of a record.
const CRATES: [&str; 12] = [
    "bb8",
    "crossbeam-queue",
    "criterion",
    "deadpool",
    "fast_pool",
    "lockfree",
    "mobc",
    "mysql",
    "parking_lot",
    "pool",
    "r2d2",
    "r2d2_mysql",
];

/// Packages whose choice counts where the lock file has several versions of a crate.
const USERS: [&str; 3] = ["benches", "pool", "crossbeam"];

fn main() {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let path = root.join("../Cargo.lock");
    println!("cargo::rerun-if-changed={}", path.display());
    let lock = fs::read_to_string(&path).expect("the workspace has a lock file");
    for name in CRATES {
        let version = locked(&lock, name).unwrap_or_else(|| panic!("{name} is not in Cargo.lock"));
        println!("cargo::rustc-env=VERSION_{}={version}", name.to_uppercase().replace('-', "_"));
    }
    let rustc = env::var_os("RUSTC").expect("cargo sets it");
    let output = Command::new(rustc).arg("--version").output().expect("rustc runs");
    let version = String::from_utf8(output.stdout).expect("rustc's version is text");
    println!("cargo::rustc-env=RUSTC_VERSION={}", version.trim());
}

/// The version of `name` that the lab uses.
fn locked(lock: &str, name: &str) -> Option<String> {
    let packages = || lock.split("[[package]]").skip(1);
    let versions: Vec<&str> =
        packages().filter(|package| field(package, "name") == Some(name)).filter_map(|p| field(p, "version")).collect();
    if let [only] = versions[..] {
        return Some(only.to_owned());
    }
    // With several versions the lock file writes `"name version"` into the user's dependencies.
    packages()
        .filter(|package| field(package, "name").is_some_and(|user| USERS.contains(&user)))
        .flat_map(str::lines)
        .find_map(|line| line.trim().strip_prefix(&format!("\"{name} "))?.split('"').next().map(str::to_owned))
}

fn field<'a>(package: &'a str, key: &str) -> Option<&'a str> {
    package.lines().find_map(|line| line.strip_prefix(key)?.trim_start().strip_prefix("= \"")?.strip_suffix('"'))
}
