"""The provider's clock against the one that stamps responses, over HTTP and as arithmetic."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import pytest

from emaps_dagster.contracts.errors import ClockSkewError, RejectedBodyError
from emaps_dagster.contracts.responses import AcceptedResponse
from emaps_dagster.contracts.settings import Settings
from emaps_dagster.contracts.windows import HOUR, Window, floor_hour, utc_now
from emaps_dagster.contracts.zones import CARBON
from emaps_dagster.electricity_maps.client import ElectricityMapsClient
from emaps_dagster.electricity_maps.clocks import length, provider_clock, skew
from emaps_dagster.electricity_maps.fetch import FetchFailure, fetch
from emaps_dagster_tests.electricity_maps.test_transport import raw
from emaps_dagster_tests.support.scripted_api import GOOD, Api, hour

BODY = json.dumps(GOOD).encode()
MACHINE = datetime(2026, 11, 28, 10, 0, tzinfo=timezone.utc)
MINUTE = timedelta(minutes=1)


def dated(off: timedelta, more: str = "") -> Callable[..., None]:
    date = format_datetime(utc_now() + off, usegmt=True)
    return raw(f"HTTP/1.1 200 OK\nDate: {date}\n{more}Content-Length: {len(BODY)}\n\n", BODY)


@pytest.mark.parametrize(
    ("off", "says"),
    [
        (timedelta(hours=-3), "ahead of the provider's"),
        (timedelta(minutes=-10), "this machine's clock is 10 min"),
        (timedelta(hours=3), "behind the provider's"),
        (timedelta(days=40), "behind the provider's"),
    ],
)
def test_a_clock_that_is_off_is_an_error_before_anything_is_stored(api: Api, off: timedelta, says: str) -> None:
    api.script.append(dated(off))
    with ElectricityMapsClient(api.url) as client:
        outcomes = list(fetch(client, CARBON, ("GR",), Window(hour(1), hour(1, 1)), hour(1, 1)))
    assert [type(outcome) for outcome in outcomes] == [FetchFailure]
    assert isinstance(outcomes[0], FetchFailure)
    assert isinstance(outcomes[0].error, ClockSkewError)
    for part in ("carbon-intensity/history of zone GR", says, "Nothing of the response is stored", "NTP"):
        assert part in str(outcomes[0].error)
    assert len(api.requests) == 1


def test_a_clock_that_was_set_right_is_taken(api: Api) -> None:
    api.script += [dated(timedelta(hours=3)), dated(timedelta(0))]
    with ElectricityMapsClient(api.url) as client:
        with pytest.raises(ClockSkewError):
            client.history(CARBON, "GR")
        assert json.loads(client.history(CARBON, "GR").body) == GOOD


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(lambda: dated(timedelta(minutes=-4)), id="four minutes"),
        pytest.param(lambda: dated(timedelta(hours=-2), "Age: 7200\n"), id="two hours in a cache"),
        pytest.param(lambda: raw(f"HTTP/1.1 200 OK\nContent-Length: {len(BODY)}\n\n", BODY), id="no date"),
        pytest.param(
            lambda: raw(f"HTTP/1.1 200 OK\nDate: soon\nContent-Length: {len(BODY)}\n\n", BODY), id="no readable date"
        ),
    ],
)
def test_a_clock_that_agrees_or_is_not_shown_is_taken(api: Api, answer: Callable[[], Callable[..., None]]) -> None:
    api.script.append(answer())
    with ElectricityMapsClient(api.url) as client:
        assert json.loads(client.history(CARBON, "GR").body) == GOOD


@pytest.mark.parametrize("has_date", [True, False])
def test_a_record_of_an_hour_that_has_not_begun_costs_that_record(api: Api, has_date: bool) -> None:
    now = utc_now()
    hours = [floor_hour(now) + offset * HOUR for offset in (-2, 5, 0)]
    rows = [{"datetime": f"{at:%Y-%m-%dT%H:00:00Z}", "carbonIntensity": 300} for at in hours]
    sent = json.dumps({"zone": "GR", "history": rows}).encode()
    date = f"Date: {format_datetime(now, usegmt=True)}\n" if has_date else ""
    api.script.append(raw(f"HTTP/1.1 200 OK\n{date}Content-Length: {len(sent)}\n\n", sent))
    with ElectricityMapsClient(api.url) as client:
        window = Window(hours[0], hours[0] + HOUR)
        (response,) = fetch(client, CARBON, ("GR",), window, now)
    assert isinstance(response, AcceptedResponse)
    if not has_date:
        # The clock here may be hours behind, and no hour of the response is known to be wrong.
        assert (response.rejected, response.window.end) == ((), hours[1] + HOUR)
        return
    (rejected,) = response.rejected
    assert (rejected.position, rejected.hour) == (1, hours[0] + HOUR)
    assert rejected.reason == (
        f"datetime of row 1 is {hours[1]:%Y-%m-%dT%H:%MZ}, after the hour in which the provider sent it"
    )
    assert response.window == Window(hours[0], hours[2] + HOUR)


def test_a_body_of_hours_to_come_alone_is_refused(api: Api) -> None:
    later = floor_hour(utc_now()) + 5 * HOUR
    rows = [{"datetime": f"{at:%Y-%m-%dT%H:00:00Z}", "carbonIntensity": 300} for at in (later, later + HOUR)]
    api.then(200, {"zone": "GR", "history": rows})
    with ElectricityMapsClient(api.url) as client, pytest.raises(RejectedBodyError) as caught:
        client.history(CARBON, "GR")
    assert caught.value.reason == (
        f"its hours [{later:%Y-%m-%dT%H:%MZ}, {later + 2 * HOUR:%Y-%m-%dT%H:%MZ}) lie after the hour in which the "
        "provider sent it"
    )


def test_a_chosen_present_may_lie_in_the_past_and_not_in_the_future(api: Api) -> None:
    api.then(200, GOOD)
    with ElectricityMapsClient(api.url, clock=lambda: hour(1)) as client:
        assert client.history(CARBON, "GR").received_at == hour(1)
    ahead = utc_now() + timedelta(hours=23)
    with (
        ElectricityMapsClient(api.url, clock=lambda: ahead) as client,
        pytest.raises(ClockSkewError, match=r"EMAPS_FIXED_NOW.* ahead of .*Correct or remove EMAPS_FIXED_NOW"),
    ):
        client.history(CARBON, "GR")
    # The remedy: it is removed.
    with ElectricityMapsClient(api.url, clock=lambda: Settings(_env_file=None).fixed_now or utc_now()) as client:
        assert json.loads(client.history(CARBON, "GR").body) == GOOD


@pytest.mark.parametrize(
    ("present", "theirs", "ahead"),
    [
        (MACHINE, None, None),
        (MACHINE, MACHINE - 5 * MINUTE, None),
        (MACHINE, MACHINE - 6 * MINUTE, 6 * MINUTE),
        (MACHINE, MACHINE + 6 * MINUTE, -6 * MINUTE),
        # A replay: the provider lives in the present, or in the replayed one, and nowhere else.
        (hour(1), MACHINE, None),
        (hour(1), hour(1), None),
        (hour(1), hour(1) + 6 * MINUTE, -6 * MINUTE),
        (hour(1), hour(1) - 6 * MINUTE, 6 * MINUTE),
        (MACHINE + 6 * MINUTE, MACHINE, 6 * MINUTE),
    ],
)
def test_how_far_a_present_is_off(present: datetime, theirs: datetime | None, ahead: timedelta | None) -> None:
    assert skew(present, MACHINE, theirs) == ahead


@pytest.mark.parametrize(
    ("headers", "moment"),
    [
        ({"Date": "Sat, 28 Nov 2026 10:00:00 GMT"}, MACHINE),
        ({"Date": "Sat, 28 Nov 2026 09:00:00 GMT", "Age": "3600"}, MACHINE),
        ({"Date": "Sat, 28 Nov 2026 10:00:00 GMT", "Age": "old"}, MACHINE),
        ({"Date": "yesterday"}, None),
        ({"Age": "3600"}, None),
        ({"Date": "Fri, 31 Dec 9999 23:59:59 GMT", "Age": "999999999"}, None),
        ({}, None),
    ],
)
def test_the_provider_s_clock_is_its_date_and_the_age_of_its_answer(
    headers: dict[str, str], moment: datetime | None
) -> None:
    assert provider_clock(headers) == moment


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (-61, "1 min 1 s"), (82_800, "23 h"), (90_061, "1 day 1 h"), (172_800, "2 days")]
)
def test_a_span_is_written_in_its_two_largest_units(seconds: int, text: str) -> None:
    assert length(timedelta(seconds=seconds)) == text
