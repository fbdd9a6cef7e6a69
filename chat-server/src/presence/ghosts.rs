//! Ghosts: sessions that only the directory still has.
//!
//! A session that ends gives its claim back. When the database does not answer at that moment, the row stays; and because
//! the node lives on and renews its lease, the row counts: its user would be online without being anywhere, and a server
//! that refuses second logins would lock him out. A claim that was committed without its answer leaves such a row, too. So
//! a node compares the rows of its lease with its hub: soon after something of that kind has happened, and now and then
//! in any case, because what was given up may be committed later.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

use crate::node::Node;
use crate::protocol::Presence;
use crate::store::{Location, SessionId, StoreError, UserId};

/// Rows that are compared with one question.
const COMPARE_AT_ONCE: usize = 500;

/// What a row of the directory is to the hub.
enum Standing<T> {
    /// The user's session is here.
    Here,
    /// A connection that nobody is logged in on, or not yet: it may be about to become the user's session. If it does not,
    /// it is closed when its time for the login is over.
    Undecided,
    /// There is no such session, and there will be none.
    Ghost(T),
}

impl Node {
    /// Notes that the directory may have a session which is not here.
    pub(crate) fn expect_ghosts(&self) {
        self.directory.may_have_ghosts.store(true, Ordering::Relaxed);
    }

    /// Ends ghosts for ever: at the pace of the lease while some are expected, at that of the healing reads otherwise.
    pub(crate) async fn end_ghosts(self: Arc<Self>) {
        let config = &self.config;
        let mut ticks = tokio::time::interval(Duration::from_millis(config.lease_refresh_ms));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let ticks_per_look = (config.heal_ms / config.lease_refresh_ms).max(1);
        for number in 1_u64.. {
            ticks.tick().await;
            let are_expected = self.directory.may_have_ghosts.swap(false, Ordering::Relaxed);
            if (are_expected || number.is_multiple_of(ticks_per_look)) && !self.end_all_ghosts().await {
                self.expect_ghosts();
            }
        }
    }

    /// Ends the sessions of this node's lease that are not in the hub. Returns whether it is certain that none is left.
    async fn end_all_ghosts(self: &Arc<Self>) -> bool {
        let (mut after, mut is_certain) = (None, true);
        loop {
            let Ok(claimed) = self.store().claimed_sessions(self.lease, after, COMPARE_AT_ONCE).await else {
                return false;
            };
            let Some(&(last, _)) = claimed.last() else { return is_certain };
            after = Some(last);
            let mut releases = Vec::new();
            for (user, session) in claimed {
                match self.standing(user, session) {
                    Standing::Here => {}
                    Standing::Undecided => is_certain = false,
                    Standing::Ghost(release) => releases.push(async move { (user, release.await) }),
                }
            }
            for (user, released) in join_all(releases).await {
                match released {
                    Ok(true) => {
                        info!(user = user.get(), "a session that ended without being released is released");
                        self.announce(user);
                        self.tell_friends(user, Presence::Offline);
                    }
                    // It was released or displaced meanwhile.
                    Ok(false) => {}
                    Err(error) => {
                        warn!(%error, user = user.get(), "a session could not be released; it is tried again");
                        is_certain = false;
                    }
                }
            }
        }
    }

    /// What this row is. The release of a ghost is queued before anything else can happen to its session.
    fn standing(
        &self,
        user: UserId,
        id: SessionId,
    ) -> Standing<impl Future<Output = Result<bool, StoreError>> + use<>> {
        let release = || self.store().release(user, Location { lease: self.lease, session: id });
        // A connection is in the hub from before its first claim until after its last release, and its number never comes
        // again.
        let Some(session) = self.hub.session(id) else { return Standing::Ghost(release()) };
        session.with_unflushed(|outbox, _| match outbox.user {
            Some(own) if own == user => Standing::Here,
            // Whoever is logged in must log out before this connection can claim the former user again, which takes the
            // lock that is held here; so that claim is queued behind this release.
            Some(_) => Standing::Ghost(release()),
            None => Standing::Undecided,
        })
    }
}
