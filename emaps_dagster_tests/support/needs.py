"""What a test needs, read from its code: processes of its own, jobs of Dagster, a Spark engine.

A test's code is its function, its fixtures and the helpers that they name, in the tests and in `harness/`; not what
the package does for them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from functools import cache
from types import CodeType, FunctionType
from typing import Any

import pytest

OUR_TESTS = ("emaps_dagster_tests", "harness", "benchmarks")
STARTS_PROCESSES = frozenset({"subprocess", "multiprocessing", "Popen", "script_runner"})
LOADS_JOBS = frozenset({"build_definitions", "execute_in_process", "materialize", "resolve_job_def", "defs"})
ENGINES = frozenset({"spark", "embedded", "jvm", "lakehouse"})
# The rooms whose single modules compute with Spark; elsewhere a test with an engine makes whole tables first.
ROOMS_OF_THE_ENGINE = ("/transforms/", "/lakehouse/")


def marks_of(item: pytest.Item) -> Iterator[str]:
    """Marks of CONTRIBUTING.md that follow from the code of a test."""
    names = _names_of(item)
    if names & STARTS_PROCESSES:
        yield "process"
    if names & LOADS_JOBS:
        yield "job"
    used = ENGINES & set(getattr(item, "fixturenames", ()))
    if used and not any(room in item.nodeid for room in ROOMS_OF_THE_ENGINE):
        yield "engine"


def _names_of(item: pytest.Item) -> set[str]:
    fixtures = getattr(item, "_fixtureinfo", None)
    functions = [definitions[-1].func for definitions in fixtures.name2fixturedefs.values()] if fixtures else []
    todo = [getattr(item, "function", None), *functions]
    seen: set[object] = set()
    names: set[str] = set()
    while todo:
        thing = todo.pop()
        if id(thing) not in seen:
            seen.add(id(thing))
            found, helpers = _direct(thing)
            names |= found
            todo += helpers
    return names


@cache
def _direct(thing: Any) -> tuple[frozenset[str], tuple[Any, ...]]:
    """The names in a function or class of the tests, and the helpers among them."""
    if inspect.isclass(thing):
        return frozenset(), tuple(member for member in map(_function, vars(thing).values()) if member)
    function = _function(thing)
    if function is None:
        return frozenset(), ()
    names = frozenset(_names(function.__code__))
    found = (function.__globals__.get(name) for name in names)
    return names, tuple(helper for helper in found if callable(helper) and _is_ours(helper))


def _function(thing: Any) -> FunctionType | None:
    unwrapped: Callable[..., Any] = inspect.unwrap(getattr(thing, "__func__", thing))
    return unwrapped if isinstance(unwrapped, FunctionType) else None


def _is_ours(thing: Any) -> bool:
    return (getattr(thing, "__module__", None) or "").startswith(OUR_TESTS)


def _names(code: CodeType) -> set[str]:
    inner = [_names(constant) for constant in code.co_consts if isinstance(constant, CodeType)]
    return {*code.co_names, *code.co_freevars}.union(*inner)
