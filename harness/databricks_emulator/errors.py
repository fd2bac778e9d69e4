"""An error as Databricks' REST API answers it."""

from __future__ import annotations


class ApiError(Exception):
    """Status, `error_code` and `message` of the JSON body."""

    def __init__(self, status: int, code: str, message: str, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.retry_after = retry_after


def missing(message: str) -> ApiError:
    return ApiError(404, "RESOURCE_DOES_NOT_EXIST", message)


def invalid(message: str) -> ApiError:
    return ApiError(400, "INVALID_PARAMETER_VALUE", message)


def injected(status: int, retry_after: int | None) -> ApiError:
    """What Databricks says with this status when the fault is its own."""
    code, message = {
        404: ("RESOURCE_DOES_NOT_EXIST", "The resource does not exist."),
        429: (
            "REQUEST_LIMIT_EXCEEDED",
            "Your request was rejected since your organization has exceeded the rate limit.",
        ),
        503: ("TEMPORARILY_UNAVAILABLE", "The service at this path is temporarily unavailable."),
    }.get(status, ("INTERNAL_ERROR", "An internal error occurred. Please contact Databricks support."))
    return ApiError(status, code, message, retry_after=retry_after)
