"""The API as a Dagster resource: returns a plain client and the clock of the run."""

# No postponed annotations: Dagster reads the field types of a resource when the class is defined.

from datetime import datetime
from typing import Any

import dagster as dg

from emaps_dagster.contracts.settings import Settings, read_settings
from emaps_dagster.contracts.windows import utc_now
from emaps_dagster.electricity_maps.client import ElectricityMapsClient
from emaps_dagster.electricity_maps.recorded import RecordedClient, recording_of

# Part of the minute that a sensor has; a response may take 15 s of it.
_LONGEST_PAUSE_SECONDS = 10.0


class ElectricityMapsResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The Electricity Maps API.

    The token is read from the settings when a client is created, so it is in no config, event, page or pickle.
    """

    api_url: str
    now: str | None = None

    def clock(self) -> datetime:
        """The present, UTC; a fixed one in a replay (`EMAPS_FIXED_NOW`)."""
        return datetime.fromisoformat(self.now) if self.now else utc_now()

    def present_of(self, table: str) -> datetime:
        """The present of a bronze table's fetch: the clock's, or that of the machine that has fetched already."""
        recording = recording_of(table)
        return recording.now if recording else self.clock()

    def client(self, table: str | None = None) -> ElectricityMapsClient | RecordedClient:
        """The client of a run, with retries; for a bronze table that was fetched elsewhere, the recorded answers."""
        recording = recording_of(table) if table else None
        return RecordedClient(recording) if recording else self._new_client()

    def sensor_client(self) -> ElectricityMapsClient:
        """The client of a sensor, which Dagster stops after a minute: short timeouts and no retries."""
        return self._new_client(timeout=(3.0, 10.0), attempts=1, longest_pause=_LONGEST_PAUSE_SECONDS)

    def _new_client(self, **options: Any) -> ElectricityMapsClient:
        fixed = datetime.fromisoformat(self.now) if self.now else None
        return client_of(read_settings(), self.api_url, fixed, **options)


def client_of(settings: Settings, api_url: str, fixed_now: datetime | None, **options: Any) -> ElectricityMapsClient:
    """A client with the token and the pace of the settings.

    Args:
        settings: of this process.
        api_url: the API with its version.
        fixed_now: the present of a replay; None for the machine's clock.
        options: of `ElectricityMapsClient`.
    """
    return ElectricityMapsClient(
        api_url,
        settings.api_token,
        # The function itself: the client treats any other clock as a fixed present.
        clock=utc_now if fixed_now is None else lambda: fixed_now,
        calls_per_minute=settings.calls_per_minute,
        **options,
    )
