"""Every error a person can meet, as one tree.

A message says what happened, for which zone, hours and endpoint, and what to do about it.
The API token never enters a message: nothing here takes one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emaps_dagster.contracts.responses import Response


class EmapsError(Exception):
    """Root of the tree: catch this to catch everything the project raises on purpose."""


class SettingsError(EmapsError):
    """A setting has a value that cannot be used."""


class ProviderError(EmapsError):
    """The API gave no usable answer."""


class InvalidTokenError(ProviderError):
    """401: the token is missing, wrong or revoked. Not retried."""


class NotInPlanError(ProviderError):
    """401, 403: the token is fine, but its plan lacks this endpoint or this zone. Not retried."""


class BadRequestError(ProviderError):
    """400 and other 4xx: the API refused the request. Not retried."""


class WrongAddressError(BadRequestError):
    """A redirect, or a 404 that is not the API's: `EMAPS_API_URL` does not lead to the API. Not retried."""


class BlockedError(ProviderError):
    """403, 407 that are not the API's: a proxy or a firewall refused the request. Not retried."""


class NoDataError(ProviderError):
    """404, or a 2xx without a body: the API has no data for this zone and window. Not retried."""


class RateLimitedError(ProviderError):
    """A rate limit (429, or a text that names one) outlasted every retry, or our own allows no call now."""


class ProviderUnavailableError(ProviderError):
    """408, 425, 5xx or a network fault outlasted every retry."""


class ResponseTooLongError(ProviderError):
    """The body is longer than any answer of the API; it was not read to its end. Not retried."""


class ClockSkewError(ProviderError):
    """The clock that stamps responses differs from the provider's by more than a few minutes. Not retried."""


class RejectedBodyError(ProviderError):
    """200 with a body that must not be loaded; the evidence is kept in `bronze.rejected_responses`.

    `response` is the evidence, `reason` one sentence without its full stop.
    """

    def __init__(self, response: Response, reason: str) -> None:
        self.response = response
        self.reason = reason
        super().__init__(
            f"{response.feed.endpoint}/{response.endpoint} of zone {response.zone} ({response.request}): the API "
            f"answered 200, but {reason}. The body is not loaded; look at it in "
            "bronze.rejected_responses, run these hours again later, and tell the provider if it stays so."
        )

    def __reduce__(self) -> tuple[type[RejectedBodyError], tuple[Response, str]]:
        return type(self), (self.response, self.reason)


class PartitionError(EmapsError):
    """A run's partitions are no hours that can be made: not full, not over, or before the first."""


class FetchError(EmapsError):
    """A bronze run could not get everything it was asked for; what was good is stored."""


class EngineError(EmapsError):
    """Spark cannot be started as the deployment asks."""


class AlertError(EmapsError):
    """Nobody could be told of a failure."""


class LakehouseError(EmapsError):
    """A Delta table could not be read or written as asked."""


class DamagedTableError(LakehouseError):
    """A file of a Delta table is missing or broken; the message names it and how to mend it."""


class WithdrawalError(LakehouseError):
    """Responses cannot be withdrawn as asked; nothing was changed."""


class ContractChangedError(LakehouseError):
    """A stored table does not have the schema its contract promises."""


class WriteConflictError(LakehouseError):
    """Other writers won every commit race; nothing stale was written."""


class FeaturesError(EmapsError):
    """A question to `features.load` that cannot be answered as it was asked."""


class NoFeaturesError(FeaturesError):
    """There is nothing to answer it with: no table, an unknown zone, or hours that nobody has fetched by then."""


class PartialFeaturesError(FeaturesError):
    """There are fewer rows than hours asked for; `allow="missing"` accepts them."""


class BackfilledFeaturesError(FeaturesError):
    """Rows that are to be as known in their time come from a later backfill; `allow="backfilled"` accepts them."""


class LauncherError(EmapsError):
    """A step could not be sent to Databricks, or what came back cannot be used."""


class ChecksFailedError(EmapsError):
    """A check that blocks failed in a task of a native job; what was merged is stored."""
