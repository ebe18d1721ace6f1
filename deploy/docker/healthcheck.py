"""Exit status 0 if the service is ready. Imports little, because it starts every few seconds on the service's cores.

It asks where the service listens: an option of its command line, else a variable, else port 8000.
"""

import os
import socket
import sys


def setting(name: str, *variables: str) -> str:
    """Of the service, which is process 1 or, behind an init, named in its arguments."""
    with open("/proc/1/cmdline", "rb") as file:  # noqa: PTH123  # pathlib takes longer to import than the rest
        arguments = os.fsdecode(file.read()).split("\0")
    for number, argument in reversed(list(enumerate(arguments))):
        if argument == name:
            return arguments[number + 1]
        if argument.startswith(name + "="):
            return argument[len(name) + 1 :]
    values = (os.environ.get(variable, "") for variable in variables)
    return next((value for value in values if value and "://" not in value), "")  # tcp://… describes another service


path = setting("--uds", "MOBILENET_UDS")
address = ("127.0.0.1", int(setting("--port", "MOBILENET_PORT", "AIP_HTTP_PORT", "PORT") or 8000))
with socket.socket(socket.AF_UNIX if path else socket.AF_INET) as connection:
    connection.settimeout(2)
    connection.connect(path or address)
    connection.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    sys.exit(not connection.recv(64).startswith(b"HTTP/1.1 200 "))
