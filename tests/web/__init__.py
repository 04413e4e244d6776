"""Tests of the operators' HTTP API; world.py sets up two clients and what they have."""
