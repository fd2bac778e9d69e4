"""A cluster on this machine: one JVM with Spark and Delta for as long as it lives, one Python process a task.

Every process sees a root of its own (on_cluster/sandbox.sh): real /dbfs and /Volumes, and neither the checkout nor the
host's environment. Where user namespaces are not allowed, paths in parameters are rewritten instead (`isolation`).
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import IO, Any, Literal

from emaps_dagster.lakehouse.spark_sessions import one_fetches_jars
from harness.databricks_emulator import image
from harness.jvm import SHORT_LIVED

HERE = Path(__file__).parent / "on_cluster"
RUNTIME_VERSION = "17.3"
CLUSTERS_JVM = {
    "spark.master": "local[2]",
    "spark.driver.memory": "1g",
    "spark.driver.extraJavaOptions": f"{SHORT_LIVED} -Duser.timezone=UTC",
}
Isolation = Literal["mount namespace", "rewritten paths"]


class ClusterError(Exception):
    """The cluster cannot be started."""


@cache
def isolation() -> Isolation:
    """How processes are kept apart on this machine."""
    probe = ["unshare", "--map-root-user", "--mount", "true"]
    allowed = shutil.which("unshare") and subprocess.run(probe, capture_output=True, check=False).returncode == 0
    return "mount namespace" if allowed else "rewritten paths"


def _outermost(paths: Iterable[Path]) -> list[Path]:
    found = sorted({path.resolve() for path in paths})
    return [path for path in found if not any(other in path.parents for other in found)]


@dataclass(frozen=True)
class Machine:
    """The folders that the clusters of a workspace share."""

    folder: Path
    dbfs: Path
    volumes: Path
    warehouse: Path
    spark: bool
    hidden: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        for path in (self.programs, self.home, self.temporary, self.root, self.warehouse):
            path.mkdir(parents=True, exist_ok=True)
        for name in ("driver.py", "serverless_session.py", "spark_driver.py", "sandbox.sh"):
            shutil.copy(HERE / name, self.programs)

    @property
    def programs(self) -> Path:
        return self.folder / "programs"

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def temporary(self) -> Path:
        return self.folder / "tmp"

    @property
    def root(self) -> Path:
        return self.folder / "root"

    def command(self, *command: str, dbfs: bool = True) -> list[str]:
        if isolation() == "rewritten paths":
            return list(command)
        apart = ["unshare", "--map-root-user", "--mount", "sh", str(self.programs / "sandbox.sh")]
        # What no process of a cluster may see: the checkout and the environment that runs the emulator.
        unseen = _outermost((image.ROOT, Path(sys.prefix), *self.hidden))
        there = self.dbfs if dbfs else "-"
        return [*apart, *map(str, (self.root, there, self.volumes, *unseen)), "--", *command]

    def path(self, text: str) -> str:
        """A path as the cluster's processes see it: `dbfs:/x` is `/dbfs/x`."""
        if text.startswith("dbfs:"):
            text = "/dbfs/" + text.removeprefix("dbfs:").lstrip("/")
        if isolation() == "rewritten paths":
            for prefix, folder in (("/dbfs/", self.dbfs), ("/Volumes/", self.volumes)):
                if text.startswith(prefix):
                    return str(folder / text.removeprefix(prefix).lstrip("/"))
        return text

    def here(self, text: str) -> Path:
        """The same file as the emulator sees it."""
        path = self.path(text)
        for prefix, folder in (("/dbfs/", self.dbfs), ("/Volumes/", self.volumes)):
            if path.startswith(prefix):
                return folder / path.removeprefix(prefix).lstrip("/")
        return Path(path)

    def environment(self, runtime: str) -> dict[str, str]:
        """Variables of any process: nothing of the host's but where programs are."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "TMPDIR": str(self.temporary),
            "LANG": "C.UTF-8",
            "TZ": "UTC",
            "DATABRICKS_RUNTIME_VERSION": runtime,
            "PYTHONUNBUFFERED": "1",
        }

    def cluster_environment(self, python: Path) -> dict[str, str]:
        """Variables of a process that has a JVM."""
        java = {name: os.environ[name] for name in ("JAVA_HOME",) if name in os.environ}
        return {
            **self.environment(RUNTIME_VERSION),
            **java,
            "SPARK_LOCAL_IP": "127.0.0.1",
            "SPARK_LOCAL_DIRS": str(self.temporary),
            "PYSPARK_PYTHON": str(python),
        }


@dataclass
class Cluster:
    """Started by its first task; `kill` ends it and whatever runs on it."""

    cluster_id: str
    machine: Machine
    settings: dict[str, Any] = field(default_factory=dict)
    _jvm: subprocess.Popen[str] | None = None
    _gateway: dict[str, Any] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self, python: Path) -> None:
        """Start Spark unless it runs.

        Args:
            python: an interpreter with pyspark, to start the JVM by.

        Raises:
            ClusterError: the JVM ended before it was there.
        """
        with self._lock:
            if not self.machine.spark or (self._jvm and self._jvm.poll() is None):
                return
            log = self.machine.folder / f"{self.cluster_id}.jvm.log"
            with log.open("a") as stderr, one_fetches_jars():
                self._jvm = subprocess.Popen(
                    self.machine.command(str(python), str(self.machine.programs / "spark_driver.py")),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=stderr,
                    text=True,
                    env=self.machine.cluster_environment(python),
                    start_new_session=True,
                )
                assert self._jvm.stdin is not None
                assert self._jvm.stdout is not None
                self._jvm.stdin.write(json.dumps(self._spark_settings()) + "\n")
                self._jvm.stdin.flush()
                line = self._jvm.stdout.readline()
            if not line:
                raise ClusterError(f"Spark failed to start: {log.read_text()[-2000:]}")
            self._gateway = json.loads(line)

    def _spark_settings(self) -> dict[str, str]:
        return {
            **CLUSTERS_JVM,
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.ui.enabled": "false",
            "spark.ui.showConsoleProgress": "false",
            # Fetched once for this machine, into the folder that every Spark 4 of it uses.
            "spark.jars.packages": image.delta_coordinate(),
            "spark.jars.ivy": str(Path.home() / ".ivy2.5.2"),
            "spark.sql.warehouse.dir": str(self.machine.warehouse),
            "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
            "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
            "spark.sql.shuffle.partitions": "2",
            # A listing of files is 10,000 tasks otherwise: a VACUUM takes minutes.
            "spark.sql.sources.parallelPartitionDiscovery.parallelism": "2",
            # Tables of some hundred rows: plans are not made again between stages, and no Java is made for any.
            "spark.sql.adaptive.enabled": "false",
            "spark.sql.codegen.wholeStage": "false",
            "spark.sql.codegen.factoryMode": "NO_CODEGEN",
            "spark.databricks.delta.snapshotPartitions": "2",
            # Otherwise each function call of pyspark searches the disk for IPython and asks the JVM three times.
            "spark.python.sql.dataFrameDebugging.enabled": "false",
            **self.settings.get("spark_conf", {}),
            **({"spark.master": "local[2]"} if "spark.master" in self.settings.get("spark_conf", {}) else {}),
        }

    def launch(
        self, order: dict[str, Any], python: Path, variables: dict[str, str], output: IO[bytes], errors: IO[bytes]
    ) -> subprocess.Popen[bytes]:
        """Start a task's process; `order` is what driver.py reads."""
        told = {**order, "gateway": self._gateway}
        return self._start_task(told, python, {**self.machine.cluster_environment(python), **variables}, output, errors)

    def _start_task(
        self,
        order: dict[str, Any],
        python: Path,
        environment: dict[str, str],
        output: IO[bytes],
        errors: IO[bytes],
        *,
        dbfs: bool = True,
    ) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            self.machine.command(str(python), str(self.machine.programs / "driver.py"), dbfs=dbfs),
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=errors,
            env=environment,
            start_new_session=True,
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps(order).encode())
        process.stdin.close()
        return process

    def cancel_jobs(self) -> None:
        """End what a task has asked of Spark and no longer waits for. A commit that has begun is not stopped."""
        with self._lock:
            if self._jvm is None or self._jvm.poll() is not None:
                return
            assert self._jvm.stdin is not None
            assert self._jvm.stdout is not None
            self._jvm.stdin.write("cancel\n")
            self._jvm.stdin.flush()
            self._jvm.stdout.readline()

    def kill(self) -> None:
        with self._lock:
            if self._jvm is not None:
                kill(self._jvm)
                for stream in (self._jvm.stdin, self._jvm.stdout):
                    assert stream is not None
                    stream.close()
            self._jvm = self._gateway = None


def kill(process: subprocess.Popen[Any]) -> None:
    """End a process and all it started, at once."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
