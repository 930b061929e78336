"""Runs one command and says what it cost, also to the servers that it speaks to; knows nothing of what the command does."""

import glob
import os
import statistics
import subprocess
import tempfile
import urllib.request
from dataclasses import asdict, dataclass

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass
class Cost:
    """What one run of a command took. `cpu_seconds` is of the command and its children, the servers' stands beside it; memory
    is the peak of the largest process; stored bytes are what it added to its store, requests what it asked the S3 server."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    postgres_cpu_seconds: float = 0.0
    store_cpu_seconds: float = 0.0
    requests: int = 0
    stored_bytes: int = 0


class CommandFailed(Exception):
    """A command ended with another status than 0; carries its last words."""


def shell(command: str) -> str:
    """Runs a bash line that is not measured and returns what it prints; any failing part of a pipe fails it."""
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True)
    if done.returncode != 0:
        raise CommandFailed(f"{command}\n{done.stderr.strip()[-2000:]}")
    return done.stdout


def timed(command: str) -> Cost:
    """Runs a bash line under GNU time; any failing part of a pipe fails it."""
    with tempfile.NamedTemporaryFile("r") as readings, tempfile.TemporaryFile("w+") as words:
        line = ["/usr/bin/time", "-f", "%e %U %S %M", "-o", readings.name, "bash", "-o", "pipefail", "-c", command]
        status = subprocess.run(line, stdout=subprocess.DEVNULL, stderr=words).returncode
        if status != 0:
            words.seek(0)
            raise CommandFailed(f"{command}\n{words.read().strip()[-2000:]}")
        elapsed, user, system, kibibytes = readings.read().split()
    return Cost(float(elapsed), float(user) + float(system), int(kibibytes) * 1024)


class Servers:
    """The two servers of the benchmarks, from the outside: their processor time and the S3 server's count of requests."""

    def __init__(self, work: str) -> None:
        with open(f"{work}/postgres/postmaster.pid") as file:
            self.postmaster = int(file.readline())
        self.store = int(os.environ["STORE_PID"])
        self.metrics = os.environ["STORE_METRICS"]

    def measure(self, command: str) -> Cost:
        """What a bash line costs, with the servers' share."""
        before = (self.postgres_seconds(), self.store_seconds(), self.requests())
        cost = timed(command)
        cost.postgres_cpu_seconds = self.postgres_seconds() - before[0]
        cost.store_cpu_seconds = self.store_seconds() - before[1]
        cost.requests = self.requests() - before[2]
        return cost

    def postgres_seconds(self) -> float:
        """Of the postmaster, of the children that it has buried, and of those alive."""
        total = sum(times(self.postmaster))
        return total + sum(sum(times(pid)[:2]) for pid in children(self.postmaster))

    def store_seconds(self) -> float:
        return sum(times(self.store)[:2])

    def requests(self) -> int:
        """The S3 requests that were answered so far."""
        with urllib.request.urlopen(self.metrics) as answer:
            lines = answer.read().decode().splitlines()
        counts = (line.rsplit(" ", 1)[1] for line in lines if line.startswith("SeaweedFS_s3_request_total{"))
        return int(sum(float(count) for count in counts))


def times(pid: int) -> tuple[float, float, float, float]:
    """User and system time of a process, and of its children that it has waited for (proc(5)); none if it is gone."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
    except OSError:
        return (0.0, 0.0, 0.0, 0.0)
    return tuple(int(ticks) / TICKS_PER_SECOND for ticks in fields[11:15])


def children(pid: int) -> list[int]:
    found = []
    for path in glob.glob(f"/proc/{pid}/task/*/children"):
        try:
            with open(path) as file:
                found += [int(child) for child in file.read().split()]
        except OSError:
            pass
    return found


@dataclass
class Summary:
    """Several runs of the same command: medians, and how far they spread."""

    name: str
    rounds: int
    seconds: float
    fastest: float
    slowest: float
    cpu_seconds: float
    postgres_cpu_seconds: float
    store_cpu_seconds: float
    peak_bytes: int
    requests: int
    stored_bytes: int

    def as_json(self) -> dict:
        return asdict(self)


def summarise(name: str, costs: list[Cost]) -> Summary:
    middle = lambda value: statistics.median(value(cost) for cost in costs)
    return Summary(
        name=name,
        rounds=len(costs),
        seconds=middle(lambda cost: cost.seconds),
        fastest=min(cost.seconds for cost in costs),
        slowest=max(cost.seconds for cost in costs),
        cpu_seconds=middle(lambda cost: cost.cpu_seconds),
        postgres_cpu_seconds=middle(lambda cost: cost.postgres_cpu_seconds),
        store_cpu_seconds=middle(lambda cost: cost.store_cpu_seconds),
        peak_bytes=max(cost.peak_bytes for cost in costs),
        requests=int(middle(lambda cost: cost.requests)),
        stored_bytes=int(middle(lambda cost: cost.stored_bytes)),
    )


def bytes_below(folder: str) -> int:
    """The sizes of all files below a folder."""
    return sum(os.path.getsize(os.path.join(top, name)) for top, _, names in os.walk(folder) for name in names)
