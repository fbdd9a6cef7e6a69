//! Users: names and password hashes.

use super::Store;
use super::backend::Access;
use super::error::{Refusal, StoreError};
use super::friends::friends_of;
use super::groups::groups_of;
use super::ids::UserId;
use super::messages::unread_of;
use super::model::{Credentials, MAX_DESCRIPTION_CHARS, MAX_NAME_CHARS, Overview, User};
use super::sql::{ErrorKind, Failure, Row, Sql, SqlError, Value};

/// Checks a name, of a user or a group.
pub(super) fn check_name(name: &str) -> Result<(), Refusal> {
    let fits = (1..=MAX_NAME_CHARS).contains(&name.chars().count());
    if fits && name.trim() == name && !name.chars().any(char::is_control) { Ok(()) } else { Err(Refusal::InvalidName) }
}

/// Checks a group's description.
pub(super) fn check_description(text: &str) -> Result<(), Refusal> {
    let fits = text.chars().count() <= MAX_DESCRIPTION_CHARS;
    if fits && !text.chars().any(char::is_control) { Ok(()) } else { Err(Refusal::InvalidName) }
}

/// The name as names are compared: regardless of case, and by this program's rules, whatever the database's are.
pub(super) fn name_key(name: &str) -> String {
    name.to_lowercase()
}

/// Makes of a unique key that exists the refusal that it means.
pub(super) fn or_taken<T>(result: Result<T, SqlError>, refusal: Refusal) -> Result<T, Failure> {
    result.map_err(|error| match error.kind {
        ErrorKind::Duplicate => Failure::Refused(refusal),
        _ => Failure::Sql(error),
    })
}

/// Reads a user out of two columns.
pub(super) fn read_user(row: &dyn Row, column: usize) -> Result<User, SqlError> {
    Ok(User { id: row.id(column)?, name: row.text(column + 1)? })
}

fn read_credentials(row: &dyn Row) -> Result<Credentials, SqlError> {
    Ok(Credentials { user: read_user(row, 0)?, password_hash: row.text(2)? })
}

fn credentials_by_key(sql: &mut dyn Sql, key: &str) -> Result<Option<Credentials>, SqlError> {
    let query = "SELECT id, name, password_hash FROM user WHERE name_key = ?";
    sql.first(query, &[Value::Text(key)], read_credentials)
}

pub(super) fn user_value(user: UserId) -> Value<'static> {
    Value::Int(user.get().into())
}

pub(super) fn user_values(users: &[UserId]) -> Vec<Value<'static>> {
    users.iter().map(|user| user_value(*user)).collect()
}

/// The user, who must exist.
fn user_of(sql: &mut dyn Sql, user: UserId) -> Result<User, Failure> {
    let found = sql.first("SELECT id, name FROM user WHERE id = ?", &[user_value(user)], |row| read_user(row, 0))?;
    Ok(found.ok_or(Refusal::UnknownUser)?)
}

/// Users.
impl Store {
    /// A new user. `password_hash` comes from [`auth`](crate::auth); the store never sees a password.
    ///
    /// The hash has a salt of its own, so no other attempt has the same one, and a user of this name who has it is this
    /// one: the answer to the commit was lost, and this is the second attempt.
    ///
    /// # Errors
    ///
    /// [`Refusal::NameTaken`] (names that differ only by case are the same name), [`Refusal::InvalidName`], or the
    /// database's.
    pub async fn register(&self, name: &str, password_hash: &str) -> Result<UserId, StoreError> {
        check_name(name)?;
        let (name, hash) = (name.to_owned(), password_hash.to_owned());
        self.run(Access::Repeatable, move |sql| {
            let insert = format!(
                "INSERT INTO user (name, name_key, password_hash, created_at) VALUES (?, ?, ?, {})",
                sql.dialect().now
            );
            let key = name_key(&name);
            let inserted = sql.execute(&insert, &[Value::Text(&name), Value::Text(&key), Value::Text(&hash)]);
            match or_taken(inserted, Refusal::NameTaken) {
                Ok(_) => {}
                Err(taken @ Failure::Refused(_)) => {
                    let found = credentials_by_key(sql, &key)?.filter(|found| found.password_hash == hash);
                    return found.map(|found| found.user.id).ok_or(taken);
                }
                Err(failure) => return Err(failure),
            }
            UserId::try_from(sql.last_id()).map_err(|error| SqlError::permanent(error.to_string()).into())
        })
        .await
    }

    /// What to check a login by number against; `None`: there is no such user.
    ///
    /// # Errors
    ///
    /// The database's.
    pub async fn credentials(&self, user: UserId) -> Result<Option<Credentials>, StoreError> {
        self.read(move |sql| {
            let query = "SELECT id, name, password_hash FROM user WHERE id = ?";
            Ok(sql.first(query, &[user_value(user)], read_credentials)?)
        })
        .await
    }

    /// What to check a login by name against; `None`: there is no such user.
    ///
    /// # Errors
    ///
    /// The database's.
    pub async fn credentials_by_name(&self, name: &str) -> Result<Option<Credentials>, StoreError> {
        let key = name_key(name);
        self.read(move |sql| Ok(credentials_by_key(sql, &key)?)).await
    }

    /// Replaces a user's password hash, and revokes all his resume tokens.
    ///
    /// # Errors
    ///
    /// [`Refusal::UnknownUser`], or the database's.
    pub async fn set_password(&self, user: UserId, password_hash: &str) -> Result<(), StoreError> {
        let hash = password_hash.to_owned();
        self.write(move |sql| {
            let update = "UPDATE user SET password_hash = ? WHERE id = ?";
            if sql.execute(update, &[Value::Text(&hash), user_value(user)])? == 0 {
                return Err(Refusal::UnknownUser.into());
            }
            sql.execute("DELETE FROM resume_token WHERE user_id = ?", &[user_value(user)])?;
            Ok(())
        })
        .await
    }

    /// Replaces a user's password hash by another hash of the same password, with other costs; his resume tokens stay.
    /// Nothing happens when the hash is no longer `old`.
    ///
    /// # Errors
    ///
    /// The database's.
    pub async fn rehash_password(&self, user: UserId, old: &str, new: &str) -> Result<(), StoreError> {
        let (old, new) = (old.to_owned(), new.to_owned());
        self.write(move |sql| {
            let update = "UPDATE user SET password_hash = ? WHERE id = ? AND password_hash = ?";
            sql.execute(update, &[Value::Text(&new), user_value(user), Value::Text(&old)])?;
            Ok(())
        })
        .await
    }

    /// These users, in no particular order; those who do not exist are left out.
    ///
    /// # Errors
    ///
    /// The database's.
    pub async fn users(&self, users: &[UserId]) -> Result<Vec<User>, StoreError> {
        let mut users = users.to_vec();
        users.sort_unstable();
        users.dedup();
        self.read(move |sql| {
            let keys: Vec<Value<'_>> = users.iter().map(|user| user_value(*user)).collect();
            let mut found = Vec::with_capacity(users.len());
            sql.rows_by_keys("SELECT id, name FROM user WHERE id IN {keys}", 1, &keys, &mut |row| {
                found.push(read_user(row, 0)?);
                Ok(())
            })?;
            Ok(found)
        })
        .await
    }

    /// The user with this name.
    ///
    /// # Errors
    ///
    /// The database's.
    pub async fn user_by_name(&self, name: &str) -> Result<Option<User>, StoreError> {
        let key = name_key(name);
        self.read(move |sql| {
            let query = "SELECT id, name FROM user WHERE name_key = ?";
            Ok(sql.first(query, &[Value::Text(&key)], |row| read_user(row, 0))?)
        })
        .await
    }

    /// What a session needs to know at its start, over one connection.
    ///
    /// Read it after the session is registered with the hub, or a message that comes in between is seen late.
    ///
    /// # Errors
    ///
    /// [`Refusal::UnknownUser`], or the database's.
    pub async fn overview(&self, user: UserId) -> Result<Overview, StoreError> {
        self.read(move |sql| {
            Ok(Overview {
                user: user_of(sql, user)?,
                friends: friends_of(sql, user)?,
                groups: groups_of(sql, user)?,
                unread: unread_of(sql, &[user])?.remove(&user).unwrap_or_default(),
            })
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_printable_and_the_same_in_any_case() {
        let longest = "😀".repeat(MAX_NAME_CHARS);
        for good in ["a", "Ada Lovelace", "'; DROP TABLE user; --", &longest] {
            assert_eq!(check_name(good), Ok(()), "{good:?}");
        }
        for bad in ["", " ", " a", "a ", "a\0", "a\nb", &format!("{longest}x")] {
            assert_eq!(check_name(bad), Err(Refusal::InvalidName), "{bad:?}");
        }
        assert_eq!(name_key("ÄDA"), name_key("äda"));
        assert_ne!(name_key("ada"), name_key("äda"));
        assert!(name_key(&"İ".repeat(MAX_NAME_CHARS)).len() <= 600, "it fits its column");
        assert_eq!(check_description(""), Ok(()));
        assert_eq!(check_description(&"x".repeat(MAX_DESCRIPTION_CHARS + 1)), Err(Refusal::InvalidName));
    }
}
