"""The Python of a cluster: a virtual environment with what the runtime brings and what a run's libraries name, no more.

It lacks the project and everything that no library asked for, so a pin that a launcher forgot is an ImportError.
Environments are kept between sessions, by what is in them, outside the checkout.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from email.parser import Parser
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
# Of what Databricks Runtime 17.3 LTS brings, what this project needs; versions are those of our lock.
RUNTIME = ("databricks-sdk", "delta-spark", "numpy", "pandas", "pyarrow", "pyspark", "requests")
_KEPT_SECONDS = 14 * 24 * 3600


class LibraryError(Exception):
    """A library cannot be installed; the message is the installer's."""


def uv() -> str | None:
    """The installer, of this environment or of the machine."""
    ours = Path(sys.prefix) / "bin" / "uv"
    return str(ours) if ours.exists() else shutil.which("uv")


def cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "emaps_dagster_tests"


def python(requirements: Iterable[str] = ()) -> Path:
    """The interpreter of the environment with the runtime's packages and these requirements; made when there is none.

    Raises:
        LibraryError: a requirement that the lock cannot fulfil, or an installer that refuses.
    """
    locked = "\n".join(_closure([*RUNTIME, *requirements]))
    key = hashlib.sha256(f"{sys.version}\n{locked}".encode()).hexdigest()[:16]
    return kept(f"cluster-{key}", lambda home: _make(home, locked))


def kept(name: str, make: Callable[[Path], None]) -> Path:
    """The interpreter of an environment that is made once by `make`, in a folder of this name, and kept."""
    home = cache() / name
    made = home / "made.txt"
    with _alone(home.with_suffix(".lock")):
        if not made.exists():
            shutil.rmtree(home, ignore_errors=True)
            _forget_old()
            make(home)
            made.write_text(name)
        made.touch()
    return home / "bin" / "python"


def _closure(wanted: Iterable[str]) -> list[str]:
    """What the requirements need, with what that needs, as lines of the lock with their hashes.

    Hashes are not only for safety: with them uv finds the wheels that it built for this very environment.
    """
    lock = _lock()
    left = [(Requirement(text), "") for text in wanted]
    found: dict[str, str] = {}
    seen = set()
    while left:
        requirement, extra = left.pop()
        name = canonicalize_name(requirement.name)
        if (name, frozenset(requirement.extras)) in seen:
            continue
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        seen.add((name, frozenset(requirement.extras)))
        if name not in lock or not requirement.specifier.contains(lock[name][0], prereleases=True):
            offered = lock[name][0] if name in lock else "none"
            raise LibraryError(f"No matching distribution found for {requirement} (from versions: {offered})")
        found[name] = lock[name][1]
        declared = distribution(name).requires or []
        left += [(Requirement(text), part) for text in declared for part in (requirement.extras or {""})]
    return [found[name] for name in sorted(found)]


def _lock() -> dict[str, tuple[str, str]]:
    """Version and lines of every package that requirements.lock names."""
    packages: dict[str, tuple[str, str]] = {}
    blocks = re.split(r"\n(?=\S)", "\n" + (ROOT / "requirements.lock").read_text())
    for block in blocks:
        lines = [line for line in block.splitlines() if line.strip() and not line.strip().startswith("#")]
        if lines:
            requirement = Requirement(lines[0].removesuffix("\\"))
            # A package may be there once for every range of Pythons.
            if requirement.marker is None or requirement.marker.evaluate():
                version = str(requirement.specifier).removeprefix("==")
                packages[canonicalize_name(requirement.name)] = version, "\n".join(lines)
    return packages


def _forget_old() -> None:
    """Environments of earlier locks, half a gigabyte each, go when nobody has used them for long."""
    for made in cache().glob("*/made.txt"):
        if time.time() - made.stat().st_mtime > _KEPT_SECONDS:
            shutil.rmtree(made.parent)


def requirements_of(wheel: Path) -> list[str]:
    """What a wheel depends on."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(one for one in archive.namelist() if one.endswith(".dist-info/METADATA"))
        declared = Parser().parsestr(archive.read(name).decode()).get_all("Requires-Dist") or []
    return [line for line in declared if "extra ==" not in line]


def unpack(wheel: Path, folder: Path) -> None:
    """Install a wheel without its dependencies into a folder of its own."""
    run(["pip", "install", "--no-deps", "--quiet", "--target", str(folder), str(wheel)])


def _make(home: Path, locked: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "locked.txt"
        file.write_text(locked)
        run(["venv", "--quiet", "--python", getattr(sys, "_base_executable", sys.executable), str(home)])
        # The first step compiles what steps import, which is less than all.
        sync = ["pip", "sync", "--quiet", "--python", str(home / "bin/python")]
        run([*sync, "--require-hashes", str(file)])


def delta_coordinate() -> str:
    """Delta's jars, which are a part of a cluster's Spark, as Maven names them."""
    return f"io.delta:delta-spark_2.13:{_lock()['delta-spark'][0]}"


def run(arguments: list[str]) -> str:
    """uv with these arguments; returns what it prints.

    Raises:
        LibraryError: it is not there, or refuses.
    """
    installer = uv()
    if installer is None:
        raise LibraryError("uv is not installed")
    done = subprocess.run([installer, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise LibraryError(done.stderr.strip())
    return done.stdout


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """One process at a time makes an environment; the others wait and find it."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
