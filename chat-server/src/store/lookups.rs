//! What is looked up at every login, for all who log in at the same moment.
//!
//! When a node has stopped, thousands of its users come back elsewhere within seconds. Each of them makes the node ask whose
//! a token is, what is unread and who the friends are. A statement that asks it for fifty of them costs the database
//! little more than one for one, so what comes in while one runs is asked together, as with commits.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::AbortHandle;

use super::backend::{Access, Backend};
use super::error::StoreError;
use super::friends::mutual_friends_of;
use super::ids::UserId;
use super::lane::{Company, Lane, Pending, Place, answer_all, in_time};
use super::messages::unread_of;
use super::model::Unread;
use super::options::StoreOptions;
use super::sql::{Sql, SqlError};
use super::tokens::{TokenHash, TokenOwner, owners_of};

/// The lanes, one for each question.
pub(super) struct Lookups {
    pub(super) token_owner: Lookup<TokenHash, Option<TokenOwner>>,
    pub(super) unread: Lookup<UserId, Vec<Unread>>,
    pub(super) mutual_friends: Lookup<UserId, Vec<UserId>>,
}

impl Lookups {
    pub(super) fn start(backend: &Backend, options: &StoreOptions) -> (Self, Vec<AbortHandle>) {
        let (token_owner, of_tokens) = Lookup::start(backend, options, owners_of);
        let (unread, of_unread) = Lookup::start(backend, options, unread_of);
        let (mutual_friends, of_friends) = Lookup::start(backend, options, mutual_friends_of);
        (Self { token_owner, unread, mutual_friends }, vec![of_tokens, of_unread, of_friends])
    }
}

/// One question, asked for many keys at a time.
pub(super) struct Lookup<K, V> {
    lane: Lane<K, V>,
}

/// Finds what there is for some of these keys.
type Find<K, V> = fn(&mut dyn Sql, &[K]) -> Result<HashMap<K, V>, SqlError>;

impl<K, V> Lookup<K, V>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Clone + Default + Send + 'static,
{
    fn start(backend: &Backend, options: &StoreOptions, find: Find<K, V>) -> (Self, AbortHandle) {
        let (backend, deadline) = (backend.clone(), options.deadline);
        let ask = move |batch| ask(backend.clone(), batch, deadline, find);
        let (lane, task) = Lane::start(options.max_batch, Company { part: 1, max_linger: Duration::ZERO }, ask);
        (Self { lane }, task)
    }

    /// What there is for this key at a moment after the call; the default, if there is nothing.
    pub(super) async fn of(&self, key: K, place: Place) -> Result<V, StoreError> {
        self.lane.submit(key, place).await
    }
}

async fn ask<K, V>(backend: Backend, batch: Vec<Pending<K, V>>, deadline: Duration, find: Find<K, V>)
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Clone + Default + Send + 'static,
{
    let Some((keys, callers, since)) = in_time(batch, deadline) else { return };
    let keys = Arc::new(keys);
    let distinct: Vec<K> = HashSet::<K>::from_iter(keys.iter().cloned()).into_iter().collect();
    let found = backend.run(Access::Read, since, None, move |sql| Ok(find(sql, &distinct)?)).await;
    let answer_from =
        |found: HashMap<K, V>| keys.iter().map(|key| Ok(found.get(key).cloned().unwrap_or_default())).collect();
    answer_all(callers, found.map(answer_from));
}
