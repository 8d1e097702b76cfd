"""Real AWS clients, unmodified, at each door that they know: `python -m tests.clients` writes docs/clients.md."""
