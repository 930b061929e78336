"""A physical tool on the same database: what dbkeeper cannot match where one database is huge."""

import os
import shutil

from bench import Bench, Result
from contenders import OURS, Contender, Dbkeeper
from measure import bytes_below, shell
from workloads import make_big

ROUNDS = 3
PHYSICAL = "`pgbackrest backup` of the stopped cluster to a local folder, encrypted"


def beside(bench: Bench) -> Result:
    place, big = bench.place, make_big(bench.sizes)
    cluster = make_cluster(place.work, big)
    repository = f"{place.work}/local/pgbackrest"
    # It refuses to run as another user than the server's, who must own its folders.
    settings = (
        f"--stanza=big --pg1-path={cluster} --repo1-path={repository} --log-level-file=off --lock-path={repository}/lock "
        "--repo1-cipher-type=aes-256-cbc"
    )
    secret = "PGBACKREST_REPO1_CIPHER_PASS=bench"
    run = f"{secret} {as_postgres()}pgbackrest {settings}"
    backup = "--no-online --force --process-max=2 --compress-type=zst --compress-level=3 --repo1-retention-full=9 backup"
    back = f"{cluster}-restored"

    def fresh(number: int) -> None:
        shell(f"rm -rf {repository} && mkdir -p {repository}/lock && {own(repository)} && {run} --no-online stanza-create")

    def empty(number: int) -> None:
        shell(f"rm -rf {back} && mkdir -m 700 {back} && {own(back)}")

    def touch(number: int) -> None:
        """It refuses a backup without any change: this is what a start of the server changes."""
        shell(f"touch {cluster}/global/pg_control")

    keeper = Dbkeeper(place, "physical", big)
    restored = run.replace(f"--pg1-path={cluster}", f"--pg1-path={back}")
    stored = lambda: bytes_below(repository)
    contenders = [
        Contender(OURS, keeper.backup, keeper.new_repository, keeper.stored),
        Contender(PHYSICAL, lambda: f"{run} --type=full {backup}", fresh, stored),
    ]
    found = bench.take_turns(contenders, ROUNDS)
    again = [
        Contender("**dbkeeper**, nothing changed", keeper.backup, stored=keeper.stored),
        Contender("`pgbackrest backup --type=incr`, nothing changed", lambda: f"{run} --type=incr {backup}", touch, stored),
    ]
    later = bench.take_turns(again, ROUNDS)
    whole = Contender("`pgbackrest restore`", lambda: f"{restored} --process-max=2 restore", empty)
    back_again = bench.take_turns([whole], ROUNDS)
    shutil.rmtree(back, ignore_errors=True)
    result = Result("A physical tool beside it")
    result.words = (
        f"pgBackRest {shell('pgbackrest version').split()[1]} copies files, not rows, and cannot take one database out of a cluster: "
        "here the cluster holds nothing but the 0.93 GB database. It was stopped; archiving of WAL would come on top. The last table is "
        "to be held against dbkeeper's row in `restore-big`."
    )
    result.add_contenders(found)
    result.add_contenders(later)
    result.add_contenders(back_again)
    result.commands = bench.commands([contenders[1], again[1], whole])
    return result


def as_postgres() -> str:
    return "setpriv --reuid=postgres --regid=postgres --clear-groups " if os.geteuid() == 0 else ""


def own(folder: str) -> str:
    return f"chown -R postgres: {folder}" if os.geteuid() == 0 else "true"


def make_cluster(work: str, database: str) -> str:
    """A cluster of its own with a copy of the database, stopped; kept from run to run."""
    cluster, run = f"{work}/physical", as_postgres()
    if os.path.exists(f"{cluster}/whole"):
        return f"{cluster}/data"
    shell(f"rm -rf {cluster} && mkdir -m 755 {cluster} && {own(cluster)}")
    shell(f"{run}initdb -D {cluster}/data -U postgres --locale=C.UTF-8 --encoding=UTF8 -A trust --no-sync")
    options = f"-c port=5432 -c listen_addresses= -c unix_socket_directories={cluster} -c fsync=off -c max_wal_size=8GB"
    shell(f'{run}pg_ctl -D {cluster}/data -o "{options}" -l {cluster}/log -w start >/dev/null')
    here = f"PGHOST={cluster} PGPORT=5432"
    shell(f"{here} createdb big && pg_dump -Fc -Z0 {database} | {here} pg_restore -d big")
    shell(f"{run}pg_ctl -D {cluster}/data -m fast -w stop >/dev/null && touch {cluster}/whole")
    return f"{cluster}/data"
