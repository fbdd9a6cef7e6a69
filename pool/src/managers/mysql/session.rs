//! What a statement leaves behind in its session, told from its text.
//!
//! The server tells in every reply whether a transaction is open, but the driver keeps that to itself. So we read the
//! statements on their way out. The reading errs to one side: what it does not know counts as a change of the
//! session, which costs a needless reset; what it calls harmless is harmless.

/// What a statement does to the session beyond its own rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing that outlives the statement, or its transaction.
    None,
    /// A transaction is open afterwards.
    Opens,
    /// No transaction is open afterwards.
    Ends,
    /// Something else may remain: variables, locks, temporary tables, another default database.
    Changes,
}

/// Statements that leave nothing behind. Those which commit implicitly may stay here: the reset they spare would only
/// find a transaction that is gone.
const HARMLESS: &[&str] = &[
    "ALTER",
    "ANALYZE",
    "CHECK",
    "CHECKSUM",
    "CREATE",
    "DELETE",
    "DESC",
    "DESCRIBE",
    "DROP",
    "EXPLAIN",
    "GRANT",
    "INSERT",
    "KILL",
    "OPTIMIZE",
    "RELEASE",
    "RENAME",
    "REPLACE",
    "REVOKE",
    "SAVEPOINT",
    "SELECT",
    "SHOW",
    "TABLE",
    "TRUNCATE",
    "UPDATE",
    "VALUES",
    "WITH",
];

/// Reads the effect of `sql` off its first words.
pub(super) fn effect(sql: &str) -> Effect {
    let Some(sql) = without_leading_comments(sql) else { return Effect::Changes };
    if has_second_statement(sql) {
        return Effect::Changes;
    }
    let mut words = sql.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| !word.is_empty());
    let first = words.next().unwrap_or_default();
    let mut has = |word: &str| words.any(|other| other.eq_ignore_ascii_case(word));
    let is = |word: &str| first.eq_ignore_ascii_case(word);

    if is("SELECT") || is("WITH") {
        // A named lock outlives its statement, and whoever waits for it would wait as long as the connection lives.
        return if has("GET_LOCK") { Effect::Changes } else { Effect::None };
    }
    if is("CREATE") {
        return if has("TEMPORARY") { Effect::Changes } else { Effect::None };
    }
    if is("BEGIN") {
        return if has("ATOMIC") { Effect::Changes } else { Effect::Opens };
    }
    if is("START") {
        return if has("TRANSACTION") { Effect::Opens } else { Effect::Changes };
    }
    if is("COMMIT") || is("ROLLBACK") {
        return match words.next() {
            None => Effect::Ends,
            Some(word) if word.eq_ignore_ascii_case("WORK") && words.next().is_none() => Effect::Ends,
            Some(word) if word.eq_ignore_ascii_case("TO") => Effect::None,
            // AND CHAIN opens the next one; RELEASE hangs up.
            Some(_) => Effect::Changes,
        };
    }
    if HARMLESS.iter().any(|word| is(word)) { Effect::None } else { Effect::Changes }
}

/// The text from its first word on; `None` when it hides in a comment that the server executes, or never comes.
fn without_leading_comments(mut sql: &str) -> Option<&str> {
    loop {
        sql = sql.trim_start_matches(|c: char| c.is_whitespace() || c == '(');
        sql = if let Some(rest) = sql.strip_prefix("/*") {
            if rest.starts_with('!') || rest.starts_with("M!") {
                return None;
            }
            rest.split_once("*/")?.1
        } else if sql.starts_with('#') || sql.starts_with("-- ") {
            sql.split_once('\n')?.1
        } else {
            return Some(sql);
        };
    }
}

/// Whether something follows a semicolon. One inside a string counts, too: telling the two apart would need the
/// session's own quoting rules.
fn has_second_statement(sql: &str) -> bool {
    sql.split_once(';').is_some_and(|(_, rest)| rest.contains(|c: char| !c.is_whitespace() && c != ';'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everyday_statements_leave_nothing_behind() {
        for sql in [
            "SELECT 1",
            "  select * from user where id = ?",
            "(SELECT 1) UNION (SELECT 2)",
            "/* who */ -- why\n# how\nINSERT INTO t VALUES (1);",
            "WITH x AS (SELECT 1) SELECT * FROM x",
            "update t set a = 1 ; ",
            "CREATE TABLE t (id INT)",
            "ROLLBACK TO SAVEPOINT a",
        ] {
            assert_eq!(effect(sql), Effect::None, "{sql}");
        }
    }

    #[test]
    fn transactions_open_and_end() {
        for sql in ["BEGIN", "begin work", "START TRANSACTION READ ONLY", "/* x */ start transaction"] {
            assert_eq!(effect(sql), Effect::Opens, "{sql}");
        }
        for sql in ["COMMIT", "commit;", "ROLLBACK WORK", " rollback "] {
            assert_eq!(effect(sql), Effect::Ends, "{sql}");
        }
    }

    #[test]
    fn whatever_may_remain_counts_as_a_change() {
        for sql in [
            "SET autocommit = 0",
            "USE other",
            "LOCK TABLES t WRITE",
            "CALL p()",
            "CREATE TEMPORARY TABLE t (id INT)",
            "CREATE OR REPLACE TEMPORARY TABLE t (id INT)",
            "SELECT GET_LOCK('a', 1)",
            "SELECT 1; BEGIN",
            "COMMIT AND CHAIN",
            "/*!40101 SET NAMES utf8 */",
            "BEGIN NOT ATOMIC SELECT 1; END",
            "/* never closed",
            "",
        ] {
            assert_eq!(effect(sql), Effect::Changes, "{sql}");
        }
    }
}
