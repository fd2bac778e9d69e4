"""Every error a person can meet, as one tree.

A message says what happened, for which zone, hours and endpoint, and what to do about it.
The API token never enters a message: nothing here takes one.
"""

from __future__ import annotations


class EmapsError(Exception):
    """Root of the tree: catch this to catch everything the project raises on purpose."""


class SettingsError(EmapsError):
    """A setting has a value that cannot be used."""


class ProviderError(EmapsError):
    """The API gave no usable answer."""


class InvalidTokenError(ProviderError):
    """401: the token is missing, wrong or revoked. Not retried."""


class NotInPlanError(ProviderError):
    """401: the token is fine, but its plan lacks this endpoint or this zone. Not retried."""


class BadRequestError(ProviderError):
    """400 and other 4xx: the API refused the question. Not retried."""


class NoDataError(ProviderError):
    """404: the API knows no data for this zone and window. Not retried."""


class RateLimitedError(ProviderError):
    """429 outlasted every retry."""


class ProviderUnavailableError(ProviderError):
    """5xx or a network fault outlasted every retry."""


class RejectedBodyError(ProviderError):
    """200 with a body that must not be loaded; the evidence is kept in `bronze.rejected_responses`."""


class FetchError(EmapsError):
    """A bronze run could not get everything it was asked for; what was good is stored."""


class LakehouseError(EmapsError):
    """A Delta table could not be read or written as asked."""


class ContractChangedError(LakehouseError):
    """A stored table does not have the schema its contract promises."""


class WriteConflictError(LakehouseError):
    """Other writers won every commit race; nothing stale was written."""
