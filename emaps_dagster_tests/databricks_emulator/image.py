"""The Python of a cluster: a virtual environment with what the runtime brings and what a run's libraries name, no more.

It lacks the project and everything that no library asked for, so a pin that a launcher forgot is an ImportError.
Environments are kept between sessions, by what is in them, outside the checkout.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from email.parser import Parser
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Of what Databricks Runtime 17.3 LTS brings, what this project needs; versions are those of our lock.
RUNTIME = ("delta-spark", "numpy", "pandas", "pyarrow", "pyspark", "requests")
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
        LibraryError: the installer refuses.
    """
    wanted = sorted({*RUNTIME, *requirements})
    constraints = _constraints()
    key = hashlib.sha256("\n".join([sys.version, constraints, *wanted]).encode()).hexdigest()[:16]
    home = cache() / f"cluster-{key}"
    made = home / "made.json"
    with _alone(home.with_suffix(".lock")):
        if not made.exists():
            shutil.rmtree(home, ignore_errors=True)
            _forget_old()
            _make(home, wanted, constraints)
            made.write_text(json.dumps(wanted))
        made.touch()
    return home / "bin" / "python"


def _forget_old() -> None:
    """Environments of earlier locks, half a gigabyte each, go when nobody has used them for long."""
    for made in cache().glob("cluster-*/made.json"):
        if time.time() - made.stat().st_mtime > _KEPT_SECONDS:
            shutil.rmtree(made.parent)


def requirements_of(wheel: Path) -> list[str]:
    """What a wheel depends on."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(one for one in archive.namelist() if one.endswith(".dist-info/METADATA"))
        told = Parser().parsestr(archive.read(name).decode()).get_all("Requires-Dist") or []
    return [line for line in told if "extra ==" not in line]


def unpack(wheel: Path, folder: Path) -> None:
    """Install a wheel without its dependencies into a folder of its own."""
    _run(["pip", "install", "--no-deps", "--quiet", "--target", str(folder), str(wheel)])


def _make(home: Path, wanted: list[str], constraints: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "constraints.txt"
        file.write_text(constraints)
        base = getattr(sys, "_base_executable", sys.executable)
        _run(["venv", "--quiet", "--python", base, str(home)])
        _run(["pip", "install", "--quiet", "--python", str(home / "bin/python"), "--constraint", str(file), *wanted])


def delta_coordinate() -> str:
    """Delta's jars, which are a part of a cluster's Spark, as Maven names them."""
    version = next(line for line in _constraints().splitlines() if line.startswith("delta-spark==")).split("==")[1]
    return f"io.delta:delta-spark_2.13:{version}"


def _constraints() -> str:
    """The lock without its hashes: the versions that a cluster is given."""
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    return "\n".join(
        line.removesuffix(" \\") for line in lines if line and not line.lstrip().startswith(("--hash", "#"))
    )


def _run(arguments: list[str]) -> None:
    installer = uv()
    if installer is None:
        raise LibraryError("uv is not installed")
    done = subprocess.run([installer, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise LibraryError(done.stderr.strip())


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """One process at a time makes an environment; the others wait and find it."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
