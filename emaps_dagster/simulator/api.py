"""The API's contract without sockets: paths, parameters, plans and errors over a simulated provider.

Error bodies have the keys of the recorded ones, and the words that distinguish them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, cast
from urllib.parse import parse_qs, urlsplit

from emaps_dagster.contracts.signals import MIX_SIGNALS
from emaps_dagster.contracts.windows import HOUR, Window, floor_hour, parse_utc
from emaps_dagster.contracts.zones import FEEDS, ZONES, Feed, zone_facts
from emaps_dagster.simulator.perturbations import FIRST_HOUR
from emaps_dagster.simulator.provider import Endpoint, FactorType, NoDataError, Provider, Version, encode

Plan = Literal["free", "paid"]
Answer = tuple[int, dict[str, str], bytes]

SIGNAL_ENDPOINTS = ("latest", "history", "past", "past-range")
_LONGEST_RANGE = timedelta(days=10)
# A request without a location gets the zone of the client's address; the simulated client is in Copenhagen.
_CALLERS_ZONE = "DK-DK2"
# Countries with sub-zones in zones.py.
_COUNTRIES = {"IT": "Italy"}
_DURATION = re.compile(r"P(?:(\d+)W)?(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?")


class BadRequestError(ValueError):
    """The parameters cannot be used; the message goes to the client."""


@dataclass(frozen=True)
class Account:
    """Zones, token and plan of a server: `zones` None allows any zone, `token` None any client."""

    zones: tuple[str, ...] | None = None
    token: str | None = None
    plan: Plan = "paid"


@dataclass(frozen=True)
class Route:
    """A parsed request; `feed` is None for an endpoint without one, `endpoint` for an unknown path.

    An unknown `breakdownType` gives the signal of the default, and is refused by `answer`.
    """

    feed: Feed | None
    endpoint: str | None
    zone: str
    query: dict[str, str]
    version: Version = "v3"


def route(target: str) -> Route:
    """Parses a path with its query."""
    parts = urlsplit(target)
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    zone = query.get("zone") or query.get("zoneKey") or ""
    if not zone and query.get("disableCallerLookup") != "true":
        zone = _CALLERS_ZONE
    names = parts.path.strip("/").split("/")
    if names == ["health"]:
        return Route(None, "health", "", query)
    version: Version = "v4" if names[0] == "v4" else "v3"
    if names[0] != version:
        return Route(None, None, zone, query)
    if len(names) == 2 and names[1] in ("zones", "updated-since"):
        return Route(None, names[1], zone, query, version)
    served = (*FEEDS, *MIX_SIGNALS) if version == "v4" else FEEDS
    found = [feed for feed in served if len(names) == 3 and names[1] == feed.endpoint]
    asked = query.get("breakdownType")
    feed = next((feed for feed in found if asked and feed.breakdown == asked), found[0] if found else None)
    if feed and names[2] in SIGNAL_ENDPOINTS:
        return Route(feed, names[2], zone, query, version)
    return Route(feed, None, zone, query, version)


def answer(to: Route, provider: Provider, account: Account, token: str | None, now: datetime) -> Answer:
    """Status, headers and body of a response without an injected fault."""
    if to.endpoint is None:
        return json_answer(404, {"error": "Not found"})
    if to.endpoint == "health":
        return json_answer(200, {"monitors": {"state": "ok"}, "status": "ok"})
    known = token is not None and account.token in (None, token)
    if to.endpoint == "zones" and token is None:
        return json_answer(200, _zones(to, account, access=False))
    if account.token is not None and not known:
        return unauthorised(token)
    if to.endpoint == "zones":
        return json_answer(200, _zones(to, account, access=known))
    if account.plan == "free" and to.endpoint in ("past", "past-range", "updated-since"):
        return not_in_plan(to)
    if not to.zone:
        return json_answer(400, {"status": "error", "message": 'Missing or invalid parameter "zone"'})
    if account.zones is not None and to.zone not in account.zones:
        return no_data(to.zone)
    try:
        if to.feed is None:
            return json_answer(200, _updates(to, provider, now))
        return 200, _JSON, _signal(to, to.feed, provider, now)
    except BadRequestError as error:
        return json_answer(400, {"status": "error", "message": str(error)})
    except NoDataError:
        return no_data(to.zone)


def _signal(to: Route, feed: Feed, provider: Provider, now: datetime) -> bytes:
    _one_of(to, "temporalGranularity", ("hourly",))
    if feed.breakdown and to.query.get("breakdownType", "normal") not in ("normal", "flow-traced"):
        raise BadRequestError("Valid breakdown types are: normal, flow-traced")
    factors = _one_of(to, "emissionFactorType", ("lifecycle", "direct"))
    estimations = _one_of(to, "disableEstimations", ("false", "true")) == "false"
    window = None
    if to.endpoint == "past":
        hour = floor_hour(_date(to, "datetime"))
        window = Window(hour, hour + HOUR)
    elif to.endpoint == "past-range":
        window = _range(to)
        if window.end - window.start > _LONGEST_RANGE:
            raise BadRequestError("The range is longer than 10 days")
    endpoint = cast("Endpoint", to.endpoint)
    return provider.body(
        feed,
        to.zone,
        endpoint,
        now,
        window,
        estimations=estimations,
        factors=cast("FactorType", factors),
        version=to.version,
    )


def _updates(to: Route, provider: Provider, now: datetime) -> dict[str, Any]:
    since = _date(to, "since")
    estimations = _one_of(to, "disableEstimations", ("false", "true")) == "false"
    given = to.query.get("limit", "100")
    if not given.isdecimal() or not 1 <= int(given) <= 1000:
        raise BadRequestError('Missing or invalid parameter "limit": 1 to 1000')
    threshold = to.query.get("threshold", "P1D")
    # The provider itself goes back three months at most; planted revisions may be older.
    planted = [p.start for p in provider.planted if p.kind == "revise" and p.zone == to.zone]
    oldest = min([since - timedelta(days=92), *planted])
    start = _date(to, "start") if "start" in to.query else max(FIRST_HOUR, oldest)
    end = _date(to, "end") if "end" in to.query else now + HOUR
    if end <= start:
        raise BadRequestError('Missing or invalid date parameter "end"')
    window = Window(floor_hour(start), _ceiling(end))
    found = provider.updates(to.zone, since, now, window, threshold=_duration(threshold), estimations=estimations)
    limit = int(given)
    return {
        "zone": to.zone,
        "updates": found[:limit],
        "threshold": threshold,
        "limit": limit,
        "limitReached": len(found) >= limit,
    }


def _zones(to: Route, account: Account, *, access: bool) -> dict[str, Any]:
    served = dict.fromkeys(feed.endpoint for feed in ((*FEEDS, *MIX_SIGNALS) if to.version == "v4" else FEEDS))
    paid = ["*"] if account.plan == "paid" else [f"{name}/{e}" for name in served for e in ("latest", "history")]
    listed = {}
    for zone in account.zones or tuple(ZONES):
        country, below, _ = zone.partition("-")
        names = {"countryName": _COUNTRIES.get(country, country)} if below else {}
        listed[zone] = {**names, "zoneName": zone_facts(zone).name, **({"access": paid} if access else {})}
    return listed


def _range(to: Route) -> Window:
    start, end = _date(to, "start"), _date(to, "end")
    if end <= start:
        raise BadRequestError('Missing or invalid date parameter "end"')
    return Window(floor_hour(start), _ceiling(end))


def _ceiling(end: datetime) -> datetime:
    return floor_hour(end) if end == floor_hour(end) else floor_hour(end) + HOUR


def _date(to: Route, name: str) -> datetime:
    try:
        return parse_utc(to.query[name])
    except (KeyError, ValueError) as error:
        raise BadRequestError(f'Missing or invalid date parameter "{name}"') from error


def _one_of(to: Route, name: str, allowed: tuple[str, ...]) -> str:
    """An enumerated parameter; the first value is the default."""
    given = to.query.get(name, allowed[0])
    if given not in allowed:
        raise BadRequestError(f'Invalid parameter "{name}": valid are {", ".join(allowed)}')
    return given


def _duration(text: str) -> timedelta:
    found = _DURATION.fullmatch(text)
    if not found or not any(found.groups()):
        raise BadRequestError('Invalid parameter "threshold": an ISO 8601 duration such as P1D')
    weeks, days, hours, minutes, seconds = (int(number or 0) for number in found.groups())
    return timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds)


def unauthorised(token: str | None) -> Answer:
    """401 for a missing or wrong token."""
    message = "The provided token is invalid." if token else "Please provide a valid authentication header."
    return json_answer(401, {"error": "Invalid auth-token", "message": message})


def not_in_plan(to: Route) -> Answer:
    """401 for an endpoint outside the plan; the error calls past-range past."""
    kind = "past" if (to.endpoint or "").startswith("past") else to.endpoint
    feed = f",dataType={to.feed.endpoint}" if to.feed else ""
    return json_answer(
        401,
        {
            "error": f"Request unauthorized for zoneKey={to.zone},requestType={kind}{feed}.",
            "message": "You do not have access to this specific endpoint for this specific zone.",
        },
    )


def not_in_trial() -> Answer:
    """401 for an endpoint that a trial key does not have."""
    return json_answer(401, {"error": "This endpoint is not included in your API trial"})


def gone(to: Route) -> Answer:
    """410 for an endpoint that was removed."""
    name = to.feed.endpoint if to.feed else to.endpoint
    return json_answer(410, {"error": f"The endpoint {name} has been discontinued"})


def no_data(zone: str) -> Answer:
    """404 for a zone or an hour without data."""
    return json_answer(404, {"error": f'No recent data for zone "{zone}"'})


_JSON = {"Content-Type": "application/json; charset=utf-8"}


def json_answer(status: int, body: Any) -> Answer:
    """A JSON response with the API's content type."""
    return status, _JSON, encode(body)
