//! `doctor --store`: the promises of a store that backups rest on, each tried out rather than believed.
//!
//! Everything is put below one folder of a random name and deleted at the end; with a login that may not delete it stays,
//! and the one expensive try, of a thousand objects, is left out. Objects of the repository are neither read nor listed.

use std::collections::BTreeSet;
use std::time::Instant;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};

use crate::base::class::Class;
use crate::codec::digest::sha256;
use crate::config::Place;
use crate::job::doctor::store::class;
use crate::job::doctor::{Check, Group, Report, Status};
use crate::job::{Context, chain};
use crate::store::s3::S3Store;
use crate::store::{self, ObjectKey, ObjectStore};

/// Objects that are put and looked for at once after each step.
const SMALL: usize = 20;
/// More than one page of a listing of S3, which has 1,000.
const MANY: usize = 1_105;
/// Objects that are put at once.
const AT_ONCE: usize = 16;
/// Above what goes as one request: three parts.
const LARGE_BYTES: usize = (64 << 20) + 4321;
/// Writers that want the same key at once.
const RIVALS: u8 = 8;
/// Requests whose time is measured.
const MEASURED: usize = 10;

/// Segments that our keys may have; two of them differ only in case.
const ODD_SEGMENTS: [&str; 9] =
    ["a", "A", "a.b", "a~26b", "a_b", "a-b", "~", "-x", "20261121T091500Z.0123456789abcdef"];

/// What a try found: a note, or a broken promise.
type Tried = Result<String, Broken>;

/// Why a promise does not hold.
enum Broken {
    /// No backup should be kept there.
    Fatal(String),
    /// Backups work; somebody should know.
    Limit(String),
}

impl From<store::Error> for Broken {
    fn from(error: store::Error) -> Self {
        Self::Fatal(chain(&error))
    }
}

fn require(holds: bool, what: impl Into<String>) -> Result<(), Broken> {
    if holds { Ok(()) } else { Err(Broken::Fatal(what.into())) }
}

/// Tries out the configured store, and nothing else.
pub async fn examine_store(context: &Context) -> Report {
    let mut checks = Vec::new();
    let store = match context.open_store().await {
        Ok(store) => store,
        Err(error) => {
            let check = Check::fail(Group::Store, "store", class(error.class()), chain(&error));
            return Report::new(vec![check.with_fix(error.hint())]);
        }
    };
    let mut tail = [0; 8];
    context.entropy.fill(&mut tail);
    let folder = format!("probe/{}", hex::encode(tail));
    let probe = Probe { store: store.as_ref(), folder, large_bytes: LARGE_BYTES };
    checks.extend(probe.all().await);
    if let Place::S3(settings) = &context.config.repository.place {
        checks.push(checksums(context, settings, &probe).await);
    }
    checks.push(probe.clean_up().await);
    let report = Report::new(checks);
    let verdict = verdict(&store.location(), &report);
    Report::new(report.checks.into_iter().chain([verdict]).collect())
}

fn verdict(location: &str, report: &Report) -> Check {
    let named = |status| {
        let found = report.checks.iter().filter(move |check| check.status == status);
        found.map(|check| check.name.as_str()).collect::<Vec<_>>().join(", ")
    };
    match report.result {
        Status::Ok => {
            Check::ok(Group::Store, "verdict", format!("{location} keeps every promise that backups rest on"))
        }
        Status::Warn => {
            let message = format!("{location} is good for backups, with limits: {}", named(Status::Warn));
            Check::warn(Group::Store, "verdict", message)
        }
        Status::Fail => {
            let message = format!("do not keep backups at {location}: {}", named(Status::Fail));
            Check::fail(Group::Store, "verdict", Class::Store, message)
        }
    }
}

/// Whether a wrong checksum is refused: a service that looks at none stores what the network damaged.
async fn checksums(context: &Context, settings: &crate::config::S3Settings, probe: &Probe<'_>) -> Check {
    let refused = async {
        let options = context.s3_options(settings).await.map_err(|error| chain(&error))?;
        let store = S3Store::open(options).await.map_err(|error| chain(&error))?;
        Ok::<bool, String>(store.refuses_wrong_checksum(&probe.key("checksum")).await)
    };
    match refused.await {
        Ok(true) => Check::ok(Group::Store, "checksums", "an object with a wrong checksum is refused"),
        Ok(false) => {
            let message = "an object with a wrong checksum is taken: what the network damages is stored";
            let fix = "verify --read-packs finds it afterwards; every pack also proves itself when it is read";
            Check::warn(Group::Store, "checksums", message).with_fix(Some(fix))
        }
        Err(what) => Check::fail(Group::Store, "checksums", Class::Store, what),
    }
}

struct Probe<'a> {
    store: &'a dyn ObjectStore,
    folder: String,
    large_bytes: usize,
}

impl Probe<'_> {
    fn key(&self, name: &str) -> ObjectKey {
        ObjectKey::new(format!("{}/{name}", self.folder)).expect("names of ours are parts of keys")
    }

    async fn all(&self) -> Vec<Check> {
        let mut checks = Vec::new();
        let mut add = |name: &str, tried: Tried| {
            checks.push(match tried {
                Ok(note) => Check::ok(Group::Store, name, note),
                Err(Broken::Limit(what)) => Check::warn(Group::Store, name, what),
                Err(Broken::Fatal(what)) => Check::fail(Group::Store, name, Class::Store, what),
            });
        };
        let first = self.read_after_write().await;
        let is_usable = first.is_ok();
        add("read after write", first);
        if !is_usable {
            return checks;
        }
        add("ranges", self.ranges().await);
        add("copy", self.copy().await);
        add("keys", self.odd_keys().await);
        add("folders", self.folders().await);
        add("create once", self.create_once().await);
        add("large objects", self.large().await);
        let deletes = self.deletes().await;
        let may_delete = deletes.is_ok();
        add("delete", deletes);
        let unpaged = "not tried: this login may not delete, and a thousand objects would stay".to_owned();
        add("long listings", if may_delete { self.many().await } else { Err(Broken::Limit(unpaged)) });
        checks
    }

    async fn put_all(&self, names: impl IntoIterator<Item = String>) -> Result<(), store::Error> {
        let puts = names.into_iter().map(|name| async move {
            let body = Bytes::from(name.clone());
            self.store.put(&self.key(&name), body).await
        });
        futures::stream::iter(puts).buffer_unordered(AT_ONCE).try_collect().await
    }

    /// The names below a folder of the probe, in order of the listing.
    async fn list(&self, below: &str) -> Result<Vec<(String, u64)>, store::Error> {
        let prefix = format!("{}/{below}", self.folder);
        let strip = |object: store::ObjectMeta| {
            let name = object.key.as_str().strip_prefix(&format!("{}/", self.folder)).unwrap_or_default().to_owned();
            (name, object.bytes)
        };
        self.store.list(&prefix).map_ok(strip).try_collect().await
    }

    async fn read_after_write(&self) -> Tried {
        let mut slowest = std::time::Duration::ZERO;
        for number in 0..MEASURED {
            let (key, body, began) = (self.key(&format!("first/{number}")), format!("object {number}"), Instant::now());
            self.store.put(&key, Bytes::from(body.clone())).await?;
            slowest = slowest.max(began.elapsed());
            require(
                self.store.get(&key).await?.as_ref() == body.as_bytes(),
                "an object reads back other than it was put",
            )?;
            require(
                self.store.head(&key).await?.bytes == body.len() as u64,
                "an object has another size than it was put with",
            )?;
            let listed = self.list("first/").await?;
            require(listed.len() == number + 1, "an object that was put is not in the listing right after")?;
        }
        let absent = self.store.get(&self.key("first/absent")).await;
        require(absent.is_err_and(|error| error.is_not_found()), "an object that nobody put is not told as absent")?;
        Ok(format!(
            "what was put is read and listed at once; the slowest of {MEASURED} puts took {} ms",
            slowest.as_millis()
        ))
    }

    async fn ranges(&self) -> Tried {
        let body: Vec<u8> = (0..300_000_u32).flat_map(|n| n.to_le_bytes()).collect();
        let (key, end) = (self.key("range"), body.len());
        self.store.put(&key, Bytes::from(body.clone())).await?;
        for (from, length) in [(0, 1), (0, 10), (999, 4096), (end - 1, 1), (end - 5, 5), (262_143, 262_146), (7, 0)] {
            let got = self.store.get_range(&key, from as u64, length as u64).await?;
            require(got.as_ref() == &body[from..from + length], format!("bytes {from} and {length} more are others"))?;
        }
        let over = self.store.get_range(&key, (end - 5) as u64, 100).await?;
        require(over.as_ref() == &body[end - 5..], "a range that reaches over the end does not end there")?;
        Ok("every range is what was put there".to_owned())
    }

    async fn copy(&self) -> Tried {
        let (from, to) = (self.key("copy/from"), self.key("copy/to"));
        self.store.put(&from, Bytes::from_static(b"to be copied")).await?;
        if let Err(error) = self.store.copy(&from, &to).await {
            let what =
                format!("no copy inside the store, so packs are stored again instead of renewed ({})", chain(&error));
            return Err(Broken::Limit(what));
        }
        require(self.store.get(&to).await?.as_ref() == b"to be copied", "a copy inside the store has other bytes")?;
        Ok("objects are copied inside the store".to_owned())
    }

    async fn odd_keys(&self) -> Tried {
        let long = "x".repeat(240);
        let mut names: BTreeSet<String> = ODD_SEGMENTS.iter().map(|odd| format!("odd/{odd}")).collect();
        names.insert(format!("odd/{long}"));
        names.insert(format!("odd/deep/{}", ["abcdefghij"; 60].join("/")));
        self.put_all(names.iter().cloned()).await?;
        for name in &names {
            let read = self.store.get(&self.key(name)).await?;
            require(read.as_ref() == name.as_bytes(), format!("the key {name:?} leads to another object"))?;
        }
        let listed: BTreeSet<String> = self.list("odd/").await?.into_iter().map(|(name, _)| name).collect();
        require(listed == names, "the listing writes keys in another way than they were put")?;
        Ok(format!("{} keys of all the characters that ours have, up to 240 in a segment", names.len()))
    }

    async fn folders(&self) -> Tried {
        self.put_all(["tree/b/x", "tree/a/x/y", "tree/a-b/x", "tree/z"].map(str::to_owned)).await?;
        let folders = self.store.list_folders(&format!("{}/tree/", self.folder)).await?;
        require(folders == ["a", "a-b", "b"], format!("the folders are {}", folders.join(", ")))?;
        let below = self.list("tree/a/").await?;
        require(below == [("tree/a/x/y".to_owned(), 10)], "the listing of a folder shows other folders")?;
        Ok("folders are listed as such".to_owned())
    }

    async fn create_once(&self) -> Tried {
        let key = self.key("once");
        let body = |number: u8| Bytes::from(vec![number; 100]);
        let attempts = (0..RIVALS).map(|number| self.store.put_new(&key, body(number)));
        let answers = futures::future::join_all(attempts).await;
        let winners: Vec<u8> = (0..RIVALS).filter(|number| answers[usize::from(*number)].is_ok()).collect();
        let kept = self.store.get(&key).await?;
        require((0..RIVALS).any(|number| kept == body(number)), "an object that several put at once is a mixture")?;
        let again = self.store.put_new(&key, body(RIVALS)).await;
        require(matches!(again, Err(store::Error::Exists { .. })), "an object that exists is created again")?;
        require(self.store.get(&key).await? == kept, "an object that exists was overwritten")?;
        match winners.len() {
            0 => Err(Broken::Limit(format!("of {RIVALS} that wanted one key at once none was told that it got it"))),
            1 => Ok(format!("of {RIVALS} that wanted one key at once one got it")),
            several => Err(Broken::Limit(format!(
                "of {RIVALS} that wanted one key at once {several} were told that they got it: run init and keys reseal once at a time"
            ))),
        }
    }

    async fn large(&self) -> Tried {
        let block: Vec<u8> = (0_u8..=255).cycle().take(9973).collect();
        let mut body = Vec::with_capacity(self.large_bytes);
        while body.len() < self.large_bytes {
            let count = body.len().to_le_bytes();
            let room = self.large_bytes - body.len();
            body.extend(count.iter().chain(&block).take(room));
        }
        let (key, sum, began) = (self.key("large"), sha256(&body), Instant::now());
        self.store.put(&key, Bytes::from(body)).await?;
        let took = began.elapsed();
        require(self.store.head(&key).await?.bytes == self.large_bytes as u64, "an object in parts has another size")?;
        require(sha256(&self.store.get(&key).await?) == sum, "an object in parts has other bytes")?;
        Ok(format!("{} MiB in parts are put in {} ms and read back equal", self.large_bytes >> 20, took.as_millis()))
    }

    async fn deletes(&self) -> Tried {
        self.put_all((0..SMALL).map(|number| format!("gone/{number}"))).await?;
        let keys: Vec<ObjectKey> = (0..SMALL).map(|number| self.key(&format!("gone/{number}"))).collect();
        if let Err(error) = self.store.delete(&keys[..SMALL / 2]).await {
            let what = format!(
                "this login may not delete, as a writer should not: what was put stays below {} ({})",
                self.folder,
                chain(&error)
            );
            return Err(Broken::Limit(what));
        }
        let left = self.list("gone/").await?.len();
        require(left == SMALL - SMALL / 2, "what was deleted is still in the listing")?;
        let read = self.store.get(&keys[0]).await;
        require(read.is_err_and(|error| error.is_not_found()), "what was deleted can still be read")?;
        self.store.delete(&keys).await?;
        require(self.list("gone/").await?.is_empty(), "what was deleted is still in the listing")?;
        Ok("what is deleted is gone from reads and listings at once, and may be deleted twice".to_owned())
    }

    async fn many(&self) -> Tried {
        let names: BTreeSet<String> = (0..MANY).map(|number| format!("many/{number:05}")).collect();
        self.put_all(names.iter().cloned()).await?;
        let listed = self.list("many/").await?;
        let found: BTreeSet<String> = listed.iter().map(|(name, _)| name.clone()).collect();
        require(listed.len() == found.len(), "a long listing shows an object twice")?;
        require(found == names, format!("of {MANY} objects the listing shows {}", found.len()))?;
        let is_sorted = listed.windows(2).all(|pair| pair[0].0 < pair[1].0);
        require(is_sorted, "a long listing is out of order")?;
        Ok(format!("{MANY} objects are listed page by page, each once and in order"))
    }

    /// Deletes everything below the probe's folder.
    async fn clean_up(&self) -> Check {
        let below = format!("{}/", self.folder);
        let listed: Result<Vec<ObjectKey>, _> = self.store.list(&below).map_ok(|object| object.key).try_collect().await;
        let deleted = match listed {
            Ok(keys) => self.store.delete(&keys).await.map(|()| keys.len()),
            Err(error) => Err(error),
        };
        match deleted {
            Ok(count) => Check::ok(Group::Store, "cleaned up", format!("{count} objects of this check were deleted")),
            Err(error) => {
                let message = format!("objects of this check stay below {}: {}", self.folder, chain(&error));
                Check::warn(Group::Store, "cleaned up", message)
            }
        }
    }
}

#[cfg(test)]
mod tests;
