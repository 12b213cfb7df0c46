"""The block builder: pool, payload jobs, flashblock schedule, Engine API and publisher."""
