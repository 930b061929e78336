//! A repository with a past, written by the library with clocks of days ago, and looked after by the real program on a machine
//! that has neither an identity nor a database.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::TimeDelta;
use dbkeeper::base::clock::{Clock, Entropy, HeldClock, SystemClock};
use dbkeeper::base::ids::{BackupId, TargetId};
use dbkeeper::base::repository_key::RepositoryKey;
use dbkeeper::store::ObjectStore;
use dbkeeper::store::local::LocalStore;
use dbkeeper::store::s3::{S3Options, S3Store};
use serde_json::Value;

use crate::repository::support::{KEY, Table, World, expected, rows};
use crate::support::cli::{Ended, Sandbox};

/// The days whose backup is in each vault, counted back from now; each is kept for a week.
pub(super) const DAYS: std::ops::RangeInclusive<i64> = 0..=12;
/// Of them, those that have expired for a day and more.
pub(super) const EXPIRED: usize = 5;

pub(super) struct Aged {
    pub(super) sandbox: Sandbox,
    pub(super) world: World,
    /// The backups of each tenant, oldest first.
    pub(super) backups: BTreeMap<&'static str, Vec<BackupId>>,
}

struct Same;

impl Entropy for Same {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(KEY[0]);
    }
}

pub(super) fn table(day: i64) -> [Table; 1] {
    let salt = u32::try_from(day).expect("a small number");
    let mut all = rows(600, 1);
    for (number, row) in rows(60, 50 + salt).into_iter().enumerate() {
        all[200 + number] = row;
    }
    [("table:1", all)]
}

impl Aged {
    /// In a folder.
    pub(super) async fn in_folder() -> Self {
        let sandbox = Sandbox::new();
        let folder = sandbox.path("repository");
        let store = Arc::new(LocalStore::new(folder.clone()));
        let config = format!("url = \"file://{}\"", folder.display());
        Self::over(sandbox, store, &config).await
    }

    /// In a bucket, or a prefix of one.
    pub(super) async fn in_s3(options: S3Options) -> Self {
        let sandbox = Sandbox::new();
        let secret = |secret: &Option<dbkeeper::base::secret::Secret>| {
            secret.as_ref().map(|secret| secret.reveal().to_owned()).expect("a login")
        };
        sandbox.write("s3_id", &secret(&options.access_key_id));
        sandbox.write("s3_secret", &secret(&options.secret_access_key));
        let config = format!(
            "url = \"s3://{}/{}\"\nendpoint = \"{}\"\nregion = \"us-east-1\"\npath_style = true\n\
             access_key_id = {{ file = \"s3_id\" }}\nsecret_access_key = {{ file = \"s3_secret\" }}",
            options.bucket,
            options.prefix,
            options.endpoint.as_deref().expect("a server of our own"),
        );
        let store = Arc::new(S3Store::open(options).await.expect("a store"));
        Self::over(sandbox, store, &config).await
    }

    async fn over(sandbox: Sandbox, store: Arc<dyn ObjectStore>, repository: &str) -> Self {
        let start = SystemClock.now() - TimeDelta::days(*DAYS.end()) - TimeDelta::minutes(1);
        let world = World::over(store, Arc::new(HeldClock::new(start))).await;
        let mut backups: BTreeMap<&str, Vec<BackupId>> = BTreeMap::new();
        for day in DAYS.rev() {
            for name in ["acme", "globex"] {
                let vault = world.repository.vault(&TargetId::tenant(name).expect("a name"));
                let committed = world.back_up_for(&vault, 7 * 24, &table(day)).await.expect("back up");
                backups.entry(name).or_default().push(committed.marker.id);
            }
            world.advance(24);
        }
        sandbox.write("repository.key", RepositoryKey::generate(&Same).print().reveal());
        let recipient = world.officer.recipient();
        sandbox.write(
            "dbkeeper.toml",
            &format!(
                "[repository]\n{repository}\nkey = {{ file = \"repository.key\" }}\n\n[encryption]\n\
                 recipients = [\"{recipient}\"]\n\n[retention]\ndaily = 7\nkeep_last = 3\n"
            ),
        );
        Self { sandbox, world, backups }
    }

    pub(super) fn run(&self, arguments: &[&str]) -> Ended {
        self.sandbox.run(arguments)
    }

    /// Changes the configuration; what is replaced must be there.
    pub(super) fn reconfigure(&self, from: &str, to: &str) {
        let text = self.sandbox.read("dbkeeper.toml");
        assert!(text.contains(from), "{from:?} is not in the configuration");
        self.sandbox.write("dbkeeper.toml", &text.replace(from, to));
    }

    /// Runs to this exit code; what was printed on standard output is one JSON document.
    #[track_caller]
    pub(super) fn json(&self, arguments: &[&str], code: i32) -> Value {
        let ended = self.run(arguments).expect(code);
        serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {}", ended.stdout))
    }

    /// The backups that `list` shows of a tenant.
    #[track_caller]
    pub(super) fn listed(&self, tenant: &str) -> Vec<String> {
        let listed = self.json(&["list", "--tenant", tenant, "--json"], 0);
        let ids = listed.as_array().expect("an array").iter();
        ids.map(|backup| backup["id"].as_str().expect("an id").to_owned()).collect()
    }

    /// The ids of a tenant's backups from this one on.
    pub(super) fn ids(&self, tenant: &str, from: usize) -> Vec<String> {
        self.backups[tenant][from..].iter().map(ToString::to_string).collect()
    }

    /// Requires that every backup that is listed gives back what was stored.
    pub(super) async fn check_restores(&self) {
        for (name, ids) in &self.backups {
            let vault = self.world.repository.vault(&TargetId::tenant(name).expect("a name"));
            let committed = vault.list().await.expect("list").committed;
            for (id, day) in ids.iter().zip(DAYS.rev()).filter(|(id, _)| committed.contains(id)) {
                let restored = self.world.restore(&vault, *id).await.expect("restore");
                assert_eq!(restored, expected(b"S", &table(day)), "{name} {id}");
            }
        }
    }
}
