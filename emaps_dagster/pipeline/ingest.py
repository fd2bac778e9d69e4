"""Stores API responses in bronze, batch by batch; rejected bodies and quarantined records go to tables of their own."""

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta

import pyarrow as pa
from pyspark.sql import functions as F

from emaps_dagster.contracts.api_limits import LONGEST_BODY
from emaps_dagster.contracts.errors import RejectedBodyError
from emaps_dagster.contracts.responses import AcceptedResponse, RawResponse
from emaps_dagster.contracts.table_contract import Table
from emaps_dagster.contracts.tables import MIX_DATA, REJECTED_RECORDS, REJECTED_RESPONSES
from emaps_dagster.contracts.windows import HOUR, Window
from emaps_dagster.electricity_maps.fetch import FetchFailure
from emaps_dagster.lakehouse.arrow_schema import arrow_schema
from emaps_dagster.lakehouse.base import Lakehouse
from emaps_dagster.transforms.timestamps import instant

# A killed backfill loses one batch and requests it again: five seconds, or forty bodies of 200 kB. A commit takes a
# tenth of a second, and longer in a table of thousands of files.
_BATCH = 40
_BATCH_SECONDS = 5.0
# Quarantined records named in the log; the table has all of them.
_NAMED = 10


def ingest(
    lakehouse: Lakehouse,
    table: Table,
    outcomes: Iterator[AcceptedResponse | FetchFailure],
    after_batch: Callable[[int, list[Window]], None] | None = None,
) -> tuple[list[Window], list[FetchFailure], int]:
    """Store the responses batch by batch.

    Args:
        lakehouse: of the tables.
        table: the bronze table of the feed.
        outcomes: responses and failures, in the order in which they arrive.
        after_batch: called with the number of calls done and the hours that the batch stored.

    Returns:
        The hours stored, the failures, and the number of usable bodies.
    """
    stored: list[Window] = []
    failures: list[FetchFailure] = []
    fetched = 0
    for batch in _batches(outcomes):
        responses = [outcome for outcome in batch if isinstance(outcome, AcceptedResponse)]
        failed = [outcome for outcome in batch if isinstance(outcome, FetchFailure)]
        added = store(lakehouse, table, responses)
        keep_evidence(lakehouse, [failure.error for failure in failed])
        stored += added
        failures += failed
        fetched += len(responses)
        if after_batch:
            after_batch(fetched + len(failures), added)
    return stored, failures, fetched


def answered_since(lakehouse: Lakehouse, table: Table, window: Window, since: datetime) -> frozenset[str]:
    """The past-range requests of the window whose responses bronze has stored since then.

    A retry skips them: their hours were over, and the same attempt needs no second response. /history is never among
    them.
    """
    rows = lakehouse.scan_responses(table, window, longest=LONGEST_BODY).where(F.col("ingested_at") >= instant(since))
    requests = rows.where(F.col("source").endswith("/past-range")).select("request")
    return frozenset(lakehouse.collect(requests)[0].to_pylist())


def noting(
    outcomes: Iterator[AcceptedResponse | FetchFailure], quarantined: list[str]
) -> Iterator[AcceptedResponse | FetchFailure]:
    """Pass the outcomes through and append a line to `quarantined` for each quarantined record."""
    for outcome in outcomes:
        if isinstance(outcome, AcceptedResponse):
            for record in outcome.rejected:
                hour = f"{record.hour:%Y-%m-%dT%H:%MZ}" if record.hour else f"record {record.position}"
                quarantined.append(f"{outcome.zone} {hour}: {record.reason}")
        yield outcome


def store(lakehouse: Lakehouse, table: Table, responses: list[AcceptedResponse]) -> list[Window]:
    """Append the responses, their quarantined records first; returns the hours they hold."""
    rejected = [row for response in responses for row in _rejected_rows(response)]
    if rejected:
        # Before the bodies: a run killed in between leaves surplus evidence, never a record without its reason.
        lakehouse.create(REJECTED_RECORDS)
        lakehouse.append(REJECTED_RECORDS, _arrow(REJECTED_RECORDS, rejected))
    if responses:
        lakehouse.append(table, rows_of(table, responses))
    return [response.window for response in responses]


def keep_evidence(lakehouse: Lakehouse, errors: Iterable[Exception]) -> None:
    """Append every rejected body with its reason to bronze.rejected_responses."""
    rejected = [error for error in errors if isinstance(error, RejectedBodyError)]
    if rejected:
        rows = [(*_row(error.response), error.reason, f"{error.response.received_at:%Y-%m}") for error in rejected]
        lakehouse.append(REJECTED_RESPONSES, _arrow(REJECTED_RESPONSES, rows))


def rows_of(table: Table, responses: list[AcceptedResponse]) -> pa.Table:
    """One row of bronze for each response."""
    signal = (lambda response: (response.feed.name,)) if table == MIX_DATA else lambda _: ()
    return _arrow(
        table,
        [
            (*_row(response), response.trusted_json, *signal(response), f"{response.window.start:%Y-%m}")
            for response in responses
        ],
    )


def responses_by_hour(window: Window, stored: Iterable[Window]) -> dict[datetime, int]:
    """The number of responses that hold each hour of the window, in one pass over responses and hours."""
    change = Counter({window.start: 0})
    for span in stored:
        change[max(span.start, window.start)] += 1
        change[max(span.end, window.start)] -= 1
    counts = itertools.accumulate(change[hour] for hour in window.hours())
    return dict(zip(window.hours(), counts, strict=True))


class Progress:
    """Logs the progress of a backfill; silent on a tick."""

    def __init__(self, table: Table, planned: int, answered: int, log: Callable[[str], None]) -> None:
        self._table, self._planned, self._answered, self._log = table, planned, answered, log
        self._began = time.monotonic()
        self._zones_hours = 0
        if answered:
            log(
                f"{table.qualified_name}: goes on where an earlier attempt ended: {answered} of {planned} calls are "
                "answered and stored."
            )

    def after_batch(self, done: int, stored: list[Window]) -> None:
        """Log after a batch: `done` calls of this attempt, and the hours that its responses hold."""
        self._zones_hours += sum((span.end - span.start) // HOUR for span in stored)
        left = max(0, self._planned - self._answered - done)
        if done < 5 and not left:
            return
        seconds = (time.monotonic() - self._began) / done * left
        self._log(
            f"{self._table.qualified_name}: {self._zones_hours:,} hours stored, {self._answered + done} of "
            f"{self._planned} calls answered, {left} left, about {timedelta(seconds=round(seconds))} to go"
        )


def quarantine_sentence(table: Table, quarantined: list[str]) -> str:
    """The warning that names the quarantined records and the remedy."""
    more = len(quarantined) - _NAMED
    return (
        f"{table.qualified_name}: {len(quarantined)} record{'s are' if len(quarantined) > 1 else ' is'} quarantined in "
        f"{REJECTED_RECORDS.qualified_name} and not in silver: {'; '.join(quarantined[:_NAMED])}"
        f"{f'; and {more} more' if more > 0 else ''}. All other records are loaded. Later runs request them again; "
        "report them to the provider if it stays so."
    )


def split_tolerated(failures: list[FetchFailure]) -> tuple[list[FetchFailure], list[FetchFailure]]:
    """The failures that only leave columns null, and the others."""
    return [one for one in failures if one.is_tolerated], [one for one in failures if not one.is_tolerated]


def tolerated_sentence(failure: FetchFailure) -> str:
    """The warning about a signal that the plan lacks."""
    return f"{failure.error} All other signals are loaded; the columns of this one are null, and are never computed."


def explain(table: Table, window: Window, fetched: int, failures: list[FetchFailure]) -> str:
    """The error message of a fetch: failed requests, causes, and the remedy."""
    kinds = Counter(type(failure.error).__name__ for failure in failures)
    return (
        f"{table.qualified_name} {window}: {len(failures)} of {len(failures) + fetched} requests failed "
        f"({', '.join(f'{count} {kind}' for kind, count in kinds.items())}). What was good is stored; "
        "rejected bodies are in bronze.rejected_responses. Run these partitions again after the remedy.\n"
        + "\n".join(f"- {type(failure.error).__name__}: {failure.error}" for failure in failures)
    )


def _batches(outcomes: Iterator[AcceptedResponse | FetchFailure]) -> Iterator[list[AcceptedResponse | FetchFailure]]:
    batch: list[AcceptedResponse | FetchFailure] = []
    began = time.monotonic()
    for outcome in outcomes:
        batch.append(outcome)
        if len(batch) == _BATCH or time.monotonic() - began > _BATCH_SECONDS:
            yield batch
            batch, began = [], time.monotonic()
    if batch:
        yield batch


def _arrow(table: Table, rows: list[tuple[object, ...]]) -> pa.Table:
    # Built in Arrow: Spark would send every body to the engine and back.
    columns = dict(zip(table.column_names, map(list, zip(*rows, strict=True)), strict=True))
    return pa.table(columns, schema=arrow_schema(table))


def _row(response: RawResponse) -> tuple[object, ...]:
    # A body that was rejected as a whole has no window.
    window = response.window if isinstance(response, AcceptedResponse) else None
    return (
        response.source,
        response.zone,
        response.body,
        response.received_at,
        window and window.start,
        window and window.end,
        response.request,
        response.payload_sha256,
    )


def _rejected_rows(response: AcceptedResponse) -> Iterator[tuple[object, ...]]:
    for record in response.rejected:
        yield (
            response.source,
            response.zone,
            record.hour,
            record.position,
            record.record_json,
            record.reason,
            response.received_at,
            response.request,
            response.payload_sha256,
            f"{record.hour or response.received_at:%Y-%m}",
        )
