"""How long the embedded engine waits, and what a person reads when the JVM of deployment spark cannot start."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
from pyspark.sql import SparkSession
from pyspark.sql.connect.client.reattach import ExecutePlanResponseReattachableIterator

from emaps_dagster.contracts.errors import EmapsError, EngineError
from emaps_dagster.defs.resources.spark import EmbeddedPySpark
from emaps_dagster.lakehouse import spark_sessions as engine

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(("idle", "alive"), [("1", False), ("", True)])
def test_a_session_may_ask_nothing_for_longer_than_the_api_is_slow(idle: str, alive: bool) -> None:
    # Sail's own limit of 15 minutes is too long for a test: that a shorter one is obeyed shows that ours is.
    program = (
        "import os, time\n"
        "from emaps_dagster.lakehouse.spark_sessions import embedded_session\n"
        "with embedded_session() as spark:\n"
        "    print(os.environ['SAIL_SPARK__SESSION_TIMEOUT_SECS'])\n"
        "    time.sleep(2.5)\n"
        "    print(spark.range(3).count())\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SPARK_")}
    environment |= {"PYTHONPATH": str(ROOT), **({"SAIL_SPARK__SESSION_TIMEOUT_SECS": idle} if idle else {})}
    environment = environment if idle else {n: v for n, v in environment.items() if not n.startswith("SAIL_")}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=False)
    assert done.stdout.split() == ([idle] if idle else ["86400"]) + ["3"] * alive
    assert ("is not running" in done.stderr) != alive


@pytest.mark.parametrize("chosen", ["", "1"])
def test_the_engine_takes_memory_in_small_pages_unless_told_otherwise(chosen: str) -> None:
    program = (
        "from emaps_dagster.lakehouse.spark_sessions import embedded_session\n"
        "with embedded_session() as spark:\n"
        "    print(spark.range(3).count())\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SPARK_", "MIMALLOC_"))}
    # The allocator prints its options when it is loaded: that of the engine is the last.
    environment |= {
        "PYTHONPATH": str(ROOT),
        "MIMALLOC_VERBOSE": "1",
        **({"MIMALLOC_ALLOW_THP": chosen} if chosen else {}),
    }
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=100, check=True
    )
    assert re.findall(r"option 'allow_thp': (\d)", done.stdout + done.stderr)[-1] == (chosen or "0")


def test_a_query_gives_nothing_to_the_threads_that_any_forgotten_session_stops(embedded: SparkSession) -> None:
    # What hung, now and then: a session that was collected stopped them amid another's query.
    assert embedded.range(3).toArrow().num_rows == 3
    assert ExecutePlanResponseReattachableIterator._release_thread_pool_instance is None


def test_the_session_of_a_run_ends_with_it() -> None:
    resource = EmbeddedPySpark()
    context = dg.build_init_resource_context()
    resource.setup_for_execution(context)
    session = resource.spark_session
    assert session.range(3).count() == 3
    resource.teardown_after_execution(context)
    assert session.is_stopped


def java(folder: Path, says: str, code: int = 0) -> Path:
    """A JAVA_HOME whose java says that."""
    program = folder / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\ncat >&2 <<'TEXT'\n{says}\nTEXT\nexit {code}\n")
    program.chmod(0o755)
    return folder


@pytest.mark.parametrize("says", ['openjdk version "17.0.15" 2025-04-15', 'openjdk version "21" 2023-09-19'])
def test_java_17_and_newer_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str) -> None:
    monkeypatch.setenv("JAVA_HOME", str(java(tmp_path / "jdk", f"Picked up JAVA_TOOL_OPTIONS: -Dx=y\n{says}")))
    engine._check_java()


@pytest.mark.parametrize(
    ("says", "code", "told"),
    [
        ('java version "1.8.0_402"', 0, 'bin/java is too old: java version "1.8.0_402".'),
        ('openjdk version "11.0.22" 2024-01-16', 0, 'bin/java is too old: openjdk version "11.0.22" 2024-01-16.'),
        ("Error: could not open `jvm.cfg'", 1, "bin/java cannot be run ("),
    ],
)
def test_another_java_is_named_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str, code: int, told: str
) -> None:
    monkeypatch.setenv("JAVA_HOME", str(java(tmp_path / "jdk", says, code)))
    with pytest.raises(EngineError) as error:
        engine._check_java()
    for part in (str(tmp_path), told, "needs Java 17 or newer", "JAVA_HOME", "EMAPS_DEPLOYMENT=embedded"):
        assert part in str(error.value)


def test_without_java_the_message_says_where_it_was_looked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineError, match=r"No java was found in PATH, and JAVA_HOME is not set\. .*Java 17 or newer"):
        engine._check_java()
    assert issubclass(EngineError, EmapsError)


def test_a_process_that_uses_spark_connect_is_referred_to_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARK_CONNECT_MODE_ENABLED", "1")
    with pytest.raises(EngineError, match=r"already uses Spark Connect .*another process"):
        engine.jvm_session()


def test_two_processes_that_start_together_do_not_fetch_the_same_jars_at_once(tmp_path: Path) -> None:
    program = (
        "import time\n"
        "from emaps_dagster.lakehouse.spark_sessions import one_fetches_jars\n"
        "with one_fetches_jars():\n"
        "    began = time.time()\n"
        "    time.sleep(0.5)\n"
        "    print(began, time.time())\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
    both = [
        subprocess.Popen([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    (_, first_ended), (second_began, _) = sorted(
        tuple(map(float, process.communicate(timeout=60)[0].split())) for process in both
    )
    assert first_ended <= second_began


def test_jars_that_cannot_be_fetched_are_explained(tmp_path: Path) -> None:
    # Settings of a person: an empty cache, and a mirror that does not answer.
    (tmp_path / "ivysettings.xml").write_text(
        '<ivysettings><settings defaultResolver="mirror"/><resolvers>'
        '<ibiblio name="mirror" m2compatible="true" root="http://127.0.0.1:9/maven2/"/></resolvers></ivysettings>'
    )
    (tmp_path / "spark-defaults.conf").write_text(
        f"spark.jars.ivy {tmp_path / 'cache'}\nspark.jars.ivySettings {tmp_path / 'ivysettings.xml'}\n"
    )
    program = (
        "from emaps_dagster.lakehouse import spark_sessions as engine\n"
        "from emaps_dagster.contracts.errors import EngineError\n"
        "try:\n    engine._check_java()\nexcept EngineError as error:\n    print('no java:', error)\n"
        "else:\n    engine.jvm_session()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("SPARK_")},
            "PYTHONPATH": str(ROOT),
            "SPARK_CONF_DIR": str(tmp_path),
        },
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    if "no java" in done.stdout:
        pytest.skip(done.stdout)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("emaps_dagster.contracts.errors.EngineError: The JVM of EMAPS_DEPLOYMENT=spark stopped")
    for part in ("https://repo1.maven.org", "~/.ivy2.5.2", "https.proxyHost", "spark.jars.ivySettings"):
        assert part in last
    assert "127.0.0.1:9" in done.stderr, "what the JVM said is there, too"
