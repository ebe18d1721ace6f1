"""HTTP clients, proxies and web pages of others, before a server process with a small model."""
