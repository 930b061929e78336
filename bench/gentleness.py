"""What others on the same server feel meanwhile: the latency of pgbench, and how long a snapshot is held."""

import glob
import itertools
import statistics
import subprocess
import threading
from collections.abc import Callable

from bench import Bench, Result
from contenders import Dbkeeper
from measure import CommandFailed, shell
from workloads import PSQL, make_big, make_pgbench

SECONDS = 12
ROUNDS = 3
CLIENTS = 8
PEER = "`pg_dump -Fd -j2`"
# The oldest transaction that holds a snapshot in the database that is being backed up.
HELD = (
    "SELECT coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)), 0) FROM pg_stat_activity "
    "WHERE datname = '{}' AND backend_xmin IS NOT NULL \\watch 0.1"
)


class Repeated:
    """Runs what it is given again and again beside something else; a failure is raised at the end."""

    def __init__(self, once: Callable[[], None] | None) -> None:
        self.once, self.stopping, self.failure = once, threading.Event(), None
        self.thread = threading.Thread(target=self.run)

    def run(self) -> None:
        try:
            while self.once and not self.stopping.is_set():
                self.once()
        except CommandFailed as failure:
            self.failure = failure

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.stopping.set()
        self.thread.join()
        if self.failure:
            raise self.failure


def latency(bench: Bench) -> Result:
    place, big, beside = bench.place, make_big(bench.sizes), make_pgbench()
    again, fresh, numbers = Dbkeeper(place, "gentle", big), Dbkeeper(place, "gentle-fresh", big), itertools.count()
    again.new_repository(0)
    shell(again.backup())
    folder = f"{place.work}/local/gentle"
    dump = f"rm -rf {folder} && pg_dump -Fd -j2 -f {folder} {big}"

    def first_backup() -> None:
        fresh.new_repository(next(numbers))
        shell(fresh.backup())

    conditions = {
        "no backup": None,
        PEER: lambda: shell(dump) and None,
        "dbkeeper, first backups": first_backup,
        "dbkeeper, nothing changed": lambda: shell(again.backup()) and None,
    }
    found = {name: [] for name in conditions}
    for number in range(ROUNDS):
        for name, once in conditions.items():
            found[name].append(under(bench, once, big, beside))
            print(f"  round {number + 1}: {name}: {' '.join(f'{value:.2f}' for value in found[name][-1])}", flush=True)
    place.empty(again.prefix)
    place.empty(fresh.prefix)
    middle = {name: [statistics.median(values) for values in zip(*rounds)] for name, rounds in found.items()}
    result = Result("What others on the same server feel")
    result.words = (
        f"`pgbench -c {CLIENTS}` on another database of the same server, {SECONDS} s at a time, {ROUNDS} times in turns, while the "
        "0.93 GB database is backed up again and again. Everything shares the same cores. The last column is the longest "
        "time that a snapshot, with its locks, was held; so long does a backup hold autovacuum back."
    )
    head = ["meanwhile", "transactions/s", "mean ms", "95 % below", "99 % below", "longest snapshot, s"]
    rows = [[name, f"{values[0]:.0f}", *(f"{value:.1f}" for value in values[1:])] for name, values in middle.items()]
    result.add_table(head, rows)
    theirs, ours = middle[PEER], middle["dbkeeper, first backups"]
    for at, figure in ((2, "95th percentile"), (3, "99th percentile"), (1, "mean"), (4, "longest snapshot")):
        result.meets("what others feel: pgbench", PEER, figure, ours[at] / theirs[at], 1.0)
    lines = {"pgbench": pgbench("LOG", beside), PEER: dump, "dbkeeper": again.backup()}
    result.commands = {name: place.printable(line) for name, line in lines.items()}
    return result


def pgbench(log: str, database: str) -> str:
    return f"pgbench -n -c {CLIENTS} -j 1 -T {SECONDS} -l --log-prefix={log} {database}"


def under(bench: Bench, once: Callable[[], None] | None, database: str, beside: str) -> list[float]:
    """Transactions a second, mean, 95th and 99th percentile in ms, longest snapshot in s."""
    log = f"{bench.place.work}/local/pgbench"
    shell(f"rm -f {log}.*; psql -Xq -d {beside} -c CHECKPOINT")
    watch = subprocess.Popen(
        [*PSQL.split(), "-d", "postgres"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    watch.stdin.write(HELD.format(database) + "\n")
    watch.stdin.flush()
    with Repeated(once):
        shell(pgbench(log, beside))
        watch.terminate()
    held = [float(line) for line in watch.communicate()[0].split()]
    times = []
    for path in glob.glob(f"{log}.*"):
        with open(path) as file:
            times += [int(line.split()[2]) / 1000 for line in file]
    times.sort()
    at = lambda share: times[min(len(times) - 1, int(len(times) * share))]
    return [len(times) / SECONDS, statistics.fmean(times), at(0.95), at(0.99), max(held, default=0.0)]
