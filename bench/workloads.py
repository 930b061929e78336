"""The databases that the benchmarks work on: one big one, and a fleet of small ones. Made once, kept in the cluster."""

import os

from measure import shell

HERE = os.path.dirname(os.path.abspath(__file__))
PSQL = "psql -XAtq -v ON_ERROR_STOP=1"


class Sizes:
    """How much data there is. The defaults are the published workloads; smaller ones are for trying the scripts."""

    def __init__(self) -> None:
        self.big_scale = int(os.environ.get("BENCH_BIG_SCALE", "1000"))
        self.fleet_scale = int(os.environ.get("BENCH_FLEET_SCALE", "3"))
        self.tenants = int(os.environ.get("BENCH_TENANTS", "200"))

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
    shell(f"dropdb --if-exists {name} && createdb -T {database} {name}")
    return name


def make_fleet(sizes: Sizes) -> None:
    """The tenants, and a central database in the shape of Stancl's tenancy package that lists them."""
    template = f"template_{sizes.fleet_scale}"
    fill(template, sizes.fleet_scale)
    names = tenant_names(sizes)
    for name in names:
        if not exists(name):
            shell(f"createdb -T {template} {name}")
    shell("dropdb --if-exists central && createdb central")
    rows = ", ".join(f"('{name}', now(), now(), '{{\"tenancy_db_name\": \"{name}\"}}')" for name in names)
    shell(
        f"{PSQL} -d central <<'SQL'\n"
        "CREATE TABLE tenants (id varchar(255) PRIMARY KEY, created_at timestamp, updated_at timestamp, data json);\n"
        f"INSERT INTO tenants VALUES {rows};\nSQL"
    )
