"""Turns the results of the benchmarks into docs/BENCHMARKS.md: ratios first, since only they mean something elsewhere."""

import datetime
import json
import os
import re

from bench import Goal, Result
from measure import shell

HERE = os.path.dirname(os.path.abspath(__file__))
PAGE = os.path.join(HERE, "..", "docs", "BENCHMARKS.md")
PEAK_GOAL = 256 << 20

HOW_TO_READ = """# Benchmarks

Written by `./dev bench`, never by hand; the code is in `bench/`. All contenders did the same work on the same machine, in turns: each
round runs every contender once, and begins with another one. **Ratios count**; seconds are of one machine, on which the
servers (PostgreSQL and the S3 server) ran too, on the same cores. Seconds are medians, with the fastest and the slowest round.
Processor seconds are of the program and its children; those of the two servers stand beside them. Memory is the peak of the
largest process; requests are those to the S3 server; stored is what was added there. dbkeeper always encrypts, and decodes every chunk
that it stores before it uploads it.
"""

WHEN_NOT = """## When not to use dbkeeper

- **One huge database that must be back within minutes.** A logical restore has to run every row through COPY and build every index
  again; a physical one copies files as fast as disk and network give them (the tables of "A physical tool beside it" and
  "Restore" above have both, measured on this machine). Beyond the size that "Restore" says comes back in the time that you
  have, use pgBackRest, WAL-G or snapshots of the volume for that database, and dbkeeper for the tenants around it.
- **A backup of every second.** dbkeeper keeps what a database was when a run began. Recovery to any moment in between needs the
  server's WAL: a physical tool with archiving.
- **A huge database of which little changes between two runs.** dbkeeper stores only what changed, but it reads every row to know
  it. A physical incremental backup reads less, from page checksums or WAL summaries.
- **One copy for an afternoon, neither encrypted nor far away.** `pg_dump -Fd -j` into a folder does that.

Physical tools, in turn, take a whole cluster or nothing: they cannot bring back one tenant without the others, move it to another
server or major version, or leave data out. That is what dbkeeper is for.
"""


def machine() -> dict:
    with open("/proc/cpuinfo") as file:
        model = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), "unknown processor")
    with open("/proc/meminfo") as file:
        memory = int(file.readline().split()[1]) // 1024 // 1024
    version = shell("psql -XAtq -d postgres -c 'SHOW server_version'").split()[0]
    settings = shell("psql -XAtq -d postgres -c \"SELECT string_agg(name || '=' || setting, ', ' ORDER BY name) FROM pg_settings "
                     "WHERE name IN ('fsync', 'synchronous_commit', 'full_page_writes', 'autovacuum')\"").strip()
    commit = shell(f"git -C {HERE} rev-parse --short HEAD 2>/dev/null || echo unknown").strip()
    first = lambda command: shell(f"{command} 2>&1 || true").strip().splitlines()[0]
    tools = {
        "dbkeeper": commit, "PostgreSQL": f"{version} ({settings}, shared_buffers=1GB)", "restic": first("restic version").split()[1],
        "rclone": first("rclone version").split()[1].lstrip("v"), "age": first("age --version"),
        "zstd": re.search(r"v([0-9.]+)", first("zstd --version")).group(1), "SeaweedFS": first("weed version").split()[2],
    }
    words = "; ".join(f"{name} {version}" for name, version in tools.items())
    text = f"{os.cpu_count()} cores ({model}), {memory} GiB; {words}"
    return {"day": datetime.date.today().isoformat(), "text": text, "load": os.getloadavg()[2]}


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}", *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join(lines) + "\n"


def bare(words: str) -> str:
    """Without what Markdown makes of it."""
    return words.replace("\\|", "|").replace("`", "").replace("**", "")


def section(name: str, result: Result) -> str:
    parts = [f"## {result.title} (`{name}`)\n"]
    if result.words:
        parts.append(result.words + "\n")
    parts += [table(head, rows) for head, rows in result.tables]
    if result.commands:
        lines = [f"# {bare(what)}\n{line}" for what, line in result.commands.items()]
        parts.append("<details><summary>The commands</summary>\n\n```sh\n" + "\n".join(lines) + "\n```\n\n</details>\n")
    return "\n".join(parts)


def goal_row(goal: Goal) -> list[str]:
    wanted = f"{'≥' if goal.at_least else '≤'} {goal.goal:.2f}"
    return [goal.work, goal.beside, goal.figure, f"**{goal.value:.2f}**", wanted, "met" if goal.is_reached() else "**not met**"]


def goals(results: dict[str, Result]) -> str:
    found = [goal for result in results.values() for goal in result.goals]
    peak = max((result.peak_bytes for result in results.values()), default=0)
    if peak:
        found.append(Goal("peak memory of dbkeeper, the highest of all these", "256 MiB", "bytes", peak / PEAK_GOAL, 1.0))
    missed = [goal for goal in found if not goal.is_reached()]
    verdict = f"{len(found) - len(missed)} of {len(found)} goals are met."
    if missed:
        verdict += " Not met: " + "; ".join(f"{goal.work} ({goal.figure} {goal.value:.2f})" for goal in missed) + "."
    rows = [goal_row(goal) for goal in found]
    return table(["work", "beside", "ratio of", "found", "goal", ""], rows) + f"\n{verdict}\n"


def save(folder: str, name: str, result: Result, rounds: int) -> None:
    found = {
        "result": result.__dict__ | {"goals": [goal.__dict__ for goal in result.goals]}, "rounds": rounds, "machine": machine(),
    }
    with open(os.path.join(folder, f"{name}.json"), "w") as file:
        json.dump(found, file, indent=1)


def load(folder: str, name: str) -> tuple[Result, dict] | None:
    path = os.path.join(folder, f"{name}.json")
    if not os.path.exists(path):
        return None
    with open(path) as file:
        found = json.load(file)
    fields = found["result"]
    fields["goals"] = [Goal(**goal) for goal in fields["goals"]]
    return Result(**fields), found


def write(folder: str, order: list[str]) -> None:
    """Writes docs/BENCHMARKS.md from every result that there is, and names those that there are not."""
    found = {name: loaded for name in order if (loaded := load(folder, name))}
    results = {name: result for name, (result, _) in found.items()}
    machines: dict[str, list[str]] = {}
    for name, (_, more) in found.items():
        machines.setdefault(f"{more['machine']['day']}: {more['machine']['text']}", []).append(name)
    where = [f"- {text}. ({', '.join(f'`{name}`' for name in names)})" for text, names in machines.items()]
    left_out = [f"`{name}`" for name in order if name not in found]
    parts = [HOW_TO_READ, "## Goals\n", goals(results), "Machine and versions:\n", "\n".join(where) + "\n"]
    if left_out:
        parts.append(f"Not measured in this run: {', '.join(left_out)}.\n")
    parts += [section(name, result) for name, result in results.items()]
    parts.append(WHEN_NOT)
    with open(PAGE, "w") as file:
        file.write("\n".join(parts))
