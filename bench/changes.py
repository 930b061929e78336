"""What later backups add: after several kinds of change to one database, and after thirty days of each, beside restic."""

from bench import Bench, Result, size
from contenders import Contender, Dbkeeper, Restic
from measure import CommandFailed, bytes_below, shell
from workloads import PSQL, copy_of, fill, make_big

DAYS = 30
KEPT_DAYS = 14


def statements(scale: int, number: int) -> dict[str, str]:
    """The kinds of change to a database of this scale, made for the `number`th time."""
    largest, place = 2000 * scale, number * 20 * scale % (2000 * scale)
    return {
        "nothing": "",
        "0.1 % of the rows of the largest table, scattered":
            f"UPDATE audit_log SET action = 'changed {number}' WHERE id % 1000 = {13 + number}",
        "1 % of its rows, in one place":
            f"UPDATE audit_log SET action = 'moved {number}' WHERE id > {place} AND id <= {place + largest // 100}",
        "5 % more rows, inserted at once":
            "INSERT INTO audit_log (actor, action, payload, ip, at) SELECT actor, 'again', payload, ip, at FROM audit_log"
            f" WHERE id <= {largest // 20}",
        "`VACUUM FULL`": "VACUUM FULL audit_log",
    }


def each_kind(bench: Bench) -> Result:
    """One database that is changed again and again, a backup of each tool after every change."""
    place, scale = bench.place, bench.sizes.big_scale
    changed = copy_of(make_big(bench.sizes), "big_changed")
    keeper, restic = Dbkeeper(place, "changes", changed), Restic(place, "changes", changed)
    for store in (keeper, restic):
        store.new_repository(0)
        shell(store.backup())
    steps = {kind: f'{PSQL} -d {changed} -c "{sql or "SELECT"}"' for kind, sql in statements(scale, 1).items()}
    steps["restored by dbkeeper from its newest backup, under the same name"] = keeper.line("restore --central --yes")
    rows = []
    for kind, step in steps.items():
        shell(step)
        ours = bench.measure(Contender(f"dbkeeper, {kind}", keeper.backup, stored=keeper.stored), 1)
        theirs = bench.measure(Contender(f"restic, {kind}", restic.backup, stored=restic.stored), 1)
        rows.append([
            kind, f"{ours.seconds:.1f}", f"{theirs.seconds:.1f}", f"**{ours.seconds / theirs.seconds:.2f}**",
            size(ours.stored_bytes), size(theirs.stored_bytes), f"**{ours.stored_bytes / theirs.stored_bytes:.2f}**",
        ])
    names = shell(f"{PSQL} -d postgres -c \"SELECT datname FROM pg_database WHERE datname LIKE '{changed}%'\"").split()
    shell(" && ".join(f"dropdb {name}" for name in names))
    result = Result("The 0.93 GB database after one change upon the other")
    result.words = "One run each, in this order; every step keeps what the one before it did."
    head = ["change", "dbkeeper, s", "restic, s", "ratio", "dbkeeper stores", "restic stores", "ratio"]
    result.add_table(head, rows)
    result.commands = {"dbkeeper": place.printable(keeper.backup()), "restic": place.printable(restic.backup())}
    return result


def thirty_days(bench: Bench) -> Result:
    """A backup a day of a smaller database, both tools into local folders, the clock of dbkeeper set on by `faketime`."""
    place, scale = bench.place, bench.sizes.daily_scale
    fill(f"daily_{scale}", scale)
    rows = []
    for number, kind in enumerate(statements(scale, 0)):
        rows.append(month(bench, number, kind))
        print(f"  {' '.join(rows[-1])}", flush=True)
    result = Result(f"After {DAYS} daily backups")
    result.words = (
        f"A smaller database ({scale / 1000:.0%} of the rows), so that it can be done in a run; every day the change, then a "
        f"backup by each tool into a local folder. The clock of dbkeeper was set on by `faketime`, so that classes, expiry "
        f"and renewal are those of {DAYS} days with `daily = {KEPT_DAYS}`. The second pair is after removing what is older: "
        f"`dbkeeper prune`, `restic forget --keep-daily {KEPT_DAYS} --prune`."
    )
    head = ["every day", "dbkeeper stores", "restic stores", "ratio", "dbkeeper, pruned", "restic, pruned", "ratio"]
    result.add_table(head, rows)
    return result


def month(bench: Bench, number: int, kind: str) -> list[str]:
    place, scale = bench.place, bench.sizes.daily_scale
    database = copy_of(f"daily_{scale}", "daily_changed")
    folder = f"{place.work}/local/daily"
    shell(f"rm -rf {folder} && mkdir -p {folder}")
    keeper = Dbkeeper(place, f"daily-{number}", database, url=f"file://{folder}/dbkeeper")
    restic = Restic(place, f"daily-{number}", database, folder=f"{folder}/restic")
    for store in (keeper, restic):
        store.new_repository(0)
    for day in range(DAYS):
        sql = statements(scale, day)[kind]
        if sql and day > 0:
            shell(f'{PSQL} -d {database} -c "{sql}"')
        shell(at_day(day, keeper.backup()))
        shell(f"{restic.backup()} --time '2031-01-01 03:00:00'".replace("2031-01-01", date_of(day)))
    stored = bytes_below(f"{folder}/dbkeeper"), bytes_below(f"{folder}/restic")
    shell(restic.line(f"forget --keep-daily {KEPT_DAYS} --prune"))
    try:
        shell(at_day(DAYS + 2, keeper.line("prune")))
        pruned = bytes_below(f"{folder}/dbkeeper")
    except CommandFailed as failure:
        print(f"  not pruned: {failure}", flush=True)
        pruned = None
    shell(f"dropdb {database}")
    theirs = bytes_below(f"{folder}/restic")
    after = [size(pruned), size(theirs), f"**{pruned / theirs:.2f}**"] if pruned else ["–", size(theirs), "–"]
    return [kind, size(stored[0]), size(stored[1]), f"**{stored[0] / stored[1]:.2f}**", *after]


def date_of(day: int) -> str:
    return shell(f"date -u -d '2031-01-01 +{day} days' +%F").strip()


def at_day(day: int, command: str) -> str:
    """Only the wall clock is moved: waits and timeouts stay as they are."""
    return f"FAKETIME_DONT_FAKE_MONOTONIC=1 faketime '{date_of(day)} 03:00:00' {command}"
