"""Features of forecasting rows: their names, the rule of lags by horizon, and the validated arguments.

A row is (zone, issued_at, horizon); docs/forecasting.md explains the words. Standard library only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from numbers import Integral

from emaps_dagster.contracts.errors import FeaturesError
from emaps_dagster.contracts.tables import key_columns
from emaps_dagster.contracts.zones import Zone, zone_facts

DAY, WEEK = 24, 168
# A last known value and the mean of the same hour of the day are looked for in the week up to the origin.
LAST_KNOWN_HOURS = WEEK
# Sums of fixed-point values of 10^9 fit into a BIGINT for this many hours.
LONGEST_LOOKBACK = 8760
# A forecast of a month ahead; longer ones are made of days, not of hours.
LONGEST_HORIZON = 720
# The totals and the carbon intensity: what every zone reports. Modes and flows are requested by name.
DEFAULT_COLUMNS = ("consumption_total", "production_total", "import_total", "export_total", "carbon_intensity")
DEFAULT_LAGS = (1, 2, 3, 24, 48, 168)
DEFAULT_MEANS = (24, 168)
DEFAULT_HORIZONS = range(1, 25)
DEFAULT_TARGETS = ("carbon_intensity",)
_DEFAULTS = {"horizons": list(DEFAULT_HORIZONS), "lags": list(DEFAULT_LAGS), "means": list(DEFAULT_MEANS)}

# Calendar of the target hour, as gold has it of its own hour: column, meaning, and the fact of the zone it needs.
CALENDAR = (
    ("hour", "Hour of the target hour, UTC, 0-23", None),
    ("day_of_week", "Day of the target hour, UTC, 1 = Sunday ... 7 = Saturday", None),
    ("month", "Month of the target hour, UTC, 1-12", None),
    ("local_hour", "Hour of the target hour in the zone's local time, 0-23", "time_zone"),
    ("local_day_of_week", "Local day of the target hour, 1 = Sunday ... 7 = Saturday", "time_zone"),
    ("is_weekend", "1 if the local day is Saturday or Sunday, else 0", "time_zone"),
    ("is_holiday", "1 if the local day is a national public holiday, else 0", "country"),
)
BASELINES = ("persistence", "daily", "weekly")
# Columns of silver that gold does not have.
_PERCENTAGES = ("fossil_free_percentage", "renewable_percentage")
_OF_CARBON = ("carbon_intensity",)


def lag_hours(lag: int, horizon: int) -> int | None:
    """Distance of a lag from the target hour at a horizon, in hours; None where the lag is absent.

    An hour `lag` before the target is over at the moment of issue if `lag >= horizon`. Otherwise a lag of whole days
    is replaced by the smallest number of whole days that is, and another lag is absent.
    """
    if lag >= horizon:
        return lag
    return -(-horizon // DAY) * DAY if lag % DAY == 0 else None


def week_hours(horizon: int) -> int:
    """Distance of the same hour of a week before the target that is over at the moment of issue, in hours."""
    return -(-horizon // WEEK) * WEEK


def value_column(name: str) -> str:
    return f"value_{name}"


def age_column(name: str) -> str:
    return f"age_{name}_h"


def lag_column(name: str, lag: int) -> str:
    return f"lag_{name}_{lag}h"


def mean_column(name: str, hours: int) -> str:
    return f"mean_{name}_{hours}h"


def count_column(name: str, hours: int) -> str:
    return f"count_{name}_{hours}h"


def same_hour_column(name: str) -> str:
    return f"same_hour_mean_{name}_7d"


@dataclass(frozen=True)
class Feature:
    """A column of X: name, meaning, and whether it is a whole number that is never null."""

    name: str
    meaning: str
    is_int: bool = False


@dataclass(frozen=True)
class ForecastPlan:
    """The features of each row: zones, base columns, targets, horizons, lags and means in hours."""

    zones: tuple[str, ...]
    columns: tuple[str, ...]
    targets: tuple[str, ...]
    horizons: tuple[int, ...]
    lags: tuple[int, ...]
    means: tuple[int, ...]

    @property
    def base_columns(self) -> tuple[str, ...]:
        """The columns of silver that rows are computed from: those of the features, and the targets."""
        return tuple(dict.fromkeys((*self.columns, *self.targets)))

    @property
    def feeds(self) -> tuple[str, ...]:
        """The feeds of the base columns."""
        of_carbon = [name in _OF_CARBON for name in self.base_columns]
        return tuple(feed for feed, there in (("power", not all(of_carbon)), ("carbon", any(of_carbon))) if there)

    @cached_property
    def present_lags(self) -> tuple[int, ...]:
        """The lags that at least one horizon has."""
        return tuple(lag for lag in self.lags if any(lag_hours(lag, k) is not None for k in self.horizons))

    @cached_property
    def lookback(self) -> int:
        """Number of hours up to the origin, the origin included, that a row can depend on."""
        lags = [back - k for lag in self.lags for k in self.horizons if (back := lag_hours(lag, k)) is not None]
        return max(LAST_KNOWN_HOURS, *self.means, *(age + 1 for age in lags))

    @cached_property
    def features(self) -> tuple[Feature, ...]:
        """Every feature in the order of X, without those that `training_set` leaves out or adds on request."""
        return (
            *(feature for name in self.columns for feature in self._features_of(name)),
            *(
                Feature(name, meaning, needs is None or all(getattr(zone, needs) for zone in self._facts))
                for name, meaning, needs in CALENDAR
            ),
            Feature(
                "estimated_share_24h", "Share of the known hours of the last day whose power or carbon is estimated"
            ),
            Feature("hours_known_24h", "Number of hours of the day up to the origin that were known, 0-24", True),
            Feature("horizon", "Number of hours from the origin to the target hour", True),
        )

    @property
    def _facts(self) -> list[Zone]:
        return [zone_facts(zone) for zone in self.zones]

    def _features_of(self, name: str) -> Iterable[Feature]:
        yield Feature(value_column(name), f"Last known value of {name} in the week up to the origin")
        yield Feature(age_column(name), "Hours from the hour of that value to the origin; 0: it is the origin's")
        for lag in self.present_lags:
            yield Feature(lag_column(name, lag), f"Value of {name} {lag} h before the target hour, by the lag rule")
        for hours in self.means:
            yield Feature(
                mean_column(name, hours), f"Mean of {name} over the {hours} h up to the origin, nulls skipped"
            )
            yield Feature(count_column(name, hours), "Number of values in that mean", True)
        yield Feature(
            same_hour_column(name), f"Mean of {name} at the target's hour of the day, 7 days up to the origin"
        )


def forecast_plan(
    zones: str | Sequence[str],
    *,
    columns: Sequence[str] | None,
    targets: str | Sequence[str],
    horizons: int | Iterable[int],
    lags: Iterable[int],
    means: Iterable[int],
) -> ForecastPlan:
    """Validates the arguments that decide the features.

    Raises:
        FeaturesError: an argument is invalid; the message names the given value and the allowed ones.
    """
    zone_keys = (zones,) if isinstance(zones, str) else tuple(dict.fromkeys(zones))
    if not zone_keys:
        raise FeaturesError("No zone is given; give a zone key such as 'GR', or several.")
    if isinstance(columns, str):
        raise FeaturesError(f"columns is {columns!r}; give a list of names: [{columns!r}].")
    offered = base_columns_of(zone_keys)
    return ForecastPlan(
        zones=zone_keys,
        columns=_known(DEFAULT_COLUMNS if columns is None else columns, offered, "column"),
        targets=_known((targets,) if isinstance(targets, str) else targets, offered, "target"),
        horizons=_hours(horizons if isinstance(horizons, Iterable) else (horizons,), "horizons", LONGEST_HORIZON),
        lags=_hours(lags, "lags", LONGEST_LOOKBACK, may_be_empty=True),
        means=_hours(means, "means", LONGEST_LOOKBACK, may_be_empty=True),
    )


def base_columns_of(zones: tuple[str, ...]) -> tuple[str, ...]:
    """The columns that can be features and targets: gold's key columns, flows of the zones included, and two shares."""
    return (*(column.name for column in key_columns(zones)), *_PERCENTAGES)


def _known(names: Iterable[str], offered: tuple[str, ...], what: str) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(names))
    for name in found:
        if name not in offered:
            near = get_close_matches(str(name), offered, n=3)
            hint = f"near it are {', '.join(near)}" if near else f"there are {', '.join(offered)}"
            raise FeaturesError(f"There is no {what} {name!r} to forecast with; {hint}.")
    return found


def _hours(values: Iterable[int], name: str, longest: int, *, may_be_empty: bool = False) -> tuple[int, ...]:
    if not isinstance(values, Iterable) or isinstance(values, str):
        raise FeaturesError(f"{name} is {values!r}; give a list of hours, as is the default: {_DEFAULTS[name]}.")
    hours = list(values)
    # A bool is an int; numpy's integers are integral.
    wrong = [hour for hour in hours if isinstance(hour, bool) or not isinstance(hour, Integral)]
    numbers = sorted({int(hour) for hour in hours if hour not in wrong})
    if wrong or not (numbers or may_be_empty) or (numbers and not 1 <= numbers[0] <= numbers[-1] <= longest):
        raise FeaturesError(f"{name} is {hours!r}; give whole numbers of hours from 1 to {longest}.")
    return tuple(numbers)
