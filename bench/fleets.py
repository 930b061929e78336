"""Many small databases: 200 tenants beside the pipe, one of them restored, and 2,000 to see whether the time per tenant is flat."""

from bench import Bench, Result, size
from contenders import OURS, Contender, Dbkeeper, fleet_pipe
from measure import shell
from workloads import PSQL, make_central, make_fleet, make_small_fleet, tenant_names

WIDTHS = (1, 2, 4, 8)


def two_hundred(bench: Bench) -> Result:
    """First backup and nothing changed, in the same rounds. Every width of the pipe is tried once; the best one goes on."""
    place, sizes = bench.place, bench.sizes
    make_fleet(sizes)
    keeper = Dbkeeper(place, "fleet", "central", tenants=True)
    list_file = f"{place.work}/local/fleet.list"
    with open(list_file, "w") as file:
        file.writelines(f"{name}\n" for name in ["central", *tenant_names(sizes)])
    tried = {width: bench.take_turns([fleet_pipe(place, list_file, width, to_store=True)], 1)[0] for width in WIDTHS}
    best = min(tried, key=lambda width: tried[width].seconds)
    unchanged = "**dbkeeper**, nothing changed since"
    contenders = [
        Contender(OURS, keeper.backup, keeper.new_repository, keeper.stored),
        Contender(unchanged, keeper.backup, lambda number: None, keeper.stored),
        fleet_pipe(place, list_file, best, to_store=True),
    ]
    found = bench.take_turns_in_order(contenders)
    local = bench.take_turns([fleet_pipe(place, list_file, best, to_store=False)], 1)
    result = Result(f"A central database and {sizes.tenants} tenants of 40 tables")
    result.words = (
        "dbkeeper backs all of them up for the first time, and in the same round once more. Every width of the pipe was "
        "tried once, and the fastest took part in all rounds."
    )
    result.commands = bench.commands([contenders[0], contenders[2]])
    others = [one for width, one in tried.items() if width != best]
    result.add_contenders([found[0], found[2], *others, *local])
    result.add_contenders([found[1], found[2]])
    targets = sizes.tenants + 1
    result.add_table(
        ["per target", "first backup", "nothing changed"],
        [
            ["S3 requests", *(f"{one.requests / targets:.1f}" for one in found[:2])],
            ["milliseconds", *(f"{one.seconds / targets * 1000:.1f}" for one in found[:2])],
            ["processor ms of dbkeeper", *(f"{one.cpu_seconds / targets * 1000:.1f}" for one in found[:2])],
            ["processor ms of PostgreSQL", *(f"{one.postgres_cpu_seconds / targets * 1000:.1f}" for one in found[:2])],
        ],
    )
    peer = "`xargs` of the pipe at its best width"
    result.meets("200 tenants of 2 MB, 40 tables each", peer, "time", found[0].seconds / found[2].seconds, 0.40)
    result.meets("the same, nothing changed", peer, "time", found[1].seconds / found[2].seconds, 0.25)
    add_restore_of_one(bench, keeper, result)
    return result


def add_restore_of_one(bench: Bench, keeper: Dbkeeper, result: Result) -> None:
    """One tenant back in its place, from the command to the swap."""
    name = tenant_names(bench.sizes)[-1]

    def drop_former(number: int) -> None:
        former = shell(f"{PSQL} -d postgres -c \"SELECT datname FROM pg_database WHERE datname LIKE '{name}\\_\\_before%'\"")
        shell(" && ".join(["true", *(f"dropdb {one}" for one in former.split())]))

    restored = Contender(
        "**dbkeeper** restore of one tenant, swapped into its place",
        lambda: keeper.line(f"restore --tenant {name} --yes"), drop_former,
    )
    result.add_contenders(bench.take_turns([restored]))
    drop_former(0)
    result.commands.update(bench.commands([restored]))


def thousands(bench: Bench) -> Result:
    """Flatness: the same kind of tenant, ten times as many of them, in one run each."""
    place, sizes = bench.place, bench.sizes
    names = make_small_fleet(sizes)
    rows, peak = [], 0
    for count in (sizes.small_tenants // 10, sizes.small_tenants):
        keeper = Dbkeeper(place, f"fleet-{count}", make_central(f"central_{count}", names[:count]), tenants=True)
        keeper.new_repository(0)
        for what in ("first", "nothing changed"):
            cost = bench.measure(Contender(f"{count} tenants, {what}", keeper.backup, stored=keeper.stored), 1)
            peak = max(peak, cost.peak_bytes)
            rows.append([
                f"{count:,}", what, f"{cost.seconds:.1f}", f"{cost.seconds / count * 1000:.1f}",
                f"{cost.cpu_seconds / count * 1000:.1f}", f"{cost.postgres_cpu_seconds / count * 1000:.1f}",
                f"{cost.requests / count:.1f}", f"{cost.peak_bytes / 2**20:.0f} MiB", size(cost.stored_bytes),
            ])
    result = Result(f"{sizes.small_tenants:,} tenants", peak_bytes=peak)
    result.words = "Tenants of 40 tables and 0.7 MB of rows (`k=1`); one run each. Time per tenant and memory should be flat."
    head = ["tenants", "", "seconds", "ms per tenant", "processor ms", "of PostgreSQL", "requests", "peak memory", "stored"]
    result.add_table(head, rows)
    result.commands = {"dbkeeper": place.printable(keeper.backup())}
    return result
