"""What local programs speak to: on loopback only, and only with a token."""
