"""Why the index will not go on.

IndexStopped
├── WrongChain            the database or the node belongs to another chain or deployment
├── ReorgTooDeep          blocks went away that were taken for final
└── BooksDoNotBalance     an event takes more than there is: the rows are not to be trusted
"""

from __future__ import annotations

from tallystick_backend.errors import BackendError


class IndexStopped(BackendError):
    """The index waits for a person; what it wrote stays readable and is marked degraded."""


class WrongChain(IndexStopped):
    next_step = (
        "Check RPC_URL and DEPLOYMENT; to index another chain, give it a database of its own."
    )


class ReorgTooDeep(IndexStopped):
    next_step = (
        "Find out what the chain did. If the new branch is right, run `tallystick-backend "
        "reindex`; payments in the lost blocks must be looked at one by one."
    )

    def __init__(self, block_number: int, finality_blocks: int) -> None:
        super().__init__(
            f"block {block_number} and at least {finality_blocks} below it are no longer on the "
            f"chain; blocks that deep were taken for final"
        )


class BooksDoNotBalance(IndexStopped):
    next_step = (
        "Check that DEPLOYMENT names the first block of the contracts, then run "
        "`tallystick-backend reindex`."
    )
