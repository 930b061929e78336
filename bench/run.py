"""The benchmarks: dbkeeper and its peers, the same work, one after the other in every round. Called by bench/run."""

import argparse
import json
import os
import sys

import report
from contenders import (Contender, Dbkeeper, Place, Restic, directory_dump, fleet_pipe, pipe_to_file, pipe_to_store)
from measure import CommandFailed, measure, shell, summarise
from workloads import PSQL, Sizes, copy_of, make_big, make_fleet, tenant_names

OURS = "**dbkeeper** to S3, encrypted, verified"
RESTIC = "`pg_dump \\| restic backup --stdin` to S3"
WIDTHS = (1, 2, 4, 8)


def big_first(place: Place, sizes: Sizes) -> list[Contender]:
    big = make_big(sizes)
    keeper, restic = Dbkeeper(place, "big-first", big, tenants=False), Restic(place, "big-first", big)
    return [
        Contender(OURS, keeper.backup, keeper.new_repository, keeper.stored),
        pipe_to_store(place, big),
        pipe_to_file(place, big),
        directory_dump(place, big),
        Contender(RESTIC, restic.backup, restic.new_repository, restic.stored),
    ]


def big_unchanged(place: Place, sizes: Sizes) -> list[Contender]:
    big = make_big(sizes)
    keeper, restic = Dbkeeper(place, "big-unchanged", big, tenants=False), Restic(place, "big-unchanged", big)
    for store in (keeper, restic):
        store.new_repository(0)
        shell(store.backup())
    return [
        Contender(OURS, keeper.backup, stored=keeper.stored),
        Contender(RESTIC, restic.backup, stored=restic.stored),
        pipe_to_store(place, big),
    ]


def big_scattered(place: Place, sizes: Sizes) -> list[Contender]:
    """Before each round one row in a thousand of the largest table changes, all over the table."""
    changed = copy_of(make_big(sizes), "big_scattered")
    keeper, restic = Dbkeeper(place, "big-scattered", changed, tenants=False), Restic(place, "big-scattered", changed)
    for store in (keeper, restic):
        store.new_repository(0)
        shell(store.backup())
    done = set()

    def change(number: int) -> None:
        if number not in done:
            done.add(number)
            update = f"UPDATE audit_log SET action = 'changed {number}' WHERE id % 1000 = {13 + number}"
            shell(f'{PSQL} -d {changed} -c "{update}"')

    return [
        Contender(OURS, keeper.backup, change, keeper.stored),
        Contender(RESTIC, restic.backup, change, restic.stored),
    ]


def fleet(place: Place, sizes: Sizes, unchanged: bool) -> list[Contender]:
    make_fleet(sizes)
    keeper = Dbkeeper(place, "fleet-unchanged" if unchanged else "fleet-first", "central", tenants=True)
    list_file = f"{place.work}/local/fleet.list"
    with open(list_file, "w") as file:
        file.writelines(f"{name}\n" for name in ["central", *tenant_names(sizes)])
    if unchanged:
        keeper.new_repository(0)
        shell(keeper.backup())
        ours = Contender(OURS, keeper.backup, stored=keeper.stored)
    else:
        ours = Contender(OURS, keeper.backup, keeper.new_repository, keeper.stored)
    pipes = [fleet_pipe(place, list_file, width, to_store=True) for width in WIDTHS]
    return [ours, *pipes, fleet_pipe(place, list_file, 4, to_store=False)]


def restore_big(place: Place, sizes: Sizes) -> list[Contender]:
    big = make_big(sizes)
    keeper, restic = Dbkeeper(place, "restore-big", big, tenants=False), Restic(place, "restore-big", big)
    for store in (keeper, restic):
        store.new_repository(0)
        shell(store.backup())
    directory = directory_dump(place, big)
    to_store = pipe_to_store(place, big)
    for peer in (directory, to_store):
        peer.prepare(0)
        shell(peer.command())

    def without(name: str):
        return lambda number: shell(f"dropdb --if-exists {name}") and None

    def with_empty(name: str):
        return lambda number: shell(f"dropdb --if-exists {name} && createdb {name}") and None

    opened = f"age -d -i {place.work}/keys/identity.txt | zstd -dq | psql -Xq -v ON_ERROR_STOP=1 -d from_pipe"
    return [
        Contender("**dbkeeper** from S3, compared with the manifest",
                  lambda: keeper.line("restore --central --as from_dbkeeper --yes"), without("from_dbkeeper")),
        Contender("`pg_restore -j2` of a local folder, not encrypted",
                  lambda: f"pg_restore -j2 -d from_folder {place.work}/local/directory", with_empty("from_folder")),
        Contender("`rclone cat \\| age -d \\| zstd -d \\| psql` from S3",
                  lambda: f"rclone cat store:bench/pipe/{big}.age | {opened}", with_empty("from_pipe")),
        Contender("`restic dump \\| psql` from S3",
                  lambda: f"{restic.line('dump latest dump.sql')} | psql -Xq -v ON_ERROR_STOP=1 -d from_restic",
                  with_empty("from_restic")),
    ]


BENCHMARKS = {
    "big-first": big_first,
    "big-unchanged": big_unchanged,
    "big-scattered": big_scattered,
    "fleet-first": lambda place, sizes: fleet(place, sizes, unchanged=False),
    "fleet-unchanged": lambda place, sizes: fleet(place, sizes, unchanged=True),
    "restore-big": restore_big,
}


def run_rounds(contenders: list[Contender], rounds: int) -> list[dict]:
    """Alternates the contenders; each round begins with another one, so that none always finds the warmer machine."""
    costs = {contender.name: [] for contender in contenders}
    for number in range(1, rounds + 1):
        turn = number % len(contenders)
        for contender in contenders[turn:] + contenders[:turn]:
            contender.prepare(number)
            before = contender.stored()
            cost = measure(contender.command())
            cost.stored_bytes = contender.stored() - before
            costs[contender.name].append(cost)
            print(f"  round {number}: {cost.seconds:7.2f} s  {contender.name}", flush=True)
    return [summarise(name, found).as_json() for name, found in costs.items()]


def check_restored(sizes: Sizes) -> None:
    """A fast restore of something else is worth nothing: rows and checksums of what dbkeeper brought back."""
    prints = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "demo", "fingerprint.sql")
    original, restored = (shell(f"{PSQL} -d {name} -f {prints}") for name in (make_big(sizes), "from_dbkeeper"))
    if original != restored:
        raise CommandFailed("the database that dbkeeper restored is not the original")
    print("  the restored database has the rows and checksums of the original", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__)
    parser.add_argument("--dbkeeper", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--work", required=True, help=argparse.SUPPRESS)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(BENCHMARKS)}; all if left out")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no benchmark is called {', '.join(unknown)}: there are {', '.join(BENCHMARKS)}")
    rounds, sizes = int(os.environ.get("ROUNDS", "5")), Sizes()
    place = Place(arguments.work, arguments.dbkeeper)
    results = os.path.join(arguments.work, "results")
    os.makedirs(results, exist_ok=True)
    for name in arguments.names or BENCHMARKS:
        print(f"{name}: {rounds} rounds", flush=True)
        rows = run_rounds(BENCHMARKS[name](place, sizes), rounds)
        if name == "restore-big":
            check_restored(sizes)
        result = {"name": name, "rounds": rounds, "machine": report.machine(), "rows": rows}
        print(report.section(result))
        if sizes.are_published():
            with open(os.path.join(results, f"{name}.json"), "w") as file:
                json.dump(result, file, indent=1)
    if not sizes.are_published():
        print("smaller data than the published workloads: docs/BENCHMARKS.md is left as it is")
        return
    path = report.write(results, list(BENCHMARKS))
    print(f"written: {path}")


if __name__ == "__main__":
    try:
        main()
    except CommandFailed as failure:
        sys.exit(f"failed: {failure}")
