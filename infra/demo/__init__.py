"""The demo: real conversations through the whole pipeline, checked from outside, shown in the terminal and on a page."""
