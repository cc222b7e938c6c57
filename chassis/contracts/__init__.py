"""The wire types of every message that crosses a process: our stand-in for an IDL repository.

Unknown fields are ignored and new fields carry defaults, so that two versions can talk.
"""
