"""Renders the report of transforms/health.py as a page of Markdown and as numbers over time; it decides nothing."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from emaps_dagster.lakehouse.reports import Size
from emaps_dagster.transforms.health import HEALTH_LOOKBACK, REVISIONS_OF, Health, ZoneHealth

# Dagster shows Markdown inline up to a thousand characters and puts longer texts behind a link.
_IN_PLACE = 900
_QUARANTINED = 100


def status(health: Health) -> str:
    """A short summary: all is well, or a list of the open issues."""
    if not health.open_issues:
        zones = ", ".join(f"{zone.zone} to {_time(zone)}" for zone in health.zones[:10])
        more = f" and {len(health.zones) - 10} more zones" if len(health.zones) > 10 else ""
        return f"**All is well.** Complete: {zones}{more} UTC."
    text = f"**{len(health.open_issues)} to look at:**\n"
    for number, issue in enumerate(health.open_issues):
        if len(text) + len(issue) > _IN_PLACE:
            return text + f"\n- and {len(health.open_issues) - number} more: see `page`"
        text += f"\n- {issue}"
    return text


def page(health: Health, sizes: Mapping[str, Size | None]) -> str:
    """The whole report, as Markdown tables.

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
        f"{REVISIONS_OF.days} days for which a feed delivered another content.",
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
    """The numbers that Dagster plots over time; an unknown number is absent, not 0."""
    behind = [zone.hours_behind for zone in health.zones if zone.hours_behind is not None]
    lags = [zone.provider_lag_hours for zone in health.zones if zone.provider_lag_hours is not None]
    shares = [zone.estimated_share_24h for zone in health.zones if zone.estimated_share_24h is not None]
    existing = [size for size in sizes.values() if size is not None]
    today = health.days[0]
    waiting = health.quarantined
    return {
        "open_issues": len(health.open_issues),
        **({"hours_behind": max(behind)} if behind else {}),
        **({"provider_lag_hours": max(lags)} if lags else {}),
        **({"estimated_share_24h": round(sum(shares) / len(shares), 3)} if shares else {}),
        **({"hours_quarantined": len({(record.zone, record.hour) for record in waiting})} if waiting else {}),
        "hours_missing_7d": sum(len(zone.gaps) for zone in health.zones),
        "calls_today": today.calls,
        "revisions_today": today.revisions,
        "files": sum(size.files for size in existing),
        "megabytes": round(sum(size.bytes for size in existing) / 1e6, 3),
    }


def _quarantined(health: Health) -> list[str]:
    """The section of hours whose newest record is quarantined; a trusted record ends the entry."""
    if not health.quarantined:
        return []
    lines = ["", "#### Quarantined records", "", "| zone | hour (UTC) | feed | reason |", "|---|---|---|---|"]
    lines += [
        f"| {record.zone} | {record.hour:%Y-%m-%d %H:%M} | {record.feed} | {record.reason.replace('|', '/')} |"
        for record in health.quarantined[:_QUARANTINED]
    ]
    more = len(health.quarantined) - _QUARANTINED
    return [*lines, "", f"And {more} more."] if more > 0 else lines


def _attention(health: Health) -> list[str]:
    if not health.open_issues:
        return ["**All is well.**"]
    return [f"**{len(health.open_issues)} to look at:**", "", *(f"- {issue}" for issue in health.open_issues)]


def _time(zone: ZoneHealth) -> str:
    """The end of the last complete hour."""
    if zone.last_complete_hour is None:
        return f"nothing in {HEALTH_LOOKBACK.days} days"
    return f"{zone.last_complete_hour + timedelta(hours=1):%Y-%m-%d %H:%M}"
