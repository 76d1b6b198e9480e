"""Comparative measurements of Tidelog and its peers."""
