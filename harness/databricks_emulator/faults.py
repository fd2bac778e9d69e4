"""What can go wrong on demand, in a call of the API or with a run; the answers are in errors.py and jobs.py."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import Literal, get_args

RunFaultKind = Literal["cluster_start_failure", "driver_killed"]


@dataclass(frozen=True)
class CallFault:
    """The next calls whose path begins with `path` go wrong.

    Args:
        path: beginning of the path, such as `/api/2.0/dbfs/read`.
        status: what is answered instead; 429 and 503 carry Databricks' words for them.
        times: how many calls; None for ever.
        skip: how many matching calls are let through before.
        method: None for any.
        retry_after: seconds of a Retry-After header.
        lost: the call is done, and only its answer is lost.
        torn: half of the file's bytes with status 200, as when a file is read while it is written.
        holds: only calls with this in their path, query or body.
    """

    path: str
    status: int = 500
    times: int | None = 1
    skip: int = 0
    method: str | None = None
    retry_after: int | None = None
    lost: bool = False
    torn: bool = False
    holds: str = ""


@dataclass(frozen=True)
class RunFault:
    """The next run goes wrong.

    Args:
        kind: the cluster does not start, or its driver is killed.
        seconds: the driver is killed so long after it began to run.
        when: it is killed only when this file or folder exists below the warehouse.
        holds: only a run whose submission holds this text, such as the name of its first step.
        written: it is killed only when one of its event files holds this text, such as the name of a later step.
    """

    kind: RunFaultKind
    seconds: float = 0.0
    when: str | None = None
    holds: str = ""
    written: str = ""

    def __post_init__(self) -> None:
        if self.kind not in get_args(RunFaultKind):
            raise ValueError(f"run fault {self.kind!r}: one of {', '.join(get_args(RunFaultKind))} is allowed")


class Faults:
    """Those that have not struck yet."""

    def __init__(self) -> None:
        self._calls: list[CallFault] = []
        self._runs: list[RunFault] = []
        self._lock = threading.Lock()

    def add(self, fault: CallFault | RunFault) -> None:
        with self._lock:
            if isinstance(fault, CallFault):
                self._calls.append(fault)
            else:
                self._runs.append(fault)

    def clear(self) -> None:
        with self._lock:
            self._calls.clear()
            self._runs.clear()

    def of_call(self, method: str, path: str, content: str) -> CallFault | None:
        """The fault that meets this call, used up once."""
        with self._lock:
            for place, fault in enumerate(self._calls):
                if not path.startswith(fault.path) or fault.method not in (None, method) or fault.holds not in content:
                    continue
                if fault.skip:
                    self._calls[place] = replace(fault, skip=fault.skip - 1)
                    continue
                if fault.times is not None:
                    left = replace(fault, times=fault.times - 1)
                    self._calls[place : place + 1] = [left] if left.times else []
                return fault
        return None

    def of_run(self, submission: str) -> RunFault | None:
        with self._lock:
            for place, fault in enumerate(self._runs):
                if fault.holds in submission:
                    return self._runs.pop(place)
        return None
