"""The databases that the benchmarks work on: one big one, and a fleet of small ones. Made once, kept in the cluster."""

import os

from measure import shell

HERE = os.path.dirname(os.path.abspath(__file__))
PSQL = "psql -XAtq -v ON_ERROR_STOP=1"
# File by file: through the WAL, as is the default since PostgreSQL 15, a large template is written twice.
COPY = "createdb --strategy=file_copy -T"


class Sizes:
    """How much data there is. The defaults are the published workloads; smaller ones are for trying the scripts."""

    def __init__(self) -> None:
        self.big_scale = int(os.environ.get("BENCH_BIG_SCALE", "1000"))
        self.fleet_scale = int(os.environ.get("BENCH_FLEET_SCALE", "3"))
        self.tenants = int(os.environ.get("BENCH_TENANTS", "200"))
        self.small_tenants = int(os.environ.get("BENCH_SMALL_TENANTS", "2000"))
        self.daily_scale = int(os.environ.get("BENCH_DAILY_SCALE", "40"))

    def are_published(self) -> bool:
        return (self.big_scale, self.fleet_scale, self.tenants) == (1000, 3, 200)


def exists(database: str) -> bool:
    return shell(f"{PSQL} -d postgres -c \"SELECT 1 FROM pg_database WHERE datname = '{database}'\"").strip() == "1"


def tenant_names(sizes: Sizes) -> list[str]:
    return [f"tenant_{number:03}" for number in range(1, sizes.tenants + 1)]


def fill(database: str, scale: int) -> None:
    """Makes the database under another name first: if it is there, it is whole."""
    if exists(database):
        return
    print(f"making {database} (scale {scale})", flush=True)
    shell(f"dropdb --if-exists making; createdb making; {PSQL} -d making -f {HERE}/tenant_schema.sql")
    shell(f"{PSQL} -d making -v k={scale} -f {HERE}/tenant_fill.sql && vacuumdb -qz making")
    shell(f"{PSQL} -d postgres -c 'ALTER DATABASE making RENAME TO {database}'")


def make_big(sizes: Sizes) -> str:
    name = f"big_{sizes.big_scale}"
    fill(name, sizes.big_scale)
    return name


def copy_of(database: str, name: str) -> str:
    """A copy for a benchmark that changes rows, so that the original stays as it is."""
    shell(f"dropdb --if-exists {name} && {COPY} {database} {name}")
    return name


def make_fleet(sizes: Sizes) -> None:
    """The tenants, and a central database in the shape of Stancl's tenancy package that lists them."""
    template = f"template_{sizes.fleet_scale}"
    fill(template, sizes.fleet_scale)
    copy_missing(template, tenant_names(sizes))
    make_central("central", tenant_names(sizes))


def make_small_fleet(sizes: Sizes) -> list[str]:
    """Many tenants of scale 1."""
    fill("template_1s", 1)
    names = [f"small_{number:04}" for number in range(1, sizes.small_tenants + 1)]
    copy_missing("template_1s", names)
    return names


def copy_missing(template: str, names: list[str]) -> None:
    there = set(shell(f"{PSQL} -d postgres -c 'SELECT datname FROM pg_database'").split())
    missing = [name for name in names if name not in there]
    if missing:
        print(f"making {len(missing)} copies of {template}", flush=True)
    for name in missing:
        shell(f"{COPY} {template} {name}")


def make_central(central: str, names: list[str]) -> str:
    """A central database that lists these tenants."""
    shell(f"dropdb --if-exists {central} && createdb {central}")
    rows = ", ".join(f"('{name}', now(), now(), '{{\"tenancy_db_name\": \"{name}\"}}')" for name in names)
    shell(
        f"{PSQL} -d {central} <<'SQL'\n"
        "CREATE TABLE tenants (id varchar(255) PRIMARY KEY, created_at timestamp, updated_at timestamp, data json);\n"
        f"INSERT INTO tenants VALUES {rows};\nSQL"
    )
    return central


def prepare(sizes: Sizes) -> None:
    """Makes everything that is kept from run to run."""
    make_big(sizes)
    make_fleet(sizes)
    make_small_fleet(sizes)
    fill(f"daily_{sizes.daily_scale}", sizes.daily_scale)
    make_pgbench()
    make_noise(sizes)


def make_noise(sizes: Sizes) -> str:
    """Half a gigabyte that hardly compresses, in one table."""
    name = f"noise_{sizes.big_scale}"
    if not exists(name):
        rows = 160 * sizes.big_scale
        noise = "SELECT string_agg(sha512((random()::text || n || i)::bytea), ''::bytea) FROM generate_series(1, 50) AS i"
        shell("dropdb --if-exists making; createdb making")
        shell(
            f'{PSQL} -d making -c "CREATE TABLE noise AS SELECT n, ({noise} WHERE n IS NOT NULL) AS bytes '
            f'FROM generate_series(1, {rows}) AS n"'
        )
        shell(f"{PSQL} -d postgres -c 'ALTER DATABASE making RENAME TO {name}'")
    return name


def make_pgbench() -> str:
    """What pgbench works on."""
    if not exists("pgbench_20"):
        shell("dropdb --if-exists making; createdb making; pgbench -q -i -s 20 making")
        shell(f"{PSQL} -d postgres -c 'ALTER DATABASE making RENAME TO pgbench_20'")
    return "pgbench_20"
