"""The page at ``/`` in a real browser, before a server process with the real model."""
