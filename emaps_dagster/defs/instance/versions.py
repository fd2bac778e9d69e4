"""Version guard for all code that uses private parts of Dagster: the versions that it was tested with."""

from __future__ import annotations

import logging
from importlib.metadata import version

from emaps_dagster.contracts.errors import LauncherError

# Change these together with the pins in pyproject.toml, after all tests pass.
TESTED_VERSIONS = {"dagster": "1.13.27", "dagster-databricks": "0.29.27"}
logger = logging.getLogger(__name__)


def supports_storage(name: str) -> bool:
    """Whether our storage class was tested with the installed Dagster; logs a warning if not."""
    installed, tested = version("dagster"), TESTED_VERSIONS["dagster"]
    if installed == tested:
        return True
    logger.warning(
        "%s was tested with Dagster %s, not with %s: Dagster's own storage is used, which is slower.",
        name,
        tested,
        installed,
    )
    return False


def check_launcher_versions() -> None:
    """Check that the launcher was tested with the installed versions, and so with their form of events.

    Raises:
        LauncherError: another version is installed.
    """
    others = [f"{name} {version(name)}" for name, tested in TESTED_VERSIONS.items() if version(name) != tested]
    if others:
        wanted = ", ".join(f"{name} {tested}" for name, tested in TESTED_VERSIONS.items())
        raise LauncherError(
            f"Steps are launched on Databricks with {wanted} only, and this machine has {', '.join(others)}: events "
            "of launched steps would be stored with wrong provenance. Install what requirements.lock names. For a "
            "new release of Dagster run emaps_dagster_tests/defs/databricks/test_event_provenance.py with it, then "
            "change TESTED_VERSIONS in emaps_dagster/defs/instance/versions.py."
        )
