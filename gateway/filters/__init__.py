"""Filters: units of gateway logic that see an exchange on its way in or out.

`chain` says what a filter is and runs them; every other module here is one built-in filter.
"""

from gateway.filters.chain import Filter, Phase, run

__all__ = ["Filter", "Phase", "run"]
