"""Calls to AWS that the gateway decides one by one: SDKs send them here, signed with keys of no other use."""
