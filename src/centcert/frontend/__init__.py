"""The listeners, the relay to the backend, and their limits."""
