//! What clients may send, without a fuzzer: the seeds, each in every pair of pieces, and variations of them.

use std::fs;
use std::path::Path;

use chat_server::fuzzing::{MAX_FRAME, check_input};
use proptest::prelude::*;
use proptest::sample::Index;

/// The seeds: lengths of pieces, and a stream.
fn seeds() -> Vec<(String, Vec<u8>, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/input");
    let mut seeds: Vec<_> = fs::read_dir(folder)
        .expect("the seeds are there")
        .map(|entry| {
            let path = entry.expect("a folder that can be read").path();
            let bytes = fs::read(&path).expect("a file that can be read");
            // As in fuzz_targets/input.rs.
            let (&count, rest) = bytes.split_first().expect("a seed is not empty");
            let (cuts, stream) = rest.split_at(usize::from(count % 16).min(rest.len()));
            (path.file_name().expect("a name").to_string_lossy().into_owned(), cuts.to_vec(), stream.to_vec())
        })
        .collect();
    seeds.sort();
    assert!(seeds.len() >= 20, "only {} seeds", seeds.len());
    seeds
}

#[test]
fn every_seed_is_read_the_same_however_it_is_cut() {
    for (name, cuts, stream) in seeds() {
        println!("{name}");
        check_input(&stream, &cuts);
        check_input(&stream, &[]);
        for at in 1..stream.len().min(255) {
            check_input(&stream, &[at as u8, 255]);
        }
    }
}

/// A change of some bytes.
#[derive(Debug, Clone)]
enum Change {
    Replace(Index, u8),
    Remove(Index, usize),
    Insert(Index, Vec<u8>),
    Repeat(Index, usize, usize),
}

impl Change {
    fn make(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        match self {
            Self::Replace(at, byte) => {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            Self::Remove(at, count) => {
                let at = at.index(bytes.len());
                bytes.drain(at..(at + count).min(bytes.len()));
            }
            Self::Insert(at, new) => {
                let at = at.index(bytes.len());
                bytes.splice(at..at, new.iter().copied());
            }
            Self::Repeat(at, count, times) => {
                let at = at.index(bytes.len());
                let part = bytes[at..(at + count).min(bytes.len())].repeat(*times);
                bytes.splice(at..at, part);
            }
        }
    }
}

fn byte() -> impl Strategy<Value = u8> {
    prop_oneof![4 => proptest::sample::select(&b"{}[]\"\\:,\0\n 019-.eun\xff\x80\xed"[..]), 1 => any::<u8>()]
}

fn change() -> impl Strategy<Value = Change> {
    let words = proptest::sample::select(vec![
        &b"\"msgid\":"[..],
        b"\"rid\":18446744073709551616",
        b"\"toid\":-0",
        b"\"msg\":\"\\u0000\"",
        b"null",
        b"1e400",
        b"{\"msgid\":28}",
    ]);
    let new = prop_oneof![proptest::collection::vec(byte(), 1..4), words.prop_map(<[u8]>::to_vec)];
    prop_oneof![
        (any::<Index>(), byte()).prop_map(|(at, byte)| Change::Replace(at, byte)),
        (any::<Index>(), 1_usize..8).prop_map(|(at, count)| Change::Remove(at, count)),
        (any::<Index>(), new).prop_map(|(at, new)| Change::Insert(at, new)),
        (any::<Index>(), 1_usize..40, 1..2 * MAX_FRAME / 40)
            .prop_map(|(at, count, times)| Change::Repeat(at, count, times)),
    ]
}

proptest! {
    // A few seconds where nothing is optimised.
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn variations_of_the_seeds_neither_panic_nor_depend_on_the_pieces(
        seed in proptest::sample::select(seeds()),
        changes in proptest::collection::vec(change(), 0..6),
        cuts in proptest::collection::vec(1_u8..80, 0..8),
    ) {
        let (_, _, mut stream) = seed;
        changes.iter().for_each(|change| change.make(&mut stream));
        check_input(&stream, &cuts);
    }
}
