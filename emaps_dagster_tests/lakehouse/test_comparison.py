"""What a rebuild counts and shows: small tables that are there, small tables that must be."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pyarrow as pa
import pytest

from emaps_dagster.lakehouse.comparison import HourDifference, differences

H = [datetime(2024, 5, 1, hour, tzinfo=timezone.utc) for hour in range(24)]
SCHEMA = pa.schema(
    [
        ("zone", pa.string()),
        ("datetime", pa.timestamp("us", "UTC")),
        ("mw", pa.float64()),
        ("flows", pa.map_(pa.string(), pa.float64())),
        ("method", pa.string()),
    ]
)
Row = tuple[Any, ...]


def table(*rows: Row) -> pa.Table:
    """Rows from (zone, hour of the day, mw[, flows[, method]])."""
    full = [(zone, H[hour], *rest, *[None] * (3 - len(rest))) for zone, hour, *rest in rows]
    names = SCHEMA.names
    return pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in full], SCHEMA)


@pytest.mark.parametrize(
    ("wanted", "stored", "counted", "shown"),
    [
        ([("GR", 1, 5.0)], [("GR", 1, 5.0)], HourDifference(rows=1), []),
        ([("GR", 1, None)], [("GR", 1, None)], HourDifference(rows=1), []),
        ([("GR", 1, 5.0)], [], HourDifference(rows=1, missing=1), ["the row is missing"]),
        ([], [("GR", 1, 5.0)], HourDifference(surplus=1), ["there is a row that bronze does not give"]),
        ([], [("GR", 1, 5.0)] * 2, HourDifference(surplus=2), ["there is a row that bronze does not give"] * 2),
        ([("GR", 1, 5.0)], [("GR", 1, 6.0)], HourDifference(rows=1, wrong=1), ["mw is 6.0, must be 5.0"]),
        ([("GR", 1, None)], [("GR", 1, 0.0)], HourDifference(rows=1, wrong=1), ["mw is 0.0, must be null"]),
        ([("GR", 1, 0.0)], [("GR", 1, None)], HourDifference(rows=1, wrong=1), ["mw is null, must be 0.0"]),
        ([("GR", 1, 0.0)], [("GR", 1, -0.0)], HourDifference(rows=1, wrong=1), ["mw is -0.0, must be 0.0"]),
        (
            [("GR", 1, 0.1 + 0.2)],
            [("GR", 1, 0.3)],
            HourDifference(rows=1, wrong=1),
            ["mw is 0.3, must be 0.30000000000000004"],
        ),
        (
            [("GR", 1, 5.0)],
            [("GR", 1, 5.0)] * 3,
            HourDifference(rows=1, duplicate=2),
            ["there is another row with this key"] * 2,
        ),
        # The one that is right stands for the key, wherever it lies.
        (
            [("GR", 1, 5.0)],
            [("GR", 1, 6.0), ("GR", 1, 5.0)],
            HourDifference(rows=1, duplicate=1),
            ["there is another row with this key"],
        ),
        (
            [("GR", 1, 5.0)],
            [("GR", 1, 6.0), ("GR", 1, 7.0)],
            HourDifference(rows=1, wrong=1, duplicate=1),
            ["there is another row with this key", "mw is 6.0, must be 5.0"],
        ),
        (
            [("GR", 1, 5.0, {"AL": 1.0, "BG": 2.0})],
            [("GR", 1, 5.0, {"BG": 2.0, "AL": 1.0})],
            HourDifference(rows=1),
            [],
        ),
        (
            [("GR", 1, 5.0, {"AL": 1.0})],
            [("GR", 1, 5.0, {"AL": None}, "TIME_SLICER_AVERAGE")],
            HourDifference(rows=1, wrong=1),
            ["flows is {'AL': None}, must be {'AL': 1.0}; method is TIME_SLICER_AVERAGE, must be null"],
        ),
        ([("GR", 1, 5.0, {})], [("GR", 1, 5.0, None)], HourDifference(rows=1, wrong=1), ["flows is null, must be {}"]),
        ([("GR", 1, 5.0), ("BG", 1, 5.0)], [("BG", 1, 5.0), ("GR", 1, 5.0)], HourDifference(rows=2), []),
    ],
)
def test_each_row_that_is_not_as_it_must_be_is_counted_once_and_said(
    wanted: list[Row], stored: list[Row], counted: HourDifference, shown: list[str]
) -> None:
    found = differences(table(*wanted), table(*stored), ["mw", "flows", "method"])
    assert found.hours == {H[1]: counted}
    assert [finding.what for finding in found.first] == shown


def test_only_the_named_columns_are_compared() -> None:
    assert differences(table(("GR", 1, 5.0)), table(("GR", 1, 6.0)), ["method"]).total.differing == 0


def test_hours_are_counted_apart_and_the_first_ten_rows_are_shown_by_hour_and_zone() -> None:
    wanted = table(*((zone, hour, 1.0) for hour in range(8) for zone in ("GR", "BG")))
    stored = table(*((zone, hour, 2.0) for hour in reversed(range(7)) for zone in ("BG", "GR")))
    found = differences(wanted, stored, ["mw"])
    assert found.total == HourDifference(rows=16, wrong=14, missing=2)
    assert found.hours[H[7]] == HourDifference(rows=2, missing=2)
    assert [(f.hour, f.zone) for f in found.first] == [(H[hour], zone) for hour in range(5) for zone in ("BG", "GR")]


def test_the_parts_of_a_range_add_up() -> None:
    one = differences(table(*(("GR", hour, 1.0) for hour in range(8))), table(), ["mw"])
    two = differences(table(*(("GR", hour, 1.0) for hour in range(8, 16))), table(("GR", 8, 1.0)), ["mw"])
    assert (one + two).total == HourDifference(rows=16, missing=15)
    assert [finding.hour for finding in (one + two).first] == [*H[:8], *H[9:11]]
