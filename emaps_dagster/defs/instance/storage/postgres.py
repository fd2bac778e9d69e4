"""Dagster's PostgreSQL storage with a connection that stays open.

Dagster connects anew for each statement, log-in and server process included: a status of an hour costs three of them.
The tables are the same: any Dagster reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dagster_postgres.event_log import PostgresEventLogStorage
from dagster_postgres.storage import DagsterPostgresStorage
from dagster_postgres.utils import create_pg_engine, get_token_provider_from_config, pg_url_from_config

from emaps_dagster.defs.instance.versions import supports_storage

# One for the thread that writes events; what else there is at the same moment connects and goes again.
_KEPT = {"pool_size": 1, "max_overflow": -1}
# The server may have been restarted, or a firewall have forgotten us: better asked than told by an error in a run.
_CHECKED = {"pool_pre_ping": True, "pool_recycle": 1800}


class OpenPostgresStorage(DagsterPostgresStorage):
    """For `storage: custom` in dagster.yaml, with the config of `storage: postgres`."""

    def __init__(self, postgres_url: str, *, token_provider: Any = None, **options: Any) -> None:
        super().__init__(postgres_url, token_provider=token_provider, **options)
        events = self._event_log_storage
        assert isinstance(events, PostgresEventLogStorage)
        events._engine = create_pg_engine(  # noqa: SLF001  # its own way to this is for the webserver, with a time limit
            postgres_url, token_provider, isolation_level="AUTOCOMMIT", **_KEPT, **_CHECKED
        )

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Mapping[str, Any]) -> DagsterPostgresStorage:  # type: ignore[override]
        # Dagster's own is the fallback, which the type of its base class does not foresee.
        storage = cls if supports_storage(cls.__name__) else DagsterPostgresStorage
        return storage(
            inst_data=inst_data,
            postgres_url=pg_url_from_config(config_value),
            should_autocreate_tables=config_value.get("should_autocreate_tables", True),
            token_provider=get_token_provider_from_config(config_value),
        )
