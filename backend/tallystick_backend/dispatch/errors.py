"""Errors of the dispatcher.

DispatchError
├── MessageRefused    a provider said something that its own lease, size or rate does not allow
├── ReceiptRefused    a receipt that the contract would not pay
├── LoginRefused      a log-in proof that lets nobody in
└── BusError          the message bus
    ├── BusClosed     not connected
    ├── NoListener    nobody was there to hear: the message was certainly not received
    └── NoAnswer      nobody answered in time: it may have been received
"""

from __future__ import annotations

from tallystick_backend.errors import BackendError


class DispatchError(BackendError):
    """Base of the dispatcher's errors."""


class MessageRefused(DispatchError):
    pass


class ReceiptRefused(DispatchError):
    next_step = "Correct the receipt and send it again while the lease is in force."


class LoginRefused(DispatchError):
    pass


class BusError(DispatchError):
    pass


class BusClosed(BusError):
    next_step = "Check that nats-server runs at the configured address."


class NoListener(BusError):
    pass


class NoAnswer(BusError):
    pass
