"""What others on the same server feel meanwhile: the latency of pgbench, and how long a snapshot is held."""

import glob
import statistics
import subprocess
import threading

from bench import Bench, Result
from contenders import Dbkeeper
from measure import shell
from workloads import PSQL, make_big, make_pgbench

SECONDS = 12
ROUNDS = 3
CLIENTS = 8
# The oldest transaction that holds a snapshot in the database that is being backed up.
HELD = (
    "SELECT coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)), 0) FROM pg_stat_activity "
    "WHERE datname = '{}' AND backend_xmin IS NOT NULL \\watch 0.1"
)


class Repeated:
    """Runs a command again and again beside something else."""

    def __init__(self, command: str) -> None:
        self.command, self.stopping, self.runs = command, threading.Event(), 0
        self.thread = threading.Thread(target=self.run)

    def run(self) -> None:
        while not self.stopping.is_set():
            shell(self.command)
            self.runs += 1

    def __enter__(self):
        if self.command:
            self.thread.start()
        return self

    def __exit__(self, *failure) -> None:
        self.stopping.set()
        if self.command:
            self.thread.join()


def latency(bench: Bench) -> Result:
    place, big = bench.place, make_big(bench.sizes)
    keeper = Dbkeeper(place, "gentle", big)
    keeper.new_repository(0)
    shell(keeper.backup())
    fresh = f"rclone purge store:bench/{keeper.prefix} && {keeper.line('init')} && {keeper.backup()}"
    folder = f"{place.work}/local/gentle"
    conditions = {
        "no backup": "",
        "`pg_dump -Fd -j2`": f"rm -rf {folder} && pg_dump -Fd -j2 -f {folder} {big}",
        "dbkeeper, first backups": fresh,
        "dbkeeper, nothing changed": keeper.backup(),
    }
    found = {name: [] for name in conditions}
    for number in range(ROUNDS):
        for name, command in conditions.items():
            found[name].append(under(bench, command, big))
            print(f"  round {number + 1}: {name}: {' '.join(f'{value:.2f}' for value in found[name][-1])}", flush=True)
    place.empty(keeper.prefix)
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
    dump, ours = middle["`pg_dump -Fd -j2`"], middle["dbkeeper, first backups"]
    for at, figure in ((2, "95th percentile"), (3, "99th percentile"), (1, "mean"), (4, "longest snapshot")):
        result.meets("latency of others", "`pg_dump -Fd -j2`", figure, ours[at] / dump[at], 1.0)
    result.commands = {"pgbench": pgbench("LOG"), **{name: place.printable(line) for name, line in conditions.items() if line}}
    return result


def pgbench(log: str) -> str:
    return f"pgbench -n -c {CLIENTS} -j 1 -T {SECONDS} -l --log-prefix={log} {make_pgbench()}"


def under(bench: Bench, command: str, database: str) -> list[float]:
    """Transactions a second, mean, 95th and 99th percentile in ms, longest snapshot in s."""
    log = f"{bench.place.work}/local/pgbench"
    shell(f"rm -f {log}.*; psql -Xq -d pgbench_20 -c CHECKPOINT")
    watch = subprocess.Popen(
        [*PSQL.split(), "-d", "postgres"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    watch.stdin.write(HELD.format(database) + "\n")
    watch.stdin.flush()
    with Repeated(command):
        shell(pgbench(log))
        watch.terminate()
    held = [float(line) for line in watch.communicate()[0].split()]
    times = []
    for path in glob.glob(f"{log}.*"):
        with open(path) as file:
            times += [int(line.split()[2]) / 1000 for line in file]
    times.sort()
    at = lambda share: times[min(len(times) - 1, int(len(times) * share))]
    return [len(times) / SECONDS, statistics.fmean(times), at(0.95), at(0.99), max(held, default=0.0)]
