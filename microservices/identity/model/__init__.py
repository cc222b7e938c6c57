"""Domain rules of identity: accounts, sign-in attempts, signing keys, sign-ins, device codes.

Pure and clock-free; instants are UNIX seconds and come as arguments.
"""
