//! Groups: their members, and what these may do.
//!
//! A group's conversation has its number for a key, so a group's participants are its members. Whoever changes them
//! locks the conversation's row first, as whoever writes to it does: a member who was removed writes nothing any more.

use super::Store;
use super::claims::lock_users;
use super::error::{Refusal, StoreError};
use super::friends::online_join;
use super::ids::{Conversation, GroupId, UserId};
use super::model::{Group, Left, MAX_OVERVIEW_MEMBERS, Member, Role};
use super::sql::{Failure, Row, Sql, SqlError, Value};
use super::users::{check_description, check_name, name_key, or_taken, read_user, user_value, user_values};

fn role_value(role: Role) -> Value<'static> {
    Value::Int(match role {
        Role::Normal => 0,
        Role::Admin => 1,
        Role::Creator => 2,
    })
}

fn read_role(row: &dyn Row, column: usize) -> Result<Role, SqlError> {
    match row.int(column)? {
        0 => Ok(Role::Normal),
        1 => Ok(Role::Admin),
        2 => Ok(Role::Creator),
        other => Err(SqlError::permanent(format!("{other} is no role"))),
    }
}

fn group_value(group: GroupId) -> Value<'static> {
    Value::Int(Conversation::group(group).key())
}

fn read_group(row: &dyn Row) -> Result<Group, SqlError> {
    Ok(Group { id: row.id(0)?, name: row.text(1)?, description: row.text(2)?, role: read_role(row, 3)? })
}

/// The groups of a user with their members, by number, in one query.
pub(super) fn groups_of(sql: &mut dyn Sql, user: UserId) -> Result<Vec<(Group, Vec<Member>)>, SqlError> {
    let query = format!(
        "SELECT g.id, g.name, g.description, me.role, u.id, u.name, p.role, n.id \
         FROM participant AS me \
         JOIN chat_group AS g ON g.id = me.conversation \
         JOIN participant AS p ON p.conversation = me.conversation \
         JOIN user AS u ON u.id = p.user_id \
         {} WHERE me.user_id = ? ORDER BY g.id, u.id LIMIT {MAX_OVERVIEW_MEMBERS}",
        online_join(sql)
    );
    let mut groups: Vec<(Group, Vec<Member>)> = Vec::new();
    sql.query(&query, &[user_value(user)], &mut |row| {
        let id: GroupId = row.id(0)?;
        if groups.last().is_none_or(|(group, _)| group.id != id) {
            groups.push((read_group(row)?, Vec::new()));
        }
        if let Some((_, members)) = groups.last_mut() {
            members.push(read_member(row, 4)?);
        }
        Ok(())
    })?;
    Ok(groups)
}

fn read_member(row: &dyn Row, column: usize) -> Result<Member, SqlError> {
    let (user, role) = (read_user(row, column)?, read_role(row, column + 2)?);
    Ok(Member { user, role, is_online: !row.is_null(column + 3)? })
}

/// Locks the group, and returns the last sequence of its conversation.
fn lock_group(sql: &mut dyn Sql, group: GroupId) -> Result<u64, Failure> {
    let query = format!("SELECT last_seq FROM conversation WHERE id = ?{}", sql.dialect().for_update);
    let last = sql.first(&query, &[group_value(group)], |row| row.unsigned(0))?;
    Ok(last.ok_or(Refusal::UnknownGroup)?)
}

fn role_of(sql: &mut dyn Sql, user: UserId, group: GroupId) -> Result<Role, Failure> {
    let query = "SELECT role FROM participant WHERE conversation = ? AND user_id = ?";
    let role = sql.first(query, &[group_value(group), user_value(user)], |row| read_role(row, 0))?;
    Ok(role.ok_or(Refusal::NotMember)?)
}

fn set_role(sql: &mut dyn Sql, user: UserId, group: GroupId, role: Role) -> Result<(), SqlError> {
    let update = "UPDATE participant SET role = ? WHERE conversation = ? AND user_id = ?";
    sql.execute(update, &[role_value(role), group_value(group), user_value(user)])?;
    Ok(())
}

fn remove(sql: &mut dyn Sql, user: UserId, group: GroupId) -> Result<(), SqlError> {
    let delete = "DELETE FROM participant WHERE conversation = ? AND user_id = ?";
    sql.execute(delete, &[group_value(group), user_value(user)])?;
    Ok(())
}

/// Adds a member, for whom everything up to `last` was said before his time.
fn add(sql: &mut dyn Sql, user: UserId, group: GroupId, role: Role, last: u64) -> Result<(), SqlError> {
    let insert = format!(
        "INSERT INTO participant (conversation, user_id, role, since_seq, seen_seq, joined_at) VALUES (?, ?, ?, ?, ?, {})",
        sql.dialect().now
    );
    let last = Value::Int(last.cast_signed());
    sql.execute(&insert, &[group_value(group), user_value(user), role_value(role), last, last])?;
    Ok(())
}

/// Locks the user, who must exist and have room for one more group.
fn lock_joiner(sql: &mut dyn Sql, user: UserId, max_groups: usize) -> Result<(), Failure> {
    if lock_users(sql, &[user])?.is_empty() {
        return Err(Refusal::UnknownUser.into());
    }
    let query =
        "SELECT COUNT(*) FROM participant AS p JOIN chat_group AS g ON g.id = p.conversation WHERE p.user_id = ?";
    let count = sql.first(query, &[user_value(user)], |row| row.unsigned(0))?.unwrap_or(0);
    if count >= max_groups as u64 {
        return Err(Refusal::Full("groups").into());
    }
    Ok(())
}

/// Ends a group without members. Its messages are deleted by and by; see [`Store::sweep`].
fn delete_group(sql: &mut dyn Sql, group: GroupId) -> Result<(), SqlError> {
    sql.execute("DELETE FROM chat_group WHERE id = ?", &[group_value(group)])?;
    sql.execute("DELETE FROM conversation WHERE id = ?", &[group_value(group)])?;
    sql.execute("INSERT INTO gone_conversation (id) VALUES (?)", &[group_value(group)])?;
    Ok(())
}

/// Those of these users who are in a group with `user`, in no particular order; some may be there more than once.
pub(super) fn in_a_group_with(sql: &mut dyn Sql, user: UserId, others: &[UserId]) -> Result<Vec<UserId>, SqlError> {
    // A pair has participants, too, so the group must be one.
    let query = "SELECT DISTINCT p.user_id FROM participant AS me \
                 JOIN chat_group AS g ON g.id = me.conversation \
                 JOIN participant AS p ON p.conversation = me.conversation \
                 WHERE me.user_id = ? AND p.user_id IN {keys}";
    let mut found = Vec::new();
    sql.rows_by_keys_after(query, &[user_value(user)], &user_values(others), &mut |row| {
        found.push(row.id(0)?);
        Ok(())
    })?;
    Ok(found)
}

/// Groups.
impl Store {
    /// A new group whose creator, and so far only member, is `creator`.
    ///
    /// # Errors
    ///
    /// [`Refusal::NameTaken`], [`Refusal::InvalidName`], [`Refusal::UnknownUser`], [`Refusal::Full`], or the database's.
    pub async fn create_group(&self, creator: UserId, name: &str, description: &str) -> Result<GroupId, StoreError> {
        check_name(name)?;
        check_description(description)?;
        let (name, description) = (name.to_owned(), description.to_owned());
        let max_groups = self.inner.options.max_groups;
        self.write(move |sql| {
            lock_joiner(sql, creator, max_groups)?;
            let insert = format!(
                "INSERT INTO chat_group (name, name_key, description, created_at) VALUES (?, ?, ?, {})",
                sql.dialect().now
            );
            let key = name_key(&name);
            let inserted = sql.execute(&insert, &[Value::Text(&name), Value::Text(&key), Value::Text(&description)]);
            or_taken(inserted, Refusal::NameTaken)?;
            let group = GroupId::try_from(sql.last_id()).map_err(|error| SqlError::permanent(error.to_string()))?;
            sql.execute("INSERT INTO conversation (id, last_seq) VALUES (?, 0)", &[group_value(group)])?;
            add(sql, creator, group, Role::Creator, 0)?;
            Ok(group)
        })
        .await
    }

    /// `user` becomes a normal member. What was said before is not his to read.
    ///
    /// # Errors
    ///
    /// [`Refusal::UnknownGroup`], [`Refusal::UnknownUser`], [`Refusal::AlreadyMember`], [`Refusal::Full`], or the
    /// database's.
    pub async fn join_group(&self, user: UserId, group: GroupId) -> Result<(), StoreError> {
        let (max_groups, max_members) = (self.inner.options.max_groups, self.inner.options.max_members);
        self.write(move |sql| {
            lock_joiner(sql, user, max_groups)?;
            let last = lock_group(sql, group)?;
            match role_of(sql, user, group) {
                Ok(_) => return Err(Refusal::AlreadyMember.into()),
                Err(Failure::Refused(Refusal::NotMember)) => {}
                Err(failure) => return Err(failure),
            }
            let query = "SELECT COUNT(*) FROM participant WHERE conversation = ?";
            let count = sql.first(query, &[group_value(group)], |row| row.unsigned(0))?.unwrap_or(0);
            if count >= max_members as u64 {
                return Err(Refusal::Full("members").into());
            }
            add(sql, user, group, Role::Normal, last)?;
            Ok(())
        })
        .await
    }

    /// `user` leaves. See [`Role::Creator`] for what becomes of the group when he was that.
    ///
    /// # Errors
    ///
    /// [`Refusal::UnknownGroup`], [`Refusal::NotMember`], or the database's.
    pub async fn leave_group(&self, user: UserId, group: GroupId) -> Result<Left, StoreError> {
        self.write(move |sql| {
            lock_group(sql, group)?;
            let role = role_of(sql, user, group)?;
            remove(sql, user, group)?;
            let query = "SELECT user_id FROM participant WHERE conversation = ? \
                         ORDER BY role DESC, joined_at, user_id LIMIT 1";
            let next: Option<UserId> = sql.first(query, &[group_value(group)], |row| row.id(0))?;
            match next {
                None => {
                    delete_group(sql, group)?;
                    Ok(Left { new_creator: None, is_gone: true })
                }
                Some(next) if role == Role::Creator => {
                    set_role(sql, next, group, Role::Creator)?;
                    Ok(Left { new_creator: Some(next), is_gone: false })
                }
                Some(_) => Ok(Left { new_creator: None, is_gone: false }),
            }
        })
        .await
    }

    /// `by` removes `user`, whose role must be lower.
    ///
    /// # Errors
    ///
    /// [`Refusal::UnknownGroup`], [`Refusal::NotMember`] (either of the two), [`Refusal::NotAllowed`],
    /// [`Refusal::Oneself`], or the database's.
    pub async fn kick(&self, by: UserId, user: UserId, group: GroupId) -> Result<(), StoreError> {
        self.write(move |sql| {
            lock_group(sql, group)?;
            let may = role_of(sql, by, group)?;
            if by == user {
                return Err(Refusal::Oneself.into());
            }
            if may <= role_of(sql, user, group)? {
                return Err(Refusal::NotAllowed.into());
            }
            remove(sql, user, group)?;
            Ok(())
        })
        .await
    }

    /// `by`, the creator, gives `user` a role. Giving [`Role::Creator`] away makes `by` an admin.
    ///
    /// # Errors
    ///
    /// [`Refusal::UnknownGroup`], [`Refusal::NotMember`] (either of the two), [`Refusal::NotAllowed`],
    /// [`Refusal::Oneself`], or the database's.
    pub async fn set_role(&self, by: UserId, user: UserId, group: GroupId, role: Role) -> Result<(), StoreError> {
        self.write(move |sql| {
            lock_group(sql, group)?;
            if role_of(sql, by, group)? != Role::Creator {
                return Err(Refusal::NotAllowed.into());
            }
            if by == user {
                return Err(Refusal::Oneself.into());
            }
            role_of(sql, user, group)?;
            set_role(sql, user, group, role)?;
            if role == Role::Creator {
                set_role(sql, by, group, Role::Admin)?;
            }
            Ok(())
        })
        .await
    }

    /// The groups of `user`, by number.
    ///
    /// # Errors
    ///
    /// The database's.
    pub async fn groups(&self, user: UserId) -> Result<Vec<Group>, StoreError> {
        self.read(move |sql| {
            let query = "SELECT g.id, g.name, g.description, me.role \
                         FROM participant AS me JOIN chat_group AS g ON g.id = me.conversation \
                         WHERE me.user_id = ? ORDER BY g.id";
            Ok(sql.rows(query, &[user_value(user)], read_group)?)
        })
        .await
    }

    /// The members of a group, by number, in one query. `by` must be one of them.
    ///
    /// # Errors
    ///
    /// [`Refusal::UnknownGroup`], [`Refusal::NotMember`], or the database's.
    pub async fn members(&self, by: UserId, group: GroupId) -> Result<Vec<Member>, StoreError> {
        self.read(move |sql| {
            let query = format!(
                "SELECT u.id, u.name, p.role, n.id FROM participant AS p JOIN user AS u ON u.id = p.user_id \
                 {} WHERE p.conversation = ? ORDER BY u.id",
                online_join(sql)
            );
            let members = sql.rows(&query, &[group_value(group)], |row| read_member(row, 0))?;
            match members.iter().any(|member| member.user.id == by) {
                true => Ok(members),
                // A group has a member at least.
                false if members.is_empty() => Err(Refusal::UnknownGroup.into()),
                false => Err(Refusal::NotMember.into()),
            }
        })
        .await
    }

    /// The numbers of a group's members, in ascending order, for whom a message is. Empty when there is no such group.
    ///
    /// # Errors
    ///
    /// The database's.
    pub async fn member_ids(&self, group: GroupId) -> Result<Vec<UserId>, StoreError> {
        self.read(move |sql| {
            let query = "SELECT user_id FROM participant WHERE conversation = ? ORDER BY user_id";
            Ok(sql.rows(query, &[group_value(group)], |row| row.id(0))?)
        })
        .await
    }
}
