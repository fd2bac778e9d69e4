"""Times of several repeats as a Markdown table, and on what machine they were taken."""

from __future__ import annotations

import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

# Exit code of a measure whose input is absent: the page keeps its last section.
SKIPPED = 77
_PACKAGES = ("dagster", "pyspark", "pysail", "deltalake", "pyarrow", "pandas")


class Figures:
    """What was measured, by name, in the order it was first measured."""

    def __init__(self) -> None:
        self.values: dict[str, list[float]] = defaultdict(list)
        self.units: dict[str, str] = {}

    def add(self, name: str, value: float, unit: str = "s") -> None:
        self.values[name].append(value)
        self.units[name] = unit

    @contextmanager
    def clock(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.add(name, time.perf_counter() - began)

    def total(self, name: str, of: list[str]) -> None:
        """The sum of the latest values of others."""
        self.add(name, sum(self.values[part][-1] for part in of))

    def table(self) -> str:
        lines = ["| measure | unit | median | min | max | repeats |", "|---|---|---|---|---|---|"]
        for name, values in self.values.items():
            figures = (statistics.median(values), min(values), max(values))
            lines.append(f"| {name} | {self.units[name]} | {' | '.join(map(_short, figures))} | {len(values)} |")
        return "\n".join(lines)


def _short(value: float) -> str:
    if value == int(value) or value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3f}" if value < 10 else f"{value:.1f}"


def _commit() -> str:
    """The commit that was measured, and whether the files differ from it; results themselves do not count."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git(
            "status", "--porcelain", "--untracked-files=no", "--", ":/", ":!/benchmarks/*.md", ":!/benchmarks/*.csv"
        )
        return f"Commit {git('rev-parse', '--short=7', 'HEAD')}{' with changes' if changed else ''}"
    except (OSError, subprocess.CalledProcessError):
        return "No commit"


def machine() -> str:
    """Commit, cores, memory, system and versions, in one line."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    return (
        f"{_commit()}, {os.cpu_count()} cores, {memory:.0f} GB, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}, {versions}"
    )


@contextmanager
def watching_others(shares: list[float]) -> Iterator[None]:
    """Adds the mean number of cores that other processes kept busy meanwhile; nothing where /proc/stat is missing."""
    began, busy, own = time.perf_counter(), _busy(), _own()
    yield
    now = _busy()
    if busy is not None and now is not None:
        shares.append(max(0.0, (now - busy - (_own() - own)) / (time.perf_counter() - began)))


@dataclass(frozen=True)
class Spent:
    """What a process and those it started have used up so far."""

    seconds: float
    peak_gigabytes: float


def all_processes() -> Spent:
    """Of this process and the living ones that it started, such as a JVM; its own alone where /proc is missing."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    seconds = own.ru_utime + own.ru_stime
    # Linux hands ru_maxrss on to who is started: the peak of the parent would be the child's.
    status = Path("/proc/self/status")
    peak = _peak(status) if status.exists() else own.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9
    for pid in _started_by(os.getpid()):
        # After the name, which may hold anything: the fields of proc(5) from the third on.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        seconds += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        peak += _peak(Path(f"/proc/{pid}/status"))
    return Spent(seconds, peak)


def _peak(status: Path) -> float:
    """The most memory that a process has held, in GB; 0 for one that has ended."""
    high = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
    return sum(int(line.split()[1]) for line in high) * 1024 / 1e9


def _started_by(pid: int) -> Iterator[int]:
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, children.read_text().split()):
            yield child
            yield from _started_by(child)


def _busy() -> float | None:
    """Seconds that all cores together have worked since the start of the machine."""
    path = Path("/proc/stat")
    if not path.exists():
        return None
    user, nice, system, _idle, _waiting, interrupts, soft_interrupts = map(int, path.read_text().split()[1:8])
    return (user + nice + system + interrupts + soft_interrupts) / os.sysconf("SC_CLK_TCK")


def _own() -> float:
    """Seconds that this process and the children that it has waited for have worked."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def progress(text: str) -> None:
    """A line for the person who waits; the table alone goes to stdout."""
    print(text, file=sys.stderr, flush=True)
