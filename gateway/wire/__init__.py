"""What gateway and agent must compute identically. Standard library only."""
