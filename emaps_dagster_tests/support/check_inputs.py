"""What the checks judge, as small literal tables: bronze responses, and the silver row that says the same."""

from __future__ import annotations

import hashlib
from datetime import datetime, timezone
from typing import Any

import pyarrow as pa

from emaps_dagster.contracts.table_contract import Table
from emaps_dagster.contracts.tables import CARBON_DATA, ENERGY_DATA, POWER_DATA
from emaps_dagster.contracts.windows import HOUR, Window
from emaps_dagster.lakehouse.arrow_schema import conform
from emaps_dagster.transforms.quality.outcome import Outcome
from emaps_dagster.transforms.quality.silver_evidence import SilverEvidence
from emaps_dagster_tests.support.builders import body, record, utc

H0 = utc(2024, 3, 31, 10)
H1, H2, H3, H4 = (H0 + number * HOUR for number in range(1, 5))
LATE = utc(2024, 3, 31, 20)


def table_of(contract_: Table, rows: list[dict[str, Any]]) -> pa.Table:
    """Rows with the columns that a test is about; all others are null."""
    empty = conform(pa.table({}), contract_)
    return pa.Table.from_pylist([{name: row.get(name) for name in empty.column_names} for row in rows], empty.schema)


def hours_found(outcome: Outcome) -> list[datetime | None]:
    return [finding.hour for finding in outcome.findings]


def response(raw: str | None, ingested_at: datetime = LATE, **columns: Any) -> dict[str, Any]:
    return {
        "zone": "GR",
        "raw_json": raw,
        "ingested_at": ingested_at,
        "window_start": H0,
        "window_end": H1,
        "request": "/v3/x?zone=GR",
        "payload_sha256": hashlib.sha256((raw or "").encode()).hexdigest(),
        **columns,
    }


POWER_RECORD: dict[str, Any] = {
    "powerProductionBreakdown": {"gas": 900, "wind": 300, "hydro discharge": -100, "nuclear": None},
    "powerConsumptionBreakdown": {"gas": 850, "wind": 280, "nuclear": 20},
    "powerImportBreakdown": {"BG": 80, "IT-SO": 0},
    "powerExportBreakdown": {"BG": 0, "IT-SO": 30},
    "powerProductionTotal": 1200,
    "powerConsumptionTotal": 1150,
    "powerImportTotal": 80,
    "powerExportTotal": 30,
    "fossilFreePercentage": 26,
    "renewablePercentage": 24,
    "updatedAt": "2024-03-31T15:48:00.123Z",
    "createdAt": "2024-03-28T11:00:00.000Z",
    "isEstimated": False,
    "estimationMethod": None,
}
CARBON_RECORD: dict[str, Any] = {
    "carbonIntensity": 305.5,
    "emissionFactorType": "lifecycle",
    "updatedAt": "2024-03-31T15:49:00.000Z",
    "createdAt": "2024-03-28T11:00:00.000Z",
    "isEstimated": True,
    "estimationMethod": "TIME_SLICER_AVERAGE",
}
SILVER_ROW: dict[str, Any] = {
    "zone": "GR",
    "datetime": H0,
    "production_gas": 900.0,
    "production_wind": 300.0,
    "production_hydro_discharge": -100.0,
    "consumption_gas": 850.0,
    "consumption_wind": 280.0,
    "consumption_nuclear": 20.0,
    "production_total": 1200.0,
    "consumption_total": 1150.0,
    "import_total": 80.0,
    "export_total": 30.0,
    "import_by_zone": [("IT-SO", 0.0), ("BG", 80.0)],
    "export_by_zone": [("BG", 0.0), ("IT-SO", 30.0)],
    "fossil_free_percentage": 26.0,
    "renewable_percentage": 24.0,
    "carbon_intensity": 305.5,
    "emission_factor_type": "lifecycle",
    "is_estimated_power": False,
    "updated_at_power": datetime(2024, 3, 31, 15, 48, 0, 123_000, tzinfo=timezone.utc),
    "created_at_power": utc(2024, 3, 28, 11),
    "ingested_at_power": LATE,
    "is_estimated_carbon": True,
    "estimation_method_carbon": "TIME_SLICER_AVERAGE",
    "updated_at_carbon": utc(2024, 3, 31, 15, 49),
    "created_at_carbon": utc(2024, 3, 28, 11),
    "ingested_at_carbon": LATE,
    "year_month": "2024-03",
}


def evidence_of(
    rows: list[dict[str, Any]],
    power: list[dict[str, Any]] | None = None,
    carbon: list[dict[str, Any]] | None = None,
    window: Window | None = None,
    zones: tuple[str, ...] = ("GR",),
    now: datetime = LATE,
) -> SilverEvidence:
    """Silver rows and bronze responses; by default one response of each feed with the hour H0."""
    power = [response(body(record(H0, **POWER_RECORD)))] if power is None else power
    carbon = [response(body(record(H0, **CARBON_RECORD)))] if carbon is None else carbon
    window = window or Window(H0, H4)
    tables = table_of(ENERGY_DATA, rows), table_of(POWER_DATA, power), table_of(CARBON_DATA, carbon)
    return SilverEvidence(window, window, zones, now, *tables)
