"""The distribution emaps-dagster-reader: built, installed into an empty environment, and used there.

The environment holds the packages that the wheel declares, with what those need, and no other: an import of Dagster or
Spark fails there. They come from this environment, so nothing is fetched.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from pyspark.sql import SparkSession

from emaps_dagster import features
from emaps_dagster.contracts.windows import HOUR
from emaps_dagster.lakehouse.delta_rs import FolderLakehouse
from emaps_dagster.simulator.provider import Provider
from harness.databricks_emulator import image
from harness.history_builder import Past

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = image.ROOT
DAY = datetime(2024, 4, 30, tzinfo=timezone.utc)
# Spark without its jars; this environment has Spark as a whole, which holds the same modules.
SAME_MODULES = {"pyspark-client": "pyspark[connect]"}


def project(folder: str = ".") -> dict[str, Any]:
    data: dict[str, Any] = tomllib.loads((ROOT / folder / "pyproject.toml").read_text("utf-8"))["project"]
    return data


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reader")
    shutil.copytree(ROOT / "emaps_dagster", folder / "emaps_dagster", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "reader", folder / "reader", ignore=shutil.ignore_patterns("build", "*.egg-info"))
    uv = image.uv()
    assert uv is not None
    # The build backend is among our own packages.
    command = [uv, "build", "--wheel", "--no-build-isolation", "--out-dir", str(folder), "--quiet", "reader"]
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(folder)}
    subprocess.run(command, cwd=folder, check=True, env=environment)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def warehouse(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    past = Past(FolderLakehouse(spark, tmp_path_factory.mktemp("tables") / "warehouse"), ("GR",), Provider(7))
    past.merge(past.tick(*(DAY + number * HOUR + timedelta(minutes=7) for number in range(1, 4))))
    return past.lakehouse.warehouse


def needed_by(requirements: list[str]) -> set[str]:
    """The distributions of this environment that fulfil some requirements, with what they need."""
    found: set[str] = set()
    seen = set()
    left = [(Requirement(text), "") for text in requirements]
    while left:
        requirement, extra = left.pop()
        requirement = Requirement(SAME_MODULES.get(requirement.name, str(requirement)))
        name = canonicalize_name(requirement.name)
        if (requirement.marker and not requirement.marker.evaluate({"extra": extra})) or (
            key := (name, frozenset(requirement.extras))
        ) in seen:
            continue
        seen.add(key)
        found.add(name)
        needs = distribution(name).requires or []
        left += [(Requirement(text), part) for text in needs for part in (requirement.extras or {""})]
    return found


def installed(wheel: Path, folder: Path, requirements: list[str]) -> Path:
    """An environment without packages, into which the wheel and links to those that it needs are put."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    image.unpack(wheel, site)
    for name in needed_by(requirements):
        files = distribution(name).files or []
        tops = {file.parts[0] for file in files if file.parts[0] not in ("..", "__pycache__")}
        for top in tops:
            source = Path(str(distribution(name).locate_file(top)))
            if source.exists() and not (site / top).exists():
                (site / top).symlink_to(source)
    return folder / "bin" / "python"


def run(python: Path, code: str, folder: Path) -> Any:
    done = subprocess.run([python, "-c", code], cwd=folder, capture_output=True, text=True, check=False, env={})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


ABSENT = """
import importlib.util, json, sys
from emaps_dagster import features
from emaps_dagster.contracts.errors import FeaturesError
def absent(*names):
    return [name for name in names if importlib.util.find_spec(name) is None]
"""
LOAD = "features.load('GR', '2024-04-30', '2024-04-30T03:00Z', {}warehouse={!r})['production_total'].tolist()"


def test_stored_rows_are_read_where_neither_spark_nor_dagster_is(wheel: Path, warehouse: Path, tmp_path: Path) -> None:
    python = installed(wheel, tmp_path / "environment", project("reader")["dependencies"])
    code = f"""{ABSENT}
rows = {LOAD.format("", str(warehouse))}
try:
    features.load("GR", "2024-04-30", "2024-04-30T03:00Z", known_at="1h", warehouse={str(warehouse)!r})
except FeaturesError as error:
    refused = str(error)
print(json.dumps([rows, absent("pyspark", "pysail", "dagster"), refused]))
"""
    rows, absent, refused = run(python, code, tmp_path)
    expected = features.load("GR", DAY, DAY + 3 * HOUR, warehouse=warehouse)["production_total"].tolist()
    assert rows == expected
    assert len(rows) == 3
    assert absent == ["pyspark", "pysail", "dagster"]
    assert "need the package 'pyspark', which is not installed: pip install 'emaps-dagster-reader[as-known]'" in refused


def test_rows_as_known_are_computed_where_dagster_is_not(wheel: Path, warehouse: Path, tmp_path: Path) -> None:
    reader = project("reader")
    needed = [*reader["dependencies"], *reader["optional-dependencies"]["as-known"]]
    python = installed(wheel, tmp_path / "environment", needed)
    when = "known_at='1h', columns=['production_total'], "
    code = f"""{ABSENT}
rows = {LOAD.format(when, str(warehouse))}
print(json.dumps([rows, absent("dagster", "delta", "matplotlib"), "pyspark" in sys.modules]))
"""
    # The answer is computed there, not taken from a cache.
    assert not warehouse.with_name(".warehouse.features-cache").exists()
    rows, absent, spark = run(python, code, tmp_path)
    asked: dict[str, Any] = {"known_at": "1h", "columns": ["production_total"]}
    assert rows == features.load("GR", DAY, DAY + 3 * HOUR, **asked, warehouse=warehouse)["production_total"].tolist()
    assert len(rows) == 3
    assert absent == ["dagster", "delta", "matplotlib"]
    assert spark


def test_stored_and_cached_rows_import_neither_spark_nor_dagster_of_the_whole_distribution(warehouse: Path) -> None:
    asked: dict[str, Any] = {"known_at": "1h", "columns": ["production_total"]}
    features.load("GR", DAY, DAY + 3 * HOUR, **asked, warehouse=warehouse)
    code = f"""{ABSENT}
def imported():
    return sorted({{"pyspark", "pysail", "delta", "dagster"}} & set(sys.modules))
found = [imported()]
{LOAD.format("", str(warehouse))}
found.append(imported())
{LOAD.format("known_at='1h', columns=['production_total'], ", str(warehouse))}
found.append(imported())
{LOAD.format("known_at='2h', columns=['production_total'], ", str(warehouse))}
found.append(imported())
print(json.dumps(found))
"""
    assert run(Path(sys.executable), code, ROOT) == [[], [], [], ["pysail", "pyspark"]]


def test_both_distributions_have_one_version_and_the_same_limits() -> None:
    whole, reader = project(), project("reader")
    assert reader["version"] == whole["version"]
    assert reader["requires-python"] == whole["requires-python"]
    limits = {Requirement(text).name: Requirement(text).specifier for text in whole["dependencies"]}
    limits["pyspark-client"] = limits["pyspark"]
    ours = [Requirement(text) for text in (*reader["dependencies"], *reader["optional-dependencies"]["as-known"])]
    assert {one.name: one.specifier for one in ours} == {one.name: limits[one.name] for one in ours}
    assert (ROOT / "reader" / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_the_reader_holds_the_rooms_that_reading_needs_and_no_other(wheel: Path) -> None:
    import zipfile

    names = {name.split("/")[1] for name in zipfile.ZipFile(wheel).namelist() if name.startswith("emaps_dagster/")}
    assert names == {"__init__.py", "contracts", "features", "lakehouse", "transforms"}
