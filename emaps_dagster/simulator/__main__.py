"""`python -m emaps_dagster.simulator`: serve until interrupted."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from datetime import datetime

from emaps_dagster.contracts.windows import parse_utc
from emaps_dagster.simulator.server import FAULT_KINDS, Fault, Simulator


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m emaps_dagster.simulator", description=__doc__, allow_abbrev=False)
    parser.add_argument("--port", type=_port, default=8765, help="0 for a free one (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=7, help="another seed is another weather (default: %(default)s)")
    parser.add_argument("--zones", type=_zones, help="comma-separated zone keys; any zone without it")
    parser.add_argument("--token", help="refuse clients that do not send this token")
    parser.add_argument("--plan", choices=("free", "paid"), default="paid", help="free has no past-range")
    parser.add_argument(
        "--api", choices=("v3", "v4"), default="v3", help="version of the printed address; both are served"
    )
    parser.add_argument("--now", type=_moment, help="a fixed clock, ISO 8601 (default: the machine's)")
    parser.add_argument(
        "--fault", type=_fault, action="append", default=[], metavar="KIND[:TIMES]", help=", ".join(FAULT_KINDS)
    )
    options = parser.parse_args(arguments)
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    try:
        simulator = Simulator(
            seed=options.seed,
            zones=options.zones,
            token=options.token,
            plan=options.plan,
            now=options.now,
            port=options.port,
            version=options.api,
        )
    except OSError as error:
        parser.error(f"--port {options.port}: {error.strerror or error}; 0 takes a free one")
    for fault in options.fault:
        simulator.inject(fault)
    with simulator:
        print(f"simulated Electricity Maps API: {simulator.url}", flush=True)
        ended.wait()
    return 0


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r}: a number from 0 to 65535 is allowed")
    return int(text)


def _zones(text: str) -> tuple[str, ...]:
    zones = tuple(zone.strip() for zone in text.split(",") if zone.strip())
    if not zones:
        raise argparse.ArgumentTypeError(f"{text!r}: at least one zone key is needed, such as GR")
    return zones


def _moment(text: str) -> datetime:
    try:
        return parse_utc(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: a time such as 2024-05-04T10:07:00Z is allowed") from error


def _fault(text: str) -> Fault:
    kind, colon, times = text.partition(":")
    if kind not in FAULT_KINDS:
        raise argparse.ArgumentTypeError(f"{text!r}: one of {', '.join(FAULT_KINDS)} is allowed")
    if colon and not (times.isdecimal() and int(times)):
        raise argparse.ArgumentTypeError(f"{text!r}: after the colon stands how many times, at least 1")
    return Fault(kind, times=int(times or 1))  # type: ignore[arg-type]  # compared with the allowed kinds above


if __name__ == "__main__":
    sys.exit(main())
