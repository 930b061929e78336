"""Turns the results of the benchmarks into docs/BENCHMARKS.md: ratios first, since only they mean something elsewhere."""

import datetime
import json
import os

from measure import shell

HERE = os.path.dirname(os.path.abspath(__file__))
FIRST_IN_TABLE = "dbkeeper"

TITLES = {
    "big-first": "One PostgreSQL database of 0.93 GB, first backup",
    "big-unchanged": "The same, nothing changed since",
    "big-scattered": "The same, 0.1 % of the rows of its largest table changed, scattered",
    "fleet-first": "A central database and 200 tenants of 40 tables, first backup",
    "fleet-unchanged": "The same fleet, nothing changed since",
    "restore-big": "Restore of the 0.93 GB database into a new database",
}

# Per benchmark: how the peer's name begins (the fastest of those that match counts), the goal for the ratio of times.
GOALS = {
    "big-first": ("`pg_dump \\| zstd -3 \\| age \\| rclone rcat`", 0.70),
    "big-unchanged": ("`pg_dump \\| restic", 0.50),
    "big-scattered": ("`pg_dump \\| restic", 0.60),
    "fleet-first": ("`xargs", 0.40),
    "fleet-unchanged": ("`xargs", 0.25),
    "restore-big": ("`pg_restore -j2`", 0.85),
}

HOW_TO_READ = """# Benchmarks

Written by `./dev bench`; the commands are in `bench/`. All contenders did the same work on the same machine, one after the
other in every round. Ratios count; seconds are of the machine named under each table. Servers (PostgreSQL and the S3 server)
ran on that machine too, on the same cores. Seconds are medians, with the fastest and the slowest round; processor time is of
the program and its children, not of the servers; memory is the peak of the largest process; bytes are those added to the store.
"""


def machine() -> dict:
    with open("/proc/cpuinfo") as file:
        model = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), "unknown processor")
    with open("/proc/meminfo") as file:
        memory = int(file.readline().split()[1]) // 1024 // 1024
    version = shell("psql -XAtq -d postgres -c 'SHOW server_version'").split()[0]
    commit = shell(f"git -C {HERE} rev-parse --short HEAD 2>/dev/null || echo unknown").strip()
    peers = f"{shell('restic version').split()[1]}, rclone {shell('rclone version').split()[1].lstrip('v')}"
    return {
        "day": datetime.date.today().isoformat(),
        "text": f"{os.cpu_count()} cores ({model}), {memory} GiB; PostgreSQL {version}, restic {peers}; dbkeeper {commit}",
    }


def ours(rows: list[dict]) -> dict:
    return next(row for row in rows if FIRST_IN_TABLE in row["name"])


def peer_of_goal(result: dict) -> dict:
    begin = GOALS[result["name"]][0]
    return min((row for row in result["rows"] if row["name"].startswith(begin)), key=lambda row: row["seconds"])


def size(count: int) -> str:
    if count < 10_000_000:
        return f"{count / 1000:,.0f} kB"
    return f"{count / 1_000_000:,.0f} MB"


def row_text(row: dict, own: dict) -> str:
    ratio = "" if row is own else f"{own['seconds'] / row['seconds']:.2f}"
    seconds = f"{row['seconds']:.2f} ({row['fastest']:.2f}–{row['slowest']:.2f})"
    stored = size(row["stored_bytes"]) if row["stored_bytes"] else "–"
    memory = f"{row['peak_bytes'] / 2**20:,.0f} MiB"
    return f"| {ratio} | {row['name']} | {seconds} | {row['cpu_seconds']:.2f} | {memory} | {stored} |"


def section(result: dict) -> str:
    own = ours(result["rows"])
    lines = [
        f"## {TITLES[result['name']]} (`{result['name']}`)",
        "",
        "| dbkeeper's time / its time | | seconds | processor seconds | peak memory | stored |",
        "| --- | --- | --- | --- | --- | --- |",
        *(row_text(row, own) for row in result["rows"]),
        "",
        f"{result['machine']['day']}, {result['rounds']} rounds; {result['machine']['text']}.",
        "",
    ]
    return "\n".join(lines)


def goal_line(result: dict) -> str:
    own, peer, goal = ours(result["rows"]), peer_of_goal(result), GOALS[result["name"]][1]
    ratio = own["seconds"] / peer["seconds"]
    reached = "yes" if ratio <= goal else "no"
    bytes_ratio = f"{own['stored_bytes'] / peer['stored_bytes']:.2f}" if peer["stored_bytes"] else "–"
    return f"| {TITLES[result['name']]} | {peer['name']} | {ratio:.2f} | {goal:.2f} | {reached} | {bytes_ratio} |"


def write(results_folder: str, order: list[str]) -> str:
    """Writes docs/BENCHMARKS.md from every result that there is; a benchmark that was not run is left out."""
    results = []
    for name in order:
        path = os.path.join(results_folder, f"{name}.json")
        if os.path.exists(path):
            with open(path) as file:
                results.append(json.load(file))
    summary = [
        "| work | beside | time ratio | goal | reached | stored bytes ratio |",
        "| --- | --- | --- | --- | --- | --- |",
        *(goal_line(result) for result in results),
        "",
    ]
    text = "\n".join([HOW_TO_READ, *summary, *(section(result) for result in results)])
    with open(os.path.join(HERE, "..", "docs", "BENCHMARKS.md"), "w") as file:
        file.write(text)
    return "docs/BENCHMARKS.md"
