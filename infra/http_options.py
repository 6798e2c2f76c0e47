"""How uvicorn serves here: the ingress, and the floors of the bench that it is measured against."""

from typing import Any

UVICORN: dict[str, Any] = {
    "loop": "uvloop",
    "http": "httptools",
    "ws": "none",
    "access_log": False,
    "log_config": None,
    "proxy_headers": False,
    "server_header": False,
    "date_header": False,
    "backlog": 2048,
    "timeout_keep_alive": 75,
}
