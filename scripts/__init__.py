"""Brownie scripts: deploy the contracts, and what a provider does on chain by hand."""
