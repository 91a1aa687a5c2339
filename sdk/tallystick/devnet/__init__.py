"""A whole market on one machine: chain, contracts, message bus, backend and providers.

It starts the same programs that run in production, as processes of their own, and keeps what they
need in one directory. `tallystick dev up`, `make demo` and the end-to-end tests all stand on it.
"""

from tallystick.devnet.market import LocalMarket, MarketPlan, ProviderPlan
from tallystick.devnet.processes import DevnetError, Service

__all__ = ["DevnetError", "LocalMarket", "MarketPlan", "ProviderPlan", "Service"]
