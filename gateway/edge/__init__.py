"""The listener: client connections, framing, limits, timeouts, drain. It routes nothing."""
