"""A run and its tasks, and how the Jobs API reports them."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Task:
    key: str
    body: dict[str, Any]
    run_id: int
    folder: Path
    life: str = "PENDING"
    result: str | None = None
    message: str = ""
    cluster_id: str | None = None
    started: float = 0.0
    ended: float = 0.0

    @property
    def is_serverless(self) -> bool:
        return bool(self.body.get("environment_key"))

    def finish(self, life: str, result: str, message: str = "") -> None:
        self.life, self.result, self.message, self.ended = life, result, message, time.time()

    def log(self, name: str = "stderr") -> str:
        path = self.folder / name
        return path.read_text(errors="replace") if path.exists() else ""

    def state(self) -> dict[str, Any]:
        answer = {"life_cycle_state": self.life, "state_message": self.message}
        return {**answer, "result_state": self.result} if self.result else answer

    def as_json(self) -> dict[str, Any]:
        answer = {**self.body, "run_id": self.run_id, "state": self.state(), "attempt_number": 0}
        answer["start_time"], answer["end_time"] = int(self.started * 1000), int(self.ended * 1000)
        if self.cluster_id:
            answer["cluster_instance"] = {"cluster_id": self.cluster_id, "spark_context_id": "1"}
        return answer


@dataclass
class Run:
    """A submitted run; the API's report of it is `as_json`."""

    run_id: int
    job_id: int
    body: dict[str, Any]
    tasks: list[Task]
    page: str
    terminating_seconds: float
    cancelled: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None
    over: float | None = None

    @property
    def submission(self) -> str:
        return json.dumps(self.body)

    def log(self, name: str = "stderr") -> str:
        return "".join(task.log(name) for task in self.tasks)

    def state(self) -> dict[str, Any]:
        lives = [task.life for task in self.tasks]
        if self.over is None:
            ran = any(task.started for task in self.tasks)
            life = "TERMINATING" if self.cancelled.is_set() else "RUNNING" if ran else "PENDING"
            return {"life_cycle_state": life, "state_message": ""}
        if time.monotonic() - self.over < self.terminating_seconds:
            return {"life_cycle_state": "TERMINATING", "state_message": ""}
        bad = next((task for task in self.tasks if task.result != "SUCCESS"), None)
        if bad is None:
            return {"life_cycle_state": "TERMINATED", "result_state": "SUCCESS", "state_message": ""}
        message = f"Task {bad.key} failed with message: {bad.message}." if bad.result == "FAILED" else bad.message
        life = "INTERNAL_ERROR" if "INTERNAL_ERROR" in lives else "TERMINATED"
        return {
            "life_cycle_state": life,
            "result_state": bad.result,
            "state_message": message,
            "user_cancelled_or_timedout": bad.result in ("CANCELED", "TIMEDOUT"),
        }

    def as_json(self) -> dict[str, Any]:
        answer = {
            "run_id": self.run_id,
            "job_id": self.job_id,
            "number_in_job": self.run_id,
            "run_name": self.body.get("run_name", "Untitled"),
            "run_page_url": self.page,
            "run_type": "SUBMIT_RUN",
            "format": "MULTI_TASK",
            "state": self.state(),
            "tasks": [task.as_json() for task in self.tasks],
            "start_time": int(min(task.started for task in self.tasks) * 1000),
        }
        if len(self.tasks) == 1 and self.tasks[0].cluster_id:
            answer["cluster_instance"] = {"cluster_id": self.tasks[0].cluster_id, "spark_context_id": "1"}
        return answer
