"""What every role shares; knows nothing of any role."""
