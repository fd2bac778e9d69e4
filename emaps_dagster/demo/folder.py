"""The demo's folder: warehouse, Dagster's home, picture and log, and the settings that belong to them.

It removes only what a demo made, and only while no other demo uses it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from emaps_dagster.cli import home
from emaps_dagster.contracts.errors import EmapsError

_PRESENT = "DEMO_PRESENT"
_MARK = ".made-by-emaps-demo"
_MADE = ("warehouse", "dagster_home", "gold.png", "demo.log", "dev.log", "demo.env")


class FolderError(EmapsError):
    """The demo's folder cannot be used."""


@dataclass(frozen=True)
class Folder:
    """Where a demo keeps everything; `root` need not exist."""

    root: Path

    @property
    def warehouse(self) -> Path:
        return self.root / "warehouse"

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
        """Keep other demos out while this one uses the folder.

        Raises:
            FolderError: another process uses it, or it holds files that no demo made.
        """
        mark = self.root / _MARK
        if self.root.exists() and not mark.exists() and any(self.root.iterdir()):
            raise FolderError(f"{self.root} was not made by the demo and is not empty: name another with --folder.")
        self.root.mkdir(parents=True, exist_ok=True)
        with mark.open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise FolderError(
                    f"{self.root} is in use by another `make demo` or `make dev`: end that first, "
                    "or name another folder with --folder."
                ) from None
            yield

    def start_afresh(self) -> None:
        """Remove what an earlier demo made here, and nothing else."""
        for name in _MADE:
            path = self.root / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def prepare(self, zone: str, start: datetime, present: datetime | None = None) -> None:
        """Make Dagster's home, and keep what `make dev` has to share: settings, and the present of the demo's tick."""
        home.prepare(self.dagster_home)
        kept = {"EMAPS_ZONES": zone, "EMAPS_START": f"{start:%Y-%m-%dT%H:%M}"}
        if present:
            kept[_PRESENT] = present.isoformat()
        self._kept.write_text("".join(f"{name}={value}\n" for name, value in kept.items()))

    @property
    def _kept(self) -> Path:
        return self.root / "demo.env"

    def _read_kept(self) -> dict[str, str]:
        return dict(line.split("=", 1) for line in self._kept.read_text().splitlines())

    @property
    def is_prepared(self) -> bool:
        return self._kept.exists()

    @property
    def present(self) -> datetime | None:
        """When the demo's tick was; None without a demo before."""
        present = self._read_kept().get(_PRESENT)
        return datetime.fromisoformat(present) if present else None

    def environment(self, api_url: str, token: str, now: datetime | None = None) -> dict[str, str]:
        """This process's environment with every setting of the demo; a user's own do not shine through."""
        others = {name: value for name, value in os.environ.items() if not name.startswith(("EMAPS_", "DAGSTER_"))}
        return {
            **others,
            **self._read_kept(),
            "EMAPS_DEPLOYMENT": "embedded",
            "EMAPS_API_URL": api_url,
            "EMAPS_API_TOKEN": token,
            "EMAPS_WAREHOUSE": str(self.warehouse),
            **({"EMAPS_FIXED_NOW": now.isoformat()} if now else {}),
            "DAGSTER_HOME": str(self.dagster_home),
        }
