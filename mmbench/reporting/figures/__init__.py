"""Figures of a report: each module draws one kind from data in memory and returns it.

A figure is an object of its own: nothing touches pyplot, and the same data give the same bytes.
"""
