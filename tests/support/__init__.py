"""What several test suites share: a local chain with the contracts on it, and people."""
