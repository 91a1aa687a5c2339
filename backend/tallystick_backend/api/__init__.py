"""HTTP. One file per noun; no SQL here, no rules: endpoints unpack, ask, and answer.

`errors` is the one table from an error to a problem; `guard` is in front of everything.
"""
