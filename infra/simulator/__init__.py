"""The simulated platform and the simulated model: honest HTTP servers for the demo, local runs, tests and measurements.

They listen on loopback, answer as the real ones do, keep books of what arrived, and misbehave on demand with a printed seed.
"""
