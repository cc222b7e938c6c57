"""The rules: one document, parsed, linted, compiled into a snapshot, and swapped live.

Read in this order: `model` (what may be written), `compile` (what it becomes), `match` (how a
request finds its route), `live` and `watch` (how a changed document takes over).
"""
