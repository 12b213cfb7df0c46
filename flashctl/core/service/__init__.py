"""What every long-running process needs: life cycle, signals, log, metrics, health, worker processes."""
