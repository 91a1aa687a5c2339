"""The dispatcher: indexes the chain, matches tasks to providers, routes calls."""
