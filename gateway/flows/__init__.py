"""Sequences: decide (core), act (ports), record (audit). They hold a clock; they import no adapter and no web."""
