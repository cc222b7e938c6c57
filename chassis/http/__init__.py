"""The wire: the upstream client, framing and header rules, and failures as responses."""
