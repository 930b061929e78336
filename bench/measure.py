"""Runs one command and says what it cost; knows nothing of what the command does."""

import os
import statistics
import subprocess
import tempfile
from dataclasses import asdict, dataclass


@dataclass
class Cost:
    """What one run of a command took. Processor time is of the command and its children, not of the servers it speaks to;
    memory is the peak of the largest of its processes; stored bytes are what it added to its store."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    stored_bytes: int = 0


class CommandFailed(Exception):
    """A command ended with another status than 0; carries its last words."""


def shell(command: str) -> str:
    """Runs a bash line that is not measured and returns what it prints; any failing part of a pipe fails it."""
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True)
    if done.returncode != 0:
        raise CommandFailed(f"{command}\n{done.stderr.strip()[-2000:]}")
    return done.stdout


def measure(command: str) -> Cost:
    """Runs a bash line under GNU time; any failing part of a pipe fails it."""
    with tempfile.NamedTemporaryFile("r") as readings, tempfile.TemporaryFile("w+") as words:
        timed = ["/usr/bin/time", "-f", "%e %U %S %M", "-o", readings.name, "bash", "-o", "pipefail", "-c", command]
        status = subprocess.run(timed, stdout=subprocess.DEVNULL, stderr=words).returncode
        if status != 0:
            words.seek(0)
            raise CommandFailed(f"{command}\n{words.read().strip()[-2000:]}")
        elapsed, user, system, kibibytes = readings.read().split()
    return Cost(float(elapsed), float(user) + float(system), int(kibibytes) * 1024)


@dataclass
class Summary:
    """Several runs of the same command: medians, and how far they spread."""

    name: str
    seconds: float
    fastest: float
    slowest: float
    cpu_seconds: float
    peak_bytes: int
    stored_bytes: int

    def as_json(self) -> dict:
        return asdict(self)


def summarise(name: str, costs: list[Cost]) -> Summary:
    times = [cost.seconds for cost in costs]
    return Summary(
        name=name,
        seconds=statistics.median(times),
        fastest=min(times),
        slowest=max(times),
        cpu_seconds=statistics.median(cost.cpu_seconds for cost in costs),
        peak_bytes=max(cost.peak_bytes for cost in costs),
        stored_bytes=int(statistics.median(cost.stored_bytes for cost in costs)),
    )


def bytes_below(folder: str) -> int:
    """The sizes of all files below a folder."""
    return sum(os.path.getsize(os.path.join(top, name)) for top, _, names in os.walk(folder) for name in names)
