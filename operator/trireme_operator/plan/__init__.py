"""Decisions: from what was observed to what to do. No client, no clock of its own."""
