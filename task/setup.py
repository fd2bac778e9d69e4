"""Leaves the modules out that only the whole distribution can run: they need Dagster."""

from __future__ import annotations

from setuptools import setup
from setuptools.command.build_py import build_py

_WHOLE_ONLY = {"emaps_dagster": {"definitions"}}
_COMMANDS = {"__init__", "task", "task_remedies"}


class _Modules(build_py):
    def find_package_modules(self, package: str, package_dir: str) -> list[tuple[str, str, str]]:
        found: list[tuple[str, str, str]] = super().find_package_modules(package, package_dir)
        if package == "emaps_dagster.cli":
            return [module for module in found if module[1] in _COMMANDS]
        return [module for module in found if module[1] not in _WHOLE_ONLY.get(package, ())]


setup(cmdclass={"build_py": _Modules})
