"""Files of a launched run on DBFS and on a volume."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from emaps_dagster.defs.resources.databricks.launcher import ReplayingStepLauncher
from emaps_dagster.defs.resources.databricks.staging import staging
from emaps_dagster_tests.support.databricks_settings import databricks_settings
from harness.databricks_emulator.faults import CallFault
from harness.databricks_emulator.workspace import Workspace


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    with Workspace(tmp_path_factory.mktemp("staging") / "workspace", spark=False) as workspace:
        yield workspace


PLACES = ["dbfs:/dagster_staging", Workspace.volume]


@pytest.mark.parametrize("place", PLACES)
def test_files_are_put_read_and_removed(workspace: Workspace, place: str) -> None:
    client = ReplayingStepLauncher(
        databricks_settings(host=workspace.host, token=workspace.token)
    ).databricks_runner.client
    files = staging(client, place)
    one, other = files.folder("run", "one[0]"), files.folder("run", "other")
    assert one.endswith("/run/one__0__")
    # Larger than the block in which DBFS takes it.
    content = bytes(range(256)) * 5000
    path = "/api/2.0/dbfs" if place.startswith("dbfs:") else "/api/2.0/fs/files"
    workspace.inject(CallFault(path, 500, times=1))
    files.put(one, {"main.py": b"print()", "code.zip": content})
    files.put(other, {"main.py": b"", "empty": b""})
    workspace.inject(CallFault(path, 503, times=1))
    assert files.get(f"{one}/code.zip") == content
    assert files.get(f"{other}/empty") == b""
    assert files.get(f"{one}/events-000000.json") is None
    assert files.get("/".join([files.folder("no", "step"), "stdout"])) is None
    assert files.run_ids() == ["run"]
    files.remove(one)
    assert files.get(f"{one}/main.py") is None
    assert files.get(f"{other}/main.py") == b""
    files.remove(other)
    files.remove(other)
    assert workspace.staged() == []
    if place.startswith("dbfs:"):
        assert files.uri(f"{one}/main.py") == "dbfs:/dagster_staging/run/one__0__/main.py"
        assert files.on_cluster(f"{one}/main.py") == "/dbfs/dagster_staging/run/one__0__/main.py"
    else:
        assert files.uri(f"{one}/main.py") == files.on_cluster(f"{one}/main.py") == f"{one}/main.py"


@pytest.mark.parametrize("place", PLACES)
def test_a_run_is_removed_with_all_its_folders_and_others_stay(workspace: Workspace, place: str) -> None:
    settings = databricks_settings(host=workspace.host, token=workspace.token)
    files = staging(ReplayingStepLauncher(settings).databricks_runner.client, f"{place}/below")
    assert files.run_ids() == []
    files.put(files.folder("killed", "bronze_0"), {"steps.pkl": b"1", "events-000000.json": b"[]"})
    files.put(files.folder("killed", "gold_0"), {"steps.pkl": b"2"})
    files.put(files.folder("other", "gold_0"), {"steps.pkl": b"3"})
    assert files.run_ids() == ["killed", "other"]
    assert files.remove_run("killed")
    assert files.remove_run("killed")
    assert files.run_ids() == ["other"]
    workspace.inject(CallFault("/api/2.0", 403))
    assert not files.remove_run("other")
    assert files.remove_run("other")
    assert workspace.staged() == []
