"""What a transaction, a flashblock, a block or a receipt looks like to a person or a script."""
