"""Payload jobs: the schedule of flashblocks, their budgets, building, sealing and publishing."""
