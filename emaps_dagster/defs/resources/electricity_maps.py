"""The API as a Dagster resource: hands out a plain client and the clock of the run."""

# No postponed annotations: Dagster reads the field types of a resource when the class is made.

from datetime import datetime
from typing import Any

import dagster as dg

from emaps_dagster.contracts.settings import read_settings
from emaps_dagster.contracts.windows import utc_now
from emaps_dagster.electricity_maps.client import ElectricityMapsClient

# Of a sensor's minute; a response may take 15 s.
_LONGEST_PAUSE_SECONDS = 10.0


class ElectricityMapsResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Where the data comes from.

    The token is taken from the settings when a run asks, so it is in no config, event, page or pickle.
    """

    api_url: str
    now: str | None = None

    def clock(self) -> datetime:
        """The present, UTC; a fixed one in a replay (`EMAPS_FIXED_NOW`)."""
        return datetime.fromisoformat(self.now) if self.now else utc_now()

    def client(self) -> ElectricityMapsClient:
        return self._made()

    def sensor_client(self) -> ElectricityMapsClient:
        """For sensors, which Dagster ends after a minute: what does not answer soon is asked at the next look."""
        return self._made(timeout=(3.0, 10.0), attempts=1, longest_pause=_LONGEST_PAUSE_SECONDS)

    def _made(self, **options: Any) -> ElectricityMapsClient:
        settings = read_settings()
        return ElectricityMapsClient(
            self.api_url,
            settings.api_token,
            # The function itself: the client takes any other for a chosen present.
            clock=self.clock if self.now else utc_now,
            calls_per_minute=settings.calls_per_minute,
            **options,
        )
