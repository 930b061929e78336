"""A distant store behind a narrow line: 50 ms more for each round trip, 20 MB/s in each direction."""

import os
import subprocess
import sys
from contextlib import contextmanager

from bench import Bench, Result, size
from contenders import Contender, Dbkeeper
from measure import shell
from workloads import make_big, make_noise

ROUND_TRIP_MS = 50
BYTES_PER_SECOND = 20_000_000
ROUNDS = 2
HERE = os.path.dirname(os.path.abspath(__file__))


@contextmanager
def narrow_line(endpoint: str):
    """Gives another way to the same server."""
    port = endpoint.rsplit(":", 1)[1]
    line = [sys.executable, f"{HERE}/proxy.py", port, str(ROUND_TRIP_MS), str(BYTES_PER_SECOND)]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as proxy:
        try:
            yield f"http://127.0.0.1:{proxy.stdout.readline().strip()}"
        finally:
            proxy.stdin.close()


def throughput(bench: Bench) -> Result:
    place, rows, used, peak = bench.place, [], [], 0
    databases = {"0.93 GB, compressible": make_big(bench.sizes), "0.5 GB of noise": make_noise(bench.sizes)}
    with narrow_line(place.endpoint) as endpoint:
        for what, database in databases.items():
            keeper = Dbkeeper(place, f"slow-{database}", database, endpoint=endpoint)
            ours = Contender(f"dbkeeper, {what}, slow line", keeper.backup, keeper.new_repository, keeper.stored)
            one = bench.take_turns([ours], ROUNDS)[0]
            used.append(one.stored_bytes / one.seconds / BYTES_PER_SECOND)
            peak = max(peak, one.peak_bytes)
            rows.append([what, size(one.stored_bytes), f"{one.seconds:.1f}", f"{used[-1]:.0%}", f"{peak / 2**20:.0f} MiB"])
            place.empty(keeper.prefix)
    result = Result("A slow and distant store", peak_bytes=peak, commands={"dbkeeper": place.printable(keeper.backup())})
    result.words = (
        f"A TCP proxy before the S3 server adds {ROUND_TRIP_MS} ms to each round trip and lets {BYTES_PER_SECOND // 10**6} MB "
        "pass a second. The share is of the whole run, from the command to its end: what was stored, divided by what the line "
        "could have carried meanwhile. How many packs are on their way is decided by the memory that they share: a fast store never "
        "has many, a distant one as many as fill the line, and when there is no room for another one, reading stops."
    )
    result.add_table(["database", "stored", "seconds", "share of the line", "peak memory"], rows)
    result.meets("throughput to a slow and distant store", "the line itself", "share", used[-1], 0.90, at_least=True)
    return result
