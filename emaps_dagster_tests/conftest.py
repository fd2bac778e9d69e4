"""What several test modules share: one embedded Spark session, and an empty lakehouse for each test."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from emaps_dagster.engine import embedded_session
from emaps_dagster.folders import FolderLakehouse

# Skips that CI expects; any other there means that it does not test what it should.
EXPECTED_SKIPS = ("the long run", "atheris")


class _SkipsFail:
    """In CI: a test that was skipped without being expected to be fails the run."""

    def __init__(self) -> None:
        self.unexpected: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            if not any(expected in reason for expected in EXPECTED_SKIPS):
                self.unexpected.append(f"{report.nodeid}: {reason}")

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for line in self.unexpected:
            terminalreporter.write_line(f"skipped in CI without being expected: {line}", red=True)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.unexpected:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_configure(config: pytest.Config) -> None:
    if os.environ.get("CI") == "true" and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_SkipsFail())


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A test sees neither the person's EMAPS_ variables nor their .env."""
    for name in [name for name in os.environ if name.startswith("EMAPS_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@dataclass(frozen=True)
class DemoRun:
    """A finished `python -m emaps_dagster.demo`."""

    folder: Path
    code: int
    output: str
    session: int


def run_demo(folder: Path, **environment: str) -> DemoRun:
    """One day through the demo, by its command line, in a session of its own and a folder that is not the checkout."""
    checkout = Path(__file__).resolve().parents[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "emaps_dagster.demo", "--days", "1", "--folder", str(folder)],
        cwd=folder.parent,
        env={**os.environ, "PYTHONPATH": str(checkout), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    output, _ = process.communicate(timeout=120)
    return DemoRun(folder, process.returncode, output, process.pid)


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> DemoRun:
    """A demo that several modules look at, started by somebody whose own settings must not matter. Read only."""
    folder = tmp_path_factory.mktemp("demo") / "demo"
    (folder.parent / ".env").write_text("EMAPS_ZONES=no zone at all\n")
    return run_demo(folder, EMAPS_DEPLOYMENT="databricks", EMAPS_API_TOKEN="a-token-of-the-person", EMAPS_NOW="2020")


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    with embedded_session() as session:
        yield session


@pytest.fixture
def house(spark: SparkSession, tmp_path: Path) -> FolderLakehouse:
    return FolderLakehouse(spark, tmp_path / "warehouse")
