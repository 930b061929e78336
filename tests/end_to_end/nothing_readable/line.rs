//! The ways to the database and to the store, and the faults that can be put in them.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::end_to_end::world::{CONFIG, World};
use crate::support::proxy::{Proxy, Way};
use crate::support::s3_proxy::{S3Proxy, Verdict};
use crate::support::s3_stub::{Answer, Asked};
use crate::support::seaweed::Seaweed;

/// Of the repositories that `init` makes.
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// The far ends, by their place in what is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    Database = 0,
    Store = 1,
}

/// What is in the way of a verb.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// A connection is cut at some byte.
    Cut(Peer, Way),
    /// From some byte on nothing moves.
    Stalled(Peer, Way),
    /// Nobody resolves its name.
    Nameless(Peer),
    /// The store answers so.
    Told(Told),
    /// It is ended by the signal of a crash, at some moment.
    Crash,
}

/// What the store says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// 503, for ever.
    SlowDown,
    /// The access key is no longer known.
    Revoked,
    /// The session token is too old.
    Expired,
    /// The clocks differ.
    Skewed,
    /// Nothing may be changed.
    ReadOnly,
    /// Whatever is asked: the page of a captive portal.
    Foreign,
    /// Objects of fewer bytes than it declares.
    Short,
    /// Objects of which one bit is another.
    Bent,
}

/// An object is asked for.
pub(super) fn is_read(line: &str) -> bool {
    line.starts_with("GET ") && !line.contains("list-type=")
}

pub(super) fn is_change(line: &str) -> bool {
    !line.starts_with("GET ") && !line.starts_with("HEAD ")
}

impl Told {
    fn verdict(self, asked: &Asked) -> Verdict {
        let error = |status, code, words| Verdict::Say(Answer::error(status, code, words, ""));
        match self {
            Self::SlowDown => error(503, "SlowDown", "Please reduce your request rate."),
            Self::Revoked => error(403, "InvalidAccessKeyId", "The key you provided does not exist in our records."),
            Self::Expired => error(400, "ExpiredToken", "The provided token has expired."),
            Self::Skewed => error(403, "RequestTimeTooSkewed", "The difference between the clocks is too large."),
            Self::ReadOnly if is_change(&asked.line) => error(403, "AccessDenied", "Access Denied."),
            Self::Foreign => Verdict::Say(Answer::ok().with_body("<html><body>please sign in</body></html>")),
            Self::Short if is_read(&asked.line) => {
                Verdict::Say(Answer { declared_bytes: Some(1 << 20), ..Answer::ok().with_body("{\"format\":1") })
            }
            Self::Bent if is_read(&asked.line) => Verdict::Bend(|body| {
                let middle = body.len() / 2;
                body.iter_mut().skip(middle).take(1).for_each(|byte| *byte ^= 1);
            }),
            Self::ReadOnly | Self::Short | Self::Bent => Verdict::Pass,
        }
    }
}

/// The way of one run at a time to both peers, with a configuration of its own.
pub(super) struct Line {
    pub(super) config: String,
    /// What stands in it.
    text: String,
    /// By [`Peer`].
    proxies: [Proxy; 2],
    pub(super) s3: S3Proxy,
    told: Arc<Mutex<Option<Told>>>,
    hits: Arc<AtomicU64>,
}

impl Line {
    pub(super) fn lay(world: &World, config: &str) -> Self {
        let (told, hits) = (Arc::<Mutex<Option<Told>>>::default(), Arc::new(AtomicU64::new(0)));
        let (says, counted) = (Arc::clone(&told), Arc::clone(&hits));
        let s3 = S3Proxy::judging(&Seaweed::shared().endpoint, move |_, asked| {
            let verdict = says.lock().expect("no panic").map_or(Verdict::Pass, |told| told.verdict(asked));
            counted.fetch_add(u64::from(!matches!(verdict, Verdict::Pass)), Ordering::SeqCst);
            verdict
        });
        let proxies = [Proxy::before(world.cluster().port), Proxy::before_endpoint(&s3.endpoint)];
        let text = world.sandbox.read(CONFIG);
        let text = text.replace(&Seaweed::shared().endpoint, &proxies[1].endpoint());
        let text =
            text.replace(&format!("127.0.0.1:{}\"", world.cluster().port), &format!("127.0.0.1:{}\"", proxies[0].port));
        let text = text.replace("path_style = true", "path_style = true\nattempts = 2\nslow_down_timeout = \"1s\"");
        let text = text.replace("[retention]", "[limits]\nno_progress = \"10s\"\n\n[retention]");
        world.sandbox.write(config, &text);
        Self { config: config.to_owned(), text, proxies, s3, told, hits }
    }

    pub(super) fn passed(&self) -> [[u64; 2]; 2] {
        [0, 1].map(|peer: usize| [Way::Up, Way::Down].map(|way| self.proxies[peer].passed(way)))
    }

    /// Under this prefix there is no repository yet.
    pub(super) fn point_elsewhere(&self, world: &World) {
        let place = format!("/prod-{}\"", NEXT.fetch_add(1, Ordering::SeqCst));
        world.sandbox.write(&self.config, &self.text.replacen("/prod\"", &place, 1));
    }

    /// How often this fault was met so far.
    pub(super) fn hits(&self, fault: Fault) -> u64 {
        match fault {
            Fault::Cut(peer, _) => self.proxies[peer as usize].cuts(),
            Fault::Stalled(peer, _) => u64::from(self.proxies[peer as usize].is_stalled()),
            Fault::Told(_) => self.hits.load(Ordering::SeqCst),
            Fault::Nameless(_) | Fault::Crash => 0,
        }
    }

    /// Puts a fault in the way, at this byte; gives the configuration to use.
    pub(super) fn arm(&self, world: &World, fault: Fault, byte: u64) -> String {
        match fault {
            Fault::Cut(peer, way) => self.proxies[peer as usize].cut_after(way, byte),
            Fault::Stalled(peer, way) => self.proxies[peer as usize].stall_after(way, byte),
            Fault::Told(told) => *self.told.lock().expect("no panic") = Some(told),
            Fault::Nameless(_) | Fault::Crash => {}
        }
        let (from, to) = match fault {
            Fault::Nameless(Peer::Store) => (self.proxies[1].endpoint(), "http://store.invalid:9"),
            Fault::Nameless(Peer::Database) => {
                (format!("127.0.0.1:{}\"", self.proxies[0].port), "database.invalid:5432\"")
            }
            Fault::Told(Told::Expired) => {
                ("region = ".to_owned(), "session_token = { file = \"s3_token\" }\nregion = ")
            }
            _ => return self.config.clone(),
        };
        let changed = format!("changed-{}", self.config);
        world.sandbox.write(&changed, &world.sandbox.read(&self.config).replace(&from, to));
        changed
    }

    pub(super) fn behave(&self, world: &World) {
        world.sandbox.write(&self.config, &self.text);
        *self.told.lock().expect("no panic") = None;
        for proxy in &self.proxies {
            let was_stalled = proxy.is_stalled();
            proxy.behave();
            if was_stalled {
                proxy.cut_all();
            }
        }
    }
}
