"""The GPU owner's agent: takes work, runs it in containers, meters it and gets it paid.

Read `agent.py` first: it is the life of one task as numbered steps. `settle.py` is how the work
becomes money; `journal.py` is what survives when the machine does not.
"""

__version__ = "0.1.0"
