"""Contracts of the tables of bronze: raw responses, what was rejected of them, and what no longer counts.

Import them from tables.py, which has the tables of all layers.
"""

from __future__ import annotations

from emaps_dagster.contracts.signals import MIX_SIGNALS
from emaps_dagster.contracts.table_contract import Column, Table
from emaps_dagster.contracts.zones import CARBON, POWER


def _responses(name: str, meaning: str, *, window_nullable: bool, more: tuple[Column, ...] = ()) -> Table:
    window = "null when the body could not be read" if window_nullable else "from the body itself"
    return Table(
        layer="bronze",
        name=name,
        meaning=meaning,
        columns=(
            Column("source", "string", "Which API, version and endpoint answered", nullable=False),
            Column("zone", "string", "Zone key that was asked for", nullable=False),
            Column("raw_json", "string", "The response body, byte for byte", nullable=False),
            Column("ingested_at", "timestamp", "When we received the response, UTC", nullable=False),
            Column("window_start", "timestamp", f"First hour the body holds, UTC; {window}", None, window_nullable),
            Column("window_end", "timestamp", f"End of the last hour it holds, UTC; {window}", None, window_nullable),
            Column("request", "string", "Path and query of the request, without the token", nullable=False),
            Column("payload_sha256", "string", "SHA-256 of the body, hexadecimal", nullable=False),
            *more,
            Column("year_month", "string", "yyyy-MM of the partition's hours, UTC", nullable=False),
        ),
        key=("zone", "request", "payload_sha256", "ingested_at"),
        append_only=True,
    )


TRUSTED = "trusted_json"
_TRUSTED = Column(
    TRUSTED,
    "string",
    "The body without its quarantined records, which is what silver reads; null where raw_json is read as it is",
)
POWER_DATA = _responses(
    "power_data",
    "Raw power-breakdown responses, one row per response, append-only",
    window_nullable=False,
    more=(_TRUSTED,),
)
CARBON_DATA = _responses(
    "carbon_data",
    "Raw carbon-intensity responses, one row per response, append-only",
    window_nullable=False,
    more=(_TRUSTED,),
)
MIX_DATA = _responses(
    "mix_data",
    "Raw responses of the signals of v4 that replace power-breakdown, one row per response, append-only",
    window_nullable=False,
    more=(
        _TRUSTED,
        Column("signal", "string", f"Which of them: {', '.join(feed.name for feed in MIX_SIGNALS)}", nullable=False),
    ),
)
# The tables of each feed of silver. mix_data exists once a run has requested electricity-mix.
FEED_TABLES = {POWER.name: (POWER_DATA, MIX_DATA), CARBON.name: (CARBON_DATA,)}
RESPONSE_TABLES = tuple(table for tables in FEED_TABLES.values() for table in tables)


def bronze_tables(road: str) -> tuple[Table, Table]:
    """The tables that the runs of a road fill: of the power feed, and of carbon-intensity."""
    return MIX_DATA if road == "electricity-mix" else POWER_DATA, CARBON_DATA


REJECTED_RESPONSES = _responses(
    "rejected_responses",
    "Bodies that must not be loaded, kept as evidence, append-only",
    window_nullable=True,
    more=(Column("reason", "string", "Why the body was rejected", nullable=False),),
)
WITHDRAWN_RESPONSES = Table(
    layer="bronze",
    name="withdrawn_responses",
    meaning="Responses of bronze that silver, gold and every look into the past leave out, append-only",
    columns=(
        Column(
            "bronze_table",
            "string",
            "Table that holds the response: power_data, mix_data or carbon_data",
            nullable=False,
        ),
        Column("zone", "string", "Zone key that was asked for", nullable=False),
        Column("request", "string", "Path and query of the request", nullable=False),
        Column("payload_sha256", "string", "SHA-256 of the body, hexadecimal", nullable=False),
        Column("ingested_at", "timestamp", "What bronze says of when the response was received, UTC", nullable=False),
        Column("window_start", "timestamp", "First hour the body holds, UTC", nullable=False),
        Column("window_end", "timestamp", "End of the last hour it holds, UTC", nullable=False),
        Column("reason", "string", "Why it was withdrawn", nullable=False),
        Column("withdrawn_at", "timestamp", "When it was withdrawn, UTC", nullable=False),
        Column("year_month", "string", "The response's partition in its table", nullable=False),
    ),
    key=("bronze_table", "zone", "request", "payload_sha256", "ingested_at"),
    append_only=True,
)

REJECTED_RECORDS = Table(
    layer="bronze",
    name="rejected_records",
    meaning="Single records of stored bodies that must not be loaded, with the reason, append-only",
    columns=(
        Column("source", "string", "Which API, version and endpoint answered", nullable=False),
        Column("zone", "string", "Zone key that was asked for", nullable=False),
        Column(
            "datetime",
            "timestamp",
            "Start of the hour the record is about, UTC: as it says, or as its neighbours leave it; null if unknown",
        ),
        Column("position", "int", "Place of the record in the body's list, from 0", nullable=False),
        Column("record_json", "string", "The record as it stands in the body", nullable=False),
        Column("reason", "string", "Why the record was quarantined", nullable=False),
        Column("ingested_at", "timestamp", "When we received the response, UTC", nullable=False),
        Column("request", "string", "Path and query of the request, without the token", nullable=False),
        Column("payload_sha256", "string", "SHA-256 of the whole body, hexadecimal", nullable=False),
        Column("year_month", "string", "yyyy-MM of datetime, or of ingested_at without one, UTC", nullable=False),
    ),
    key=("zone", "request", "payload_sha256", "ingested_at", "position"),
    append_only=True,
)
