//! One slot: the right to one connection, and the place where that connection stays.
//!
//! Connections never move. What moves is the right to a slot, a [`Held`], and there is exactly one per slot. Whoever has
//! it owns the slot's connection; the type system does the accounting, and this file has the crate's only `unsafe`.
//!
//! # The state word
//!
//! Each slot has a word that says where its right is. Only the holder of the right writes it, with one exception: an
//! [`Idle`](Phase::Idle) slot of the set without a queue has no holder, and whoever swings its word to
//! [`Lent`](Phase::Lent) becomes the holder.
//!
//! | word | the right is with | next |
//! |---|---|---|
//! | `Vacant` | the supply | `Connecting`, `Lent` (a connection is added from outside) |
//! | `Connecting` | a worker | `Lent` (in passing, then as a checkin), `Vacant` (connect failed) |
//! | `Idle` | the idle set | `Lent` |
//! | `Reserved` | the reserve | `Lent` |
//! | `Lent` | a guard, or whoever moves it on | `Idle`, `Reserved`, `Checking`, `Closing` |
//! | `Checking` | a worker | `Lent` (in passing, then as a checkin), `Closing` |
//! | `Closing` | a worker, or whoever detaches | `Vacant` |
//!
//! # Ages
//!
//! Times are ticks: milliseconds since the pool was built, as of the last beat of its upkeep thread. Reading the shared
//! tick costs a nanosecond where a clock costs thirty. They are written by the holder alone and read by the upkeep
//! thread as a hint, so `Relaxed` is enough.

use std::num::NonZeroUsize;

use crate::state::State;
use crate::sync::UnsafeCell;
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// "Never" among ticks.
pub(crate) const NEVER: u64 = u64::MAX;

/// Where a slot's right is; see the module's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Phase {
    Vacant = 0,
    Connecting = 1,
    Idle = 2,
    Reserved = 3,
    Lent = 4,
    Checking = 5,
    Closing = 6,
}

/// The right to one slot of one table. Not `Clone`: that there is one per slot is what makes the table sound.
///
/// Dropping it would leak the slot for good; every path hands it on.
#[derive(Debug)]
#[must_use = "a dropped right is a slot lost for good"]
pub(crate) struct Held {
    /// The slot's index behind a bit that is always set, so that an `Option<Held>` is as small as a `Held`.
    ///
    /// As wide as a pointer, so that nothing that has one has padding: see [`Loan`](crate::guard).
    number: NonZeroUsize,
}

impl Held {
    /// Private to this file: rights are made with their table, and by [`SlotTable::claim`].
    #[inline(always)]
    fn new(index: usize) -> Self {
        Self { number: NonZeroUsize::MIN | (index << 1) }
    }

    #[inline(always)]
    pub(crate) fn index(&self) -> usize {
        self.number.get() >> 1
    }
}

/// The right to a slot that has a connection, and keeps it as long as this exists: what a guard holds.
#[derive(Debug)]
#[must_use = "a dropped right is a slot lost for good"]
pub(crate) struct Lent(Held);

impl Lent {
    #[inline(always)]
    pub(crate) fn right(&self) -> &Held {
        &self.0
    }

    #[inline(always)]
    pub(crate) fn into_right(self) -> Held {
        self.0
    }
}

/// One slot. Two cache lines of its own, because the prefetcher of current processors fetches lines in pairs; in this
/// order, so that whoever takes over a slot finds what a loan reads and writes, and a small connection, in the first.
#[repr(C, align(128))]
pub(crate) struct Slot<C> {
    word: AtomicU32,
    /// The pool's epoch in which the connection began to be opened. Written by the holder, under the supply's lock.
    pub(crate) epoch: AtomicU32,
    /// When the holder must look closer before lending: the sooner of `expires_at` and the end of the validation window.
    pub(crate) due_at: AtomicU64,
    pub(crate) expires_at: AtomicU64,
    pub(crate) idle_since: AtomicU64,
    /// Loans so far, of all connections this slot has had.
    pub(crate) loans: AtomicU64,
    connection: UnsafeCell<Option<C>>,
    /// When a check of the connection last began, or when it was opened. Behind the connection, since no loan needs it.
    pub(crate) checked_at: AtomicU64,
    /// `loans` when the connection was opened.
    pub(crate) loans_before: AtomicU64,
    /// How many refusals there had been when the connection began to be opened: see [`refusals`](crate::refusals).
    pub(crate) generation: AtomicU32,
    /// When `loans` was last looked at because somebody waited, in nanoseconds since the pool was built; zero: never.
    looked_at: AtomicU64,
    /// `loans` then.
    loans_at_look: AtomicU64,
    /// The [`Doubt`]s of the present loan, a bit each.
    doubts: AtomicU32,
}

/// Why a connection may have to be closed when it comes back.
#[derive(Debug, Clone, Copy)]
#[repr(u32)]
pub(crate) enum Doubt {
    /// The holder has said so.
    Broken = 1,
    /// The thread was panicking already when the loan began, so that it is panicking at the end says nothing.
    BeganInPanic = 2,
}

/// All slots of a pool.
pub(crate) struct SlotTable<C> {
    slots: Box<[Slot<C>]>,
}

// SAFETY: a connection is reached only through the one `Held` of its slot, which is moved between threads by the idle
// sets and by locks, with a release on one side and an acquire on the other. So a table shared between threads only ever
// sends connections, which `C: Send` allows; no two threads have the same one.
unsafe impl<C: Send> Sync for SlotTable<C> {}

impl<C> SlotTable<C> {
    /// A table of vacant slots and the rights to them, highest first, so that popping starts with slot 0.
    pub(crate) fn new(capacity: usize) -> (Self, Vec<Held>) {
        let slots = (0..capacity)
            .map(|_| Slot {
                word: AtomicU32::new(Phase::Vacant as u32),
                epoch: AtomicU32::new(0),
                due_at: AtomicU64::new(NEVER),
                expires_at: AtomicU64::new(NEVER),
                idle_since: AtomicU64::new(0),
                loans: AtomicU64::new(0),
                connection: UnsafeCell::new(None),
                checked_at: AtomicU64::new(0),
                loans_before: AtomicU64::new(0),
                generation: AtomicU32::new(0),
                looked_at: AtomicU64::new(0),
                loans_at_look: AtomicU64::new(0),
                doubts: AtomicU32::new(0),
            })
            .collect();
        let rights = (0..capacity).rev().map(Held::new).collect();
        (Self { slots }, rights)
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    #[inline(always)]
    pub(crate) fn slot(&self, held: &Held) -> &Slot<C> {
        debug_assert!(held.index() < self.slots.len(), "a right of another table");
        // SAFETY: a right is made by `new` or `claim` for an index of this table, whose length never changes, and a
        // pool's rights never leave the pool. The check would cost a checkout and checkin a fifth of their time.
        unsafe { &*self.slots.as_ptr().add(held.index()) }
    }

    #[inline]
    pub(crate) fn slot_at(&self, index: usize) -> &Slot<C> {
        &self.slots[index]
    }

    /// The right as one to a slot with a connection. Gives it back if there is none.
    #[inline(always)]
    pub(crate) fn lent(&self, mut held: Held) -> Result<Lent, Held> {
        if self.connection_mut(&mut held).is_some() { Ok(Lent(held)) } else { Err(held) }
    }

    /// The connection of a lent slot.
    #[inline(always)]
    pub(crate) fn connection<'a>(&'a self, lent: &'a Lent) -> &'a C {
        let cell = self.slot(&lent.0).connection.get();
        // SAFETY: `lent` has the only right to this slot and is borrowed, so nobody has a unique reference. There was a
        // connection when it was made, in `lent`, and whoever takes one out needs the right itself, unique.
        unsafe { (*cell).as_ref().unwrap_unchecked() }
    }

    /// The connection of a lent slot, to be used.
    #[inline(always)]
    pub(crate) fn lent_mut<'a>(&'a self, lent: &'a mut Lent) -> &'a mut C {
        let cell = self.slot(&lent.0).connection.get();
        // SAFETY: as in `connection`; and `lent` is borrowed uniquely, so nobody else has any reference.
        unsafe { (*cell).as_mut().unwrap_unchecked() }
    }

    /// The place of the slot's connection, to use, fill or empty.
    #[inline(always)]
    pub(crate) fn connection_mut<'a>(&'a self, held: &'a mut Held) -> &'a mut Option<C> {
        let cell = self.slot(held).connection.get();
        // SAFETY: `held` is the only right to this slot and is borrowed uniquely, so nobody else has any reference.
        unsafe { &mut *cell }
    }

    /// Says where the right goes next. A note for [`SlotTable::state`]; it hands nothing over by itself.
    #[inline]
    pub(crate) fn mark(&self, held: &Held, phase: Phase) {
        debug_assert_ne!(phase, Phase::Idle, "only `release` and the queues make a slot idle");
        self.slot(held).word.store(phase as u32, Ordering::Relaxed);
    }

    /// The same for a queue that takes the right itself.
    #[inline]
    pub(crate) fn mark_queued(&self, held: &Held) {
        self.slot(held).word.store(Phase::Idle as u32, Ordering::Relaxed);
    }

    /// Where the slot's right was a moment ago.
    #[inline]
    pub(crate) fn phase_is(&self, index: usize, phase: Phase) -> bool {
        self.slots[index].word.load(Ordering::Relaxed) == phase as u32
    }

    /// Takes the right of an idle slot that has no holder; `None` when it is not idle (any more).
    ///
    /// Together with [`release`](Self::release) this is all the synchronisation that the set without a queue has.
    #[inline(always)]
    pub(crate) fn claim(&self, index: usize) -> Option<Held> {
        let word = &self.slots[index].word;
        // Acquire pairs with the release in `release`: what the last holder did to the connection is seen here.
        // Model-checked: `a_slot_has_one_holder`.
        word.compare_exchange(Phase::Idle as u32, Phase::Lent as u32, Ordering::Acquire, Ordering::Relaxed)
            .ok()
            .map(|_| Held::new(index))
    }

    /// Gives up the right: the slot is idle and has no holder until somebody [`claim`](Self::claim)s it.
    ///
    /// A barrier for what is loaded after it with `SeqCst`: that is not older than the moment the slot became idle. A
    /// checkin looks for waiters next, and a waiter looks for idle slots after it has registered, so one of the two sees
    /// the other.
    #[inline(always)]
    pub(crate) fn release(&self, held: Held) {
        // The swap is the barrier (on x86 it costs 2 ns less than a store and a fence).
        self.slot(&held).word.swap(Phase::Idle as u32, Ordering::SeqCst);
        // loom treats SeqCst accesses as AcqRel, so there the barrier has to be spelled out.
        #[cfg(loom)]
        crate::sync::atomic::fence(Ordering::SeqCst);
    }

    /// Counts the slots by phase, one load each. Not a moment's truth, but every slot is counted once.
    pub(crate) fn state(&self) -> State {
        let mut state = State { max_size: self.len(), ..State::default() };
        for slot in &self.slots {
            let word = slot.word.load(Ordering::Relaxed);
            match word {
                _ if word == Phase::Connecting as u32 => state.connecting += 1,
                _ if word == Phase::Idle as u32 || word == Phase::Reserved as u32 => state.idle += 1,
                _ if word == Phase::Lent as u32 => state.lent += 1,
                _ if word == Phase::Checking as u32 => state.checking += 1,
                _ if word == Phase::Closing as u32 => state.closing += 1,
                _ => continue,
            }
            state.size += 1;
        }
        state
    }

    /// Loans of all slots together.
    pub(crate) fn loans(&self) -> u64 {
        self.slots.iter().map(|slot| slot.loans.load(Ordering::Relaxed)).sum()
    }
}

impl<C> Slot<C> {
    /// Counts a loan. The holder alone writes it, so no read-modify-write is needed.
    #[inline(always)]
    pub(crate) fn count_loan(&self) {
        self.loans.store(self.loans.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// Notes something about the present loan. For the holder.
    ///
    /// It costs the slot its tick, which is how a checkin sees that there is something to look at.
    #[cold]
    pub(crate) fn doubt(&self, doubt: Doubt) {
        self.doubts.store(self.doubts.load(Ordering::Relaxed) | doubt as u32, Ordering::Relaxed);
        self.idle_since.store(NEVER, Ordering::Relaxed);
    }

    /// For whoever puts a new connection into the slot.
    pub(crate) fn forget_doubts(&self) {
        self.doubts.store(0, Ordering::Relaxed);
    }

    /// Ends the loan, on the thread that had it. Whether the connection is broken: a holder that panics may have left it in the
    /// middle of something.
    pub(crate) fn ends_broken(&self) -> bool {
        let doubts = self.doubts.swap(0, Ordering::Relaxed);
        let has = |doubt: Doubt| doubts & doubt as u32 != 0;
        has(Doubt::Broken) || (std::thread::panicking() && !has(Doubt::BeganInPanic))
    }

    /// Nanoseconds per loan since the last call, the time between loans included; `None` the first time. For the holder.
    pub(crate) fn loan_since_last_look(&self, now: u64) -> Option<u64> {
        let loans = self.loans.load(Ordering::Relaxed);
        let (then, loans_then) = (self.looked_at.load(Ordering::Relaxed), self.loans_at_look.load(Ordering::Relaxed));
        self.looked_at.store(now, Ordering::Relaxed);
        self.loans_at_look.store(loans, Ordering::Relaxed);
        (then > 0).then(|| now.saturating_sub(then) / (loans - loans_then).max(1))
    }
}
