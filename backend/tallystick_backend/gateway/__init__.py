"""Pay per call: from a consumer's request to a provider's worker and back, with a receipt checked
and a voucher signed for each answer.

    calling     the life of one call: route, ask, check, pay, answer
    channels    the payer's end of every channel, and where its money comes from (`funding`, `keys`)
    journal     what must be durable before anything is sent, many calls in one transaction
    fence       one process signs on one database
    fleet       what providers say of their load; `routing` chooses among them
    shelf       apps, versions, prices and manifests as the index and publishers left them
    spending    limits that act
    bus         frames to providers and back
    webhooks    answers that are delivered

Nothing here knows HTTP: that is `api.call_door` (the hot path) and `api.calls`.
"""
