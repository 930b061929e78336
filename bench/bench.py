"""What every benchmark has at hand: the place, the sizes, the servers, the clock; and how contenders take turns."""

import time
from dataclasses import dataclass, field

from contenders import Contender, Place
from measure import Cost, Servers, summarise
from workloads import Sizes

CONTENDER_HEAD = [
    "dbkeeper's time / its time", "", "seconds", "processor s", "of PostgreSQL", "of the store", "peak memory", "requests",
    "stored",
]


@dataclass
class Goal:
    """A figure that must not exceed its goal; `at_least` turns that round."""

    work: str
    beside: str
    figure: str
    value: float
    goal: float
    at_least: bool = False

    def is_reached(self) -> bool:
        return self.goal <= self.value if self.at_least else self.value <= self.goal


@dataclass
class Result:
    """What one benchmark found, ready to be printed."""

    title: str
    words: str = ""
    goals: list[Goal] = field(default_factory=list)
    tables: list[tuple[list[str], list[list[str]]]] = field(default_factory=list)
    commands: dict[str, str] = field(default_factory=dict)
    peak_bytes: int = 0

    def add_contenders(self, summaries: list) -> None:
        """A table of contenders; the times of all are set beside that of the first."""
        own = summaries[0]
        ours = [one.peak_bytes for one in summaries if "dbkeeper" in one.name]
        self.peak_bytes = max([self.peak_bytes, *ours])
        self.tables.append((CONTENDER_HEAD, [contender_row(one, own) for one in summaries]))

    def add_table(self, head: list[str], rows: list[list[str]]) -> None:
        self.tables.append((head, rows))

    def meets(self, work: str, beside: str, figure: str, value: float, goal: float, at_least: bool = False) -> None:
        self.goals.append(Goal(work, beside, figure, value, goal, at_least))


@dataclass
class Bench:
    """What is the same for all benchmarks of a run."""

    place: Place
    sizes: Sizes
    servers: Servers
    rounds: int
    ends_at: float

    def seconds_left(self) -> float:
        return self.ends_at - time.monotonic()

    def measure(self, contender: Contender, number: int) -> Cost:
        contender.prepare(number)
        before = contender.stored()
        cost = self.servers.measure(contender.command())
        cost.stored_bytes = contender.stored() - before
        print(f"  round {number}: {cost.seconds:7.2f} s {cost.cpu_seconds:7.2f} cpu  {contender.name}", flush=True)
        return cost

    def take_turns(self, contenders: list[Contender], rounds: int | None = None) -> list:
        """Alternates the contenders; each round begins with another one, so that none always finds the warmer machine."""
        costs = {contender.name: [] for contender in contenders}
        for number in range(1, (rounds or self.rounds) + 1):
            running = [contender for contender in contenders if number <= contender.most_rounds]
            turn = number % len(running)
            for contender in running[turn:] + running[:turn]:
                costs[contender.name].append(self.measure(contender, number))
        return [summarise(name, found) for name, found in costs.items()]

    def take_turns_in_order(self, contenders: list[Contender]) -> list:
        """The same where one contender needs what the one before it left."""
        costs = {contender.name: [] for contender in contenders}
        for number in range(1, self.rounds + 1):
            for contender in contenders:
                costs[contender.name].append(self.measure(contender, number))
        return [summarise(name, found) for name, found in costs.items()]

    def commands(self, contenders: list[Contender]) -> dict[str, str]:
        return {contender.name: self.place.printable(contender.command()) for contender in contenders}


def size(count: int) -> str:
    if count < 10_000_000:
        return f"{count / 1000:,.0f} kB"
    return f"{count / 1_000_000:,.0f} MB"


def contender_row(row, own) -> list[str]:
    return [
        "" if row is own else f"**{own.seconds / row.seconds:.2f}**",
        row.name,
        f"{row.seconds:.2f} ({row.fastest:.2f}–{row.slowest:.2f}; {row.rounds} rounds)",
        f"{row.cpu_seconds:.2f}",
        f"{row.postgres_cpu_seconds:.2f}",
        f"{row.store_cpu_seconds:.2f}",
        f"{row.peak_bytes / 2**20:,.0f} MiB",
        f"{row.requests:,}" if row.requests else "–",
        size(row.stored_bytes) if row.stored_bytes else "–",
    ]
