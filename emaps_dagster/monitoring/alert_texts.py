"""Alert texts: the failed job, zones, hours, cause and a link to the run. Plain text."""

from __future__ import annotations

from collections.abc import Iterable

from emaps_dagster.monitoring.incidents import Alert, ResolvedIncidents, RunOutcome

_MOST_SENTENCES = 6


def text_of(message: Alert | ResolvedIncidents, ui_url: str) -> tuple[str, str]:
    """Subject and body of the message."""
    return _failed(message, ui_url) if isinstance(message, Alert) else _resolved(message, ui_url)


def without_secrets(text: str, secrets: Iterable[str]) -> str:
    """Replace every secret in the text: an error of a library may repeat one."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "[secret]")
    return text


def _failed(alert: Alert, ui_url: str) -> tuple[str, str]:
    outcome = alert.outcome
    zones = sorted({zone for cause in alert.causes for zone in cause.zones})
    sentences = [f"- {cause.sentence}" for cause in alert.causes[:_MOST_SENTENCES]]
    more = len(alert.causes) - _MOST_SENTENCES
    lines = [
        f"The run of job {outcome.job} failed.",
        *([f"Zones: {', '.join(zones)}"] if zones else []),
        *([f"Hours: {outcome.hours}"] if outcome.hours else []),
        *sentences,
        *([f"- and {more} more causes, in the run."] if more > 0 else []),
        f"Run: {_link(outcome, ui_url)}",
        "This alert is sent once: a second one follows when its cause changes, and when it is resolved.",
    ]
    where = f" for {', '.join(zones[:5])}{' ...' if len(zones) > 5 else ''}" if zones else ""
    return f"emaps_dagster: {outcome.job} failed{where}", "\n".join(lines)


def _resolved(resolved: ResolvedIncidents, ui_url: str) -> tuple[str, str]:
    outcome = resolved.outcome
    zones = ", ".join(sorted({zone for cause in resolved.causes for zone in cause.zones}))
    lines = []
    for cause in resolved.causes[:_MOST_SENTENCES]:
        runs = f"{cause.runs} run{'' if cause.runs == 1 else 's'}"
        lines.append(
            f"Over, after {runs} from {cause.first:%Y-%m-%dT%H:%MZ} to {cause.last:%Y-%m-%dT%H:%MZ}: {cause.sentence}"
        )
    more = len(resolved.causes) - _MOST_SENTENCES
    lines += [f"And {more} more causes."] if more > 0 else []
    lines.append(f"Run: {_link(outcome, ui_url)}")
    return f"emaps_dagster: {outcome.job} works again{f' for {zones}' if zones else ''}", "\n".join(lines)


def _link(outcome: RunOutcome, ui_url: str) -> str:
    return f"{ui_url}/runs/{outcome.run_id}"
