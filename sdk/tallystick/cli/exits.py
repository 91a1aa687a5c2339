"""Exit codes, the same for every command; scripts may rely on them.

0    done
1    failed: the task, a check, the chain or the backend
2    usage: a wrong argument, value or setting
3    refused by a budget, a limit or a rule
4    not found
5    payment needed
124  the time-out is over
130  interrupted with Ctrl-C
"""

from __future__ import annotations

from tallystick import errors

DONE = 0
FAILED = 1
USAGE = 2
REFUSED = 3
NOT_FOUND = 4
PAYMENT_NEEDED = 5
TIMED_OUT = 124
INTERRUPTED = 130

MEANINGS = {
    DONE: "done",
    FAILED: "failed: the task, a check, the chain or the backend",
    USAGE: "usage: a wrong argument, value or setting",
    REFUSED: "refused by a budget, a limit or a rule",
    NOT_FOUND: "not found",
    PAYMENT_NEEDED: "payment needed",
    TIMED_OUT: "the time-out is over",
    INTERRUPTED: "interrupted with Ctrl-C",
}

_CODES: tuple[tuple[type[errors.TallystickError], int], ...] = (
    (errors.InvalidRequest, USAGE),
    (errors.Refused, REFUSED),
    (errors.NotFound, NOT_FOUND),
    (errors.PaymentNeeded, PAYMENT_NEEDED),
    (errors.TimedOut, TIMED_OUT),
)


def exit_code(error: errors.TallystickError) -> int:
    return next((code for kind, code in _CODES if isinstance(error, kind)), FAILED)
