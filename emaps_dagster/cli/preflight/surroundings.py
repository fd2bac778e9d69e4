"""Checks of the requirements of runs: time zones, warehouse, engine, API, clock."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import requests

from emaps_dagster.cli.preflight.findings import Finding, first_line, ok, problem, refusal_to_write, this_user, warning
from emaps_dagster.cli.preflight.roads import roads
from emaps_dagster.contracts.databricks_settings import DatabricksSettings, check_workspace
from emaps_dagster.contracts.errors import ClockSkewError, LakehouseError, ProviderError, SettingsError
from emaps_dagster.contracts.settings import Settings
from emaps_dagster.contracts.windows import utc_now
from emaps_dagster.contracts.zones import ZONES
from emaps_dagster.electricity_maps.clocks import LARGEST_SKEW, length, provider_clock, skew

# With a larger skew a tick requests hours that are not over, or misses hours that are.
_CLOCK = timedelta(seconds=60)
# The longest wait for a call under EMAPS_CALLS_PER_MINUTE.
_LONGEST_PAUSE_SECONDS = 10.0
# Three months of ticks of one zone take a few hundred MB of disk.
_FREE_BYTES = 2 * 10**9
# The oldest Java that Delta 4 and Spark 4 support.
_JAVA = 17


def time_zones(zones: tuple[str, ...]) -> Iterator[Finding]:
    """Check that the time zone database has the zones' time zones; local hours and holidays need it."""
    names = {ZONES[zone].time_zone or "UTC" for zone in zones if zone in ZONES} | {"UTC"}
    for name in sorted(names):
        try:
            ZoneInfo(name)
        except (KeyError, OSError, ValueError) as error:
            yield problem(f"The time zone {name} is not known here ({first_line(error)}): pip install tzdata.")


def warehouse(folder: Path) -> Iterator[Finding]:
    """Check that the warehouse can be written, as Delta writes, and has free space."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        yield problem(f"EMAPS_WAREHOUSE ({folder}) cannot be made by this user ({this_user()}): {error.strerror}.")
        return
    refused = refusal_to_write(folder)
    if refused:
        yield problem(f"EMAPS_WAREHOUSE ({folder}) cannot be written by this user ({this_user()}): {refused}.")
        return
    free = shutil.disk_usage(folder).free
    if free < _FREE_BYTES:
        yield warning(f"EMAPS_WAREHOUSE ({folder}) has {free / 10**9:.1f} GB left: make room before runs fail.")
    else:
        yield ok(f"EMAPS_WAREHOUSE is {folder}, {free / 10**9:.0f} GB free.")


def engine(settings: Settings) -> Iterator[Finding]:
    """Check that the engine of the deployment starts."""
    if settings.deployment == "spark":
        yield java()
    elif settings.deployment == "embedded":
        from pyspark.errors import PySparkException

        from emaps_dagster.lakehouse.spark_sessions import embedded_session

        try:
            with embedded_session() as session:
                session.sql("SELECT 1").toArrow()
        except (LakehouseError, PySparkException, ImportError, OSError, RuntimeError) as error:
            yield problem(f"The embedded engine does not start: {first_line(error)}.")
            return
        yield ok("The embedded engine computes.")
    else:
        try:
            check_workspace(settings.databricks)
        except SettingsError as error:
            yield problem(str(error))
            return
        yield ok(f"Steps run on {_compute(settings.databricks)} of {settings.databricks.host}.")
        yield ok(_fetch(settings.databricks))


def _compute(databricks: DatabricksSettings) -> str:
    if databricks.compute == "serverless":
        target = databricks.performance_target
        return f"serverless compute ({target})" if target else "serverless compute"
    if databricks.cluster_id:
        return f"the cluster {databricks.cluster_id}"
    return f"a cluster of each run's own ({databricks.node_type})"


def _fetch(databricks: DatabricksSettings) -> str:
    if databricks.fetch == "host":
        return "Bronze is fetched on this machine (EMAPS_DATABRICKS_FETCH=host), with its EMAPS_API_TOKEN."
    secret = f"secret {databricks.secret_key} of scope {databricks.secret_scope}"
    return f"Bronze is fetched where steps run, with the token in {secret}, which is not read here."


def java() -> Finding:
    """Check the Java version; EMAPS_DEPLOYMENT=spark needs a JVM."""
    home = os.environ.get("JAVA_HOME")
    command = str(Path(home) / "bin" / "java") if home else shutil.which("java")
    wanted = f"EMAPS_DEPLOYMENT=spark needs Java {_JAVA} or newer"
    if command is None:
        return problem(f"{wanted}, and there is none on the PATH: install it, or set JAVA_HOME.")
    try:
        output = subprocess.run(  # noqa: S603  # the machine's own Java
            [command, "-version"], capture_output=True, text=True, timeout=30, check=False
        ).stderr
    except (OSError, subprocess.TimeoutExpired) as error:
        return problem(f"{wanted}, and {command} does not run: {first_line(error)}.")
    version = re.search(r'version "(?:1\.)?(\d+)', output)
    if version is None or int(version[1]) < _JAVA:
        return problem(f"{wanted}, and {command} is {output.strip().splitlines()[0] if output.strip() else 'silent'}.")
    return ok(f"Java {version[1]} is {command}.")


def api(settings: Settings) -> Iterator[Finding]:
    """Check that the API answers, accepts the token and knows the zones, and that the clocks agree."""
    from emaps_dagster.electricity_maps.client import ElectricityMapsClient

    if settings.api_token is None and settings.deployment == "databricks" and settings.databricks.fetch == "cluster":
        # Steps have a token of their own.
        yield ok("The API is not tried: EMAPS_API_TOKEN is not set here, where only the sensor revisions uses it.")
        return
    if settings.api_token is None:
        yield warning("EMAPS_API_TOKEN is not set: the public API answers no request without one.")
    parts = urlsplit(settings.api_url)
    try:
        with requests.get(
            f"{parts.scheme}://{parts.netloc}/health", timeout=10, allow_redirects=False, stream=True
        ) as response:
            headers = response.headers
    except requests.RequestException as error:
        yield warning(
            f"The API at {settings.api_url} does not answer ({type(error).__name__}): ticks fail until it does."
        )
        return
    yield from clock(headers.get("Date"), settings, headers.get("Age"))

    def client_of(url: str) -> ElectricityMapsClient:
        return ElectricityMapsClient(
            url,
            settings.api_token,
            clock=lambda: settings.fixed_now or utc_now(),
            attempts=1,
            calls_per_minute=settings.calls_per_minute,
            longest_pause=_LONGEST_PAUSE_SECONDS,
        )

    try:
        with client_of(settings.api_url) as client:
            listed = client.zones()
    except ClockSkewError:
        # `clock` has reported it above.
        return
    except ProviderError as error:
        yield warning(f"The API at {settings.api_url} answers, but not as it should: {error}")
        return
    unknown = [zone for zone in settings.zones if zone not in listed]
    if unknown:
        yield warning(
            f"The API knows no zone {', '.join(unknown)}: correct EMAPS_ZONES, or see which zones the token's plan has."
        )
    else:
        yield ok(f"The API at {settings.api_url} answers and knows the zones.")
    if settings.zones[0] not in unknown:
        yield from roads(settings, client_of)


def clock(date: str | None, settings: Settings, age: str | None = None) -> Iterator[Finding]:
    """Compare our clock with the provider's: the header Date of its response, and Age if a cache answered."""
    if settings.fixed_now is not None:
        yield warning(
            f"EMAPS_FIXED_NOW is set: every run takes {settings.fixed_now:%Y-%m-%dT%H:%MZ} for the present. "
            "For replays only."
        )
    theirs = provider_clock({"Date": date or "", "Age": age or ""})
    if theirs is None:
        return
    machine = utc_now()
    present = settings.fixed_now or machine
    ahead = skew(present, machine, theirs)
    if ahead is None and settings.fixed_now is None and abs(machine - theirs) > _CLOCK:
        ahead = machine - theirs
    if ahead is None:
        return
    whose = "EMAPS_FIXED_NOW" if settings.fixed_now else "This machine's clock"
    remedy = "correct or remove it" if settings.fixed_now else "let the system keep it (NTP)"
    refused = abs(ahead) > LARGEST_SKEW
    follows = "every run fails" if refused else "hours are requested before they are over, or too late"
    yield warning(
        f"{whose} is {length(ahead)} {'ahead of' if ahead > timedelta(0) else 'behind'} the API's clock: {remedy}, "
        f"or {follows}."
    )
