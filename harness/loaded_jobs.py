"""Jobs of the definitions in this process, with the settings of any deployment, as Dagster loads them in its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.definitions.reconstruct import ReconstructableJob, ReconstructableRepository

_ROOT = Path(__file__).resolve().parents[1]


@contextmanager
def settings_alone(settings: Mapping[str, str]) -> Iterator[None]:
    """The environment with these variables, and no other EMAPS_*."""
    before = dict(os.environ)
    for name in [name for name in before if name.startswith("EMAPS_")]:
        del os.environ[name]
    os.environ.update(settings)
    try:
        yield
    finally:
        for name in [name for name in settings if name not in before]:
            os.environ.pop(name, None)
        os.environ.update(before)


@contextmanager
def loaded_job(
    settings: Mapping[str, str],
    job: str,
    *,
    module: str = "emaps_dagster.definitions",
    attribute: str = "defs",
    folder: Path = _ROOT,
) -> Iterator[ReconstructableJob]:
    """A job of definitions that are made from these settings, which hold until the end.

    Args:
        settings: variables; those named EMAPS_* are the only ones.
        job: its name.
        module: where the definitions are.
        attribute: their name in the module.
        folder: that the module is imported from.
    """
    with settings_alone(settings):
        before = sys.modules.pop(module, None)
        ReconstructableJob.get_definition.cache_clear()  # type: ignore[attr-defined]
        ReconstructableJob.get_repository_definition.cache_clear()  # type: ignore[attr-defined]
        try:
            pointer = ModuleCodePointer(module, attribute, working_directory=str(folder))
            yield ReconstructableRepository(pointer).get_reconstructable_job(job)
        finally:
            sys.modules.pop(module, None)
            if before is not None:
                sys.modules[module] = before
