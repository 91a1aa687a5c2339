"""Brownie scripts: deploy the contracts, and what providers and payers do on chain by hand."""
