"""The pure steps of the stream: no I/O, no clock, event time only."""
