"""Answering calls of published apps, each paid for on a channel.

lines.py      what arrives over the message bus, and what goes back
service.py    one call from its request to its answer
channels.py   the provider's end of every channel, written down before anything is sent
journal.py    where it is written down
follow.py     what the chain says of channels and apps, at a finality of our own
apps.py       which versions are served here
workers.py    one version's warm workers; scaling.py decides, http.py speaks to them
room.py       what workers and tasks share: cards, CPU, memory, disk
redeem.py     when vouchers go to the chain
"""
