"""nginx and HAProxy as processes of their own, which pass on what is below a prefix and strip that."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from string import Template

from tests.containers.docker import free_port
from tests.waiting import until

PREFIX = "/ml/mobilenet/"

#: One process, which writes nothing outside its folder.
_NGINX = """
daemon off;
master_process off;
pid nginx.pid;
events {}
http {
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    scgi_temp_path scgi;
    uwsgi_temp_path uwsgi;
    server {
        listen 127.0.0.1:$port;
        location $prefix {
            proxy_pass http://$upstream/;
            proxy_set_header X-Forwarded-For $$proxy_add_x_forwarded_for;
        }
    }
}
"""

_HAPROXY = """
defaults
    mode http
    option forwardfor
    timeout connect 10s
    timeout client 60s
    timeout server 60s
listen service
    bind 127.0.0.1:$port
    http-request deny deny_status 404 unless { path_beg $prefix }
    http-request replace-path $prefix(.*) /\\1
    server service $upstream
"""


@contextmanager
def proxying(program: str, upstream: str, folder: Path) -> Iterator[str]:
    """``program`` in front of ``upstream``: host:port, or nginx's name of a Unix socket. Yields the address there."""
    port = free_port()
    nginx = Path(program).name == "nginx"
    configuration = folder / "proxy.conf"
    text = Template(_NGINX if nginx else _HAPROXY).substitute(port=port, prefix=PREFIX, upstream=upstream)
    configuration.write_text(text)
    options = ["-p", str(folder), "-e", "stderr", "-c"] if nginx else ["-f"]
    with subprocess.Popen([program, *options, str(configuration)]) as running:
        try:
            until(lambda: running.poll() is not None or _accepts(port), timeout=60, what="the proxy listens")
            assert running.poll() is None, "the proxy ended; standard error says why"
            yield f"http://127.0.0.1:{port}{PREFIX}"
        finally:
            running.terminate()


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
