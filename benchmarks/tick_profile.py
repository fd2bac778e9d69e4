"""What an hourly tick's time goes to, from a cold command line: `python -m benchmarks.tick_profile`.

The `dagster job execute` of command.py in a process that also looks at the clock; zone GR, two weeks, the simulator
over HTTP. What is not named is Dagster's: resolving the job, its events in SQLite, steps and their resources.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from benchmarks.bodies import PRESENT
from benchmarks.command import Site, prepared_site, tick_of
from benchmarks.measurements import Figures, progress

WHOLE = "all of it"
DAGSTER = "Dagster itself"


def measure(repeats: int) -> Figures:
    taken = Figures()
    with prepared_site() as site:
        for number in range(repeats):
            progress(f"share: {number + 1} of {repeats}")
            site.sim.set_now(PRESENT + timedelta(hours=1 + number))
            for name, seconds in _timed(site).items():
                taken.add(name, seconds)
    return taken


def _timed(site: Site) -> dict[str, float]:
    began = time.time()
    done = site.run("-m", "benchmarks.tick_profile", "--once", repr(began), *tick_of(site))
    whole = time.time() - began
    parts = dict(json.loads(done.stdout.splitlines()[-1]))
    return {**parts, DAGSTER: whole - sum(parts.values()), WHOLE: whole}


def parts_of_the_project() -> list[tuple[Any, str, str]]:
    """What is timed: where its name is looked up when it is called, the name, and what to say of it."""
    from emaps_dagster.defs.asset_checks import factory as checks
    from emaps_dagster.defs.assets import gold, silver
    from emaps_dagster.defs.assets import merge_metadata as merged
    from emaps_dagster.defs.resources.spark import EmbeddedPySpark
    from emaps_dagster.electricity_maps.client import ElectricityMapsClient
    from emaps_dagster.pipeline import ingest

    return [
        (EmbeddedPySpark, "setup_for_execution", "Sail's start and a session, with pandas and gRPC"),
        (ElectricityMapsClient, "history", "HTTP, and finding the bodies usable"),
        (ingest, "store", "bronze"),
        (silver, "merge_silver", "silver"),
        (gold, "merge_gold", "gold"),
        (merged, "numbers_of", "numbers of the hour for Dagster's pages"),
        (checks, "evaluate_hours", "checks"),
        (checks, "evaluate_table", "checks"),
    ]


def once(began: float, arguments: list[str]) -> dict[str, float]:
    """Runs the command in this process; seconds by part."""
    parts: dict[str, float] = defaultdict(float)
    parts["Python's start"] = time.time() - began

    @contextmanager
    def clock(name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        parts[name] += time.perf_counter() - start

    with clock("importing Dagster"):
        import dagster  # noqa: F401
        from dagster._cli import cli
    with clock("importing the project"):
        import emaps_dagster.definitions  # noqa: F401

        watched = parts_of_the_project()

    def watch(owner: Any, attribute: str, name: str) -> None:
        work: Callable[..., Any] = getattr(owner, attribute)

        def timed(*given: Any, **named: Any) -> Any:
            with clock(name):
                return work(*given, **named)

        setattr(owner, attribute, timed)

    for part in watched:
        watch(*part)
    try:
        cli(arguments)
    except SystemExit as end:
        if end.code:
            raise
    return parts


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--once", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once:
        moment, _m, _dagster, *command = options.once
        print(json.dumps(once(float(moment), command)))
    else:
        print(measure(options.repeats).table())
