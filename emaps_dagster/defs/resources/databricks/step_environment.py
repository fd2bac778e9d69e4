"""Environment variables of a step, in the form that the main script of dagster-databricks expects on the cluster."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Exported:
    """The variables that are exported before the step's code is imported.

    To unpickle the library's own class a cluster would have to import the library with Databricks' SDK: a third of a
    short step's Python time. The main script only calls `setup`.

    Attributes:
        plain: values by name.
        secrets: `name`, `scope` and `key` of each variable from Databricks Secrets; never a value.
    """

    plain: Mapping[str, str]
    secrets: Sequence[Mapping[str, str]]

    def setup(self, dbutils: Any, sc: Any) -> None:  # noqa: ARG002 - the main script's call
        """Export them.

        Args:
            dbutils: the cluster's.
            sc: its Spark context.
        """
        os.environ.update(self.plain)
        for secret in self.secrets:
            name, scope, key = (secret[part] for part in ("name", "scope", "key"))
            print(f"Exporting {name} from Databricks secret {key}, scope {scope}")  # noqa: T201 - a step's own output
            os.environ[name] = dbutils.secrets.get(scope=scope, key=key)
