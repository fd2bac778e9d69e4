"""Folder paths for all engines: rejects impossible names, and links a plain name to those with special characters."""

from __future__ import annotations

import atexit
import os
import re
import shutil
import tempfile
from functools import cache
from pathlib import Path

from emaps_dagster.contracts.errors import LakehouseError

# delta-rs resolves links and turns the path into a URL, which it decodes twice or cannot represent.
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")
_IMPOSSIBLE = re.compile(r"[\[\]^|\\\x00-\x1f]")
_PLAIN = re.compile(r"^[A-Za-z0-9_./-]+$")

# The file that marks a folder which a demo has made.
DEMO_MARK = ".made-by-emaps-demo"


def expanded(folder: str | Path) -> Path:
    """The folder with `~` replaced by the home of its user; `./~name`, given as text, is a folder of that name.

    Raises:
        ValueError: there is no such user.
    """
    # Path drops the `./`, so the next call would expand the `~`.
    if isinstance(folder, str) and re.match(r"(\./+)+~", folder):
        return Path(folder).absolute()
    try:
        return Path(folder).expanduser()
    except RuntimeError:
        name = Path(folder).parts[0]
        raise ValueError(f"the home {name} is not known; for a folder of that name write ./{name}") from None


def why_impossible(folder: Path) -> str | None:
    """Reason why no Delta table can lie in the folder; None if one can."""
    if found := _ESCAPE.search(str(folder)):
        return f"Delta's writer takes {found[0]!r} in a path for another character; choose another folder"
    if found := _IMPOSSIBLE.search(str(folder)):
        return f"Delta's writer cannot handle {found[0]!r} in a path; choose another folder"
    return None


@cache
def plain_path(folder: Path) -> Path:
    """The folder under a name that no engine escapes.

    Sail opens `my%20data` for the path `my data`: for such a folder this process creates a symbolic link with a
    plain name. delta-rs follows the link.

    Raises:
        LakehouseError: no engine can read the folder, or no link can be created.
    """
    if why := why_impossible(folder):
        raise LakehouseError(f"EMAPS_WAREHOUSE is {str(folder)!r}: {why}.")
    if _PLAIN.match(str(folder)):
        return folder
    links = _plain_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    link = links / "warehouse"
    link.symlink_to(folder, target_is_directory=True)
    return link


def _plain_folder(folder: Path) -> Path:
    """Creates a temporary folder with a plain name, deleted when this process exits."""
    # The path of the temporary folder may contain a blank, too.
    for place in (tempfile.gettempdir(), "/tmp", "/var/tmp", "/dev/shm", os.path.expanduser("~")):  # noqa: S108, PTH111  # made by mkdtemp
        if not _PLAIN.match(place):
            continue
        try:
            made = tempfile.mkdtemp(prefix="emaps-", dir=place)
        except OSError:
            continue
        atexit.register(shutil.rmtree, made, ignore_errors=True)
        return Path(made)
    raise LakehouseError(
        f"EMAPS_WAREHOUSE is {str(folder)!r}, which engines read through a link with a plain name, and "
        f"none could be made: {tempfile.gettempdir()!r} is no plain name or cannot be written. Set TMPDIR to a folder "
        "whose path has letters, digits and _ . - only, or choose such a warehouse."
    )
