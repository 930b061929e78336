//! How long the tests of faults go on, and where they take their chances from.

/// The rounds of a test of faults: `short`, or as many as `./dev test faults` asks for, if that is more.
#[expect(clippy::disallowed_methods, reason = "the one home of what ./dev tells the tests of faults")]
pub fn rounds(short: usize) -> usize {
    let asked = std::env::var("DBKEEPER_FAULT_ROUNDS").ok();
    asked.and_then(|text| text.parse().ok()).map_or(short, |asked: usize| asked.max(short))
}

/// True where `./dev test faults` asks for all that there is, and not for a sample.
#[expect(clippy::disallowed_methods, reason = "the one home of what ./dev tells the tests of faults")]
pub fn is_full() -> bool {
    std::env::var_os("DBKEEPER_FAULT_ROUNDS").is_some()
}

/// Random numbers that come again with the same seed (SplitMix64).
pub struct Dice(u64);

impl Dice {
    /// From `DBKEEPER_FAULT_SEED`, else from a number that nobody chose; it is printed, and shown where the test fails.
    #[expect(clippy::disallowed_methods, reason = "the one home of what ./dev tells the tests of faults")]
    #[expect(clippy::print_stdout, reason = "the seed is shown where the test fails")]
    pub fn roll(test: &str) -> Self {
        use std::hash::{BuildHasher, Hasher};
        let given = std::env::var("DBKEEPER_FAULT_SEED").ok().and_then(|text| text.parse().ok());
        let seed = given.unwrap_or_else(|| std::hash::RandomState::new().build_hasher().finish());
        println!("{test}: again with DBKEEPER_FAULT_SEED={seed}");
        Self(seed)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % end.max(1)
    }

    /// Heads or tails.
    pub fn heads(&mut self) -> bool {
        self.below(2) == 0
    }
}
