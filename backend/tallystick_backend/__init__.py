"""The backend: orders over HTTP, an index of the chain, and a dispatcher that leases tasks to
providers. `app.create_app` wires it."""

from importlib.metadata import version

__version__ = version("tallystick")
