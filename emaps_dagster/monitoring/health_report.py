"""The report of transforms/health.py as a page of Markdown and as numbers over time.

What is true is decided there; here is only how it is shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from emaps_dagster.lakehouse.reports import Size
from emaps_dagster.transforms.health import HEALTH_LOOKBACK, REVISIONS_OF, Health, ZoneHealth

# Dagster shows Markdown in place up to a thousand characters; a longer one hides behind a link.
_IN_PLACE = 900
_QUARANTINED = 100


def status(health: Health) -> str:
    """One short paragraph: all is well, or what needs a person."""
    if not health.open_issues:
        zones = ", ".join(f"{zone.zone} to {_time(zone)}" for zone in health.zones[:10])
        more = f" and {len(health.zones) - 10} more zones" if len(health.zones) > 10 else ""
        return f"**All is well.** Complete: {zones}{more} UTC."
    told = f"**{len(health.open_issues)} to look at:**\n"
    for number, need in enumerate(health.open_issues):
        if len(told) + len(need) > _IN_PLACE:
            return told + f"\n- and {len(health.open_issues) - number} more: see `page`"
        told += f"\n- {need}"
    return told


def page(health: Health, sizes: Mapping[str, Size | None]) -> str:
    """Everything, as tables.

    Args:
        health: the report.
        sizes: files and bytes by table; None where the table does not exist.
    """
    lines = [f"### {health.now:%Y-%m-%d %H:%M} UTC", "", *_attention(health), "", "#### Zones", ""]
    lines += [
        "| zone | complete to | hours behind | provider's lag | estimated in 24 h | missing in 7 days | not in gold |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for zone in health.zones:
        share = "" if zone.estimated_share_24h is None else f"{zone.estimated_share_24h:.0%}"
        lag = "" if zone.provider_lag_hours is None else f"{zone.provider_lag_hours} h"
        behind = "" if zone.hours_behind is None else str(zone.hours_behind)
        lines.append(
            f"| {zone.zone} | {_time(zone)} | {behind} | {lag} | {share} | {len(zone.gaps)} | {len(zone.not_in_gold)} |"
        )
    lines += [
        "",
        "The provider's lag: how many ended hours its newest answer lacked. Missing: hours between the first and the "
        "last complete one that lack a feed.",
        "",
        "#### Days",
        "",
        "| day (UTC) | calls answered | bodies rejected | hours revised |",
        "|---|---:|---:|---:|",
        *(f"| {day.day} | {day.calls} | {day.rejected} | {day.revisions} |" for day in health.days),
        "",
        "Calls that failed (401, 429, 5xx) left no row and are not counted. Revised: hours of the last "
        f"{REVISIONS_OF.days} days for which a feed said something new again.",
        *_quarantined(health),
        "",
        "#### Tables",
        "",
        "| table | files | MB |",
        "|---|---:|---:|",
        *(
            f"| {name} | {size.files} | {size.bytes / 1e6:.1f} |" if size else f"| {name} | does not exist | |"
            for name, size in sizes.items()
        ),
    ]
    return "\n".join(lines)


def numbers(health: Health, sizes: Mapping[str, Size | None]) -> dict[str, int | float]:
    """What is plotted over time; a number that nobody knows is absent, not 0."""
    behind = [zone.hours_behind for zone in health.zones if zone.hours_behind is not None]
    lags = [zone.provider_lag_hours for zone in health.zones if zone.provider_lag_hours is not None]
    shares = [zone.estimated_share_24h for zone in health.zones if zone.estimated_share_24h is not None]
    there = [size for size in sizes.values() if size is not None]
    today = health.days[0]
    waiting = health.quarantined
    return {
        "open_issues": len(health.open_issues),
        **({"hours_behind": max(behind)} if behind else {}),
        **({"provider_lag_hours": max(lags)} if lags else {}),
        **({"estimated_share_24h": round(sum(shares) / len(shares), 3)} if shares else {}),
        **({"hours_quarantined": len({(one.zone, one.hour) for one in waiting})} if waiting else {}),
        "hours_missing_7d": sum(len(zone.gaps) for zone in health.zones),
        "calls_today": today.calls,
        "revisions_today": today.revisions,
        "files": sum(size.files for size in there),
        "megabytes": round(sum(size.bytes for size in there) / 1e6, 3),
    }


def _quarantined(health: Health) -> list[str]:
    """The hours whose newest record is quarantined, until a trusted one has come."""
    if not health.quarantined:
        return []
    lines = ["", "#### Quarantined records", "", "| zone | hour (UTC) | feed | reason |", "|---|---|---|---|"]
    lines += [
        f"| {one.zone} | {one.hour:%Y-%m-%d %H:%M} | {one.feed} | {one.reason.replace('|', '/')} |"
        for one in health.quarantined[:_QUARANTINED]
    ]
    more = len(health.quarantined) - _QUARANTINED
    return [*lines, "", f"And {more} more."] if more > 0 else lines


def _attention(health: Health) -> list[str]:
    if not health.open_issues:
        return ["**All is well.**"]
    return [f"**{len(health.open_issues)} to look at:**", "", *(f"- {need}" for need in health.open_issues)]


def _time(zone: ZoneHealth) -> str:
    """The end of the last complete hour."""
    if zone.last_complete_hour is None:
        return f"nothing in {HEALTH_LOOKBACK.days} days"
    return f"{zone.last_complete_hour + timedelta(hours=1):%Y-%m-%d %H:%M}"
