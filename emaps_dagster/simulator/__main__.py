"""`python -m emaps_dagster.simulator`: serve until interrupted."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from datetime import datetime

from emaps_dagster.simulator.server import FAULT_KINDS, Fault, Simulator


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m emaps_dagster.simulator", description=__doc__)
    parser.add_argument("--port", type=int, default=8765, help="0 for a free one (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=7, help="another seed is another weather (default: 7)")
    parser.add_argument("--zones", help="comma-separated zone keys; any zone without it")
    parser.add_argument("--token", help="refuse clients that do not send this token")
    parser.add_argument("--plan", choices=("free", "paid"), default="paid", help="free has no past-range")
    parser.add_argument("--now", type=datetime.fromisoformat, help="a fixed clock, ISO 8601 with zone")
    parser.add_argument("--fault", action="append", default=[], metavar="KIND[:TIMES]", help=", ".join(FAULT_KINDS))
    options = parser.parse_args()
    simulator = Simulator(
        seed=options.seed,
        zones=tuple(options.zones.split(",")) if options.zones else None,
        token=options.token,
        plan=options.plan,
        now=options.now,
        port=options.port,
    )
    for text in options.fault:
        kind, _, times = text.partition(":")
        if kind not in FAULT_KINDS:
            parser.error(f"--fault {kind!r}: one of {', '.join(FAULT_KINDS)} is allowed")
        simulator.inject(Fault(kind, times=int(times or 1)))
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    with simulator:
        print(f"simulated Electricity Maps API: {simulator.url}", flush=True)
        ended.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
