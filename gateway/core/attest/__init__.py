"""Attestation: what an instance presents becomes claims, or a refusal. Pure: bytes, facts and the time come in."""
