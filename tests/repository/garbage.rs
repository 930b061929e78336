//! Whatever bytes lie in the store: an error or a document, never a panic, and never more memory than stated.

use std::path::PathBuf;
use std::sync::LazyLock;

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use dbkeeper::base::ids::TargetId;
use dbkeeper::codec::compress::{compress_document, decompress, decompress_document};
use dbkeeper::codec::digest::sha256;
use dbkeeper::codec::seal;
use dbkeeper::repository::checkpoint::Checkpoint;
use dbkeeper::repository::intake::{Kind, most_memory, read};
use dbkeeper::repository::layout::{self, VaultObject};
use dbkeeper::repository::proof::{Proof, ReadTimes};
use dbkeeper::repository::verify::Rung;
use dbkeeper::repository::{index, manifest};
use proptest::prelude::*;

use super::support::{World, rows};

/// One good object of each kind, past its seal.
static SAMPLES: LazyLock<Vec<(Kind, Vec<u8>)>> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(samples())
});

async fn samples() -> Vec<(Kind, Vec<u8>)> {
    let world = World::new().await;
    let vault = world.acme();
    let marker = world.back_up(&vault, b"S", &[("table:1", rows(300, 1)), ("table:2", rows(3, 2))]).await;
    let marker = marker.expect("back up").marker;
    let listing = vault.list().await.expect("list");
    let get = async |key| world.store.get(&key).await.expect("get").to_vec();
    let epoch = vault.open_epoch(&listing, marker.epoch, std::slice::from_ref(&world.officer)).await.expect("open");
    let index_key = vault.keys().expect("the key").index.clone();
    let inside = |sealed: &[u8], identity, limit| {
        decompress_document(&seal::open(sealed, &[identity], limit).expect("open"), limit).expect("decompress")
    };
    let index = match &marker.index_inline {
        Some(text) => BASE64_STANDARD.decode(text).expect("base64"),
        None => get(VaultObject::Index(marker.id).key(vault.target())).await,
    };
    let manifest = get(VaultObject::Manifest(marker.id).key(vault.target())).await;
    let pack = get(listing.pack_key(vault.target(), marker.packs[0].sha256).expect("listed")).await;
    let signed = |text: &str| format!("{text}\n{{\"mac\":\"{}\"}}\n", "0".repeat(64)).into_bytes();
    let said = |more: &str| {
        let vault = serde_json::to_string(vault.target()).expect("JSON");
        format!(r#"{{"format":1,"vault":{vault},"backup":"{}","id":"{}",{more}}}"#, marker.id, marker.run_id)
    };
    let proof = Proof {
        format: 1,
        vault: vault.target().clone(),
        run_id: marker.run_id,
        rung: Rung::Presence,
        proven_at: marker.created_at,
        whole: true,
        backups: 1,
        newest_whole: Some(marker.id),
        packs: 1,
        read_at: ReadTimes::default(),
        drill: None,
    };
    let (key, hash, of) = ("0123456789abcdef", "ab".repeat(32), serde_json::to_string(vault.target()).expect("JSON"));
    let run = marker.run_id;
    let vouch = format!(
        r#"{{"format":1,"vault":{of},"id":"{run}","rotation":"{run}","documents":{{"keys/x.json":"{hash}"}}}}"#
    );
    let done = format!(
        r#"{{"format":1,"repository":"{}","rotation":"{run}","key":"{key}","at":"2026-12-01T00:00:00Z","former_keys":"x","former_lost":false,"documents":{{"runs/x.json":"{hash}"}}}}"#,
        world.repository.id()
    );
    let mut checkpoint = Checkpoint::new(&world.repository, marker.created_at, true);
    for number in 0..50_u8 {
        checkpoint.add(vault.target(), marker.id, &sha256(&[number]));
        checkpoint.add(&TargetId::tenant(&format!("t{number}")).expect("a name"), marker.id, &sha256(&[number]));
    }
    let checkpoint = checkpoint.print(&world.repository.checkpoint_mac().expect("a key"));
    vec![
        (Kind::Repository, get(layout::repository_document()).await),
        (Kind::Epoch, get(VaultObject::Epoch(marker.epoch, 1).key(vault.target())).await),
        (Kind::Marker, get(VaultObject::Marker(marker.id).key(vault.target())).await),
        (Kind::Hold, signed(&said(r#""until":"2027-01-01T00:00:00Z","reason":"audit""#))),
        (Kind::Release, signed(&said(r#""released_at":"2026-12-01T00:00:00Z""#))),
        (Kind::Proof, signed(&serde_json::to_string(&proof).expect("JSON"))),
        (Kind::Report, signed(r#"{"run_id":"x","targets":[{"result":"good","seconds":1.5}]}"#)),
        (Kind::Index, inside(&index, index_key, index::MAX_INDEX_BYTES)),
        (Kind::Manifest, inside(&manifest, epoch.clone(), manifest::MAX_MANIFEST_BYTES)),
        (Kind::Pack, seal::open(&pack, &[epoch], pack.len()).expect("open")),
        (Kind::Name, format!("backups/{}/backup.json", marker.id).into_bytes()),
        (Kind::Vouch, signed(&vouch)),
        (Kind::Rotation, signed(&done)),
        (Kind::Checkpoint, checkpoint.into_bytes()),
    ]
}

/// Reads it and holds the reader to its promise on memory.
fn check(kind: Kind, bytes: &[u8]) -> Result<(), String> {
    let mut result = Ok(());
    let used = allocation_counter::measure(|| result = read(kind, bytes)).bytes_max;
    let most = most_memory(bytes.len());
    assert!(used <= most as u64, "{kind:?}: {used} bytes of memory for {} bytes, and {most} are stated", bytes.len());
    result
}

#[derive(Clone, Debug)]
enum Edit {
    Set(usize, u8),
    Remove(usize, usize),
    Insert(usize, Vec<u8>),
    Repeat(usize, usize),
    Words(usize, &'static str),
}

impl Edit {
    fn apply(&self, bytes: &mut Vec<u8>) {
        let at = |place: usize, bytes: &Vec<u8>| place % (bytes.len() + 1);
        let run = |place: usize, length: usize, bytes: &Vec<u8>| {
            at(place, bytes)..(at(place, bytes) + length).min(bytes.len())
        };
        match self {
            Self::Set(place, value) => {
                let at = at(*place, bytes);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = *value;
                }
            }
            Self::Remove(place, length) => drop(bytes.drain(run(*place, *length, bytes))),
            Self::Insert(place, more) => drop(bytes.splice(run(*place, 0, bytes), more.iter().copied())),
            Self::Repeat(place, length) => {
                let run = run(*place, *length, bytes);
                let again = bytes[run.clone()].to_vec();
                drop(bytes.splice(run.end..run.end, again));
            }
            Self::Words(place, words) => {
                // In the place of the next number, where there is one: numbers are what sizes are made of.
                let from = at(*place, bytes);
                let digits = |bytes: &[u8]| bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
                let begin = bytes[from..].iter().position(u8::is_ascii_digit).map_or(from, |found| from + found);
                let end = begin + digits(&bytes[begin..]);
                drop(bytes.splice(begin..end, words.bytes()));
            }
        }
    }
}

fn edit() -> impl Strategy<Value = Edit> {
    let words =
        ["18446744073709551615", "4294967295", "-1", "1e308", "null", "\"\\u0000\"", "[[[[", "{\"a\":", "\"../../x\""];
    prop_oneof![
        (any::<usize>(), any::<u8>()).prop_map(|(at, value)| Edit::Set(at, value)),
        (any::<usize>(), 0..200_usize).prop_map(|(at, length)| Edit::Remove(at, length)),
        (any::<usize>(), prop::collection::vec(any::<u8>(), 0..40)).prop_map(|(at, more)| Edit::Insert(at, more)),
        (any::<usize>(), 0..400_usize).prop_map(|(at, length)| Edit::Repeat(at, length)),
        (any::<usize>(), prop::sample::select(words.to_vec())).prop_map(|(at, words)| Edit::Words(at, words)),
    ]
}

#[test]
fn every_kind_of_stored_object_has_a_sample_that_is_read() {
    for kind in Kind::ALL {
        let (_, bytes) = SAMPLES.iter().find(|(of, _)| *of == kind).expect("a sample");
        assert_eq!(check(kind, bytes), Ok(()), "{kind:?}");
    }
}

/// The seeds of `./dev fuzz`: with `DBKEEPER_WRITE_SEEDS` set this test writes them anew, after a change of the format.
#[test]
#[expect(clippy::disallowed_methods, reason = "whoever changes the format asks for new seeds")]
fn the_fuzzers_have_a_seed_of_each_kind() {
    let write = std::env::var_os("DBKEEPER_WRITE_SEEDS").is_some();
    for (number, kind) in (0_u8..).zip(Kind::ALL) {
        let file = corpus().join(format!("{kind:?}").to_lowercase());
        if write {
            let (_, bytes) = SAMPLES.iter().find(|(of, _)| *of == kind).expect("a sample");
            std::fs::write(&file, [&[number], bytes.as_slice()].concat()).expect("write a seed");
        }
        let bytes = std::fs::read(&file).expect("DBKEEPER_WRITE_SEEDS=1 cargo test … seed writes it");
        assert_eq!(check(Kind::ALL[usize::from(bytes[0])], &bytes[1..]), Ok(()), "{kind:?}");
    }
}

fn corpus() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/stored")
}

#[test]
fn what_fuzzers_found_before_is_answered() {
    let folder = corpus();
    let mut read = 0;
    for file in std::fs::read_dir(folder).expect("fuzz/corpus/stored") {
        let bytes = std::fs::read(file.expect("an entry").path()).expect("read it");
        if let Some((kind, rest)) = bytes.split_first() {
            let _ = check(Kind::ALL[usize::from(*kind) % Kind::ALL.len()], rest);
            read += 1;
        }
    }
    assert!(read >= Kind::ALL.len(), "one for each kind at least, not {read}");
}

#[test]
fn a_bomb_in_the_place_of_a_checkpoint_takes_no_memory() {
    let bomb = compress_document(&vec![b' '; 40 << 20]).expect("compress");
    let line = format!("dbkeeper-checkpoint-1:{}:{}", BASE64_URL_SAFE_NO_PAD.encode(bomb), "0".repeat(64));
    let refused = check(Kind::Checkpoint, line.as_bytes()).expect_err("a bomb");
    assert!(refused.contains("it is damaged"), "{refused}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_mutated_object_is_an_error_or_a_document(
        sample in any::<prop::sample::Index>(),
        edits in prop::collection::vec(edit(), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let (kind, bytes) = sample.get(&SAMPLES);
        let mut bytes = bytes.clone();
        edits.iter().for_each(|edit| edit.apply(&mut bytes));
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len() + 1));
        }
        let _ = check(*kind, &bytes);
    }

    #[test]
    fn random_bytes_are_an_error(bytes in prop::collection::vec(any::<u8>(), 0..2_000)) {
        for kind in Kind::ALL {
            // A few letters may be the name of a vault's folder.
            prop_assert!(check(kind, &bytes).is_err() || (kind == Kind::Name && bytes.len() < 8), "{kind:?}");
        }
    }

    #[test]
    fn an_age_file_is_opened_or_refused_within_its_own_size(
        bytes in prop::collection::vec(any::<u8>(), 0..2_000),
        headed: bool,
    ) {
        let bytes = if headed { [b"age-encryption.org/v1\n-> X25519 ".as_slice(), &bytes].concat() } else { bytes };
        let identity = seal::Identity::from_bytes(&[9; 32]);
        let used = allocation_counter::measure(|| {
            assert!(seal::open(&bytes, std::slice::from_ref(&identity), 1 << 30).is_err());
            assert!(seal::open_text(&String::from_utf8_lossy(&bytes), &[identity]).is_err());
        });
        prop_assert!(used.bytes_max < 1 << 20, "{} bytes", used.bytes_max);
    }

    #[test]
    fn a_frame_that_promises_more_than_it_can_hold_takes_no_memory(
        frame in prop::collection::vec(any::<u8>(), 0..500),
        promised in any::<u32>(),
    ) {
        let used = allocation_counter::measure(|| drop(decompress(&frame, promised as usize))).bytes_max;
        prop_assert!(used <= 64 << 20, "{used} bytes");
    }
}
