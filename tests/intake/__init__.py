"""Tests of the intake; makers.py makes their documents."""
