"""The demo's folder: warehouse, Dagster's home, picture, log, and their settings.

It removes only files of a demo, and only while no other demo uses the folder.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from emaps_dagster.cli import home
from emaps_dagster.contracts.errors import EmapsError
from emaps_dagster.contracts.paths import DEMO_MARK
from emaps_dagster.contracts.signals import PowerSignal

_PRESENT = "DEMO_PRESENT"
_LOCK = ".in-use.lock"
_MADE = ("warehouse", "fetched_later", "dagster_home", "gold.png", "demo.log", "dev.log", "demo.env")


class FolderError(EmapsError):
    """The demo's folder cannot be used."""


@dataclass(frozen=True)
class DemoFolder:
    """Paths and settings of a demo; `root` need not exist."""

    root: Path

    @property
    def warehouse(self) -> Path:
        return self.root / "warehouse"

    @property
    def fetched_later(self) -> Path:
        """The second warehouse of history.py."""
        return self.root / "fetched_later"

    @property
    def dagster_home(self) -> Path:
        return self.root / "dagster_home"

    @property
    def picture(self) -> Path:
        return self.root / "gold.png"

    @property
    def log(self) -> Path:
        return self.root / "demo.log"

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Lock the folder against other demos.

        Raises:
            FolderError: another process uses the folder, or it holds other files than a demo's.
        """
        mark = self.root / DEMO_MARK
        if self.root.exists() and not mark.exists() and any(self.root.iterdir()):
            raise FolderError(f"{self.root} was not made by the demo and is not empty: name another with --folder.")
        self.root.mkdir(parents=True, exist_ok=True)
        mark.touch()
        lock = FileLock(self.root / _LOCK, blocking=False)
        try:
            lock.acquire()
        except Timeout:
            raise FolderError(
                f"{self.root} is in use by another `make demo` or `make dev`: end that first, "
                "or name another folder with --folder."
            ) from None
        try:
            yield
        finally:
            lock.release()

    def start_afresh(self) -> None:
        """Remove the files of an earlier demo, and no others."""
        for name in _MADE:
            path = self.root / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def prepare(
        self, zone: str, start: datetime, present: datetime | None = None, signal: PowerSignal = "power-breakdown"
    ) -> None:
        """Create Dagster's home, and write the file that `make dev` reads: settings, and the demo's present."""
        home.prepare(self.dagster_home)
        values = {
            "EMAPS_ZONES": zone,
            "EMAPS_START": f"{start:%Y-%m-%dT%H:%M}",
            "EMAPS_POWER_SIGNAL": signal,
        }
        if present:
            values[_PRESENT] = present.isoformat()
        self._settings_file.write_text("".join(f"{name}={value}\n" for name, value in values.items()))

    @property
    def _settings_file(self) -> Path:
        return self.root / "demo.env"

    def _read_settings(self) -> dict[str, str]:
        return dict(line.split("=", 1) for line in self._settings_file.read_text().splitlines())

    @property
    def is_prepared(self) -> bool:
        """Whether `prepare` has run here."""
        return self._settings_file.exists()

    @property
    def power_signal(self) -> PowerSignal:
        """The signal of the demo's runs, as `prepare` wrote it."""
        mix: PowerSignal = "electricity-mix"
        return mix if self._read_settings().get("EMAPS_POWER_SIGNAL") == mix else "power-breakdown"

    @property
    def present(self) -> datetime | None:
        """The time of the demo's tick; None without a demo before."""
        present = self._read_settings().get(_PRESENT)
        return datetime.fromisoformat(present) if present else None

    def environment(self, api_url: str, token: str, now: datetime | None = None) -> dict[str, str]:
        """This process's environment with the demo's settings in place of the user's."""
        others = {name: value for name, value in os.environ.items() if not name.startswith(("EMAPS_", "DAGSTER_"))}
        return {
            **others,
            **self._read_settings(),
            "EMAPS_DEPLOYMENT": "embedded",
            "EMAPS_API_URL": api_url,
            "EMAPS_API_TOKEN": token,
            "EMAPS_WAREHOUSE": str(self.warehouse),
            **({"EMAPS_FIXED_NOW": now.isoformat()} if now else {}),
            "DAGSTER_HOME": str(self.dagster_home),
        }
