"""Importing this module imports what any role imports until it is at work, also what it would import only then (infra/warm.py)."""

import importlib
import os
import pkgutil

# NumPy's linear algebra would start threads of its own, and with threads forking is not safe.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

ROLES = ("ingress.run", "streams.run", "sinks.run", "infra.simulator.run")

_LATER = (
    "infra.cli.run",
    "ingress.app",
    "streams.app",
    # Faust looks up its parts by name.
    "faust.app.base",
    "faust.app.router",
    "faust.assignor.partition_assignor",
    "faust.auth",
    "faust.events",
    "faust.fixups.django",
    "faust.stores.rocksdb",
    "faust.tables.objects",
    "faust.tables.sets",
    "faust.topics",
    "faust.transport.conductor",
    "faust.transport.drivers.aiokafka",
    "faust.transport.utils",
    "faust.worker",
    "mode.debug",
    "rocksdict",
    # So does uvicorn.
    "httptools",
    "uvicorn.lifespan.on",
    "uvicorn.loops.uvloop",
    "uvicorn.protocols.http.httptools_impl",
    # The resolver's.
    "encodings.idna",
)
_WITH_PLUG_INS = ("streams.agents", "sinks")

for _name in (*ROLES, *_LATER):
    importlib.import_module(_name)
for _package in _WITH_PLUG_INS:
    for _found in pkgutil.iter_modules(importlib.import_module(_package).__path__, f"{_package}."):
        if not _found.name.endswith("__main__"):
            importlib.import_module(_found.name)
