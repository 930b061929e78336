"""One database of 0.93 GB: first backup, nothing changed, a little changed, restored."""

import os

from bench import Bench, Result
from contenders import (OURS, PIPE_TO_STORE, RESTIC, Contender, Dbkeeper, Restic, directory_dump, pipe_to_file,
                        pipe_to_store)
from measure import CommandFailed, shell
from workloads import PSQL, copy_of, make_big

HERE = os.path.dirname(os.path.abspath(__file__))
STORED_WHEN_UNCHANGED = 200_000


def first(bench: Bench) -> Result:
    place, big = bench.place, make_big(bench.sizes)
    keeper, restic = Dbkeeper(place, "big-first", big), Restic(place, "big-first", big)
    contenders = [
        Contender(OURS, keeper.backup, keeper.new_repository, keeper.stored),
        pipe_to_store(place, big),
        pipe_to_file(place, big),
        directory_dump(place, big),
        Contender(RESTIC, restic.backup, restic.new_repository, restic.stored),
    ]
    found = bench.take_turns(contenders)
    result = Result("One PostgreSQL database of 0.93 GB, first backup", commands=bench.commands(contenders))
    result.add_contenders(found)
    result.meets(result.title, PIPE_TO_STORE, "time", found[0].seconds / found[1].seconds, 0.70)
    return result


def unchanged(bench: Bench) -> Result:
    place, big = bench.place, make_big(bench.sizes)
    keeper, restic = Dbkeeper(place, "big-unchanged", big), Restic(place, "big-unchanged", big)
    for store in (keeper, restic):
        store.new_repository(0)
        shell(store.backup())
    contenders = [
        Contender(OURS, keeper.backup, stored=keeper.stored),
        Contender(RESTIC, restic.backup, stored=restic.stored),
    ]
    found = bench.take_turns(contenders)
    result = Result("The same, nothing changed since", commands=bench.commands(contenders))
    result.add_contenders(found)
    result.meets(result.title, RESTIC, "time", found[0].seconds / found[1].seconds, 0.50)
    result.meets(result.title, "200 kB", "bytes stored", found[0].stored_bytes / STORED_WHEN_UNCHANGED, 1.0)
    return result


def scattered(bench: Bench) -> Result:
    """Before each round one row in a thousand of the largest table changes, all over the table."""
    place, changed = bench.place, copy_of(make_big(bench.sizes), "big_scattered")
    keeper, restic = Dbkeeper(place, "big-scattered", changed), Restic(place, "big-scattered", changed)
    for store in (keeper, restic):
        store.new_repository(0)
        shell(store.backup())
    done = set()

    def change(number: int) -> None:
        if number not in done:
            done.add(number)
            update = f"UPDATE audit_log SET action = 'changed {number}' WHERE id % 1000 = {13 + number}"
            shell(f'{PSQL} -d {changed} -c "{update}"')

    contenders = [
        Contender(OURS, keeper.backup, change, keeper.stored),
        Contender(RESTIC, restic.backup, change, restic.stored),
    ]
    found = bench.take_turns(contenders)
    shell(f"dropdb --if-exists {changed}")
    result = Result(
        "The same, 0.1 % of the rows of its largest table changed, scattered", commands=bench.commands(contenders)
    )
    result.add_contenders(found)
    result.meets(result.title, RESTIC, "time", found[0].seconds / found[1].seconds, 0.60)
    result.meets(result.title, RESTIC, "bytes stored", found[0].stored_bytes / found[1].stored_bytes, 0.60)
    return result


def restore(bench: Bench) -> Result:
    place, big = bench.place, make_big(bench.sizes)
    keeper, restic = Dbkeeper(place, "restore-big", big), Restic(place, "restore-big", big)
    for store in (keeper, restic):
        store.new_repository(0)
        shell(store.backup())
    directory, to_store = directory_dump(place, big), pipe_to_store(place, big)
    for peer in (directory, to_store):
        peer.prepare(0)
        shell(peer.command())

    def without(name: str):
        return lambda number: shell(f"dropdb --if-exists {name}") and None

    def with_empty(name: str):
        return lambda number: shell(f"dropdb --if-exists {name} && createdb {name}") and None

    opened = f"age -d -i {place.work}/keys/identity.txt | zstd -dq | psql -Xq -v ON_ERROR_STOP=1 -d from_pipe"
    of_folder = "`pg_restore -j2` of a local folder, not encrypted"
    contenders = [
        Contender("**dbkeeper** from S3, compared with the manifest",
                  lambda: keeper.line("restore --central --as from_dbkeeper --yes"), without("from_dbkeeper")),
        Contender(of_folder, lambda: f"pg_restore -j2 -d from_folder {place.work}/local/directory",
                  with_empty("from_folder")),
        Contender("`rclone cat \\| age -d \\| zstd -d \\| psql` from S3",
                  lambda: f"rclone cat store:bench/pipe/{big}.age | {opened}", with_empty("from_pipe"), most_rounds=1),
        Contender("`restic dump \\| psql` from S3",
                  lambda: f"{restic.line('dump latest dump.sql')} | psql -Xq -v ON_ERROR_STOP=1 -d from_restic",
                  with_empty("from_restic"), most_rounds=1),
    ]
    found = bench.take_turns(contenders)
    check_restored(big, "from_dbkeeper")
    shell("for name in from_dbkeeper from_folder from_pipe from_restic; do dropdb --if-exists $name; done")
    bytes_on_disk = int(shell(f"{PSQL} -d postgres -c \"SELECT pg_database_size('{big}')\""))
    in_five_minutes = bytes_on_disk / found[0].seconds * 300 / 1e9
    result = Result("Restore of the 0.93 GB database into a new database", commands=bench.commands(contenders))
    result.words = (
        f"Rows and checksums were those of the original. At this pace five minutes bring back **{in_five_minutes:.0f} GB** "
        "of database (as PostgreSQL counts it, indexes included). What bounds it is the server: its processor time for COPY "
        "and for building indexes is many times that of fetching, decrypting and decompressing, as the columns show."
    )
    result.add_contenders(found)
    result.meets(result.title, of_folder, "time", found[0].seconds / found[1].seconds, 0.85)
    return result


def check_restored(original: str, restored: str) -> None:
    """A fast restore of something else is worth nothing: rows and checksums of what dbkeeper brought back."""
    prints = os.path.join(HERE, "..", "demo", "fingerprint.sql")
    expected, found = (shell(f"{PSQL} -d {name} -f {prints}") for name in (original, restored))
    if expected != found:
        raise CommandFailed("the database that dbkeeper restored is not the original")
    print("  the restored database has the rows and checksums of the original", flush=True)
