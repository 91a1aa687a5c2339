"""From a task that is wanted to a provider that runs it, and back to its signed receipt.

`match` chooses (pure), `rules` says what may become of a lease (pure), `lease` writes it down,
`assign` signs it, `inbox` hears providers, `bus` carries, `callout` lets providers in, `loop`
drives.
"""
