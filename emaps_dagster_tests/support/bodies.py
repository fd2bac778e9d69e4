"""Bodies of carbon-intensity and power-breakdown as texts: usable ones by name, and builders of any other."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any

from emaps_dagster.contracts.errors import RejectedBodyError
from emaps_dagster.contracts.responses import RawResponse
from emaps_dagster.contracts.zones import Feed
from emaps_dagster.electricity_maps.client import admit

UTC = timezone.utc
RECEIVED = datetime(2024, 1, 3, 12, 30, tzinfo=UTC)

AT = {"datetime": "2024-01-01T00:00:00.000Z"}
ROW = {**AT, "carbonIntensity": 300}
POWER_ROW = {**AT, "powerProductionBreakdown": {"coal": 5}, "powerConsumptionBreakdown": {"coal": 4}}


def response_of(text: str, feed: Feed, zone: str = "GR") -> RawResponse:
    return RawResponse(feed, zone, "history", f"/v3/{feed.endpoint}/history?zone={zone}", text, RECEIVED)


def body(*rows: object, key: str = "history", **envelope: Any) -> str:
    return json.dumps({"zone": "GR", key: list(rows), **envelope})


def carbon(**changes: Any) -> str:
    return body({**ROW, **changes})


def power(**changes: Any) -> str:
    return body({**POWER_ROW, **changes})


def number(digits: str) -> str:
    return carbon(carbonIntensity="here").replace('"here"', digits)


def at(time: str) -> str:
    return carbon(datetime=time)


FULL_POWER_ROW = {
    "zone": "GR",
    **AT,
    "updatedAt": "2024-01-01T02:48:54.012Z",
    "createdAt": "2023-12-29T00:47:49.346Z",
    "powerConsumptionBreakdown": {"nuclear": 12, "coal": 0, "gas": 2010, "hydro discharge": 7},
    "powerProductionBreakdown": {"nuclear": None, "coal": 0, "gas": 2000, "hydro discharge": -310.5},
    "powerImportBreakdown": {"BG": 100, "IT-SO": 0, "AL": None},
    "powerExportBreakdown": {"BG": 0, "NEW-ZONE": 90},
    "fossilFreePercentage": 34,
    "renewablePercentage": 33,
    "powerConsumptionTotal": 2029,
    "powerProductionTotal": 2000,
    "powerImportTotal": 100,
    "powerExportTotal": 90,
    "isEstimated": True,
    "estimationMethod": "TIME_SLICER_AVERAGE",
}
CARBON_ADMITTED = {
    "history": body(ROW),
    "data": body(ROW, key="data"),
    "the zone in the row": carbon(zone="GR"),
    "hourly": body(ROW, temporalGranularity="hourly"),
    "the keys of v4": body({**ROW, "flowTraced": True, "unit": "g"}, temporalGranularity="hourly", flowTraced=True),
    "unknown keys, nested": body({**ROW, "new": {"deep": [1, {"a": 1, "A": 2}]}}, more=[]),
    "not reported": carbon(carbonIntensity=None),
    "all nulls": carbon(carbonIntensity=None, isEstimated=None, estimationMethod=None, updatedAt=None, createdAt=None),
    "an unknown estimation method": carbon(isEstimated=True, estimationMethod="SOMETHING_NEW"),
    "direct factors": carbon(emissionFactorType="direct"),
    "a disclaimer": body(ROW, _disclaimer="This data is the property of somebody"),
    "rows unsorted": body({**ROW, "datetime": "2024-01-01T05:00:00Z"}, {**ROW, "carbonIntensity": 1}),
    "one hour twice": body(ROW, {**ROW, "carbonIntensity": 1}),
    "one hour twice, the newer first": body(
        {**ROW, "carbonIntensity": 1, "updatedAt": "2024-01-01T05:00:00Z"},
        {**ROW, "carbonIntensity": 2, "updatedAt": "2024-01-01T04:00:00Z"},
    ),
    "one hour twice, one without updatedAt": body({**ROW, "updatedAt": "2024-01-01T05:00:00Z"}, ROW),
    "a running hour": body(ROW, {**ROW, "datetime": "2024-01-03T12:00:00Z"}),
    "blanks around": " \t\r\n" + body(ROW) + "\r\n ",
    "an escaped key": body(ROW).replace('"datetime"', '"\\u0064atetime"'),
    "escapes": carbon(emissionFactorType='a\u0000\u0001\n\t\\/"b'),
    "beyond ASCII": json.dumps(
        json.loads(carbon(emissionFactorType="Ωμέγα\u2028\U0001f600\uffff")), ensure_ascii=False
    ),
    "a surrogate pair": carbon(emissionFactorType="\U0001f600"),
    "a Spark word": carbon(_corrupt_record="x"),
    "nested 20 deep": carbon(x=json.loads("[" * 20 + "]" * 20)),
    "a long number elsewhere": carbon(x=10**90),
    **{
        f"number {digits}": number(digits)
        for digits in ["0", "-0", "-0.0", "-5", "0.1", "300.0", "3e2", "3E+2", "706.2849", "1e9", "-1e9"]
    },
    **{
        f"number of {len(digits)} characters": number(digits)
        for digits in ("123456.789012345", "0.30000000000000004", "123456789.123456789012345", "9007199254740993e-8")
    },
    "number below the smallest": number("1e-400"),
    **{
        f"time {time}": at(time)
        for time in (
            "2024-01-01T00:00:00Z",
            "2024-01-01T00:00:00.0Z",
            "2024-01-01T00:00:00.000000000Z",
            "2024-01-01T02:00:00+02:00",
            "2023-12-31T19:00:00-05:00",
            "2024-01-01T05:30:00.000+05:30",
            "2024-01-01T00:00:00-00:00",
            "2024-02-29T23:00:00Z",
            "1901-01-01T00:00:00Z",
            "2199-12-31T23:00:00Z",
        )
    },
    **{
        f"updated {time}": carbon(updatedAt=time, createdAt=time)
        for time in ("2024-01-01T01:02:03.1239999Z", "1970-01-01T00:00:00.000Z", "2024-01-01T03:02:03.5+02:00")
    },
}
POWER_ADMITTED = {
    "every field": body(FULL_POWER_ROW),
    "the least": power(),
    "null, 0 and absent modes": power(powerProductionBreakdown={"coal": None, "gas": 0}),
    "storage that charges": power(powerProductionBreakdown={"hydro discharge": -1219, "battery discharge": -0.5}),
    "empty maps": power(powerProductionBreakdown={}, powerImportBreakdown={}, powerExportBreakdown={}),
    "null maps": power(powerProductionBreakdown=None, powerConsumptionBreakdown=None, powerImportBreakdown=None),
    "null totals": power(powerConsumptionTotal=None, powerProductionTotal=None, fossilFreePercentage=None),
    "a new neighbour": power(powerImportBreakdown={"AUS-NSW": 1, "Αθήνα": 2}),
    "one neighbour on both sides": power(powerImportBreakdown={"BG": 7}, powerExportBreakdown={"BG": 9}),
    "a neighbour not reported": power(powerImportBreakdown={"BG": None, "AL": 0}),
    "an unknown mode that is not reported": power(powerProductionBreakdown={"coal": 1, "fusion": None, "tidal": 0}),
    "negative zero": power(powerProductionBreakdown={"coal": -0.0}, powerImportTotal=-0.0),
    "the carbon row as well": power(carbonIntensity=300),
}

DEEP = carbon(x=json.loads("[" * 200 + "]" * 200))


def is_admitted(text: str, feed: Feed) -> bool:
    try:
        admit(response_of(text, feed))
    except RejectedBodyError:
        return False
    return True
