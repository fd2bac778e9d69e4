"""Dagster's storages with connections that stay open: an event costs a fraction, what is stored is the same.

They reach into private parts of Dagster, so they were tried with one release; with any other, Dagster's own take over.
"""

from __future__ import annotations

import logging

import dagster as dg

TRIED_WITH = "1.13.27"
logger = logging.getLogger(__name__)


def is_tried(name: str) -> bool:
    """Whether a storage may be used with the Dagster that is installed."""
    if dg.__version__ == TRIED_WITH:
        return True
    logger.warning(
        "%s was tried with Dagster %s, not with %s: Dagster's own storage is used, which is slower.",
        name,
        TRIED_WITH,
        dg.__version__,
    )
    return False
