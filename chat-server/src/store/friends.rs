//! Friends: a row is "has him on his list", two rows are a friendship.

use std::collections::{HashMap, HashSet};

use super::Store;
use super::claims::lock_users;
use super::error::{Refusal, StoreError};
use super::groups::in_a_group_with;
use super::ids::UserId;
use super::model::{Friend, Friendship};
use super::sql::{Failure, Sql, SqlError, Value};
use super::users::{read_user, user_value, user_values};

/// The friends of a user, requests of both directions included, by number.
pub(super) fn friends_of(sql: &mut dyn Sql, user: UserId) -> Result<Vec<Friend>, SqlError> {
    let query = format!(
        "SELECT u.id, u.name, list.mine, list.theirs, n.id FROM (\
           SELECT other, MAX(mine) AS mine, MAX(theirs) AS theirs FROM (\
             SELECT friend_id AS other, 1 AS mine, 0 AS theirs FROM friend WHERE user_id = ? \
             UNION ALL SELECT user_id, 0, 1 FROM friend WHERE friend_id = ?\
           ) AS both_ways GROUP BY other\
         ) AS list \
         JOIN user AS u ON u.id = list.other \
         {} ORDER BY u.id",
        online_join(sql)
    );
    sql.rows(&query, &[user_value(user), user_value(user)], |row| {
        let friendship = match (row.flag(2)?, row.flag(3)?) {
            (true, true) => Friendship::Mutual,
            (true, false) => Friendship::Asked,
            (false, _) => Friendship::AskedBy,
        };
        Ok(Friend { user: read_user(row, 0)?, friendship, is_online: !row.is_null(4)? })
    })
}

/// Those whom these users have on their lists and who have them on theirs.
pub(super) fn mutual_friends_of(sql: &mut dyn Sql, users: &[UserId]) -> Result<HashMap<UserId, Vec<UserId>>, SqlError> {
    let query = "SELECT mine.user_id, mine.friend_id FROM friend AS mine \
                 JOIN friend AS theirs ON theirs.user_id = mine.friend_id AND theirs.friend_id = mine.user_id \
                 WHERE mine.user_id IN {keys} ORDER BY mine.friend_id";
    let mut friends = HashMap::<_, Vec<_>>::new();
    sql.rows_by_keys(query, 1, &user_values(users), &mut |row| {
        friends.entry(row.id(0)?).or_default().push(row.id(1)?);
        Ok(())
    })?;
    Ok(friends)
}

/// Joins user `u` with his node `n`, which is NULL unless he has a session on a node that lives.
pub(super) fn online_join(sql: &dyn Sql) -> String {
    format!(
        "LEFT JOIN session AS s ON s.user_id = u.id \
         LEFT JOIN node AS n ON n.id = s.node_id AND n.incarnation = s.incarnation AND n.lease_until > {}",
        sql.dialect().now
    )
}

/// What is between the two, from the point of view of `user`.
fn between(sql: &mut dyn Sql, user: UserId, other: UserId) -> Result<Option<Friendship>, SqlError> {
    let query = "SELECT user_id FROM friend WHERE (user_id = ? AND friend_id = ?) OR (user_id = ? AND friend_id = ?)";
    let (one, two) = (user_value(user), user_value(other));
    let askers: Vec<UserId> = sql.rows(query, &[one, two, two, one], |row| row.id(0))?;
    Ok(match (askers.contains(&user), askers.contains(&other)) {
        (true, true) => Some(Friendship::Mutual),
        (true, false) => Some(Friendship::Asked),
        (false, true) => Some(Friendship::AskedBy),
        (false, false) => None,
    })
}

/// Puts `other` on the list of `user`, unless one of the two lists is full.
fn insert(sql: &mut dyn Sql, user: UserId, other: UserId, max_friends: usize) -> Result<(), Failure> {
    for (column, whose, list) in [("user_id", user, "friends"), ("friend_id", other, "requests")] {
        let query = format!("SELECT COUNT(*) FROM friend WHERE {column} = ?");
        let count = sql.first(&query, &[user_value(whose)], |row| row.unsigned(0))?.unwrap_or(0);
        if count >= max_friends as u64 {
            return Err(Refusal::Full(list).into());
        }
    }
    let insert = format!("INSERT INTO friend (user_id, friend_id, created_at) VALUES (?, ?, {})", sql.dialect().now);
    sql.execute(&insert, &[user_value(user), user_value(other)])?;
    Ok(())
}

/// Locks both users, who must exist and differ: then what is between them, and how long their lists are, stays so.
fn lock_both(sql: &mut dyn Sql, user: UserId, other: UserId) -> Result<(), Failure> {
    if user == other {
        return Err(Refusal::Oneself.into());
    }
    if lock_users(sql, &[user, other])?.len() < 2 {
        return Err(Refusal::UnknownUser.into());
    }
    Ok(())
}

/// Friends.
impl Store {
    /// `user` puts `other` on his list: a request, or, if `other` had asked already, the acceptance of it.
    ///
    /// # Errors
    ///
    /// [`Refusal::UnknownUser`], [`Refusal::Oneself`], [`Refusal::AlreadyFriend`], [`Refusal::Full`], or the
    /// database's.
    pub async fn add_friend(&self, user: UserId, other: UserId) -> Result<Friendship, StoreError> {
        let max_friends = self.inner.options.max_friends;
        self.write(move |sql| {
            lock_both(sql, user, other)?;
            match between(sql, user, other)? {
                Some(Friendship::Mutual | Friendship::Asked) => Err(Refusal::AlreadyFriend.into()),
                Some(Friendship::AskedBy) => {
                    insert(sql, user, other, max_friends)?;
                    Ok(Friendship::Mutual)
                }
                None => {
                    insert(sql, user, other, max_friends)?;
                    Ok(Friendship::Asked)
                }
            }
        })
        .await
    }

    /// `user` accepts the request of `other`.
    ///
    /// # Errors
    ///
    /// [`Refusal::NotFriend`] when there is none, [`Refusal::AlreadyFriend`], [`Refusal::UnknownUser`],
    /// [`Refusal::Oneself`], [`Refusal::Full`], or the database's.
    pub async fn accept_friend(&self, user: UserId, other: UserId) -> Result<(), StoreError> {
        let max_friends = self.inner.options.max_friends;
        self.write(move |sql| {
            lock_both(sql, user, other)?;
            match between(sql, user, other)? {
                Some(Friendship::AskedBy) => insert(sql, user, other, max_friends),
                Some(Friendship::Mutual) => Err(Refusal::AlreadyFriend.into()),
                Some(Friendship::Asked) | None => Err(Refusal::NotFriend.into()),
            }
        })
        .await
    }

    /// Ends whatever is between the two: a friendship, a request of `user` or one to `user` (that is a rejection).
    /// Returns what it was.
    ///
    /// # Errors
    ///
    /// [`Refusal::NotFriend`], [`Refusal::UnknownUser`], [`Refusal::Oneself`], or the database's.
    pub async fn remove_friend(&self, user: UserId, other: UserId) -> Result<Friendship, StoreError> {
        self.write(move |sql| {
            lock_both(sql, user, other)?;
            let was = between(sql, user, other)?.ok_or(Refusal::NotFriend)?;
            let delete = "DELETE FROM friend WHERE user_id = ? AND friend_id = ?";
            let (one, two): (Value<'_>, Value<'_>) = (user_value(user), user_value(other));
            sql.execute(delete, &[one, two])?;
            sql.execute(delete, &[two, one])?;
            Ok(was)
        })
        .await
    }

    /// The friend list, requests of both directions included, by number.
    ///
    /// # Errors
    ///
    /// The database's.
    pub async fn friends(&self, user: UserId) -> Result<Vec<Friend>, StoreError> {
        self.read(move |sql| Ok(friends_of(sql, user)?)).await
    }

    /// Those of `others` of whom `user` may know whether they are online: himself, his friends on both sides, and the
    /// members of his groups. By number.
    ///
    /// # Errors
    ///
    /// [`StoreError::Busy`], or the database's.
    pub async fn acquaintances(&self, user: UserId, others: &[UserId]) -> Result<Vec<UserId>, StoreError> {
        let friends: HashSet<UserId> = self.mutual_friends(user).await?.into_iter().collect();
        let is_known = |other: &UserId| *other == user || friends.contains(other);
        let (mut known, mut others): (Vec<_>, Vec<_>) = others.iter().copied().partition(is_known);
        if !others.is_empty() {
            others.sort_unstable();
            others.dedup();
            known.extend(self.read(move |sql| Ok(in_a_group_with(sql, user, &others)?)).await?);
        }
        known.sort_unstable();
        known.dedup();
        Ok(known)
    }

    /// Those who are the user's friends on both sides, by number, without the requests and without saying who is online.
    ///
    /// # Errors
    ///
    /// [`StoreError::Busy`], or the database's.
    pub async fn mutual_friends(&self, user: UserId) -> Result<Vec<UserId>, StoreError> {
        self.inner.lookups.mutual_friends.of(user, self.question()?).await
    }
}
