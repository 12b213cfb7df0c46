"""What tests share: reference data, running processes, hand-made chains and streams."""
