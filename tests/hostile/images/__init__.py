"""Hostile images: a corpus made in code from one clean picture, and the tests that send it to a real server.

Reading order: ``pictures`` (the clean one), ``case`` (what a case expects), ``variants`` (edits and series of cases), a
module for each format, ``corpus`` (all of them), ``verdict`` (what the server must do with one), ``test_corpus``;
``worst_cases`` and ``test_decode_budget`` are about what one image costs.
"""
