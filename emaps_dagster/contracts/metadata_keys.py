"""Keys and meanings of the metadata that Dagster's UI shows; source of docs/reference/metadata.md."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """Keys with one meaning; `tables` says which assets have them, None where there is one asset or no table."""

    keys: tuple[str, ...]
    meaning: str
    tables: str | None = None


_MERGED = "silver, gold"

# Metadata of the materialization of an hour.
HOUR = (
    Entry(("responses",), "responses stored by this run that overlap the hour", "bronze"),
    Entry(("rows",), "rows of the hour that the run computed, one for each zone", _MERGED),
    Entry(
        ("inserted", "updated", "unchanged"),
        "how many of them were new, differed, or were equal and not written",
        _MERGED,
    ),
    Entry(("estimated",), "rows whose power or carbon record is the provider's estimate", _MERGED),
    Entry(("estimated_share",), "`estimated` divided by the stored rows of the hour, 0 to 1", _MERGED),
    Entry(("carbon_intensity_mean",), "mean of `carbon_intensity` over the zones, gCO2eq/kWh", _MERGED),
    Entry(("consumption_mean",), "mean of `consumption_total` over the zones, MW", _MERGED),
)
# Metadata of the whole run, on the materialization of its last hour.
LAST_HOUR = (
    Entry(("window",), "the half-open range of hours of the run, UTC", "all"),
    Entry(("zones",), "the configured zones", "bronze"),
    Entry(("responses_fetched",), "responses received", "bronze"),
    Entry(("responses_stored",), "of these, responses appended to the table", "bronze"),
    Entry(("records_quarantined",), "records written to `bronze.rejected_records`; absent if none", "bronze"),
    Entry(
        ("requests_resumed",),
        "requests not sent because an earlier try of the run stored the response; absent if none",
        "bronze",
    ),
    Entry(
        ("rows_inserted_in_run", "rows_updated_in_run", "rows_unchanged_in_run"),
        "the counts of all hours computed",
        _MERGED,
    ),
    Entry(("commit_conflicts",), "commits that lost against another writer and were computed again", _MERGED),
    Entry(
        ("first_hour_changed", "last_hour_changed"),
        "the range of hours in which a row changed; absent if none",
        _MERGED,
    ),
    Entry(
        ("last_24h_mix",), "production by mode, consumption and carbon intensity of the last day, as Markdown", "gold"
    ),
    Entry(("run_seconds",), "duration of the step, without its checks", "all"),
)
CHECK_RESULT = (
    Entry(("rows_checked",), "rows that the check compared, of all hours of the run"),
    Entry(("findings",), "the first findings: zone, hour and what was found"),
    Entry(("remediation",), "what to do; the same text as the description of the check"),
)
HEALTH = (
    Entry(("status",), "*All is well*, or one sentence for each open issue with its remedy"),
    Entry(("page",), "the numbers of each zone, day and table, as Markdown"),
)
RUN_TAGS = (
    Entry(
        ("emaps/triggered_by",),
        "what launched the run: the schedule `hourly_tick`, or the sensor `gaps` or `revisions`",
    ),
    Entry(("emaps/why",), "on a run of `gaps` that merges without fetching: bronze has the hours already"),
    Entry(("emaps/resume",), "since when stored responses count as fetched ([backfills](../operations.md#backfills))"),
)
