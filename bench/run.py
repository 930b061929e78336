"""The benchmarks: dbkeeper and its peers, the same work, one after the other in every round. Called by bench/run."""

import argparse
import os
import sys
import time
import traceback

import changes
import fleets
import gentleness
import one_database
import physical
import report
import slow_line
import workloads
from bench import Bench
from contenders import Place
from measure import CommandFailed, Servers
from workloads import Sizes

# In the order in which they are run, with about how many seconds each needs on two cores: one that no longer fits into the
# time is left out.
BENCHMARKS = {
    "big-first": (one_database.first, 170),
    "big-unchanged": (one_database.unchanged, 70),
    "big-scattered": (one_database.scattered, 90),
    "fleet": (fleets.two_hundred, 280),
    "restore-big": (one_database.restore, 170),
    "slow-line": (slow_line.throughput, 90),
    "gentleness": (gentleness.latency, 170),
    "changes": (changes.each_kind, 120),
    "fleet-2000": (fleets.thousands, 150),
    "physical": (physical.beside, 60),
    "thirty-days": (changes.thirty_days, 240),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__)
    parser.add_argument("--dbkeeper", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--work", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--minutes", type=float, default=25, help="leave out what does not fit into this time (25)")
    parser.add_argument("--prepare", action="store_true", help="make the databases, and measure nothing")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(BENCHMARKS)}; all if left out")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no benchmark is called {', '.join(unknown)}: there are {', '.join(BENCHMARKS)}")
    sizes = Sizes()
    if arguments.prepare:
        workloads.prepare(sizes)
        physical.make_cluster(arguments.work, workloads.make_big(sizes))
        return
    place, rounds = Place(arguments.work, arguments.dbkeeper), int(os.environ.get("ROUNDS", "5"))
    bench = Bench(place, sizes, Servers(arguments.work), rounds, time.monotonic() + arguments.minutes * 60)
    results = os.path.join(arguments.work, "results")
    os.makedirs(results, exist_ok=True)
    if not arguments.names:
        for name in os.listdir(results):
            os.remove(os.path.join(results, name))
    failed = [name for name in arguments.names or BENCHMARKS if not run(bench, name, results)]
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def run(bench: Bench, name: str, results: str) -> bool:
    """Runs one and writes the page with it; false if it failed, which stops nothing else."""
    benchmark, needed = BENCHMARKS[name]
    if bench.seconds_left() < needed:
        print(f"{name}: left out, {bench.seconds_left():.0f} s are left and it needs {needed}", flush=True)
        return True
    print(f"{name}: {bench.seconds_left():.0f} s are left", flush=True)
    began = time.monotonic()
    try:
        result = benchmark(bench)
    except Exception as failure:  # Whatever it is: what the others measure is worth having.
        told = str(failure) if isinstance(failure, CommandFailed) else traceback.format_exc()
        print(f"{name}: failed: {told}", flush=True)
        return False
    print(f"{name}: took {time.monotonic() - began:.0f} s")
    print(report.section(name, result), flush=True)
    report.save(results, name, result, bench.rounds)
    if bench.sizes.are_published():
        report.write(results, list(BENCHMARKS))
    else:
        print("smaller data than the published workloads: docs/BENCHMARKS.md is left as it is")
    return True


if __name__ == "__main__":
    main()
