//! The drill of one target: open, restore, ask, drop, record.

use std::sync::Arc;
use std::time::Instant;

use crate::base::class::Class;
use crate::base::ids::TargetId;
use crate::base::monitor::Monitor;
use crate::engine::postgres::check::ask;
use crate::engine::postgres::restore::{Mode, Owner, PostgresRestore, RestoreOptions, RoleHandling, open_restore};
use crate::engine::postgres::witness::Witness;
use crate::job::damage::explain;
use crate::job::drill::{Checked, Drill, Drilled, scratch};
use crate::job::restore::description;
use crate::job::{Error, chain};
use crate::repository::marker::FORMAT;
use crate::repository::proof::{DrillFacts, Proof, ReadTimes, newest, next_time};
use crate::repository::reader::{BackupReader, Wanted};
use crate::repository::vault::Vault;
use crate::repository::verify::Rung;
use crate::restore;
use crate::run::report::TargetResult;

/// Parts that are loaded, and indexes that are built, at once.
const MAX_LANES: usize = 4;

impl Drill {
    /// Drills one target. Whatever happens, what was made for it is dropped, or named in the reason.
    pub(super) async fn one(&self, target: TargetId) -> Drilled {
        self.watchdog.target_begins(&target, 0);
        let mut drilled = Drilled::begun(target.clone());
        let vault = self.repository.vault(&target);
        if let Err(error) = Box::pin(self.prove(&vault, &mut drilled)).await {
            let error = match drilled.backup_id {
                Some(id) => explain(&vault, id, &self.identities, ("restore", error)).await,
                None => error,
            };
            drilled.fail(&error);
        }
        if drilled.result == TargetResult::Ok {
            self.record(&vault, &mut drilled).await;
        }
        self.watchdog.target_ends(&target, drilled.result.word());
        drilled
    }

    async fn prove(&self, vault: &Vault, drilled: &mut Drilled) -> Result<(), Error> {
        let listing = vault.list().await?;
        // A record that does not verify proves nothing.
        let before = vault.last_proof(&listing.proofs, &[Rung::Drill], &mut Vec::new()).await?;
        drilled.previous_proof_at = before.map(|proof| proof.proven_at);
        drilled.recorded_at = newest(&listing.proofs);
        let found = Wanted::Newest.find(vault, &listing).await?;
        drilled.notes.extend(found.passed_over);
        drilled.backup_id = Some(found.id);
        let (now, began) = (self.context.clock.now(), Instant::now());
        let budget = self.budget.clone();
        let reader = Arc::new(BackupReader::open(vault, listing, found.id, &self.identities, budget).await?);
        let marker = &reader.marker().marker;
        drilled.created_at = Some(marker.created_at);
        drilled.recovery_point_seconds = u64::try_from((now - marker.created_at).num_seconds()).unwrap_or(0);
        (drilled.rows, drilled.bytes, drilled.parts) = (marker.rows, marker.read_bytes, marker.parts);
        let description = description(&reader)?;
        let programs = self.context.programs();
        let opening = open_restore(&self.scratch, &programs, &description, self.options(vault.target()));
        let (target, stop, limit) = (vault.target(), &self.context.stop, self.context.config.limits.no_progress);
        let mut session = tokio::select! {
            opened = opening => opened?,
            () = stop.cancelled() => return Err(Error::Stopped),
            () = self.watchdog.still_for(target, limit) => {
                let waited_for = format!("an answer of server {:?}", self.scratch.name);
                return Err(restore::Error::Stalled { limit, waited_for }.into());
            }
        };
        let witness = Witness::new(&self.scratch, session.work_name());
        let give_up = async {
            tokio::select! {
                () = stop.cancelled() => restore::Error::Stopped,
                waited_for = self.watchdog.stalled(target, limit, |limit| witness.look(limit)) => restore::Error::Stalled { limit, waited_for },
            }
        };
        let told = (&self.watchdog as &dyn Monitor, give_up);
        let mut proven: Result<(), Error> =
            restore::rehearse(target, &reader, &mut session, told).await.map_err(Error::from);
        if proven.is_ok() {
            proven = self.ask_all(&session, drilled).await;
        }
        drilled.recovery_time_seconds = began.elapsed().as_secs_f64();
        drilled.notes.extend(session.notes().iter().cloned());
        let dropped = restore::abandon(Box::new(session)).await;
        match (proven, dropped) {
            (Ok(()), Ok(())) => {
                drilled.result = TargetResult::Ok;
                Ok(())
            }
            (Ok(()), Err(cleanup)) => Err(cleanup.into()),
            (Err(failure), Ok(())) => Err(failure),
            (Err(failure), Err(cleanup)) => {
                drilled.notes.push(format!("the scratch database could not be dropped: {}", chain(&cleanup)));
                Err(failure)
            }
        }
    }

    fn options(&self, target: &TargetId) -> RestoreOptions {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        RestoreOptions {
            destination: scratch::name(target),
            mode: Mode::AsNew,
            owner: Owner::AsRecorded,
            keep_privileges: true,
            // A scratch server has no disks of that name.
            keep_tablespaces: false,
            roles: RoleHandling::CreateMissing,
            search_path: None,
            tables: Vec::new(),
            schema_only: false,
            lanes: MAX_LANES.min(cores.max(2)).min(self.scratch.connections.saturating_sub(2).max(1)),
            run: self.run,
            time: self.run.started_at(),
        }
    }

    /// Asks every check that is for this target; one that fails stops no other.
    async fn ask_all(&self, session: &PostgresRestore, drilled: &mut Drilled) -> Result<(), Error> {
        for check in self.context.config.drill_checks.iter().filter(|check| check.is_for(&drilled.target)) {
            let check = &check.check;
            let asking = ask(&self.scratch, session.work_name(), check);
            let answer = self.context.stop.run_until_cancelled(asking).await.ok_or(Error::Stopped)?;
            let reason = match answer {
                Ok(answer) => check.expectation.missed_by(&answer),
                Err(error) => Some(chain(&error)),
            };
            drilled.checks.push(Checked { name: check.name.clone(), passed: reason.is_none(), reason });
        }
        let failed: Vec<String> = drilled.checks.iter().filter_map(told).collect();
        if failed.is_empty() {
            return Ok(());
        }
        let what = format!("the data was restored whole, and does not pass: {}", failed.join("; "));
        Err(Error::Other { what, class: Class::Corrupt })
    }

    async fn record(&self, vault: &Vault, drilled: &mut Drilled) {
        let now = next_time(self.context.clock.now(), drilled.recorded_at);
        drilled.proven_at = Some(now);
        let Some(backup) = drilled.backup_id.filter(|_| self.request.record) else { return };
        let proof = Proof {
            format: FORMAT,
            vault: drilled.target.clone(),
            run_id: self.run,
            rung: Rung::Drill,
            proven_at: now,
            whole: true,
            backups: 1,
            newest_whole: Some(backup),
            packs: 0,
            read_at: ReadTimes::default(),
            drill: Some(DrillFacts {
                backup,
                rows: drilled.rows,
                recovery_seconds: drilled.recovery_time_seconds,
                age_seconds: drilled.recovery_point_seconds,
                checks: drilled.checks.len(),
                server: self.scratch.name.clone(),
            }),
        };
        let stored = vault.put_proof(&proof, self.context.entropy.tail()).await;
        drilled.unrecorded = stored.err().map(|error| format!("the proof was not recorded: {}", chain(&error)));
    }
}

fn told(checked: &Checked) -> Option<String> {
    let reason = checked.reason.as_ref()?;
    Some(format!("{:?}: {reason}", checked.name))
}
