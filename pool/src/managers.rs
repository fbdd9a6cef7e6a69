//! Managers for databases, each behind a feature of its name.
