"""Coverage-guided fuzzing of admission: `python emaps_dagster_tests/support/fuzz_admission.py -max_total_time=60`.

Needs atheris, which is no dependency of the project, and takes libFuzzer's options. Half of the mutations
change a value inside a well-formed body, the others change bytes. Found inputs are left in the working folder.
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
        "emaps_dagster.electricity_maps.admission",
        "emaps_dagster.electricity_maps.records",
        "emaps_dagster.electricity_maps.strict_json",
        "json",
    ]
):
    from emaps_dagster.contracts.errors import RejectedBodyError
    from emaps_dagster.contracts.responses import RawResponse
    from emaps_dagster.contracts.zones import FEEDS
    from emaps_dagster.electricity_maps.client import admit

HOUR = "2024-01-01T00:00:00.000Z"
SEEDS: tuple[Any, ...] = (
    {"zone": "GR", "history": [{"zone": "GR", "datetime": HOUR, "carbonIntensity": 300, "isEstimated": False}]},
    {
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
    },
)
VALUES: tuple[Any, ...] = (
    None, True, 0, -0.0, 1e9, 1e308, float("nan"), 10**40, 10**400, "", "300", "\ud800", "\u0000", "SANDBOX",
    HOUR, "2024-01-01T00:00Z", "9999-12-31T23:00:00Z", "0001-01-01T00:00:00+14:00", "2024-01-01T24:00:00Z",
    [], {}, [[[[]]]], {"coal": 1}, "daily",
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
    return json.dumps(parsed).encode()[:max_size]


def check(data: bytes) -> None:
    feed = FEEDS[len(data) % 2]
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


def main() -> None:
    with TemporaryDirectory() as corpus:
        for place, seed in enumerate(SEEDS):
            # Both feeds: the length of the input chooses.
            for blanks in ("", " "):
                (Path(corpus) / f"{place}{len(blanks)}").write_text(json.dumps(seed) + blanks, "utf-8")
        atheris.Setup([*sys.argv, "-max_len=4000", "-timeout=5", corpus], check, custom_mutator=mutate)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
