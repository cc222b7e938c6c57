"""What every adapter on the local disk shares: group commit, fsync, locks, SQLite, clear faults.

Knows nothing of rows, records or objects.
"""
