"""Compares runs: by what they left in their work folders, and by their predictions of single images."""
