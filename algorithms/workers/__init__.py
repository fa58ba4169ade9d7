"""Rewards in other processes or on other machines, computed while the next images are drawn."""
