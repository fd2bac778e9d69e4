"""Every error that the package raises on purpose, as one tree.

A message names the cause, the zone, hours and endpoint, and the remedy.
No error here takes the API token, so no message can contain it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emaps_dagster.contracts.responses import RawResponse


class EmapsError(Exception):
    """Root of the tree: catch this to catch everything the project raises on purpose."""


class SettingsError(EmapsError):
    """A setting has a value that cannot be used."""


class ProviderError(EmapsError):
    """The API returned no usable response."""


class InvalidTokenError(ProviderError):
    """401: the token is missing, wrong or revoked. Not retried."""


class NotInPlanError(ProviderError):
    """401, 403: the token is fine, but its plan lacks this endpoint or this zone. Not retried."""


class WithdrawnError(NotInPlanError):
    """401, 404 or 410 for power-breakdown of a zone whose carbon-intensity is served. Not retried."""


class BadRequestError(ProviderError):
    """400 and other 4xx: the API refused the request. Not retried."""


class GoneError(BadRequestError):
    """410: the endpoint was removed. Not retried."""


class WrongAddressError(BadRequestError):
    """A redirect, or a 404 that is not the API's: `EMAPS_API_URL` does not lead to the API. Not retried."""


class BlockedError(ProviderError):
    """403 or 407 from a proxy or firewall instead of the API. Not retried."""


class NoDataError(ProviderError):
    """404, or a 2xx without a body: the API has no data for this zone and window. Not retried."""


class RateLimitedError(ProviderError):
    """A rate limit (429, or a text that names one) outlasted every retry, or our own limit allows no call now."""


class ProviderUnavailableError(ProviderError):
    """408, 425, 5xx or a network fault outlasted every retry."""


class ResponseTooLongError(ProviderError):
    """The body is longer than any response of the API; it was not read to its end. Not retried."""


class ClockSkewError(ProviderError):
    """The clock that stamps responses differs from the provider's by more than a few minutes. Not retried."""


class RejectedBodyError(ProviderError):
    """200 with a body that must not be loaded; the body is stored in `bronze.rejected_responses`.

    `response` is the rejected response, `reason` one sentence without its full stop.
    """

    def __init__(self, response: RawResponse, reason: str) -> None:
        self.response = response
        self.reason = reason
        super().__init__(
            f"{response.feed.endpoint}/{response.endpoint} of zone {response.zone} ({response.request}): the API "
            f"answered 200, but {reason}. The body is not loaded; look at it in "
            "bronze.rejected_responses, run these hours again later, and tell the provider if it stays so."
        )

    def __reduce__(self) -> tuple[type[RejectedBodyError], tuple[RawResponse, str]]:
        return type(self), (self.response, self.reason)


class PartitionError(EmapsError):
    """A run's partitions cannot be materialized: not full hours, not over, or before the first."""


class FetchError(EmapsError):
    """A bronze run could not fetch all requested hours; the usable responses are stored."""


class EngineError(EmapsError):
    """Spark cannot be started in the way that the deployment requires."""


class AlertError(EmapsError):
    """An alert could not be delivered through any channel."""


class LakehouseError(EmapsError):
    """A Delta table could not be read or written as requested."""


class DamagedTableError(LakehouseError):
    """A file of a Delta table is missing or broken; the message names the file and the repair."""


class WithdrawalError(LakehouseError):
    """Responses cannot be withdrawn as requested; nothing was changed."""


class ContractChangedError(LakehouseError):
    """A stored table does not have the schema of its contract."""


class WriteConflictError(LakehouseError):
    """Other writers won every commit race; nothing stale was written."""


class FeaturesError(EmapsError):
    """A query of `features.load` is invalid or cannot be answered."""


class NoFeaturesError(FeaturesError):
    """No rows match the query: no table, an unknown zone, or hours that were not fetched by that time."""


class PartialFeaturesError(FeaturesError):
    """There are fewer rows than requested hours; `allow="missing"` accepts them."""


class BackfilledFeaturesError(FeaturesError):
    """Rows of a point-in-time query come from a later backfill; `allow="backfilled"` accepts them."""


class StaleFeaturesError(FeaturesError):
    """The last known record of a zone is older than `forecasting.latest` accepts."""


class LauncherError(EmapsError):
    """A step could not be submitted to Databricks, or its result cannot be used."""


class ChecksFailedError(EmapsError):
    """A blocking check failed in a task of a native job; the merged rows are stored."""
