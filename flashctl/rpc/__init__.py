"""The overlay node: canonical answers below, preconfirmed pending state on top."""
