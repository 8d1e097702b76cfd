"""The admin listener: what operators do. docs/api.md describes it."""
