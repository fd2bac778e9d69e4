"""The variables of a step, as the main script of dagster-databricks takes them on the cluster."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Exported:
    """What is exported there before the step's code is imported.

    The library's own class says the same, but to unpickle it a cluster has to import the library with Databricks' SDK:
    a third of a short step's Python. The main script only calls `setup`.

    Attributes:
        plain: values by name.
        secrets: `name`, `scope` and `key` of each variable that Databricks Secrets hold; never a value.
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
