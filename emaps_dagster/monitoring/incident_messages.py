"""The words of an alert: what failed, for which zones and hours, why, and where to look. Plain text."""

from __future__ import annotations

from collections.abc import Iterable

from emaps_dagster.monitoring.incidents import Alert, ResolvedIncidents, RunOutcome

_MOST_SENTENCES = 6


def text_of(news: Alert | ResolvedIncidents, ui_url: str) -> tuple[str, str]:
    """Subject and body."""
    return _failed(news, ui_url) if isinstance(news, Alert) else _healed(news, ui_url)


def without_secrets(text: str, secrets: Iterable[str]) -> str:
    """The text with every secret replaced, should somebody's words repeat one."""
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
        "You are told once: again when the cause changes, and when it is over.",
    ]
    where = f" for {', '.join(zones[:5])}{' ...' if len(zones) > 5 else ''}" if zones else ""
    return f"emaps_dagster: {outcome.job} failed{where}", "\n".join(lines)


def _healed(healed: ResolvedIncidents, ui_url: str) -> tuple[str, str]:
    outcome = healed.outcome
    zones = ", ".join(sorted({zone for cause in healed.causes for zone in cause.zones}))
    lines = []
    for cause in healed.causes[:_MOST_SENTENCES]:
        runs = f"{cause.runs} run{'' if cause.runs == 1 else 's'}"
        lines.append(
            f"Over, after {runs} from {cause.first:%Y-%m-%dT%H:%MZ} to {cause.last:%Y-%m-%dT%H:%MZ}: {cause.sentence}"
        )
    more = len(healed.causes) - _MOST_SENTENCES
    lines += [f"And {more} more causes."] if more > 0 else []
    lines.append(f"Run: {_link(outcome, ui_url)}")
    return f"emaps_dagster: {outcome.job} works again{f' for {zones}' if zones else ''}", "\n".join(lines)


def _link(outcome: RunOutcome, ui_url: str) -> str:
    return f"{ui_url}/runs/{outcome.run_id}"
