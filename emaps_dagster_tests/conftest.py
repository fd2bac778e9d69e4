"""What several test modules share: a Spark session of each engine, and an empty lakehouse for each test.

A module marked `pytestmark = pytest.mark.both_engines` runs its tests on the embedded engine and on the JVM, but for
those marked `embedded_alone`. Tests marked `long` run with EMAPS_TEST_LONG=1 only (`make test-long`), and so do those
marked `jvm_long` on the JVM; CONTRIBUTING.md has the rules of what may be long.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from emaps_dagster.contracts.errors import EngineError
from emaps_dagster.lakehouse.base import Lakehouse
from emaps_dagster.lakehouse.spark_sessions import JVM_CONFIG, embedded_session, jvm_session
from emaps_dagster_tests.support.engines import FAST, is_jvm, jvm_functions, open_folders
from emaps_dagster_tests.support.needs import marks_of
from emaps_dagster_tests.support.serverless import TOKEN as SERVERLESS_TOKEN
from emaps_dagster_tests.support.serverless import WHY_NOT
from harness.databricks_emulator.workspace import Workspace
from harness.long_runs import add_long_marker, skip_long_tests
from harness.surroundings import import_definitions_alone, no_settings_of_this_machine

__all__ = ["no_settings_of_this_machine"]

import_definitions_alone()

# Skips that CI expects; any other there means that it does not test what it should.
# Debian's packages, which .ci/run installs, have no Python 3.12 for the tasks of serverless compute.
EXPECTED_SKIPS = ("the long run", "atheris", "root writes everywhere", "no Python 3.12 on this machine")

_LOOK_AT_A_DEMO = ("test_ui", "test_demo", "test_readme")
# Begun first: whoever begins them last works alone at the end, while the other cores have nothing to do. The first is
# that of all tests of the JVM.
LONGEST_MODULES = (
    "test_lakehouse",
    "test_databricks_end_to_end",
    "test_ui",
    "test_databricks_faults",
    "test_databricks_serverless",
    "test_one_run",
    "test_databricks_bundle",
    "test_deployment_spark",
    "test_deploy_runs",
    "test_types",
    "test_remedies",
    "test_master_invariant",
    "test_master_invariant_of_electricity_mix",
    "test_days",
    "test_provider_faults",
    "test_remedies_of_health",
    "test_withdraw",
    "test_merge",
    "test_races",
    "test_roads",
    "test_training_sets",
    "test_killed_host",
    "test_quarantine",
    "test_rebuild",
    "test_damage",
    "test_command",
    "test_known_rows",
    "test_both_roads",
    "test_pipeline",
    "test_definitions",
    "test_checks",
    "test_features",
    "test_fetch",
    "test_notebook",
    "test_secrecy",
    "test_dg",
    "test_sensors",
    "test_preflight",
    "test_spark_sessions",
    "test_endurance",
    "test_backfills",
    "test_admission_and_checks",
    "test_benchmarks",
    "test_partitions",
    "test_silver",
    "test_gold",
    "test_mix",
)
# The parameter of a test, or the module that compares both engines.
_ON_SERVERLESS = ("test_databricks_serverless", "test_delta_connect")
_NEEDS_JVM = re.compile(r"test_engines_agree|\[(.+-)?jvm(-.+)?\]$")


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
    config.addinivalue_line("markers", "both_engines: every test of the module runs on the embedded engine and the JVM")
    config.addinivalue_line("markers", "embedded_alone(reason): this test of such a module does not run on the JVM")
    add_long_marker(config)
    config.addinivalue_line("markers", "jvm_long(why): of a module of both engines; on the JVM it is long")
    config.addinivalue_line("markers", "jvm: needs Java 17")
    config.addinivalue_line("markers", "browser: needs Chromium")
    config.addinivalue_line("markers", "postgres: needs the programs of a PostgreSQL server")
    config.addinivalue_line("markers", "databricks: runs on the emulated workspace")
    config.addinivalue_line("markers", "system: runs whole programs, or whole histories of tables")
    config.addinivalue_line("markers", "process: starts processes of its own")
    config.addinivalue_line("markers", "job: loads the definitions or runs a job of Dagster")
    config.addinivalue_line("markers", "engine: makes tables with Spark, outside of transforms/ and lakehouse/")
    if os.environ.get("CI") == "true" and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_SkipsFail())


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than cores, for some tests wait for what they have started; four share the work well."""
    return min(4, (os.cpu_count() or 1) + 1)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A module stays together, and in one process what needs a JVM or a server, which have to warm up, or a demo."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            if _NEEDS_JVM.search(nodeid):
                return "jvm"
            module = str(super()._split_scope(nodeid))
            if Path(module).stem in _ON_SERVERLESS:
                return "serverless"
            return "demo" if Path(module).stem in _LOOK_AT_A_DEMO else module

    return Scheduling(config, log)


# What a test needs follows from its module, or from the engine in its parameters; support/needs.py reads the rest from
# its code.
_NEEDS = {
    "browser": re.compile(r"test_ui\.py"),
    "postgres": re.compile(r"test_deploy_runs\.py|test_preflight\.py|postgres"),
    "databricks": re.compile(
        r"system/test_databricks_|test_delta_connect|defs/databricks/test_(stock_launcher|one_run)\.py"
    ),
    "system": re.compile(r"/system/|benchmarks/tests/|test_dg\.py|test_command\.py"),
    "jvm": re.compile(rf"test_deployment_spark\.py|{_NEEDS_JVM.pattern}"),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for mark, needs in _NEEDS.items():
            if needs.search(item.nodeid):
                item.add_marker(mark)
        for mark in marks_of(item):
            item.add_marker(mark)
    skip_long_tests(items)
    last = len(LONGEST_MODULES)
    places = {name: place for place, name in enumerate(LONGEST_MODULES)}
    items.sort(key=lambda item: places.get(item.path.stem, last))


@dataclass(frozen=True)
class DemoRun:
    """A finished `python -m emaps_dagster.cli.demo`."""

    folder: Path
    code: int
    output: str
    session: int


def run_demo(folder: Path, *, days: int = 1, **environment: str) -> DemoRun:
    """Days through the demo, by its command line, in a session of its own and a folder that is not the checkout."""
    checkout = Path(__file__).resolve().parents[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "emaps_dagster.cli.demo", "--days", str(days), "--folder", str(folder)],
        cwd=folder.parent,
        env={**os.environ, "PYTHONPATH": str(checkout), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    output, _ = process.communicate(timeout=240)
    return DemoRun(folder, process.returncode, output, process.pid)


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> DemoRun:
    """A demo that several modules look at, started by somebody whose own settings must not matter. Read only."""
    folder = tmp_path_factory.mktemp("demo") / "demo"
    (folder.parent / ".env").write_text("EMAPS_ZONES=no zone at all\n")
    return run_demo(
        folder, EMAPS_DEPLOYMENT="databricks", EMAPS_API_TOKEN="a-token-of-the-person", EMAPS_FIXED_NOW="2020"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "spark" in metafunc.fixturenames and metafunc.definition.get_closest_marker("both_engines"):
        alone = metafunc.definition.get_closest_marker("embedded_alone")
        long = metafunc.definition.get_closest_marker("jvm_long")
        jvm = pytest.param("jvm", marks=pytest.mark.long(*long.args) if long else ())
        metafunc.parametrize("spark", ["embedded"] if alone else ["embedded", jvm], indirect=True)


@pytest.fixture(scope="session")
def embedded() -> Iterator[SparkSession]:
    with embedded_session() as session:
        yield session


@pytest.fixture(scope="session")
def jvm(embedded: SparkSession) -> SparkSession:
    """The session of the one JVM that a test process has; it ends with the process."""
    with jvm_functions():
        try:
            return jvm_session({**JVM_CONFIG, **FAST})
        except EngineError as error:
            pytest.skip(str(error))


@pytest.fixture(scope="session")
def workspace_with_serverless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """An emulated workspace whose Spark Connect server is ready."""
    if WHY_NOT:
        pytest.skip(WHY_NOT)
    folder = tmp_path_factory.mktemp("serverless") / "workspace"
    with Workspace(folder, secrets={("emaps", "api-token"): SERVERLESS_TOKEN}) as workspace:
        workspace.start_serverless()
        yield workspace


@pytest.fixture(scope="session")
def spark(request: pytest.FixtureRequest) -> SparkSession:
    session: SparkSession = request.getfixturevalue(getattr(request, "param", "embedded"))
    return session


@pytest.fixture(autouse=True)
def _functions_of_its_engine(request: pytest.FixtureRequest) -> Iterator[None]:
    parameters = getattr(request.node, "callspec", None)
    with jvm_functions() if parameters and parameters.params.get("spark") == "jvm" else nullcontext():
        yield


@pytest.fixture
def warehouse(tmp_path: Path) -> Path:
    return tmp_path / "warehouse"


@pytest.fixture
def lakehouse(spark: SparkSession, warehouse: Path) -> Lakehouse:
    return open_folders(spark, warehouse)


Making = Callable[[Lakehouse, SparkSession], None]


@pytest.fixture(scope="session")
def _made() -> dict[tuple[bool, Making], Path]:
    """Warehouses that many tests begin with, by engine and by what made them."""
    return {}


@pytest.fixture
def begun_with(
    lakehouse: Lakehouse,
    spark: SparkSession,
    warehouse: Path,
    tmp_path_factory: pytest.TempPathFactory,
    _made: dict[tuple[bool, Making], Path],
) -> Callable[[Making], Lakehouse]:
    """The lakehouse after what `make` does to it; done once an engine, since a JVM takes seconds for a few rows."""

    def begin(make: Making) -> Lakehouse:
        key = is_jvm(spark), make
        if key not in _made:
            origin = tmp_path_factory.mktemp("made") / "warehouse"
            make(open_folders(spark, origin), spark)
            _made[key] = origin
        shutil.copytree(_made[key], warehouse)
        return lakehouse

    return begin
