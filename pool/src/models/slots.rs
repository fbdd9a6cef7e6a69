//! Slots and groups of slots, below the pool.

use std::sync::Arc;

use loom::thread;

use super::line::explore;
use crate::idle::Slots;
use crate::idle::sealed::Set;
use crate::slot::SlotTable;

/// Two threads take and give the same slot; what one does to the connection, the next one sees. loom checks that each
/// access to the connection is ordered after the one before it.
#[test]
fn a_slot_has_one_holder() {
    explore(4, || {
        let (table, rights) = SlotTable::<u32>::new(1);
        for mut held in rights {
            *table.connection_mut(&mut held) = Some(0);
            table.release(held);
        }
        let table = Arc::new(table);
        let use_it = |table: &SlotTable<u32>| {
            let mut uses = 0;
            for _ in 0..2 {
                if let Some(mut held) = table.claim(0) {
                    *table.connection_mut(&mut held).as_mut().expect("filled above") += 1;
                    uses += 1;
                    table.release(held);
                }
            }
            uses
        };
        let other = {
            let table = Arc::clone(&table);
            thread::spawn(move || use_it(&table))
        };
        let uses = use_it(&table) + other.join().unwrap();
        let lent = table.lent(table.claim(0).expect("nobody else is left")).expect("filled above");
        assert_eq!(table.connection(&lent), &uses);
        table.release(lent.into_right());
    });
}

/// One thread searches a group in vain and says so, while others make slots of it idle. Whatever is idle in the end is
/// found.
#[test]
fn no_slot_hides_in_its_group() {
    explore(3, || {
        // More than one group, or there would be no flags.
        let (table, mut rights) = SlotTable::<u32>::new(3);
        let set = Slots::with_capacity(3);
        let (first, second) = (rights.pop().expect("slot 0"), rights.pop().expect("slot 1"));
        // The flag is up, but there is nothing behind it.
        set.give(&table, first);
        let first = table.claim(0).expect("just given");
        let pool = Arc::new((table, set));
        let giving = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || pool.1.give(&pool.0, first))
        };
        let searching = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || pool.1.take(&pool.0))
        };
        pool.1.give(&pool.0, second);
        giving.join().unwrap();
        let taken = searching.join().unwrap();
        let (table, set) = &*pool;
        let found = [taken, set.take(table), set.take(table)].into_iter().flatten().count();
        assert_eq!(found, 2, "an idle slot behind a lowered flag");
    });
}
