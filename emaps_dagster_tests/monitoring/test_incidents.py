"""When a failure and its end are reported, and the text of the alert."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from emaps_dagster.contracts.windows import HOUR, Window
from emaps_dagster.monitoring.alert_texts import text_of, without_secrets
from emaps_dagster.monitoring.incidents import (
    Alert,
    IncidentsState,
    ResolvedIncidents,
    RunOutcome,
    incidents_of,
    update_incidents,
)
from emaps_dagster_tests.support.builders import utc
from emaps_dagster_tests.support.upkeep_hours import window

UNAVAILABLE = (
    "bronze.power_data [2024-05-04T09:00Z, 2024-05-04T10:00Z): 1 of 2 requests failed (1 ProviderUnavailableError). "
    "What was good is stored.\n- ProviderUnavailableError: power-breakdown/history of zone {zone}, the last 24 hours: "
    "{why} after 6 tries. Look at the provider's status page."
)
NO_ROWS = (
    "bronze.power_data [2024-04-01T00:00Z, 2024-04-01T01:00Z): 1 of 2 requests failed (1 RejectedBodyError).\n"
    "- RejectedBodyError: power-breakdown/past-range of zone GR (/v3/x): the API answered 200, but it has no rows"
)


def run(
    number: int, *messages: str, kind: str = "FetchError", step: str = "bronze__power_data", of: Window | None = None
) -> RunOutcome:
    """The run of an hour: failed with these messages, or good without any."""
    ended = utc(2024, 5, 4) + number * HOUR
    of = of or Window(ended - HOUR, ended)
    causes = tuple(cause for message in messages for cause in incidents_of(step, kind, message, of))
    return RunOutcome(f"run{number}", "hourly", not messages, ended, of, fetched=True, causes=causes)


def format_windows(*outcomes: RunOutcome) -> list[str]:
    """The alerts about runs that are evaluated one by one, with the memory through its JSON each time."""
    memory, said = IncidentsState(), []
    for outcome in outcomes:
        news, memory = update_incidents([outcome], memory)
        memory = IncidentsState.unpacked(memory.packed())
        for item in news:
            if isinstance(item, Alert):
                said.append(f"{item.outcome.run_id} failed: {', '.join(cause.key for cause in item.causes)}")
            else:
                said.append(f"{item.outcome.run_id} healed after {', '.join(str(cause.runs) for cause in item.causes)}")
    return said


def test_an_outage_of_many_runs_is_reported_once_and_once_more_when_it_is_over() -> None:
    down = [UNAVAILABLE.format(zone="GR", why=why) for why in ("HTTP 503 (x)", "no answer (Timeout)", "HTTP 502 (y)")]
    assert format_windows(run(1), *(run(n, down[n % 3]) for n in range(2, 32)), run(32), run(33)) == [
        "run2 failed: ProviderUnavailableError GR",
        "run32 healed after 30",
    ]


def test_another_cause_or_another_zone_is_reported_of_its_own() -> None:
    token = "x\n- InvalidTokenError: power-breakdown/history of zone GR, the last 24 hours: the token is wrong"
    assert format_windows(
        run(1, UNAVAILABLE.format(zone="GR", why="HTTP 503")),
        run(2, UNAVAILABLE.format(zone="GR", why="HTTP 503"), UNAVAILABLE.format(zone="BG", why="HTTP 503")),
        run(3, token),
    ) == [
        "run1 failed: ProviderUnavailableError GR",
        "run2 failed: ProviderUnavailableError BG",
        "run3 failed: InvalidTokenError GR",
    ]


def test_both_feeds_of_one_outage_are_one_cause() -> None:
    both = [UNAVAILABLE.format(zone="GR", why="503"), UNAVAILABLE.format(zone="GR", why="503").replace("power", "x")]
    assert format_windows(run(1, *both)) == ["run1 failed: ProviderUnavailableError GR"]


def test_a_cause_that_comes_back_after_it_was_over_is_reported_again() -> None:
    down = UNAVAILABLE.format(zone="GR", why="HTTP 503")
    assert format_windows(run(1, down), run(2), run(3, down)) == [
        "run1 failed: ProviderUnavailableError GR",
        "run2 healed after 1",
        "run3 failed: ProviderUnavailableError GR",
    ]


def test_hours_that_the_provider_lacks_are_reported_once_though_ticks_succeed_in_between() -> None:
    hole = window("04-01T00", "04-01T01")
    key = f"RejectedBodyError GR power-breakdown {hole}"
    tried = [run(n, NO_ROWS, of=hole) for n in (1, 3, 7, 15)]
    assert format_windows(tried[0], run(2), tried[1], run(4), tried[2], run(8), tried[3], run(20, of=hole)) == [
        f"run1 failed: {key}",
        "run20 healed after 4",
    ]


def test_older_hours_of_a_zone_that_fails_as_a_whole_are_not_reported_again() -> None:
    hole = window("04-01T00", "04-01T01")
    down = UNAVAILABLE.format(zone="GR", why="HTTP 503")
    assert format_windows(run(1, down), run(2, NO_ROWS, of=hole), run(3), run(4, NO_ROWS, of=hole)) == [
        "run1 failed: ProviderUnavailableError GR",
        "run3 healed after 1",
        f"run4 failed: RejectedBodyError GR power-breakdown {hole}",
    ]


def test_a_run_that_requests_nothing_heals_no_outage() -> None:
    down = run(1, UNAVAILABLE.format(zone="GR", why="HTTP 503"))
    merged = RunOutcome("merge", "hourly", True, utc(2024, 5, 4, 2), down.hours, fetched=False)
    assert format_windows(down, merged, run(3)) == ["run1 failed: ProviderUnavailableError GR", "run3 healed after 1"]


def test_other_errors_are_the_same_cause_whatever_numbers_and_times_they_name() -> None:
    messages = [f"gold {hour}: {hour} other writers won 30 times (0x{hour}f)" for hour in range(2, 5)]
    outcomes = [run(n, m, kind="WriteConflictError", step="gold") for n, m in enumerate(messages, 1)]
    assert len(format_windows(*outcomes)) == 1
    assert len(format_windows(*outcomes, run(9, "gold: disk full", kind="OSError", step="gold"))) == 2


def test_an_error_of_hours_heals_when_these_hours_succeed() -> None:
    failed = run(1, "a check failed", kind="Failure", step="check_gold")
    assert format_windows(failed, run(2), run(3, of=failed.hours)) == [
        "run1 failed: check_gold Failure a check failed",
        "run3 healed after 1",
    ]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.sampled_from(["GR", "BG", ""]), st.booleans()), max_size=40))
def test_alerts_and_healings_of_a_cause_alternate(happened: list[tuple[str, bool]]) -> None:
    memory = IncidentsState()
    open_keys: set[str] = set()
    for number, (zone, _) in enumerate(happened):
        messages = [UNAVAILABLE.format(zone=zone, why="HTTP 503")] if zone else []
        news, memory = update_incidents([run(number, *messages)], memory)
        for item in news:
            if isinstance(item, Alert):
                assert not open_keys & {cause.key for cause in item.causes}
                open_keys |= {cause.key for cause in item.causes}
            else:
                assert isinstance(item, ResolvedIncidents)
                open_keys -= {f"ProviderUnavailableError {cause.zones[0]}" for cause in item.causes}
        assert open_keys == set(memory.open)


def test_a_message_has_what_its_reader_needs() -> None:
    outcome = run(10, UNAVAILABLE.format(zone="GR", why="HTTP 503 (Service unavailable)"))
    (alert,), memory = update_incidents([outcome], IncidentsState())
    assert text_of(alert, "http://127.0.0.1:3000") == (
        "emaps_dagster: hourly failed for GR",
        "The run of job hourly failed.\n"
        "Zones: GR\n"
        "Hours: [2024-05-04T09:00Z, 2024-05-04T10:00Z)\n"
        "- power-breakdown/history of zone GR, the last 24 hours: HTTP 503 (Service unavailable) after 6 tries. "
        "Look at the provider's status page.\n"
        "Run: http://127.0.0.1:3000/runs/run10\n"
        "This alert is sent once: a second one follows when its cause changes, and when it is resolved.",
    )
    (healed,), _ = update_incidents([run(11)], memory)
    subject, text = text_of(healed, "https://dagster.example.org")
    assert subject == "emaps_dagster: hourly works again for GR"
    assert text.startswith("Over, after 1 run from 2024-05-04T10:00Z to 2024-05-04T10:00Z: power-breakdown/history of")
    assert text.endswith("\nRun: https://dagster.example.org/runs/run11")


def test_a_secret_that_is_repeated_is_not_passed_on() -> None:
    assert without_secrets("they said s3cret, s3cret", ["s3cret", ""]) == "they said [secret], [secret]"
