"""Leaves the modules of the root package out that only the whole distribution can run."""

from __future__ import annotations

from setuptools import setup
from setuptools.command.build_py import build_py

_WHOLE_ONLY = "definitions"


class _Modules(build_py):
    def find_package_modules(self, package: str, package_dir: str) -> list[tuple[str, str, str]]:
        found: list[tuple[str, str, str]] = super().find_package_modules(package, package_dir)
        return [module for module in found if module[:2] != ("emaps_dagster", _WHOLE_ONLY)]


setup(cmdclass={"build_py": _Modules})
