"""Exit status 0 if the service is ready. Imports little, because it starts every few seconds on the service's cores."""

import os
import socket
import sys

with socket.create_connection(("127.0.0.1", int(os.environ.get("MOBILENET_PORT") or 8000)), timeout=2) as connection:
    connection.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    sys.exit(not connection.recv(64).startswith(b"HTTP/1.1 200 "))
