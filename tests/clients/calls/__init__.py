"""Real AWS clients, unmodified, that call AWS by the agent's endpoint: signed for, or carried, as if directly."""
