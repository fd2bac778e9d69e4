"""Dagster's PostgreSQL storage with a persistent connection.

Dagster opens a connection for each statement, log-in and server process included; a status of an hour takes three.
The tables are the same, so any Dagster reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dagster_postgres.event_log import PostgresEventLogStorage
from dagster_postgres.storage import DagsterPostgresStorage
from dagster_postgres.utils import create_pg_engine, get_token_provider_from_config, pg_url_from_config

from emaps_dagster.defs.instance.versions import supports_storage

# One connection for the thread that writes events; concurrent threads open and close connections of their own.
_KEPT = {"pool_size": 1, "max_overflow": -1}
# A ping before use detects a restarted server or a dropped connection before a run would fail.
_CHECKED = {"pool_pre_ping": True, "pool_recycle": 1800}


class OpenPostgresStorage(DagsterPostgresStorage):
    """For `storage: custom` in dagster.yaml; takes the config of `storage: postgres`."""

    def __init__(self, postgres_url: str, *, token_provider: Any = None, **options: Any) -> None:
        super().__init__(postgres_url, token_provider=token_provider, **options)
        events = self._event_log_storage
        assert isinstance(events, PostgresEventLogStorage)
        events._engine = create_pg_engine(  # noqa: SLF001  # its own option for this is the webserver's, with a time limit
            postgres_url, token_provider, isolation_level="AUTOCOMMIT", **_KEPT, **_CHECKED
        )

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Mapping[str, Any]) -> DagsterPostgresStorage:  # type: ignore[override]
        # Falls back to Dagster's own class, which the type of the base method does not allow for.
        storage = cls if supports_storage(cls.__name__) else DagsterPostgresStorage
        return storage(
            inst_data=inst_data,
            postgres_url=pg_url_from_config(config_value),
            should_autocreate_tables=config_value.get("should_autocreate_tables", True),
            token_provider=get_token_provider_from_config(config_value),
        )
