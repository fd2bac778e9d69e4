"""Coverage-guided fuzzing of admission: `python emaps_dagster_tests/support/fuzz_admission.py -max_total_time=60`.

Needs atheris, which is no dependency of the project, and takes libFuzzer's options. Half of the mutations
change a value inside a well-formed body, the others change bytes. Found inputs are left in the working folder. The
number of blanks at the end of an input chooses the signal.
"""

from __future__ import annotations

import json
import random
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
with atheris.instrument_imports(
    include=[
        "emaps_dagster.contracts.body_fields",
        "emaps_dagster.electricity_maps.admission",
        "emaps_dagster.electricity_maps.fields",
        "emaps_dagster.electricity_maps.records",
        "emaps_dagster.electricity_maps.signal_records",
        "emaps_dagster.electricity_maps.strict_json",
        "json",
    ]
):
    from emaps_dagster.contracts.errors import RejectedBodyError
    from emaps_dagster.contracts.responses import RawResponse
    from emaps_dagster.contracts.signals import FLOWS, MIX_SIGNALS, STORAGE_KEYS
    from emaps_dagster.contracts.zones import CARBON, FEEDS, MODE_KEYS, Feed
    from emaps_dagster.electricity_maps.client import admit

SIGNALS = (*FEEDS, *MIX_SIGNALS)
HOUR = "2024-01-01T00:00:00.000Z"


def signal_body(unit: str, **fields: Any) -> dict[str, Any]:
    rows = [{"datetime": HOUR.replace("T00", hour), "updatedAt": HOUR, **fields} for hour in ("T00", "T01")]
    return {"zone": "GR", "temporalGranularity": "hourly", "unit": unit, "history": rows}


POWER_BODY = {
    "zone": "GR",
    "data": [
        {
            "datetime": HOUR,
            "updatedAt": HOUR,
            "createdAt": None,
            "powerConsumptionBreakdown": {"coal": 5, "hydro discharge": 0},
            "powerProductionBreakdown": {"coal": None, "hydro discharge": -7.5},
            "powerImportBreakdown": {"BG": 1, "IT-SO": 0},
            "powerExportBreakdown": {},
            "powerImportTotal": 1,
            "fossilFreePercentage": 34,
            "isEstimated": True,
            "estimationMethod": "TIME_SLICER_AVERAGE",
        }
    ],
    "temporalGranularity": "hourly",
    "_disclaimer": "",
}
NORMAL = {
    "gas": 4.74,
    "wind": None,
    "hydro storage": {"charge": 0, "discharge": None},
    "battery storage": {"charge": None, "discharge": 2.25},
    "flows": {"exports": 665, "imports": 895},
}
TRACED = {"gas": 13.45, "wind": 0, "hydro storage": {"discharge": 1.69}}
# One for each of SIGNALS, in their order.
SEEDS: tuple[Any, ...] = (
    POWER_BODY,
    {"zone": "GR", "history": [{"zone": "GR", "datetime": HOUR, "carbonIntensity": 300, "isEstimated": False}]},
    signal_body("MW", estimationMethod="MEASURED", breakdownType="normal", mix=NORMAL),
    signal_body("MW", isEstimated=True, breakdownType="flow-traced", mix=TRACED),
    signal_body("MW", **{"import": {}, "export": {"IT-SO": 5}}),
    signal_body("%", zone="GR", value=91, flowTraced=True, createdAt=HOUR),
    signal_body("%", zone="GR", value=None, isEstimated=True),
)
VALUES: tuple[Any, ...] = (
    None, True, 0, -0.0, 1e9, 1e308, float("nan"), 10**40, 10**400, "", "300", "\ud800", "\u0000", "SANDBOX",
    HOUR, "2024-01-01T00:00Z", "9999-12-31T23:00:00Z", "0001-01-01T00:00:00+14:00", "2024-01-01T24:00:00Z",
    [], {}, [[[[]]]], {"coal": 1}, "daily", "normal", "flow-traced", False, -0.01, {"charge": -1}, {"discharge": 1e10},
)  # fmt: skip


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    dice = random.Random(seed)
    try:
        parsed = json.loads(data)
    except (ValueError, RecursionError):
        parsed = None
    if not isinstance(parsed, dict) or dice.random() < 0.5:
        mutated: bytes = atheris.Mutate(data, max_size)
        return mutated
    place: Any = parsed
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            return data
        key = dice.choice(keys)
        if not isinstance(place[key], (dict, list)) or dice.random() < 0.2:
            break
        place = place[key]
    change = dice.randrange(4)
    if change == 0:
        del place[key]
    elif change == 1 and isinstance(place, dict):
        place[dice.choice((str.upper, str.lower, str.title, "x".__add__))(key)] = place[key]
    elif change == 2 and isinstance(place, list):
        place.append(place[key])
    else:
        place[key] = dice.choice(VALUES)
    blanks = len(data) - len(data.rstrip(b" "))
    return (json.dumps(parsed).encode() + b" " * blanks)[:max_size]


def check(data: bytes) -> None:
    feed = SIGNALS[(len(data) - len(data.rstrip(b" "))) % len(SIGNALS)]
    text = data.decode("utf-8", errors="backslashreplace")
    response = RawResponse(feed, "GR", "history", "/v3/x?zone=GR", text, datetime(2024, 1, 2, tzinfo=timezone.utc))
    try:
        admitted = admit(response)
    except RejectedBodyError as error:
        if error.response != response or not error.reason or "\n" in str(error) or len(error.reason) > 400:
            raise AssertionError(error.reason) from error
        return
    # Every record is trusted or quarantined, and what is trusted is admitted as it is.
    trusted = json.loads(admitted.trusted_body)
    rows = trusted["history"] if "history" in trusted else trusted["data"]
    whole = json.loads(text)
    records = whole["history"] if "history" in whole else whole["data"]
    assert len(rows) + len(admitted.rejected) == len(records)
    if not rows:
        return
    # It has the same hours in another reading, and when it is written anew by somebody else.
    hours = [datetime.strptime(row["datetime"][:13] + "Z", "%Y-%m-%dT%H%z") for row in rows]
    # Offsets reach 14:59.
    assert timedelta(hours=-15) < admitted.window.start - min(hours) < timedelta(hours=15)
    assert timedelta(hours=-14) < admitted.window.end - max(hours) < timedelta(hours=16)
    again = admit(RawResponse(feed, "GR", "history", "", json.dumps(trusted, sort_keys=True), response.received_at))
    assert again.window == admitted.window
    assert again.rejected == ()
    assert len(admitted.payload_sha256) == 64
    for row in rows:
        check_row(feed, row)


def check_row(feed: Feed, row: dict[str, Any]) -> None:
    """A trusted row is of the signal, and each of its numbers can be loaded."""
    if feed not in MIX_SIGNALS:
        assert ("carbonIntensity" if feed == CARBON else "powerProductionBreakdown") in row
        return
    assert isinstance(row["updatedAt"], str)
    if feed == FLOWS:
        numbers = [*row["import"].values(), *row["export"].values()]
    elif feed.breakdown is None:
        numbers = [row["value"]]
    else:
        assert row["breakdownType"] == feed.breakdown
        parts = [row["mix"].get(key) or {} for key in ("hydro storage", "battery storage", "flows")]
        amounts = [number for part in parts for number in part.values() if number is not None]
        assert all(number >= 0 for number in amounts)
        modes = {key: number for key, number in row["mix"].items() if not isinstance(number, dict)}
        numbers = [*amounts, *modes.values()]
        known = {*MODE_KEYS, *STORAGE_KEYS, "flows"} - {*STORAGE_KEYS.values()}
        assert all(modes[key] in (None, 0) for key in modes.keys() - known)
    assert all(number is None or (type(number) in (int, float) and abs(number) <= 1e9) for number in numbers)


def main() -> None:
    with TemporaryDirectory() as corpus:
        for place, seed in enumerate(SEEDS):
            # Each body as that of each signal.
            for blanks in range(len(SIGNALS)):
                (Path(corpus) / f"{place}{blanks}").write_text(json.dumps(seed) + " " * blanks, "utf-8")
        atheris.Setup([*sys.argv, "-max_len=4000", "-timeout=5", corpus], check, custom_mutator=mutate)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
