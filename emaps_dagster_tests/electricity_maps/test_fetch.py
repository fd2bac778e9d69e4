"""Which requests answer which window, and what a failure leaves out, against the simulator over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import unquote

import pytest
from pydantic import SecretStr

from emaps_dagster.contracts.errors import (
    BadRequestError,
    ClockSkewError,
    GoneError,
    InvalidTokenError,
    NoDataError,
    NotInPlanError,
    ProviderError,
    ProviderUnavailableError,
    RateLimitedError,
    RejectedBodyError,
)
from emaps_dagster.contracts.responses import AcceptedResponse
from emaps_dagster.contracts.windows import HOUR, Window
from emaps_dagster.contracts.zones import CARBON, POWER, Feed
from emaps_dagster.electricity_maps.client import ElectricityMapsClient
from emaps_dagster.electricity_maps.fetch import FetchFailure, fetch
from emaps_dagster.simulator.server import FAULT_KINDS, Fault, Simulator

UTC = timezone.utc
# /history then holds the hours from 2024-05-03T11 to 2024-05-04T10, the last one running.
NOW = datetime(2024, 5, 4, 10, 7, tzinfo=UTC)
TOKEN = "a-token"

HISTORY = "/v3/power-breakdown/history?zone=GR"


def past_range(start: str, end: str, zone: str = "GR", feed: str = "power-breakdown") -> str:
    return f"/v3/{feed}/past-range?zone={zone}&start={start}:00:00Z&end={end}:00:00Z"


def window(start: str, end: str) -> Window:
    return Window(*(datetime.strptime(text, "%Y-%m-%dT%H").replace(tzinfo=UTC) for text in (start, end)))


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with Simulator(token=TOKEN, now=NOW) as simulator:
        yield simulator


@pytest.fixture
def client(sim: Simulator, request: pytest.FixtureRequest) -> Iterator[ElectricityMapsClient]:
    case = getattr(request.node, "callspec", None)
    # Less than a slow answer takes, more than any other does on a busy machine.
    patience = 2.0 if case and case.params.get("kind") in ("slow", "dripping") else 30.0
    with ElectricityMapsClient(
        sim.url, SecretStr(TOKEN), clock=sim.now, timeout=(5, patience), attempts=2, backoff_seconds=0.01
    ) as real:
        yield real


def paths(sim: Simulator) -> list[str]:
    return [unquote(request.path) for request in sim.requests]


def hours(outcome: AcceptedResponse | FetchFailure) -> Window:
    assert isinstance(outcome, AcceptedResponse)
    return outcome.window


def message(outcome: AcceptedResponse | FetchFailure) -> str:
    assert isinstance(outcome, FetchFailure)
    return str(outcome.error)


# --- which requests -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "end", "asked"),
    [
        pytest.param("2024-05-04T09", "2024-05-04T10", [HISTORY], id="the last complete hour"),
        pytest.param("2024-05-03T11", "2024-05-03T12", [HISTORY], id="the oldest hour of history"),
        pytest.param("2024-05-03T11", "2024-05-04T10", [HISTORY], id="all of history"),
        pytest.param(
            "2024-05-03T10", "2024-05-03T11", [past_range("2024-05-03T10", "2024-05-03T11")], id="the hour before it"
        ),
        pytest.param(
            "2024-05-03T00", "2024-05-03T11", [past_range("2024-05-03T00", "2024-05-03T11")], id="up to the border"
        ),
        pytest.param(
            "2024-05-03T09",
            "2024-05-03T13",
            [HISTORY, past_range("2024-05-03T09", "2024-05-03T11")],
            id="across the border",
        ),
        pytest.param(
            "2024-04-01T00", "2024-04-11T00", [past_range("2024-04-01T00", "2024-04-11T00")], id="ten days in one"
        ),
        pytest.param(
            "2024-04-01T00",
            "2024-04-21T01",
            [
                past_range("2024-04-01T00", "2024-04-11T00"),
                past_range("2024-04-11T00", "2024-04-21T00"),
                past_range("2024-04-21T00", "2024-04-21T01"),
            ],
            id="twenty days and an hour",
        ),
        pytest.param(
            "2024-04-20T05",
            "2024-05-04T10",
            [HISTORY, past_range("2024-04-20T05", "2024-04-30T05"), past_range("2024-04-30T05", "2024-05-03T11")],
            id="two weeks until now",
        ),
    ],
)
def test_a_window_is_requested_in_these_requests(
    sim: Simulator, client: ElectricityMapsClient, start: str, end: str, asked: list[str]
) -> None:
    wanted = window(start, end)
    outcomes = list(fetch(client, POWER, ("GR",), wanted, NOW))
    assert paths(sim) == asked
    got = {hour for outcome in outcomes for hour in hours(outcome).hours()}
    assert got >= set(wanted.hours())


def test_a_year_is_37_calls_of_which_each_begins_where_the_last_one_ended(
    sim: Simulator, client: ElectricityMapsClient
) -> None:
    year = window("2023-01-01T00", "2024-01-01T00")
    outcomes = list(fetch(client, CARBON, ("GR",), year, NOW))
    asked = paths(sim)
    assert len(asked) == len(outcomes) == 37
    assert asked[0] == past_range("2023-01-01T00", "2023-01-11T00", feed="carbon-intensity")
    assert asked[1] == past_range("2023-01-11T00", "2023-01-21T00", feed="carbon-intensity")
    assert asked[-1] == past_range("2023-12-27T00", "2024-01-01T00", feed="carbon-intensity")
    assert [hour for outcome in outcomes for hour in hours(outcome).hours()] == list(year.hours())


@pytest.mark.parametrize(
    ("now", "asked"),
    [
        (datetime(2024, 5, 4, 10, 0, tzinfo=UTC), [HISTORY]),
        (datetime(2024, 5, 4, 10, 59, 59, tzinfo=UTC), [HISTORY]),
        (datetime(2024, 5, 4, 11, 0, tzinfo=UTC), [past_range("2024-05-03T11", "2024-05-03T12")]),
    ],
)
def test_the_border_moves_at_the_full_hour(
    sim: Simulator, client: ElectricityMapsClient, now: datetime, asked: list[str]
) -> None:
    sim.set_now(now)
    [outcome] = fetch(client, POWER, ("GR",), window("2024-05-03T11", "2024-05-03T12"), now)
    assert paths(sim) == asked
    assert window("2024-05-03T11", "2024-05-03T12").start in hours(outcome)


def test_an_hour_that_left_history_during_the_request_is_requested_again(
    sim: Simulator, client: ElectricityMapsClient
) -> None:
    sim.set_now(NOW + HOUR)
    history, rest = fetch(client, POWER, ("GR",), window("2024-05-03T11", "2024-05-03T14"), NOW)
    assert hours(history).start == datetime(2024, 5, 3, 12, tzinfo=UTC)
    assert hours(rest) == window("2024-05-03T11", "2024-05-03T12")
    assert paths(sim) == [HISTORY, past_range("2024-05-03T11", "2024-05-03T12")]


def test_hours_missing_at_the_start_of_history_are_requested_and_reported_when_they_are_nowhere(
    sim: Simulator, client: ElectricityMapsClient
) -> None:
    sim.provider.withhold("GR", datetime(2024, 5, 3, 11, tzinfo=UTC), datetime(2024, 5, 3, 15, tzinfo=UTC))
    history, rest = fetch(client, POWER, ("GR",), window("2024-05-03T13", "2024-05-04T10"), NOW)
    assert hours(history) == window("2024-05-03T15", "2024-05-04T11")
    assert paths(sim) == [HISTORY, past_range("2024-05-03T13", "2024-05-03T15")]
    assert "no rows" in message(rest)


def test_hours_missing_inside_history_are_not_requested(sim: Simulator, client: ElectricityMapsClient) -> None:
    sim.provider.withhold("GR", datetime(2024, 5, 3, 20, tzinfo=UTC), datetime(2024, 5, 3, 22, tzinfo=UTC))
    assert len(list(fetch(client, POWER, ("GR",), window("2024-05-03T19", "2024-05-04T10"), NOW))) == 1
    assert paths(sim) == [HISTORY]


def test_requests_are_made_one_at_a_time_so_that_the_caller_can_store_as_it_goes(
    sim: Simulator, client: ElectricityMapsClient
) -> None:
    outcomes = fetch(client, POWER, ("GR", "BG"), window("2024-05-03T09", "2024-05-04T10"), NOW)
    for number in (1, 2, 3, 4):
        next(outcomes)
        assert len(sim.requests) == number
    assert next(outcomes, None) is None


# --- what fails -----------------------------------------------------------------------------------

FAILURES: dict[str, tuple[type[ProviderError], str, dict[str, Any]]] = {
    # Of every signal: what only power-breakdown is refused is in test_withdrawal.py.
    "invalid_token": (InvalidTokenError, "EMAPS_API_TOKEN", {"times": None}),
    "not_in_plan": (NotInPlanError, "plan", {"times": None}),
    "not_in_trial": (NotInPlanError, "not included in your API trial", {"times": None}),
    "not_found": (NoDataError, "No recent data", {"times": None}),
    "gone": (GoneError, "removed this endpoint", {"times": None}),
    "quarter_hours": (RejectedBodyError, "temporalGranularity of the body is '15_minutes', not 'hourly'", {}),
    "rate_limited": (RateLimitedError, "after 2 tries", {"times": 2, "retry_after": 0}),
    "server_error": (ProviderUnavailableError, "after 2 tries", {"times": 2}),
    "slow": (ProviderUnavailableError, "timed out", {"times": 2, "seconds": 3.0}),
    "truncated": (ProviderUnavailableError, "after 2 tries", {"times": 2}),
    "html": (RejectedBodyError, "not strict JSON", {}),
    "wrong_zone": (RejectedBodyError, "for zone 'US-CAR-DUK', not 'BG'", {}),
    "sandbox": (RejectedBodyError, "sandbox", {}),
    "empty": (RejectedBodyError, "no rows", {}),
    "echo_token": (BadRequestError, "auth-token [token]", {}),
    "reset": (ProviderUnavailableError, "after 2 tries", {"times": 2}),
    "not_utf8": (RejectedBodyError, "UTF-8", {}),
    "cut_off": (RejectedBodyError, "cut off", {"times": 2}),
    "dripping": (ProviderUnavailableError, "after 2 tries", {"times": 2, "seconds": 0.5}),
    "wrong_clock": (ClockSkewError, "clock", {}),
}
# What is odd and yet true as far as it goes: silver sorts it out.
TAKEN = (
    "other_breakdown",
    "missing_rows",
    "null_row",
    "long_numbers",
    "null_values",
    "duplicated_rows",
    "unordered_rows",
)


def test_every_fault_of_the_simulator_is_tried_here() -> None:
    assert sorted((*FAILURES, *TAKEN)) == sorted(FAULT_KINDS)


@pytest.mark.parametrize("kind", TAKEN)
@pytest.mark.parametrize("feed", [POWER, CARBON])
def test_rows_missing_doubled_mixed_null_or_with_long_numbers_are_taken(
    sim: Simulator, client: ElectricityMapsClient, kind: Any, feed: Feed
) -> None:
    sim.inject(Fault(kind))
    [taken] = fetch(client, feed, ("GR",), window("2024-05-04T09", "2024-05-04T10"), NOW)
    assert hours(taken) == window("2024-05-03T11", "2024-05-04T11")


@pytest.mark.parametrize("kind", FAILURES)
@pytest.mark.parametrize("feed", [POWER, CARBON])
def test_a_zone_that_fails_is_named_and_does_not_stop_the_others(
    sim: Simulator, client: ElectricityMapsClient, kind: Any, feed: Feed
) -> None:
    error, says, more = FAILURES[kind]
    sim.inject(Fault(kind, zone="BG", **more))
    zones = ("GR", "BG", "AL")
    outcomes = list(fetch(client, feed, zones, window("2024-05-04T09", "2024-05-04T10"), NOW))
    first, failed, last = outcomes
    assert hours(first) == hours(last) == window("2024-05-03T11", "2024-05-04T11")
    assert [outcome.zone for outcome in (first, last) if isinstance(outcome, AcceptedResponse)] == ["GR", "AL"]
    assert isinstance(failed, FetchFailure)
    assert type(failed.error) is error
    for part in ("zone BG", f"{feed.endpoint}/history", says):
        assert part in message(failed)
    assert TOKEN not in message(failed)


@pytest.mark.parametrize("kind", ["html", "wrong_zone", "sandbox", "empty", "not_found"])
def test_a_bad_body_or_a_hole_does_not_stop_the_later_chunks(
    sim: Simulator, client: ElectricityMapsClient, kind: Any
) -> None:
    sim.inject(Fault(kind))
    failed, second, third = fetch(client, POWER, ("GR",), window("2024-03-01T00", "2024-03-26T00"), NOW)
    assert "2024-03-01T00" in message(failed)
    assert hours(second) == window("2024-03-11T00", "2024-03-21T00")
    assert hours(third) == window("2024-03-21T00", "2024-03-26T00")


@pytest.mark.parametrize("kind", ["invalid_token", "not_in_plan", "rate_limited", "server_error", "echo_token"])
def test_what_would_answer_the_next_chunk_alike_ends_the_zone_and_names_the_hours_not_requested(
    sim: Simulator, client: ElectricityMapsClient, kind: Any
) -> None:
    outcomes = fetch(client, POWER, ("GR", "BG"), window("2024-03-01T00", "2024-03-26T00"), NOW)
    assert hours(next(outcomes)) == window("2024-03-01T00", "2024-03-11T00")
    sim.inject(Fault(kind, zone="GR", **FAILURES[kind][2]))
    failed, *others = outcomes
    assert isinstance(failed, FetchFailure)
    assert type(failed.error) is FAILURES[kind][0]
    assert "power-breakdown/past-range of zone GR, [2024-03-11T00:00Z, 2024-03-21T00:00Z)" in message(failed)
    assert message(failed).endswith(" The later hours [2024-03-21T00:00Z, 2024-03-26T00:00Z) were not requested.")
    assert [outcome.zone for outcome in others if isinstance(outcome, AcceptedResponse)] == ["BG", "BG", "BG"]


def test_a_failure_of_the_last_chunk_names_no_later_hours(sim: Simulator, client: ElectricityMapsClient) -> None:
    sim.inject(Fault("invalid_token"))
    [failed] = fetch(client, POWER, ("GR",), window("2024-03-01T00", "2024-03-11T00"), NOW)
    assert "later hours" not in message(failed)


@pytest.mark.parametrize("kind", FAILURES)
def test_a_failing_history_does_not_keep_the_older_hours_away(
    sim: Simulator, client: ElectricityMapsClient, kind: Any
) -> None:
    sim.inject(Fault(kind, endpoint="history", **FAILURES[kind][2]))
    failed, older = fetch(client, POWER, ("GR",), window("2024-05-03T09", "2024-05-04T10"), NOW)
    assert "the last 24 hours" in message(failed) or "history" in message(failed)
    assert hours(older) == window("2024-05-03T09", "2024-05-03T11")


def test_a_plan_without_past_range_gives_the_last_day_and_names_the_hours_it_cannot_get() -> None:
    with (
        Simulator(token=TOKEN, now=NOW, plan="free") as sim,
        ElectricityMapsClient(sim.url, SecretStr(TOKEN), clock=sim.now) as client,
    ):
        history, failed = fetch(client, POWER, ("GR",), window("2024-04-20T00", "2024-05-04T10"), NOW)
        # The second past-range tells a plan without it from a removed power-breakdown.
        both = [
            past_range("2024-04-20T00", "2024-04-30T00", feed=feed) for feed in ("power-breakdown", "carbon-intensity")
        ]
        assert paths(sim) == [HISTORY, *both]
        [enough] = fetch(client, POWER, ("GR",), window("2024-05-03T11", "2024-05-04T10"), NOW)
    assert hours(history) == hours(enough) == window("2024-05-03T11", "2024-05-04T11")
    assert isinstance(failed, FetchFailure)
    assert type(failed.error) is NotInPlanError
    for part in (
        "power-breakdown/past-range of zone GR, [2024-04-20T00:00Z, 2024-04-30T00:00Z)",
        "Hours older than a day need a plan with past-range",
        "The later hours [2024-04-30T00:00Z, 2024-05-03T11:00Z) were not requested.",
    ):
        assert part in message(failed)


@pytest.mark.parametrize("late", [timedelta(hours=24), timedelta(hours=48)])
def test_a_history_that_lags_is_taken_for_a_day_and_then_refused(
    sim: Simulator, client: ElectricityMapsClient, late: timedelta
) -> None:
    sim.set_now(NOW - late)
    outcome, *_ = fetch(client, POWER, ("GR",), window("2024-05-04T09", "2024-05-04T10"), NOW)
    if late == timedelta(hours=24):
        assert hours(outcome) == window("2024-05-02T11", "2024-05-03T11")
    else:
        assert "[2024-05-01T11:00Z, 2024-05-02T11:00Z) lie more than 47 hours from the requested hours" in message(
            outcome
        )
        assert isinstance(outcome, FetchFailure)
        assert isinstance(outcome.error, RejectedBodyError)
