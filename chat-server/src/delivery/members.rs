//! The members of groups, remembered for a short time.
//!
//! The bus says when they change. Whoever was put out of a group should get no more of its messages, so while this node may
//! not hear what the bus says, what it remembers is believed for a moment only.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::node::Node;
use crate::store::{GroupId, StoreError, UserId};

/// Groups whose members are remembered. Beyond it all are forgotten and asked for again.
const MAX_GROUPS_REMEMBERED: usize = 10_000;

/// How long members are believed at most while the news of their changes may not arrive. Not to remember them at all would
/// cost the database a question for each message, just when it has to serve without the bus.
const BELIEVED_WITHOUT_NEWS: Duration = Duration::from_millis(100);

/// The members of groups, remembered for a short time.
pub(crate) struct Members {
    cache: Duration,
    groups: Mutex<HashMap<GroupId, Remembered>>,
    /// Counts what was forgotten, so that an answer that was on its way meanwhile is not remembered.
    forgotten: Mutex<u64>,
}

/// Members, and when they were asked for.
type Remembered = (Arc<[UserId]>, Instant);

impl Members {
    pub(crate) fn new(cache: Duration) -> Self {
        Self { cache, groups: Mutex::default(), forgotten: Mutex::default() }
    }

    /// A group's members changed.
    pub(crate) fn forget(&self, group: u32) {
        *self.forgotten.lock() += 1;
        if let Some(group) = GroupId::new(group) {
            self.groups.lock().remove(&group);
        }
    }

    pub(crate) fn forget_all(&self) {
        *self.forgotten.lock() += 1;
        self.groups.lock().clear();
    }
}

impl Node {
    /// The members of a group.
    ///
    /// # Errors
    ///
    /// The database's.
    pub(crate) async fn members_of(&self, group: GroupId) -> Result<Arc<[UserId]>, StoreError> {
        let believed =
            if self.hears_news() { self.members.cache } else { self.members.cache.min(BELIEVED_WITHOUT_NEWS) };
        let now = Instant::now();
        if let Some((members, asked_at)) = self.members.groups.lock().get(&group)
            && now.saturating_duration_since(*asked_at) < believed
        {
            return Ok(Arc::clone(members));
        }
        let forgotten = *self.members.forgotten.lock();
        let members: Arc<[UserId]> = self.store().member_ids(group).await?.into();
        // An answer that was on its way while the group changed is used, as it was right when it was asked for, but not
        // remembered.
        let current = self.members.forgotten.lock();
        if *current == forgotten {
            let mut groups = self.members.groups.lock();
            if groups.len() >= MAX_GROUPS_REMEMBERED {
                groups.clear();
            }
            groups.insert(group, (Arc::clone(&members), now));
        }
        Ok(members)
    }
}
