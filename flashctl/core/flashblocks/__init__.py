"""The stream: its messages, their order, what they add up to, and the client that receives them."""
