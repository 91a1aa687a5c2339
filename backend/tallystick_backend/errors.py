"""Every error of the backend.

BackendError
├── store.session.StoreError      the database is busy or not ours
├── tasks.TaskError               a move that the life of a task does not allow
├── chain.ChainError              the RPC node answered something that cannot be trusted
└── index.errors.IndexStopped     the index will not go on without a person

Errors here know nothing of HTTP: `api/errors.py` is the one table from error to status.
"""

from __future__ import annotations


class BackendError(Exception):
    """Base of every error raised on purpose; `next_step` says what the reader can do about it."""

    next_step: str = ""

    def __init__(self, message: str, *, next_step: str = "") -> None:
        super().__init__(message)
        if next_step:
            self.next_step = next_step
