"""What every test of the benchmarks has."""

from harness.surroundings import no_settings_of_this_machine

__all__ = ["no_settings_of_this_machine"]
