"""Submitted runs: their clusters, libraries, time limits, cancelling; the API's reports of them are in runs.py."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

from harness.databricks_emulator import image, serverless
from harness.databricks_emulator.cluster import Cluster, ClusterError, Machine, kill
from harness.databricks_emulator.errors import invalid
from harness.databricks_emulator.faults import Faults, RunFault
from harness.databricks_emulator.runs import Run, Task
from harness.databricks_emulator.serverless import ServerlessCompute
from harness.databricks_emulator.submissions import check, ordered

_NO_CAPACITY = (
    "Cluster '{cluster}' was terminated. Reason: AWS_INSUFFICIENT_INSTANCE_CAPACITY_FAILURE (CLIENT_ERROR). "
    "Parameters: databricks_error_message: There is no Spot capacity available."
)
_DRIVER_GONE = (
    "The spark driver has stopped unexpectedly and is restarting. Your notebook will be automatically reattached."
)
# Seconds between two checks of a process.
_LOOK_SECONDS = 0.02
# Of the API's list of runs.
_LARGEST_PAGE = 25


class Jobs:
    """Everything below /api/2.x/jobs. Tasks of one run follow one another, in the order of their dependencies."""

    def __init__(self, machine: Machine, faults: Faults, secrets: dict[str, str], cluster_id: str) -> None:
        self.runs: list[Run] = []
        self.clusters = {cluster_id: Cluster(cluster_id, machine)}
        self.serverless = ServerlessCompute(machine)
        self.terminating_seconds = 0.0
        self._existing = cluster_id
        self._machine, self._faults, self._secrets = machine, faults, secrets
        self.host = ""
        self._jobs: dict[int, dict[str, Any]] = {}
        self._idempotent: dict[str, int] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        for run in self.runs:
            run.cancelled.set()
        for run in self.runs:
            if run.thread:
                run.thread.join()
        for cluster in (*self.clusters.values(), self.serverless):
            cluster.kill()

    def create(self, body: dict[str, Any]) -> dict[str, Any]:
        check(body, self.clusters)
        with self._lock:
            job_id = 500 + len(self._jobs)
            self._jobs[job_id] = body
        return {"job_id": job_id}

    def run_now(self, body: dict[str, Any]) -> dict[str, Any]:
        job_id = int(body.get("job_id", 0))
        if job_id not in self._jobs:
            raise invalid(f"Job {job_id} does not exist.")
        settings = self._jobs[job_id]
        return {"run_id": self._start({**settings, "run_name": settings.get("name", "Untitled")}, job_id)}

    def submit(self, body: dict[str, Any]) -> dict[str, Any]:
        check(body, self.clusters)
        token = body.get("idempotency_token")
        with self._lock:
            if token in self._idempotent:
                return {"run_id": self._idempotent[token]}
        run_id = self._start(body, 900 + len(self.runs))
        if token:
            self._idempotent[token] = run_id
        return {"run_id": run_id}

    def find(self, run_id: object) -> Run:
        for run in self.runs:
            if str(run_id) in (str(run.run_id), *(str(task.run_id) for task in run.tasks)):
                return run
        raise invalid(f"Run {run_id} does not exist.")

    def list_runs(self, query: dict[str, str]) -> dict[str, Any]:
        """A page of the runs, the newest first."""
        first, limit = int(query.get("page_token") or 0), int(query.get("limit") or 20)
        if not 0 < limit <= _LARGEST_PAGE:
            raise invalid(f"The limit {limit} is not between 1 and {_LARGEST_PAGE}.")
        runs = [run for run in reversed(self.runs) if query.get("active_only") != "true" or run.over is None]
        page: dict[str, Any] = {"runs": [run.as_json() for run in runs[first : first + limit]]}
        if query.get("expand_tasks") != "true":
            for run in page["runs"]:
                del run["tasks"]
        return page if len(runs) <= first + limit else {**page, "next_page_token": str(first + limit)}

    def cancel(self, body: dict[str, Any]) -> dict[str, Any]:
        run = self.find(body.get("run_id"))
        if run.over is None:
            run.cancelled.set()
        return {}

    def output(self, run_id: object) -> dict[str, Any]:
        run = self.find(run_id)
        if str(run.run_id) == str(run_id) and len(run.tasks) > 1:
            raise invalid("Retrieving the output of runs with multiple tasks is not supported.")
        task = next((one for one in run.tasks if str(one.run_id) == str(run_id)), run.tasks[0])
        output: dict[str, Any] = {"metadata": run.as_json(), "logs": task.log("stdout"), "logs_truncated": False}
        if task.result == "FAILED":
            trace = task.log()
            last = trace.strip().splitlines()[-1:] or [task.message]
            output |= {"error": last[0], "error_trace": trace}
        return output

    def _start(self, body: dict[str, Any], job_id: int) -> int:
        with self._lock:
            run_id = 1000 + 100 * len(self.runs)
            tasks = []
            for number, task in enumerate(ordered(body["tasks"]), start=1):
                folder = self._machine.folder / "runs" / str(run_id + number)
                folder.mkdir(parents=True)
                tasks.append(Task(task["task_key"], task, run_id + number, folder))
            page = f"{self.host}/?o=4711#job/{job_id}/run/{run_id}"
            run = Run(run_id, job_id, body, tasks, page, self.terminating_seconds)
            run.thread = threading.Thread(target=self._execute, args=(run,), daemon=True)
            self.runs.append(run)
        run.thread.start()
        return run_id

    def _execute(self, run: Run) -> None:
        fault = self._faults.of_run(run.submission)
        limit = run.body.get("timeout_seconds") or None
        end = time.monotonic() + limit if limit else float("inf")
        started: dict[str, Cluster] = {}
        results: dict[str, str | None] = {}
        for task in run.tasks:
            upstream = [one["task_key"] for one in task.body.get("depends_on", [])]
            if any(results[key] != "SUCCESS" for key in upstream):
                task.finish("TERMINATED", "UPSTREAM_FAILED", "An upstream task failed.")
            elif run.cancelled.is_set():
                task.finish("TERMINATED", "CANCELED", "Run cancelled.")
            else:
                try:
                    self._execute_task(run, task, fault, end, started)
                except (ClusterError, image.LibraryError, OSError) as error:
                    task.finish("INTERNAL_ERROR", "FAILED", f"Unexpected failure while starting the cluster: {error}")
            results[task.key] = task.result
        for key, cluster in started.items():
            if key != self._existing:
                cluster.kill()
        run.over = time.monotonic()

    def _cluster_of(self, run: Run, task: Task, started: dict[str, Cluster]) -> Cluster:
        if task.is_serverless:
            return self.serverless
        existing = task.body.get("existing_cluster_id")
        if existing:
            return self.clusters[existing]
        key = task.body.get("job_cluster_key") or task.key
        if key not in started:
            shared = {one["job_cluster_key"]: one["new_cluster"] for one in run.body.get("job_clusters", [])}
            settings = task.body.get("new_cluster") or shared[key]
            started[key] = Cluster(f"1125-{run.run_id}-{key}", self._machine, settings)
            self.clusters[started[key].cluster_id] = started[key]
        return started[key]

    def _execute_task(
        self, run: Run, task: Task, fault: RunFault | None, end: float, started: dict[str, Cluster]
    ) -> None:
        cluster = self._cluster_of(run, task, started)
        task.cluster_id = None if task.is_serverless else cluster.cluster_id
        if fault and fault.kind == "cluster_start_failure":
            task.finish("INTERNAL_ERROR", "FAILED", _NO_CAPACITY.format(cluster=cluster.cluster_id))
            return
        try:
            if task.is_serverless:
                python, overlay = serverless.install(task.body, run.body, self._machine, task.folder)
            else:
                python, overlay = self._install(task)
        except image.LibraryError as error:
            task.finish(
                "INTERNAL_ERROR", "FAILED", f"Library installation failed for library due to user error: {error}"
            )
            return
        # The server of serverless compute is no part of a task's environment.
        cluster.start(image.python() if task.is_serverless else python)
        variables = {
            name: self._resolved(str(value)) for name, value in cluster.settings.get("spark_env_vars", {}).items()
        }
        if overlay:
            variables["PYTHONPATH"] = str(overlay)
        task.started, task.life = time.time(), "RUNNING"
        limit = task.body.get("timeout_seconds") or None
        end = min(end, time.monotonic() + limit) if limit else end
        # Databricks tries a failed serverless task again by itself, unless the task says otherwise.
        tries = 2 if task.is_serverless and not task.body.get("disable_auto_optimization") else 1
        for _ in range(tries):
            if self._attempt(run, task, cluster, python, variables, fault, end):
                return

    def _attempt(
        self,
        run: Run,
        task: Task,
        cluster: Cluster,
        python: Path,
        variables: dict[str, str],
        fault: RunFault | None,
        end: float,
    ) -> bool:
        """Run the task's process once; whether it needs no other try."""
        with (task.folder / "stdout").open("wb") as output, (task.folder / "stderr").open("wb") as errors:
            process = cluster.launch(self._order(task), python, variables, output, errors)
            while process.poll() is None:
                outcome = self._interrupted(run, task, fault, end)
                if outcome:
                    kill(process)
                    if outcome[0] == "INTERNAL_ERROR":
                        cluster.kill()
                    else:
                        cluster.cancel_jobs()
                    task.finish(*outcome)
                    return True
                time.sleep(_LOOK_SECONDS)
        if process.returncode:
            # For tests; below zero it is a signal.
            (task.folder / "exit_code").write_text(str(process.returncode))
            task.finish("TERMINATED", "FAILED", "Workload failed, see run output for details")
            return False
        task.finish("TERMINATED", "SUCCESS")
        return True

    def _interrupted(self, run: Run, task: Task, fault: RunFault | None, end: float) -> tuple[str, str, str] | None:
        """How a task ends that does not end by itself; None while it may go on."""
        if run.cancelled.is_set():
            task.life = "TERMINATING"
            return "TERMINATED", "CANCELED", "Run cancelled."
        if time.monotonic() > end:
            return "TERMINATED", "TIMEDOUT", "Run timed out."
        if fault and fault.kind == "driver_killed" and time.time() - task.started >= fault.seconds:
            ripe = fault.when is None or (self._machine.warehouse / fault.when).exists()
            ripe = ripe and (not fault.written or self._has_written(task, fault.written))
            return ("INTERNAL_ERROR", "FAILED", _DRIVER_GONE) if ripe else None
        return None

    def _has_written(self, task: Task, text: str) -> bool:
        """Whether a file beside those that the task was given holds the text."""
        given = self._machine.here(task.body["spark_python_task"]["parameters"][0])
        return any(text.encode() in path.read_bytes() for path in given.parent.glob("events-*"))

    def _install(self, task: Task) -> tuple[Path, Path | None]:
        """The interpreter that has the task's libraries, and a folder of its wheels."""
        requirements: list[str] = []
        overlay = None
        for library in task.body.get("libraries", []):
            if "pypi" in library:
                requirements.append(library["pypi"]["package"])
            elif "whl" in library:
                wheel = self._machine.here(library["whl"])
                if not wheel.is_file():
                    raise image.LibraryError(f"{library['whl']} does not exist")
                requirements += image.requirements_of(wheel)
                overlay = task.folder / "wheels"
                image.unpack(wheel, overlay)
            else:
                raise image.LibraryError(f"{library}: pypi or whl is emulated")
        return image.python(requirements), overlay

    def _order(self, task: Task) -> dict[str, Any]:
        python, wheel = task.body.get("spark_python_task"), task.body.get("python_wheel_task")
        arguments = python or wheel
        parameters = [self._machine.path(one) for one in arguments.get("parameters", [])]
        parameters += [f"--{name}={value}" for name, value in arguments.get("named_parameters", {}).items()]
        return {
            "python_file": self._machine.path(python["python_file"]) if python else None,
            "package_name": wheel["package_name"] if wheel else None,
            "entry_point": wheel["entry_point"] if wheel else None,
            "parameters": parameters,
            "secrets": self._secrets,
        }

    def _resolved(self, value: str) -> str:
        """A variable of the cluster's settings: `{{secrets/scope/key}}` is the secret."""
        if value.startswith("{{secrets/") and value.endswith("}}"):
            return self._secrets[value[len("{{secrets/") : -2]]
        return value
