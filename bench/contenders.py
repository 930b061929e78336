"""How dbkeeper and its peers are called, each with its own fastest settings, and where they store."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field

from measure import bytes_below, shell

PARTS = "--s3-chunk-size 16M --s3-upload-concurrency 4 --s3-no-check-bucket --s3-disable-checksum"

OURS = "**dbkeeper** to S3, encrypted, verified"
PIPE_TO_STORE = "`pg_dump \\| zstd -3 \\| age \\| rclone rcat` to S3"
RESTIC = "`pg_dump \\| restic backup --stdin` to S3"


def nothing() -> int:
    return 0


@dataclass
class Contender:
    """One row of a table. `prepare` is called before each round and is not measured; `command` gives the line that is.
    Beyond `most_rounds` it takes no part: a slow one need not be measured as often as the one of the goal."""

    name: str
    command: Callable[[], str]
    prepare: Callable[[int], None] = field(default=lambda round_number: None)
    stored: Callable[[], int] = nothing
    most_rounds: int = 1000


class Place:
    """The folder, the S3 server and the keys that all contenders share, and the environment of their programs."""

    def __init__(self, work: str, dbkeeper: str) -> None:
        self.work = work
        self.dbkeeper = dbkeeper
        self.endpoint = os.environ["S3_ENDPOINT"]
        access, secret = (open(f"{work}/{name}").read().strip() for name in ("s3_access", "s3_secret"))
        os.environ.update(
            RCLONE_CONFIG="/dev/null", RCLONE_CONFIG_STORE_TYPE="s3", RCLONE_CONFIG_STORE_PROVIDER="Other",
            RCLONE_CONFIG_STORE_ENDPOINT=self.endpoint, RCLONE_CONFIG_STORE_ACCESS_KEY_ID=access,
            RCLONE_CONFIG_STORE_SECRET_ACCESS_KEY=secret, AWS_ACCESS_KEY_ID=access, AWS_SECRET_ACCESS_KEY=secret,
            RESTIC_PASSWORD="bench", RESTIC_CACHE_DIR=f"{work}/restic-cache",
        )
        # rclone of Debian 12 does not start with it, and the store speaks plain HTTP.
        os.environ.pop("AWS_CA_BUNDLE", None)
        shell(f"rm -rf {work}/restic-cache {work}/keys {work}/local && mkdir -p {work}/keys {work}/local")
        keys = f"--identity {work}/keys/identity.txt --repository-key {work}/keys/repository.key"
        shell(f"{dbkeeper} keygen {keys}")
        self.recipient = shell(f"age-keygen -y {work}/keys/identity.txt").strip()

    def bytes_in_store(self, prefix: str) -> int:
        return json.loads(shell(f"rclone size --json store:bench/{prefix}"))["bytes"]

    def empty(self, prefix: str) -> None:
        shell(f"rclone purge store:bench/{prefix} || true")

    def printable(self, command: str) -> str:
        """The line as another person would type it."""
        named = command.replace(self.dbkeeper, "dbkeeper").replace(self.work, "$WORK")
        return named.replace(self.endpoint, "$S3").replace(self.recipient, "$RECIPIENT")


class Dbkeeper:
    """dbkeeper with a configuration of its own for one benchmark. `url` leaves the S3 server for another place, `endpoint`
    reaches it by another way."""

    def __init__(self, place: Place, name: str, central: str, tenants: bool = False, **other: str) -> None:
        self.place, self.name, self.central, self.tenants = place, name, central, tenants
        self.endpoint, self.url = other.get("endpoint", place.endpoint), other.get("url")
        self.more = other.get("more", "")
        self.config = f"{place.work}/keys/{name}.toml"
        self.prefix = ""

    def new_repository(self, number: int) -> None:
        """Leaves the last one behind and begins an empty one."""
        if self.prefix and not self.url:
            self.place.empty(self.prefix)
        self.prefix = f"dbkeeper/{self.name}/{number}"
        self.write_config()
        shell(self.line("init"))

    def write_config(self) -> None:
        work, tenants = self.place.work, '[tenants]\nserver = "pg"\ndiscover = { preset = "stancl" }\n'
        store = f'''url = "s3://bench/{self.prefix}"
endpoint = "{self.endpoint}"
region = "us-east-1"
path_style = true
access_key_id = {{ file = "{work}/s3_access" }}
secret_access_key = {{ file = "{work}/s3_secret" }}'''
        if self.url:
            store = f'url = "{self.url}"'
        text = f'''
[repository]
{store}
key = {{ file = "{work}/keys/repository.key" }}

[encryption]
recipients = ["{self.place.recipient}"]
identity = {{ file = "{work}/keys/identity.txt" }}

[[servers]]
name = "pg"
url = "postgres://postgres@127.0.0.1:{os.environ["PGPORT"]}"
password = {{ file = "{work}/postgres-password" }}
connections = 8

[central]
server = "pg"
database = "{self.central}"

{tenants if self.tenants else ""}
[retention]
daily = 14
keep_last = 3
{self.more}'''
        with open(self.config, "w") as file:
            file.write(text)

    def line(self, arguments: str) -> str:
        return f"{self.place.dbkeeper} --config {self.config} {arguments}"

    def stored(self) -> int:
        return self.place.bytes_in_store(self.prefix)

    def backup(self) -> str:
        return self.line("backup --all" if self.tenants else "backup --central")


class Restic:
    """`pg_dump | restic backup --stdin`, restic's only way to take a database without a file of it."""

    def __init__(self, place: Place, name: str, database: str, folder: str = "") -> None:
        self.place, self.name, self.database, self.folder, self.prefix = place, name, database, folder, ""

    def new_repository(self, number: int) -> None:
        if self.prefix:
            self.place.empty(self.prefix)
        self.prefix = f"restic/{self.name}/{number}"
        shell(self.line("init --repository-version 2"))

    def line(self, arguments: str) -> str:
        repository = self.folder or f"s3:{self.place.endpoint}/bench/{self.prefix}"
        return f"restic -q -r {repository} {arguments}"

    def stored(self) -> int:
        return bytes_below(self.folder) if self.folder else self.place.bytes_in_store(self.prefix)

    def backup(self) -> str:
        return f"pg_dump {self.database} | {self.line('backup --stdin --stdin-filename dump.sql')}"


def pipe(place: Place, database: str) -> str:
    return f"pg_dump {database} | zstd -3 -q | age -r {place.recipient}"


def pipe_to_store(place: Place, database: str) -> Contender:
    return Contender(
        name=PIPE_TO_STORE,
        command=lambda: f"{pipe(place, database)} | rclone {PARTS} rcat store:bench/pipe/{database}.age",
        prepare=lambda number: place.empty("pipe"),
        stored=lambda: place.bytes_in_store("pipe"),
    )


def pipe_to_file(place: Place, database: str) -> Contender:
    local = f"{place.work}/local/pipe"
    return Contender(
        name="`pg_dump \\| zstd -3 \\| age` to a local file",
        command=lambda: f"{pipe(place, database)} >{local}/{database}.age",
        prepare=lambda number: shell(f"rm -rf {local} && mkdir -p {local}") and None,
        stored=lambda: bytes_below(local),
    )


def directory_dump(place: Place, database: str) -> Contender:
    local = f"{place.work}/local/directory"
    return Contender(
        name="`pg_dump -Fd -j2` to a local folder, not encrypted",
        command=lambda: f"pg_dump -Fd -j2 -f {local} {database}",
        prepare=lambda number: shell(f"rm -rf {local}") and None,
        stored=lambda: bytes_below(local),
    )


def fleet_pipe(place: Place, list_file: str, width: int, to_store: bool) -> Contender:
    """The same pipe for each database of a list, `width` at a time."""
    local = f"{place.work}/local/fleet"
    one = f"pg_dump {{}} | zstd -3 -q | age -r {place.recipient}"
    end = f"| rclone {PARTS} rcat store:bench/fleet/{{}}.age" if to_store else f">{local}/{{}}.age"
    where = "`rclone rcat` to S3" if to_store else "local files"

    def prepare(number: int) -> None:
        place.empty("fleet")
        shell(f"rm -rf {local} && mkdir -p {local}")

    return Contender(
        name=f"`xargs -P{width}` of `pg_dump \\| zstd -3 \\| age`, {where}",
        command=lambda: f"xargs -P{width} -I{{}} bash -o pipefail -c '{one} {end}' <{list_file}",
        prepare=prepare,
        stored=lambda: place.bytes_in_store("fleet") if to_store else bytes_below(local),
    )
