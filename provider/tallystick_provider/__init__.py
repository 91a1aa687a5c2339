"""The GPU owner's agent: takes work, runs it in containers, meters it and gets it paid."""
