"""How the servers among the floors are served: as `ottla run ingress` serves its own application."""

import sys

import uvicorn
from starlette.applications import Starlette

from infra.http_options import UVICORN


def serve(app: Starlette) -> None:
    """Serve on the port of loopback that the command line names."""
    uvicorn.run(app, port=int(sys.argv[1]), **UVICORN)
