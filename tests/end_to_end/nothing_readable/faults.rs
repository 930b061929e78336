//! Every verb on an S3 repository, in the good case and behind the faults of the network and of the store: nothing readable is
//! said, sent or left. Each fault is counted where it is made, so none can stop to happen unnoticed.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::line::{Fault, Line, Peer, Told, is_change, is_read};
use super::search::{Found, Planted};
use super::{VERBS, lock_up, plant, spelled};
use crate::end_to_end::secrets::{Seen, run_to_a_crash, run_to_any_end};
use crate::end_to_end::world::{CONFIG, World};
use crate::support::proxy::Way;
use crate::support::rounds::{Dice, is_full};
use crate::support::seaweed::Seaweed;

/// Verbs of each fault in `./dev test`; `./dev test faults` tries every verb.
const SAMPLE: usize = 2;
/// How many peers stand still at a time.
const SIDE_BY_SIDE: usize = 6;
/// A place is chosen this finely.
const WHOLE: u64 = 1 << 20;
const TOKEN: &str = "planted-session-token-d8";

const FAULTS: [Fault; 15] = {
    use Fault::{Crash, Cut, Nameless, Told as Says};
    use Peer::{Database, Store};
    [
        Cut(Database, Way::Up),
        Cut(Database, Way::Down),
        Cut(Store, Way::Up),
        Cut(Store, Way::Down),
        Nameless(Database),
        Nameless(Store),
        Says(Told::SlowDown),
        Says(Told::Revoked),
        Says(Told::Expired),
        Says(Told::Skewed),
        Says(Told::ReadOnly),
        Says(Told::Foreign),
        Says(Told::Short),
        Says(Told::Bent),
        Crash,
    ]
};

const STALLS: [Fault; 4] = [
    Fault::Stalled(Peer::Database, Way::Up),
    Fault::Stalled(Peer::Database, Way::Down),
    Fault::Stalled(Peer::Store, Way::Up),
    Fault::Stalled(Peer::Store, Way::Down),
];

/// What a verb does in the good case.
#[derive(Clone, Debug, Default)]
struct Usual {
    /// Bytes by [`Peer`] and way.
    moved: [[u64; 2]; 2],
    reads: bool,
    changes: bool,
    took: Duration,
    code: Option<i32>,
}

impl Usual {
    /// True where a verb that does this meets the fault.
    fn meets(&self, fault: Fault) -> bool {
        let moves = |peer: Peer| self.moved[peer as usize].iter().any(|bytes| 0 < *bytes);
        match fault {
            Fault::Cut(peer, _) | Fault::Stalled(peer, _) | Fault::Nameless(peer) => moves(peer),
            Fault::Told(Told::ReadOnly) => self.changes,
            Fault::Told(Told::Short | Told::Bent) => self.reads,
            Fault::Told(_) => moves(Peer::Store),
            Fault::Crash => true,
        }
    }

    fn bytes(&self, fault: Fault) -> u64 {
        match fault {
            Fault::Cut(peer, way) => self.moved[peer as usize][way as usize],
            // Early enough that something is still to come.
            Fault::Stalled(peer, way) => self.moved[peer as usize][way as usize] / 4,
            _ => 0,
        }
    }
}

/// One verb behind one fault.
#[derive(Clone, Copy, Debug)]
struct Cell {
    fault: Fault,
    verb: usize,
    /// Where in what the verb usually moves, or when in the time that it usually takes: so many of [`WHOLE`].
    unit: u32,
}

/// How one run ended.
struct Ran {
    what: String,
    code: Option<i32>,
    text: Vec<u8>,
    met: bool,
    took: Duration,
}

/// The planted world, what its verbs usually do, and all that was heard of them.
struct Fleet {
    world: World,
    seen: Arc<Mutex<Seen>>,
    usual: Vec<Usual>,
    found: Mutex<Found>,
    planted: Mutex<Planted>,
}

impl Fleet {
    fn plant() -> Self {
        let world = World::own(&["max_connections=200"]);
        plant(&world, "good", "");
        lock_up(&world);
        world.use_s3(&Seaweed::shared().endpoint);
        world.sandbox.write("s3_token", TOKEN);
        let mut planted = Planted::of(&world);
        planted.add("the store's secret", &world.sandbox.read("s3_secret"));
        planted.add("the session token", TOKEN);
        Self { world, seen: Arc::default(), usual: Vec::new(), found: Mutex::default(), planted: Mutex::new(planted) }
    }

    /// Runs every verb where nothing fails, and notes what it does.
    fn run_the_good_case(&mut self) {
        let line = Line::lay(&self.world, "line.toml");
        for words in VERBS {
            let before = line.passed();
            let ran = self.run(words, &line.config, None);
            let fits = match words[0] {
                // Nobody answers the question of the first one, and the other two are asked of nothing new.
                "erase" => [0, 2, 4].map(Some).contains(&ran.code),
                _ => ran.code == Some(0),
            };
            assert!(fits, "{}: {:?} {}", ran.what, ran.code, String::from_utf8_lossy(&ran.text));
            let after = line.passed();
            let moved = [0, 1].map(|peer: usize| [0, 1].map(|way: usize| after[peer][way] - before[peer][way]));
            let asked = self.search(&ran, &line);
            let (reads, changes) = (asked.iter().any(|line| is_read(line)), asked.iter().any(|line| is_change(line)));
            self.usual.push(Usual { moved, reads, changes, took: ran.took, code: ran.code });
        }
    }

    /// Runs a verb to its end or to its crash.
    fn run(&self, words: &[&str], config: &str, crash: Option<Duration>) -> Ran {
        let words = spelled(&self.world, words);
        let fixed = ["--config", config, "-vv"];
        let arguments: Vec<&str> = fixed.into_iter().chain(words.iter().map(String::as_str)).collect();
        let began = Instant::now();
        let (code, text) = match crash {
            None => run_to_any_end(&self.world, &arguments, &self.seen),
            Some(after) => run_to_a_crash(&self.world, &arguments, &self.seen, after),
        };
        Ran { what: format!("what {arguments:?} said"), code, text, met: false, took: began.elapsed() }
    }

    /// Searches what a run said and sent; gives what it asked the store for.
    fn search(&self, ran: &Ran, line: &Line) -> Vec<String> {
        let (mut planted, mut found) = (self.planted.lock().expect("no panic"), self.found.lock().expect("no panic"));
        for (name, add) in [("other.txt", Planted::add_identity as fn(&mut _, _, &_)), ("other.key", Planted::add_key)]
        {
            let path = self.world.sandbox.path(name);
            if let Ok(text) = std::fs::read_to_string(&path) {
                add(&mut planted, "a new key", &text);
                std::fs::remove_file(path).expect("remove it");
            }
        }
        planted.search(&ran.what, &ran.text, &mut found);
        let heard = line.s3.take_heard();
        for (asked, body) in &heard {
            let place = format!("{asked}, heard by the store after {}", ran.what);
            planted.search_stored(&place, asked.as_bytes(), &mut found);
            planted.search_stored(&place, body, &mut found);
        }
        heard.into_iter().map(|(asked, _)| asked).collect()
    }

    /// Runs a verb behind a fault, again with the fault at once if chance put it where nothing came by.
    fn try_out(&self, line: &Line, cell: Cell) -> Ran {
        let Cell { fault, verb, unit } = cell;
        let (words, usual) = (VERBS[verb], &self.usual[verb]);
        for unit in [unit, 0] {
            self.prepare(words);
            if words == ["init"] {
                line.point_elsewhere(&self.world);
            }
            let (config, hits) =
                (line.arm(&self.world, fault, usual.bytes(fault) * u64::from(unit) / WHOLE), line.hits(fault));
            let crash = (fault == Fault::Crash).then(|| usual.took.mul_f64(f64::from(unit) / WHOLE as f64));
            let mut ran = self.run(words, &config, crash);
            ran.met = match fault {
                Fault::Crash => ran.code.is_none(),
                Fault::Nameless(_) => String::from_utf8_lossy(&ran.text).contains(".invalid"),
                _ => hits < line.hits(fault),
            };
            line.behave(&self.world);
            self.search(&ran, line);
            if ran.met || unit == 0 {
                return ran;
            }
        }
        unreachable!("the second one returns")
    }

    /// Makes what a verb needs, and removes what an earlier run of it made.
    fn prepare(&self, words: &[&str]) {
        let cluster = self.world.cluster();
        match words[0] {
            "restore" => {
                let made =
                    "select datname from pg_database where datname = 'one_table' or datname like '%\\_\\_before\\_%'";
                for database in cluster.psql("postgres", made).lines() {
                    cluster.psql("postgres", &format!("drop database if exists \"{database}\" with (force)"));
                }
            }
            "checkpoint" => drop(std::fs::remove_file(self.world.sandbox.path("seen.txt"))),
            "verify" if !self.world.sandbox.path("seen.txt").exists() => {
                self.run_well(&["checkpoint", "--output", "seen.txt"]);
            }
            // A backup that is held is not erased.
            "erase" => {
                let released =
                    self.run(VERBS.iter().find(|words| words[0] == "release").expect("the verb"), CONFIG, None);
                assert!([Some(0), Some(4)].contains(&released.code), "{}", String::from_utf8_lossy(&released.text));
            }
            "export" => drop(std::fs::remove_file(self.world.sandbox.path("exported.sql"))),
            "release" => {
                self.run_well(VERBS.iter().find(|words| words[0] == "hold").expect("the verb"));
            }
            _ => {}
        }
    }

    fn run_well(&self, words: &[&str]) {
        let ran = self.run(words, CONFIG, None);
        assert_eq!(ran.code, Some(0), "{}: {}", ran.what, String::from_utf8_lossy(&ran.text));
    }

    /// Verbs with these faults, each at a place of chance: all that meet them, or so many of each fault.
    fn cells(&self, faults: &[Fault], most: usize, dice: &mut Dice) -> Vec<Cell> {
        let mut cells = Vec::new();
        for fault in faults {
            let mut verbs: Vec<usize> = (0..VERBS.len()).filter(|verb| self.usual[*verb].meets(*fault)).collect();
            while !is_full() && most < verbs.len() {
                let index = usize::try_from(dice.below(verbs.len() as u64)).expect("a place in a list");
                verbs.swap_remove(index);
            }
            let unit = |dice: &mut Dice| u32::try_from(dice.below(WHOLE)).expect("a small number");
            cells.extend(verbs.into_iter().map(|verb| Cell { fault: *fault, verb, unit: unit(dice) }));
        }
        cells
    }

    /// Runs these one after the other on each of so many lines.
    fn run_all(&self, cells: &[Cell], lines: usize) -> Vec<(Cell, Ran)> {
        let next = AtomicUsize::new(0);
        let work = |number: usize| {
            let line = Line::lay(&self.world, &format!("line-{number}.toml"));
            let mut ran = Vec::new();
            while let Some(cell) = cells.get(next.fetch_add(1, Ordering::SeqCst)) {
                ran.push((*cell, self.try_out(&line, *cell)));
            }
            ran
        };
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..lines)
                .map(|number| {
                    scope.spawn({
                        let work = &work;
                        move || work(number)
                    })
                })
                .collect();
            workers.into_iter().flat_map(|worker| worker.join().expect("no panic")).collect()
        })
    }
}

impl Fault {
    /// The exit codes that tell the truth about it.
    fn ends(self) -> &'static [i32] {
        match self {
            Self::Cut(Peer::Database, _) | Self::Nameless(Peer::Database) => &[3, 13],
            Self::Cut(Peer::Store, _) => &[3, 10],
            // What stands still is named with its time limit, or like a peer that cannot be reached.
            Self::Stalled(Peer::Database, _) => &[3, 13, 124],
            Self::Stalled(Peer::Store, _) => &[10, 124],
            Self::Told(Told::ReadOnly) => &[3, 10],
            Self::Told(Told::Foreign | Told::Bent) => &[5, 10],
            Self::Nameless(Peer::Store) | Self::Told(_) => &[10],
            Self::Crash => &[],
        }
    }

    /// True where the run may end as it usually does: something is tried again, or is not needed.
    fn may_pass(self) -> bool {
        matches!(self, Self::Cut(..) | Self::Nameless(Peer::Database) | Self::Stalled(Peer::Database, _))
    }
}

impl Fleet {
    /// What is wrong with how a run ended, if anything is.
    fn complaint(&self, cell: Cell, ran: &Ran) -> Option<String> {
        let text = String::from_utf8_lossy(&ran.text);
        let (fault, usual) = (cell.fault, self.usual[cell.verb].code);
        let is_true = match ran.code {
            // A drill that did not come to its end has failed, whatever the reason.
            Some(5) if VERBS[cell.verb][0] == "drill" => true,
            Some(code) => fault.ends().contains(&code) || (fault.may_pass() && ran.code == usual),
            None => fault == Fault::Crash,
        };
        let is_good = ran.met && is_true && !text.contains("panicked") && !text.contains("defect");
        let Ran { what, code, met, .. } = ran;
        (!is_good).then(|| format!("{fault:?}, met: {met}, {what}: {code:?}\n{text}"))
    }
}

#[test]
fn nothing_readable_is_said_sent_or_left_by_any_verb_behind_any_fault_of_the_network_and_the_store() {
    let mut dice = Dice::roll("nothing readable behind faults");
    let mut fleet = Fleet::plant();
    fleet.run_the_good_case();
    let (quick, slow) = (fleet.cells(&FAULTS, SAMPLE, &mut dice), fleet.cells(&STALLS, 1, &mut dice));
    let mut wrong = Vec::new();
    for (cells, lines) in [(quick, 1), (slow, SIDE_BY_SIDE)] {
        for (cell, ran) in fleet.run_all(&cells, lines) {
            println!(
                "{:?} {:?}: {:?} met {} {} in {:?}",
                cell.fault,
                VERBS[cell.verb],
                ran.code,
                ran.met,
                ran.text.len(),
                ran.took
            );
            wrong.extend(fleet.complaint(cell, &ran));
        }
    }
    let mut found = std::mem::take(&mut *fleet.found.lock().expect("no panic"));
    let planted = fleet.planted.lock().expect("no panic");
    for (what, text) in &fleet.seen.lock().expect("no panic").text {
        planted.search(what, text, &mut found);
    }
    assert!(planted.search_files(fleet.world.sandbox.folder(), &mut found) > 10, "there is something to look into");
    assert!(found.is_empty(), "{found:#?}");
    assert!(wrong.is_empty(), "{} runs ended wrongly:\n{}", wrong.len(), wrong.join("\n\n"));
}
