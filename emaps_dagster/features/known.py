"""The rows of a features.load query as they were known, and the errors that say why there are none.

Months are taken from the cache if bronze holds the same responses as then (cache.py), else computed (computing.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from emaps_dagster.contracts.api_limits import LONGEST_BODY
from emaps_dagster.contracts.errors import FeaturesError, NoFeaturesError
from emaps_dagster.contracts.feature_query import FeatureQuery
from emaps_dagster.contracts.settings import read_settings
from emaps_dagster.contracts.tables import CARBON_DATA, POWER_DATA, ml_features
from emaps_dagster.contracts.windows import Window, gold_context
from emaps_dagster.features.bronze_state import BronzeState
from emaps_dagster.features.cache import Cache, cache_of
from emaps_dagster.features.coverage import FirstIngested, missing_of, needs_first_ingested, refuse_partial
from emaps_dagster.features.reading import UTC, absent_zones, in_order, open_delta, plain, rows_where
from emaps_dagster.features.unknown import WHEN_AND_WHICH, refuse_absent, zones_of_columns

if TYPE_CHECKING:
    from emaps_dagster.features.computing import Computing

# A plan for each month costs more CPU, one for many months more memory.
_MONTHS_OF_A_PLAN = 2


def known_rows(query: FeatureQuery, folder: Path) -> pa.Table:
    """The rows of a query with `as_of` or a delay; `zone` and `datetime` are the first columns.

    Raises:
        FeaturesError: see `features.load`.
    """
    bronze = [open_delta(folder, table) for table in (POWER_DATA, CARBON_DATA)]
    zone_keys = _zones_of_gold(folder)
    columns = query.chosen(ml_features(zone_keys).column_names)
    with ExitStack() as stack:
        past = _Past(query, folder, zone_keys, cache_of(folder), stack)
        rows = past.rows(columns)
        missing, absent = missing_of(query, rows), absent_zones(query, rows)
        first = past.first_ingested() if needs_first_ingested(query, missing, absent) else {}
        past.remember()
    if absent:
        names = ", ".join(WHEN_AND_WHICH)
        responses = pa.concat_tables([rows_where(table, names) for table in bronze])
        refuse_absent(query, absent, missing, first, responses, folder)
    refuse_partial(query, rows, missing, first)
    return in_order(rows)


class _Past:
    """Parts of a query, from the cache or from bronze; the engine starts with the first that the cache lacks."""

    def __init__(
        self, query: FeatureQuery, folder: Path, zone_keys: tuple[str, ...], cache: Cache, stack: ExitStack
    ) -> None:
        self._query, self._folder, self._zone_keys = query, folder, zone_keys
        self._cache, self._stack = cache, stack
        self._computing: Computing | None = None
        self._bronze = BronzeState(folder) if cache.is_on else None
        self._computed: list[tuple[Window, tuple[object, ...], pa.Table]] = []

    def rows(self, columns: list[str]) -> pa.Table:
        """The columns of all rows, as known."""
        question = ("rows", self._zone_keys, str(self._query.as_of), str(self._query.delay), tuple(columns))
        return self._parts(question, columns)

    def first_ingested(self) -> FirstIngested:
        rows = self._parts(("first ingested",), None)
        found = zip(*rows.to_pydict().values(), strict=True)
        return {(zone, hour): moments for zone, hour, *moments in found}

    def remember(self) -> None:
        """Caches what was computed, except months of bronze that were written meanwhile."""
        if self._bronze is None or not self._computed:
            return
        now = BronzeState(self._folder)
        for part, question, rows in self._computed:
            if now.of(_months_read(part)) == self._bronze.of(_months_read(part)):
                self._cache.put(self._key(self._bronze, part, question), rows)

    def _parts(self, question: tuple[object, ...], columns: list[str] | None) -> pa.Table:
        months = self._query.window.by_month()
        found = {part: self._cached(part, question) for part in months}
        for part, rows in self._compute([part for part, rows in found.items() if rows is None], columns):
            found[part] = rows
            self._computed.append((part, question, rows))
        return pa.concat_tables(found[part] for part in months)

    def _compute(self, months: list[Window], columns: list[str] | None) -> Iterator[tuple[Window, pa.Table]]:
        runs = _adjacent(months)
        if not runs:
            return
        spans = [Window(run[0].start, run[-1].end) for run in runs]
        for run, rows in zip(runs, self._engine().collect(spans, columns), strict=True):
            of_run = plain(rows)
            for part in run:
                yield part, of_run.filter(_within(part))

    def _engine(self) -> Computing:
        if self._computing is None:
            try:
                # Spark is imported and started only for what the cache lacks, and need not be installed otherwise.
                from emaps_dagster.features.computing import Computing

                computing = Computing(self._query, self._folder, self._zone_keys)
                self._computing = self._stack.enter_context(computing)
            except ModuleNotFoundError as error:
                raise FeaturesError(
                    f"as_of and known_at need the package {error.name!r}, which is not installed: "
                    "pip install 'emaps-dagster-reader[as-known]', or read the stored rows without as_of and known_at."
                ) from error
        return self._computing

    def _cached(self, part: Window, question: tuple[object, ...]) -> pa.Table | None:
        return None if self._bronze is None else self._cache.get(self._key(self._bronze, part, question))

    def _key(self, bronze: BronzeState, part: Window, question: tuple[object, ...]) -> str:
        return self._cache.key(bronze.of(_months_read(part)), self._query.zones, str(part), *question)


def _adjacent(months: list[Window]) -> list[list[Window]]:
    """Months in runs without a gap, which one plan each computes."""
    runs: list[list[Window]] = []
    for month in months:
        if runs and runs[-1][-1].end == month.start and len(runs[-1]) < _MONTHS_OF_A_PLAN:
            runs[-1].append(month)
        else:
            runs.append([month])
    return runs


def _within(part: Window) -> pc.Expression:
    start, end = (pa.scalar(moment, UTC) for moment in (part.start, part.end))
    return (pc.field("datetime") >= start) & (pc.field("datetime") < end)


def _months_read(part: Window) -> list[str]:
    """The partitions of bronze from which a part is computed."""
    return gold_context(part).widen(LONGEST_BODY, timedelta(0)).months()


def _zones_of_gold(folder: Path) -> tuple[str, ...]:
    """Zones that result in the flow columns of the stored gold; without a table, the zones of the settings."""
    try:
        stored = [field.name for field in open_delta(folder, ml_features(())).schema().fields]
    except NoFeaturesError:
        return read_settings().zones
    return zones_of_columns(stored, folder)
