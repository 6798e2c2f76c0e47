"""Floor: the bare echo as uvicorn serves it where nothing but uvicorn is installed (asyncio, h11), without its access log."""

import sys

import uvicorn

from infra.bench.floors.echo import app

if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), loop="asyncio", http="h11", access_log=False)
