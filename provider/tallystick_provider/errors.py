"""What can go wrong in the agent. Messages say what happened, with which value, what to do next.

ProviderError
├── SettingsError        the environment does not describe a provider
├── GpuError             the driver cannot be asked
├── OfferRefused         this agent will not take that offer (goes back as the decline reason)
├── BundleError          the consumer's input is not what was ordered, or is hostile
├── RuntimeFailure       the container engine did not do what it was asked
│   ├── ImageRefused     the image cannot or must not run here (the task's fault)
│   └── RuntimeUnsafe    the engine lacks a protection (the provider's fault)
├── AppRefused           this agent does not serve that app (goes back as the reason)
├── NoRoom               the machine has no place for one more worker now
├── WorkerFailure        a call came to nothing, and nothing is charged for it
│   ├── NoWorker         none takes it: there is no room, or none comes up
│   ├── WorkerLost       the worker is not there any more
│   ├── WorkerBroken     it does not speak HTTP as it should
│   ├── AnswerTooLarge   its answer is longer than the app's manifest allows
│   └── AnswerTooLate    its answer was not whole in time
├── JournalError         the record on disk forbids what was asked
│   ├── JournalUnavailable   it cannot be read or written now: all waits
│   └── AlreadySigned    another receipt was signed for this place
└── SettlementError      the chain did not take a proof; says why in words
"""

from __future__ import annotations


class ProviderError(Exception):
    """Base of everything this package raises on purpose."""


class SettingsError(ProviderError):
    """A setting is missing or wrong; the message names the variable and an example."""


class GpuError(ProviderError):
    """The GPU driver cannot be asked."""


class OfferRefused(ProviderError):
    """The offer is not taken. Its text is the reason the dispatcher gets."""


class BundleError(ProviderError):
    """The input bundle is not what the order says, or tries to leave its directory."""


class RuntimeFailure(ProviderError):
    """The runtime could not do it."""


class ImageRefused(RuntimeFailure):
    """The image is not pinned, not here and not to be had, or asks for what no task gets."""


class RuntimeUnsafe(RuntimeFailure):
    """The engine lacks a protection that every task relies on."""


class AppRefused(ProviderError):
    """The app is not served here. Its text is the reason that the gateway gets."""


class NoRoom(ProviderError):
    """Cards, CPU, memory or disk are taken by tasks and other workers."""


class WorkerFailure(ProviderError):
    """What a worker did instead of answering."""


class NoWorker(WorkerFailure):
    """Nothing was run."""


class WorkerLost(WorkerFailure):
    """It cannot be reached, or hung up before its answer was whole."""


class WorkerBroken(WorkerFailure):
    """What it says is not HTTP, or more of it than anybody asked for."""


class AnswerTooLarge(WorkerFailure):
    """Nothing of the answer is kept."""


class AnswerTooLate(WorkerFailure):
    """The call's longest time has passed."""


class JournalError(ProviderError):
    """The journal forbids it."""


class JournalUnavailable(JournalError):
    """Its file cannot be read or written now: the disk is full, or another program holds it.
    Nothing was decided; whatever needed it waits and is tried again."""


class AlreadySigned(JournalError):
    """Another receipt was signed for this route and sequence number. Two histories cost stake."""


class SettlementError(ProviderError):
    """The chain does not take the proof."""
