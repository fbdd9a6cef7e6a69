//! Settings from a TOML file or the environment.
