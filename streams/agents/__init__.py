"""AI agents: each kind is one module that defines `KIND` and `build`; `registry` finds and keeps them."""
