"""Every sentence of the health report that asks for something, performed: afterwards the report asks no more."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timezone

import pytest

from emaps_dagster.contracts.tables import ENERGY_DATA
from emaps_dagster.contracts.windows import HOUR, Window
from emaps_dagster.simulator.server import Fault
from emaps_dagster_tests.system.test_remedies import BROKEN, GOLD, NOW, TABLES, Pipeline, loaded, pipeline

__all__ = ["loaded", "pipeline"]
DAY = Window(NOW.replace(minute=0) - 24 * HOUR, NOW.replace(minute=0))


def needs(pipeline: Pipeline) -> str:
    """What the report asks for; empty when all is well."""
    (check,) = pipeline.launch("health_report").get_asset_check_evaluations()
    return "" if check.passed else str(check.metadata["status"].value)


def named_hours(told: str) -> Window:
    """The partitions that a sentence names, as a person copies them."""
    ends = [
        datetime.strptime(text, "%Y-%m-%d-%H:%M").replace(tzinfo=timezone.utc)
        for text in re.findall(r"\d{4}-\d\d-\d\d-\d\d:\d\d", told)
    ]
    return Window(min(ends), max(ends) + HOUR)


def _later(pipeline: Pipeline, hours: int) -> None:
    pipeline.now += hours * HOUR
    pipeline.sim.set_now(pipeline.now)


def _empty(pipeline: Pipeline) -> None:
    for table in (ENERGY_DATA, GOLD):
        pipeline.change(table, lambda _: None)


def _nobody_asks(pipeline: Pipeline) -> None:
    _later(pipeline, 3)


def _provider_is_late(pipeline: Pipeline) -> None:
    end = NOW.replace(minute=0)
    pipeline.sim.provider.withhold("GR", end, end + 4 * HOUR, until=NOW + 4 * HOUR)
    pipeline.tick(3, *TABLES)


def _a_hole(pipeline: Pipeline) -> None:
    for table in (ENERGY_DATA, GOLD):
        pipeline.change(table, lambda row: None if row["datetime"] == BROKEN else row)


def _gold_lacks(pipeline: Pipeline) -> None:
    pipeline.change(GOLD, lambda row: None if row["datetime"] == BROKEN else row)


def _a_body_is_rejected(pipeline: Pipeline) -> None:
    pipeline.sim.inject(Fault("sandbox", feed="power-breakdown"))
    assert not pipeline.tick(1, *TABLES).success
    pipeline.sim.clear_faults()


def _the_last_24_hours(pipeline: Pipeline, _: str) -> None:
    end = pipeline.now.replace(minute=0)
    pipeline.materialize(Window(end - 24 * HOUR, end), *TABLES)


def _a_later_tick(pipeline: Pipeline, _: str) -> None:
    _later(pipeline, 2)
    _the_last_24_hours(pipeline, "")


def _a_day_goes_by(pipeline: Pipeline, _: str) -> None:
    _the_last_24_hours(pipeline, "")
    _later(pipeline, 24)
    _the_last_24_hours(pipeline, "")


SENTENCES: dict[str, tuple[Callable[[Pipeline], None], str, Callable[[Pipeline, str], object]]] = {
    "nothing": (_empty, "silver has no complete hour", _the_last_24_hours),
    "nobody asks": (_nobody_asks, "see that the schedule hourly_tick is on", _the_last_24_hours),
    "provider late": (_provider_is_late, "the provider is late. Wait", _a_later_tick),
    "hole": (_a_hole, "Materialize all layers for", lambda p, told: p.materialize(named_hours(told), *TABLES)),
    "gold lacks": (_gold_lacks, "Materialize gold for", lambda p, told: p.materialize(named_hours(told), GOLD)),
    "rejected": (_a_body_is_rejected, "rejected in the last 24 hours", _a_day_goes_by),
}


@pytest.mark.parametrize("sentence", SENTENCES)
def test_what_a_sentence_asks_for_ends_it(pipeline: Pipeline, sentence: str) -> None:
    broken, says, act = SENTENCES[sentence]
    broken(pipeline)
    told = needs(pipeline)
    assert says in told
    act(pipeline, told)
    assert needs(pipeline) == ""
